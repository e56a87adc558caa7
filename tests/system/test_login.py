"""Who comes in, and what those are told who do not: a real daemon, real clients and one without manners."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from aed.wire.frames import Frame
from aed.wire.messages import Accept, AuthAbort, AuthChallenge, AuthFailed, AuthRequest, Fault, Goodbye, Hello
from tests.support import machine, raw
from tests.support.machine import Accounts, TestAccount
from tests.support.node import GROUP, Node

pytestmark = pytest.mark.root

KEY = ed25519.Ed25519PrivateKey.generate()
"""A key that no account knows."""


def attempt(node: Node, user: str, signer: TestAccount | ed25519.Ed25519PrivateKey, *, named: bool = True) -> AuthFailed | Accept:
    """One proof on a connection of its own, and the answer."""
    with raw.connect(node) as client:
        client.greet()
        client.send(AuthRequest(user=user, named=named, groups=(), mechanism="publickey", data=raw.proof(signer, client.binding(user))))
        item = client.next()
        assert isinstance(item, Frame)
        answer = item.decode()
        assert isinstance(answer, AuthFailed | Accept), answer
        return answer


def last_refusal(node: Node, user: str) -> dict[str, object]:
    """The audit record of the last refusal of `user`."""
    refusals = [record for record in node.audit() if record["event"] == "refused" and record["user"] == user]
    assert refusals, node.audit()
    return refusals[-1]


@contextlib.contextmanager
def changed(accounts: Accounts, account: TestAccount, change: tuple[str, ...], back: tuple[str, ...]) -> Iterator[None]:
    accounts.change(account, *change)
    try:
        yield
    finally:
        accounts.change(account, *back)


# Silence for who proves nothing, a sentence for who does.

STATES = {
    "locked": (("-p", "!*"), ("-p", "*"), "is locked"),
    "expired": (("-e", "2001-01-01"), ("-e", ""), "has expired"),
    "nologin": (("-s", "/usr/sbin/nologin"), ("-s", "/bin/bash"), "lets nobody log in"),
    "odd shell": (("-s", "/bin/true"), ("-s", "/bin/bash"), "is not in /etc/shells"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_closed_account_is_silent_until_the_identity_is_proved(running: Node, accounts: Accounts, victim: TestAccount, state: str) -> None:
    change, back, reason = STATES[state]
    absent = attempt(running, "aedt-nobody", KEY)
    open_account = attempt(running, victim.name, KEY)
    with changed(accounts, victim, change, back):
        unproved = attempt(running, victim.name, KEY)
        assert unproved == absent == open_account
        assert isinstance(unproved, AuthFailed)
        assert unproved.text == ""
        assert last_refusal(running, victim.name)["proved"] is False
        proved = attempt(running, victim.name, victim)
        assert isinstance(proved, AuthFailed)
        assert reason in proved.text
        refusal = last_refusal(running, victim.name)
        assert refusal["proved"] is True
        assert reason in str(refusal["reason"])
        told = running.client(victim, "--", "true")
        assert told.returncode == 255
        assert reason in told.stderr.decode()
    assert isinstance(attempt(running, victim.name, victim), Accept)


def test_denied_nologin_and_system_accounts_look_like_absent_ones(node: Callable[..., Node], victim: TestAccount, tmp_path: Path) -> None:
    nologin = tmp_path / "nologin"
    running = node(accounts=[victim], config={"accounts": {"deny": [victim.name], "nologin": str(nologin)}})
    answers = {name: attempt(running, name, KEY) for name in ("aedt-nobody", victim.name, "root", "daemon", "aed", "../x", "-x", "$(id)", "%u", "")}
    assert len(set(answers.values())) == 1, answers
    assert answers["root"] == AuthFailed(mechanisms=("publickey", "local"), text="")
    proved = attempt(running, victim.name, victim)
    assert isinstance(proved, AuthFailed)
    assert "accounts.deny" in proved.text
    for record in running.audit():
        assert record["event"] in ("refused", "no_login")
    running.stop()
    nologin.touch()
    closed = node(accounts=[victim], config={"accounts": {"nologin": str(nologin)}})
    proved = attempt(closed, victim.name, victim)
    assert isinstance(proved, AuthFailed)
    assert f"{nologin} exists" in proved.text


def test_the_client_says_the_same_of_an_unknown_account_and_of_a_key_that_is_not_known(
    running: Node, account: TestAccount, other: TestAccount
) -> None:
    unknown = running.client(account, "-l", "aedt-nobody", "--", "true")
    foreign = running.client(account, "-l", other.name, "--", "true")
    assert unknown.returncode == foreign.returncode == 255
    assert unknown.stderr.replace(b"aedt-nobody", b"X") == foreign.stderr.replace(other.name.encode(), b"X")
    assert b"not authenticated" in unknown.stderr
    reason = str(last_refusal(running, "aedt-nobody")["reason"])
    assert reason
    assert reason.encode() not in unknown.stderr


def test_the_map_refuses_an_account_that_the_rule_does_not_give(node: Callable[..., Node], account: TestAccount, other: TestAccount) -> None:
    identity = "publickey:" + fingerprint(account)
    mapped = node(config={"identity_map": [{"exact": identity, "accounts": [other.name]}]}, accounts=[account, other])
    not_permitted = mapped.client(account, "-l", account.name, "--", "true")
    assert not_permitted.returncode == 255
    assert f"{identity} may not use account '{account.name}'" in not_permitted.stderr.decode()
    unnamed = mapped.client(account, "--", "id", "-un")
    assert (unnamed.returncode, unnamed.stdout.decode().strip()) == (0, other.name)
    login = mapped.wait_audit(lambda record: record["event"] == "login", "login by the rule")
    assert (login["identity"], login["account"]) == (identity, other.name)
    assert login["account_rule"] != "own_account"


def test_the_account_may_be_named_or_is_the_local_one(running: Node, account: TestAccount, other: TestAccount) -> None:
    own = running.client(account, "--", "id", "-un")
    assert own.stdout.decode().strip() == account.name
    keys = other.authorized_keys.read_text()
    other.authorized_keys.write_text(keys + (account.key.with_suffix(".pub")).read_text())
    try:
        for words in (("-l", other.name), ()):
            target = () if words else ("--node", f"{other.name}@{running.name}")
            command = [str(running.prefix.bin("aeclient")), *(target or ("--node", running.name)), *words, "--", "id", "-un"]
            done = account.run(*command)
            assert done.stdout.decode().strip() == other.name, (command, done.stderr)
    finally:
        other.authorized_keys.write_text(keys)


# Groups.


def test_groups_are_told_to_who_proved_an_identity(running: Node, account: TestAccount) -> None:
    refused = running.client(account, "--group", "susy,nosuch", "--", "true")
    assert refused.returncode == 255
    assert b"not permitted in susy, nosuch; your groups are few, higgs, plain" in refused.stderr
    assert last_refusal(running, account.name)["proved"] is True
    with raw.connect(running) as client:
        client.greet()
        client.send(client.request(account, ("../x\n",)))
        assert client.expect(AuthFailed).text.startswith("'../x\\n' is not a group's name")


def test_the_first_permitted_group_is_entered_and_the_others_are_named(running: Node, account: TestAccount) -> None:
    done = running.client(account, "--group", "nosuch,few,higgs", "--", "printenv", "AE_GROUP")
    assert (done.returncode, done.stdout) == (0, b"few\n")
    assert b"not permitted in group nosuch; entered few" in done.stderr


def test_without_a_wish_the_default_group_is_entered(running: Node, account: TestAccount, other: TestAccount) -> None:
    assert running.client(account, "--", "printenv", "AE_GROUP").stdout == b"higgs\n"  # few comes first in the file
    assert running.client(other, "--", "printenv", "AE_GROUP").stdout == b"higgs\n"


def test_who_is_in_no_group_is_told(node: Callable[..., Node], account: TestAccount) -> None:
    running = node(groups={"groups": {GROUP: {"members": []}}})
    done = running.client(account, "--", "true")
    assert done.returncode == 255
    assert b"is in no group of this node" in done.stderr


# The exchange.


def test_the_login_is_recorded_before_it_is_granted(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        accept = client.login(account)
        records = [record for record in running.audit() if record["session"] == accept.session]
    assert [record["event"] for record in records] == ["login"]
    login = records[0]
    assert (login["account"], login["group"], login["mechanism"], login["peer"]) == (account.name, GROUP, "publickey", "127.0.0.1")
    assert login["identity"] == accept.identity == "publickey:" + fingerprint(account)
    assert login["account_rule"] == "own_account"
    assert login["group_rule"] == f"groups.{GROUP}.members {account.name}"


def test_every_attempt_counts_aborted_ones_too(node: Callable[..., Node], account: TestAccount) -> None:
    running = node(config={"limits": {"max_auth_tries": 3}})
    with raw.connect(running) as client:
        client.greet()
        for data in (raw.proof(KEY, b""), raw.offer(KEY)):
            client.send(AuthRequest(user=account.name, named=False, groups=(), mechanism="publickey", data=data))
            assert client.expect(AuthFailed).text == ""
        client.send(AuthRequest(user=account.name, named=False, groups=(), mechanism="publickey", data=raw.offer(account)))
        client.expect(AuthChallenge)
        client.send(AuthAbort())
        goodbye = client.expect(Goodbye)
        assert (goodbye.fault, goodbye.reason) == (Fault.DENIED, "too many tries")
        client.wait_closed()
    running.wait_audit(lambda record: record["event"] == "no_login" and record["reason"] == "too many tries", "the end")
    assert [record["event"] for record in running.audit()] == ["refused"] * 3 + ["no_login"]


@pytest.mark.parametrize("what", ["user", "named", "groups"])
def test_what_was_asked_may_not_change_during_the_exchange(running: Node, account: TestAccount, other: TestAccount, what: str) -> None:
    with raw.connect(running) as client:
        client.greet()
        first = client.request(other if what == "user" else account, () if what == "groups" else (GROUP,))
        client.send(AuthRequest(user=first.user, named=False, groups=first.groups, mechanism="publickey", data=raw.proof(KEY, b"")))
        client.expect(AuthFailed)
        client.send(client.request(account, (GROUP,), named=what == "named"))
        goodbye = client.expect(Goodbye)
        assert (goodbye.fault, goodbye.reason) == (Fault.REMOTE, "protocol")
        assert "changed during the exchange" in goodbye.text
        client.wait_closed()


def test_a_command_pipelined_with_the_proof_is_refused(running: Node, account: TestAccount) -> None:
    before = len(running.audit())
    with raw.connect(running) as client:
        client.greet()
        client.send(client.request(account), raw.start("touch", "pipelined"))
        goodbye = client.expect(Goodbye)
        assert (goodbye.fault, goodbye.reason) == (Fault.REMOTE, "protocol")
        assert "Start" in goodbye.text
        client.wait_closed()
    running.wait_idle()
    assert "worker_started" not in {record["event"] for record in running.audit()[before:]}
    assert not (account.home / "pipelined").exists()


def test_a_second_hello_is_refused(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.greet()
        client.send(client.hello)
        goodbye = client.expect(Goodbye)
        assert "Hello" in goodbye.text
        client.wait_closed()
    with raw.connect(running) as client:
        client.send(client.hello, client.hello)
        client.wait_closed()


def test_an_unknown_version_is_refused_clearly(running: Node) -> None:
    with raw.connect(running) as client:
        client.send(Hello(versions=(9,), software="x", capabilities=(), nonce=bytes(32)))
        goodbye = client.expect(Goodbye)
        assert goodbye.fault == Fault.DENIED
        assert "update aeclient" in goodbye.text
        client.wait_closed()


def test_a_recorded_proof_opens_no_second_connection(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.greet()
        recorded = client.request(account)
        client.send(recorded)
        client.expect(Accept)
        hello = client.hello
    with raw.connect(running) as client:
        client.hello = hello
        client.greet()
        client.send(recorded)
        assert client.expect(AuthFailed).text == ""
    assert last_refusal(running, account.name)["proved"] is False


CHANGES: dict[str, Any] = {
    "context": "another context",
    "version": 2,
    "mechanism": "x509",
    "user": "somebody",
    "groups": ("susy",),
    "node_nonce": bytes(32),
    "identity": bytes(32),
    "exporter": bytes(32),
    "client_nonce": bytes(32),
    "hellos": bytes(32),
}


def test_a_proof_of_anything_else_is_no_proof(node: Callable[..., Node], account: TestAccount) -> None:
    running = node(config={"limits": {"max_auth_tries": len(CHANGES) + 1}})
    with raw.connect(running) as client:
        client.greet()
        for name, value in CHANGES.items():
            honest = client.request(account)
            lie = raw.proof(account, client.binding(account.name, **{name: value}) if name != "user" else client.binding("somebody"))
            client.send(AuthRequest(user=honest.user, named=False, groups=(), mechanism="publickey", data=lie))
            assert client.expect(AuthFailed).text == "", name
        client.send(client.request(account))
        client.expect(Accept)


# No record, no login.


@pytest.fixture
def small_disk(test_machine: None) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir="/var/tmp"))  # noqa: S108
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "aedt", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


def test_a_login_that_cannot_be_recorded_is_refused(small_disk: Path, node: Callable[..., Node], account: TestAccount) -> None:
    running = node(config={"audit": {"destination": f"file:{small_disk}/audit.jsonl"}})
    running.audit_file = small_disk / "audit.jsonl"
    assert running.client(account, "--", "true").returncode == 0
    running.wait_audit(lambda record: record["event"] == "session_ended", "the first session is over")
    running.wait_idle()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    # The last page of the record has room; no login may fit there by luck.
    with running.audit_file.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b'{"event":"filler"}\n')
    done = running.client(account, "--", "touch", "unrecorded")
    assert done.returncode == 255
    assert b"this node cannot record logins, so it takes none: tell its administrator" in done.stderr
    assert not (account.home / "unrecorded").exists()
    assert "not recorded" in running.stderr()
    filler.unlink()
    assert running.client(account, "--", "true").returncode == 0


def fingerprint(account: TestAccount) -> str:
    """The account's key as ssh shows it."""
    done = account.run("ssh-keygen", "-lf", account.key)
    return done.stdout.decode().split()[1]
