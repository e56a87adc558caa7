"""ssh's configuration, as the real `ssh -G` resolves it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aeclient.ssh_config import _configured, complete
from aeclient.target import Target
from aed.errors import Misconfigured

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh: apt-get install --no-install-recommends openssh-client")


def ask(directory: Path, text: str, target: Target) -> Target:
    file = directory / "ssh config"
    file.write_text(text)
    return complete(target, str(file))


def test_names_user_keys_and_agent(tmp_path: Path) -> None:
    key = tmp_path / "key_near"
    key.touch()
    text = f"Host near\n HostName %h.example.org\n User bob\n Port 2222\n IdentityFile {tmp_path}/key_%n\n IdentityFile {tmp_path}/absent\n"
    found = ask(tmp_path, text + f" IdentityAgent {tmp_path}/agent\n", Target("n", "near"))
    assert found == Target("n", "near.example.org", 7733, user="bob", identities=(str(key),), agent=f"{tmp_path}/agent")


def test_nothing_configured_changes_nothing(tmp_path: Path) -> None:
    for host in ("other", "UPPER.Example", "fe80::1%eth0"):
        target = Target(host, host, 7000, group="higgs")
        assert ask(tmp_path, "Host near\n User bob\n", target) == target


def test_keys_that_ssh_names_by_default_are_nobody_s_configuration() -> None:
    # the account's own ~/.ssh is ssh's only place for them, and no test's to write to: so the list alone is compared
    said = subprocess.run(["/usr/bin/env", "ssh", "-F", "none", "-G", "n"], capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    names = [line.removeprefix("identityfile ") for line in said if line.startswith("identityfile ")]
    assert len(names) > 1
    assert _configured(names) == []
    assert _configured(["~/.ssh/id_rsa"]) == ["~/.ssh/id_rsa"]
    assert _configured([*names, "~/.ssh/mine"]) == [*names, "~/.ssh/mine"]


def test_what_aed_knows_wins(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    text = f"Host *\n User bob\n IdentityFile {key}\n ProxyJump gate\n IdentityAgent none\n"
    target = Target("n", "n", user="ann", identities=("/mine",), agent="/agent", via="nc %h %p")
    assert ask(tmp_path, text, target) == target


def test_match_sees_the_user_that_was_given(tmp_path: Path) -> None:
    text = 'Match user ann\n HostName for-ann\nMatch exec "test %n = x"\n HostName by-exec\n'
    assert ask(tmp_path, text, Target("n", "n", user="ann")).host == "for-ann"
    assert ask(tmp_path, text, Target("x", "x")).host == "by-exec"


def test_proxy_command(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host n\n ProxyCommand nc -X 5 '%h' %p %r %% %n\n", Target("alias", "n", user="bob"))
    assert found.command() == "nc -X 5 'n' 7733 bob % alias"


@pytest.mark.parametrize(
    ("jump", "words"),
    [
        ("gate", ["-W", "[n]:7733", "--", "gate"]),
        ("ssh://ann@gate:2222", ["-l", "ann", "-p", "2222", "-W", "[n]:7733", "--", "gate"]),
        ("ann@[2001:db8::1]:22", ["-l", "ann", "-p", "22", "-W", "[n]:7733", "--", "2001:db8::1"]),
        ("a@g1:1,g2", ["-J", "a@g1:1", "-W", "[n]:7733", "--", "g2"]),
    ],
)
def test_proxy_jump(tmp_path: Path, jump: str, words: list[str]) -> None:
    # the shell itself says what the words of the command are; and no other ssh than the words say is run
    command = ask(tmp_path, f"Host n\n ProxyJump {jump}\n", Target("n", "n")).command()
    assert command is not None
    shown = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    assert shown == ["ssh", "-F", str(tmp_path / "ssh config"), *words]


def test_none_is_none(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host n\n ProxyJump none\n ProxyCommand none\n IdentityFile none\n IdentityAgent none\n", Target("n", "n"))
    assert found == Target("n", "n", agent="none")


def test_agent_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_AGENT", "/run/agent")
    assert ask(tmp_path, "IdentityAgent $MY_AGENT\n", Target("n", "n")).agent == "/run/agent"
    assert ask(tmp_path, "IdentityAgent SSH_AUTH_SOCK\n", Target("n", "n")).agent is None


def test_faulty_configuration_is_told_in_ssh_s_words(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="line 1: Bad configuration option: bogus"):
        ask(tmp_path, "Bogus yes\n", Target("n", "n"))


def test_hostile_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HostName of n"):
        ask(tmp_path, "Host n\n HostName -oProxyCommand=x\n", Target("n", "n"))
    with pytest.raises(Misconfigured):
        ask(tmp_path, "Host n\n User $(id)\n", Target("n", "n"))


def test_without_ssh_and_without_a_host_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in (Target("cmd", "", via="cmd"), Target("/run/a", "/run/a")):
        assert ask(tmp_path, "Bogus yes\n", target) == target
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask(tmp_path, "Host n\n User bob\n", Target("n", "n")) == Target("n", "n")


def test_no_child_and_no_descriptor_is_left(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    ask(tmp_path, "Host n\n User bob\n", Target("n", "n"))
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
