"""The whole exchange of publickey: real keys, real agent, real ssh-keygen, real check."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aed.auth.publickey import check, client, server
from aed.errors import Declined, RemoteError
from aed.interfaces import Attempt
from tests.aed.auth.driver import CHANGES, ME, Node, attempt, binding, context, login
from tests.aed.auth.publickey.keys import KINDS, add, blob, generate, public_line, running_agent

AUTHORIZED = ".ssh/authorized_keys"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    with running_agent(tmp_path) as path:
        yield path


def node(authorized: bytes, at: Attempt | None = None) -> Node:
    return Node(server.serve, check.check, at or attempt("publickey"), files={AUTHORIZED: authorized})


@pytest.mark.parametrize("kind", KINDS)
def test_key_file_of_each_kind(tmp_path: Path, kind: str) -> None:
    key = generate(tmp_path, "key", kind)
    asked = node(b"# mine\n\n" + public_line(key))
    trace: list[str] = []
    result = login(asked, client, context(str(tmp_path), trace, identities=(str(key),)))
    assert result.evidence, (result, trace)
    printed = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert str(result.evidence.identity) == f"publickey:{printed}"
    assert result.evidence.own_account == "alice"
    assert dict(result.evidence.facts)["authorized_by"] == f"{AUTHORIZED}:3"
    assert not asked.challenges
    assert [question["step"] for question in asked.questions] == ["proof"]


@pytest.mark.parametrize("kind", KINDS)
def test_agent_key_of_each_kind(tmp_path: Path, agent: str, kind: str) -> None:
    key = generate(tmp_path, "key", kind)
    add(agent, key)
    key.unlink()
    trace: list[str] = []
    asked = node(public_line(key))
    result = login(asked, client, context(str(tmp_path), trace, agent=agent))
    assert result.evidence, (result, trace)
    assert result.tried == [f"agent key {key if kind == 'rsa-pem' else 'key comment'}"]  # PEM keeps no comment.
    assert not asked.challenges
    assert any("signed by the ssh-agent" in line for line in trace)
    if kind.startswith("rsa"):
        assert dict(result.evidence.facts)["algorithm"] == "rsa-sha2-512"


@pytest.mark.parametrize("field", CHANGES)
def test_each_changed_field_is_refused(tmp_path: Path, field: str) -> None:
    key = generate(tmp_path, "key")
    other = attempt("publickey", binding=binding(**{field: CHANGES[field]}))
    result = login(node(public_line(key), other), client, context(str(tmp_path), [], identities=(str(key),)))
    assert result.evidence is None
    assert "bad signature" in result.declined[0]


def test_several_keys_are_offered_and_the_permitted_one_is_chosen(tmp_path: Path, agent: str) -> None:
    held = generate(tmp_path, "held")
    add(agent, held)
    generate(tmp_path, ".ssh/id_ed25519")
    wanted = generate(tmp_path, ".ssh/id_rsa", "rsa2048")
    asked = node(public_line(wanted))
    trace: list[str] = []
    result = login(asked, client, context(str(tmp_path), trace, agent=agent))
    assert result.evidence, trace
    assert asked.challenges == [b"\x02\x02"]
    assert [question["step"] for question in asked.questions] == ["offer", "proof"]


def test_default_file_that_the_agent_holds_is_one_candidate(tmp_path: Path, agent: str) -> None:
    key = generate(tmp_path, ".ssh/id_ed25519", passphrase="secret")
    plain = tmp_path / "plain"
    plain.write_bytes(key.read_bytes())
    plain.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", str(plain)], check=True)
    add(agent, plain)
    asked = node(public_line(key))
    result = login(asked, client, context(str(tmp_path), [], agent=agent, batch=True))
    assert result.evidence
    assert not asked.challenges


def test_named_key_comes_first_and_the_agent_is_asked_only_after(tmp_path: Path, agent: str) -> None:
    named, held = generate(tmp_path, "named"), generate(tmp_path, "held")
    add(agent, held)
    result = login(node(public_line(held)), client, context(str(tmp_path), [], agent=agent, identities=(str(named),)))
    assert result.evidence
    assert result.tried == [str(named), "agent key held comment"]
    assert "no line of authorized_keys names" in result.declined[0]


def test_public_key_file_names_an_agent_key(tmp_path: Path, agent: str) -> None:
    key = generate(tmp_path, "key")
    add(agent, key)
    key.unlink()
    result = login(node(public_line(key)), client, context(str(tmp_path), [], agent=agent, identities=(f"{key}.pub",)))
    assert result.evidence


def test_without_an_agent_that_answers_the_file_is_used(tmp_path: Path) -> None:
    key = generate(tmp_path, ".ssh/id_ed25519")
    trace: list[str] = []
    result = login(node(public_line(key)), client, context(str(tmp_path), trace, agent=str(tmp_path / "gone")))
    assert result.evidence
    assert any("does not answer: No such file" in line for line in trace)


def test_passphrase_by_askpass_after_the_key_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate(tmp_path, "key", passphrase="open sesame")
    _askpass(tmp_path, monkeypatch, "open sesame")
    asked = node(public_line(key))
    result = login(asked, client, context(str(tmp_path), [], identities=(str(key),)))
    assert result.evidence
    assert len(asked.challenges) == 1


@pytest.mark.parametrize("kind", ["ed25519", "rsa-pem"])
def test_nobody_is_asked_for_the_passphrase_of_a_key_that_the_node_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    key, other = generate(tmp_path, "key", kind, passphrase="open sesame"), generate(tmp_path, "other")
    log = _askpass(tmp_path, monkeypatch, "open sesame")
    assert login(node(public_line(other)), client, context(str(tmp_path), [], identities=(str(key),))).evidence is None
    assert not log.exists()


def test_wrong_passphrase_aborts_and_the_next_key_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked, second = generate(tmp_path, "locked", passphrase="open sesame"), generate(tmp_path, "second")
    log = _askpass(tmp_path, monkeypatch, "wrong")
    trace: list[str] = []
    asked = node(public_line(locked) + public_line(second))
    result = login(asked, client, context(str(tmp_path), trace, identities=(str(locked), str(second))))
    assert result.evidence
    assert result.declined == ["the client gave up"]
    assert log.read_text().count("asked") == client.PASSPHRASE_TRIES
    assert any("incorrect passphrase" in line for line in trace)


def test_batch_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate(tmp_path, "key", passphrase="open sesame")
    log = _askpass(tmp_path, monkeypatch, "open sesame")
    trace: list[str] = []
    assert login(node(public_line(key)), client, context(str(tmp_path), trace, identities=(str(key),), batch=True)).evidence is None
    assert not log.exists()
    assert any("batch" in line for line in trace)


def _askpass(directory: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str) -> Path:
    log = directory / "asked"
    program = directory / "askpass"
    program.write_text(f"#!/bin/sh\necho asked >> '{log}'\necho '{passphrase}'\n")
    program.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(program))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    return log


def test_many_keys_go_in_several_offers(tmp_path: Path, agent: str) -> None:
    keys = [generate(tmp_path, f"key{number}") for number in range(18)]
    add(agent, *keys)
    result = login(node(public_line(keys[17])), client, context(str(tmp_path), [], agent=agent))
    assert result.evidence
    assert len(result.tried) == 2


def test_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    noise = tmp_path / "noise"
    noise.write_bytes(b"\x00\xff noise")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n!!!!\n-----END OPENSSH PRIVATE KEY-----\n")
    bare = generate(tmp_path, "bare", "rsa-pem")
    Path(f"{bare}.pub").unlink()
    small = generate(tmp_path, "small")
    Path(f"{small}.pub").unlink()
    trace: list[str] = []
    names = (certificate, noise, broken, bare, tmp_path / "absent")
    assert login(node(b""), client, context(str(tmp_path), trace, identities=tuple(map(str, names)))).tried == []
    said = "\n".join(trace)
    for words in ("mechanism x509", "holds no ssh key", "not a valid OpenSSH", "does not show its public key", "does not exist"):
        assert words in said


def test_key_that_others_can_read_is_refused_by_ssh_keygen(tmp_path: Path) -> None:
    key = generate(tmp_path, "key")
    key.chmod(0o644)
    trace: list[str] = []
    assert login(node(public_line(key)), client, context(str(tmp_path), trace, identities=(str(key),))).tried == []
    assert any("are too open" in line for line in trace), trace


def test_ssh_keygen_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate(tmp_path, "key")
    monkeypatch.setenv("PATH", str(tmp_path))
    trace: list[str] = []
    assert login(node(b""), client, context(str(tmp_path), trace, identities=(str(key),))).tried == []
    assert any("install openssh-client" in line for line in trace)


def test_absent_account_does_the_same_checks_and_is_declined(tmp_path: Path) -> None:
    key, second = generate(tmp_path, "key"), generate(tmp_path, "second")
    absent = node(public_line(key), attempt("publickey", account=None))
    present = node(b"")
    for names in ((str(key),), (str(key), str(second))):
        here = context(str(tmp_path), [], identities=names)
        assert login(absent, client, here).evidence is None
        assert login(present, client, here).evidence is None
    assert [question["step"] for question in absent.questions] == [question["step"] for question in present.questions]
    assert not absent.read
    assert not absent.challenges


def test_bad_signature_is_found_before_the_account_matters(tmp_path: Path) -> None:
    key = generate(tmp_path, "key")
    for account in (None, ME):
        at = attempt("publickey", account=account, binding=binding(user="mallory"))
        result = login(node(b"", at), client, context(str(tmp_path), [], identities=(str(key),)))
        assert "bad signature" in result.declined[0]


def test_paths_and_strictness_come_from_the_configuration(tmp_path: Path) -> None:
    key = generate(tmp_path, "key")
    at = attempt("publickey", options={"authorized_keys": ("/etc/keys/%u", ".ssh/100%%"), "strict_modes": False})
    asked = Node(server.serve, check.check, at, files={"/etc/keys/alice": b"", ".ssh/100%": public_line(key)})
    result = login(asked, client, context(str(tmp_path), [], identities=(str(key),)))
    assert result.evidence
    assert dict(result.evidence.facts)["authorized_by"] == ".ssh/100%:1"
    assert [step.strict for step in asked.read] == [False, False]


def test_options_of_the_line_become_restrictions(tmp_path: Path) -> None:
    key = generate(tmp_path, "key")
    line = b'restrict,pty,command="run \\"this\\"",environment="A=1",from="192.0.2.0/24" ' + public_line(key)
    result = login(node(line), client, context(str(tmp_path), [], identities=(str(key),)))
    assert result.evidence
    found = result.evidence.restrictions
    assert (found.command, found.environment, found.pty, found.forwarding) == ('run "this"', (("A", "1"),), True, False)


@pytest.mark.parametrize("data", [b"", b"\0", b"\4", b"\1\0\0", b"\1\0\x11" + b"\0\0\0\0" * 17, b"\3", b"\3\0\0\0\1", b"\3\0\0\0\0x", b"\2\0"])
def test_malformed_data_ends_the_connection(data: bytes) -> None:
    with pytest.raises(RemoteError):
        node(b"").run(data, lambda _: b"")


def test_proof_by_another_key_than_the_chosen_one(tmp_path: Path) -> None:
    chosen, other = generate(tmp_path, "chosen"), generate(tmp_path, "other")
    offer = b"\1\0\1" + len(blob(chosen)).to_bytes(4, "big") + blob(chosen)
    (_, steps), *_ = client.credentials(context(str(tmp_path), [], identities=(str(other),)))
    with pytest.raises(Declined, match="another key than the one that was chosen"):
        node(public_line(chosen) + public_line(other)).run(offer, lambda _: next(steps))


def test_second_offer_ends_the_connection(tmp_path: Path) -> None:
    key = generate(tmp_path, "key")
    offer = b"\1\0\1" + len(blob(key)).to_bytes(4, "big") + blob(key)
    with pytest.raises(RemoteError, match="Offer where a proof belongs"):
        node(public_line(key)).run(offer, lambda _: offer)


def test_client_refuses_a_choice_that_it_did_not_offer(tmp_path: Path) -> None:
    names = tuple(str(generate(tmp_path, name)) for name in "ab")
    for answer in (b"\2\2", b"\4", b"\1\0\1\0\0\0\0", b"\3\0\0\0\0"):
        _, steps = next(iter(client.credentials(context(str(tmp_path), [], identities=names))))
        next(steps)
        with pytest.raises(RemoteError):
            steps.send(answer)
