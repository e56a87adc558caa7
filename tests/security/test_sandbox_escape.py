"""Ways out of the sandbox that lead through what the account itself owns: its authorized_keys, its session's directory, its inputs."""

from __future__ import annotations

import subprocess

import pytest

from aed.wire.frames import Frame
from aed.wire.messages import End, Exited
from tests.support import raw
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root

PRELOADED = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    char target[4096];
    ssize_t size = readlink("/proc/self/exe", target, sizeof target - 1);
    int fd = open(getenv("AE_TRACE") ? getenv("AE_TRACE") : "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (size > 0 && fd >= 0 && write(fd, target, (size_t)size) > 0) (void)!write(fd, "\n", 1);
}
"""


def test_authorized_keys_environment_does_not_reach_the_loader_of_bubblewrap(running: Node, attacker: TestAccount) -> None:
    """Bubblewrap runs as the account before there is a sandbox: what it preloads would run outside of it, without a filter."""
    library, trace = attacker.home / "evil.so", attacker.home / "trace"
    source = attacker.home / "evil.c"
    source.write_text(PRELOADED.replace('getenv("AE_TRACE") ? getenv("AE_TRACE") : "/dev/null"', f'"{trace}"'))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    library.chmod(0o755)
    keys = attacker.authorized_keys.read_text()
    names = {"LD_PRELOAD": str(library), "AE_GROUP": "susy", "PATH": "/nowhere", "BASH_ENV": str(source), "MINE": "yes"}
    options = ",".join(f'environment="{name}={value}"' for name, value in names.items())
    try:
        attacker.authorized_keys.write_text(f"{options} {keys}")
        done = running.client(attacker, "--", "env")
    finally:
        attacker.authorized_keys.write_text(keys)
    assert done.returncode == 0, done.stderr.decode()
    environment = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert not trace.exists(), trace.read_text()
    assert environment["MINE"] == "yes"
    assert environment["AE_GROUP"] == "higgs"
    assert environment["PATH"].startswith("/usr/local/bin")
    assert not {"LD_PRELOAD", "BASH_ENV"} & environment.keys()


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_worker_cannot_move_the_next_ones_tmp(running: Node, account: TestAccount, profile: str) -> None:
    """The directories that become /tmp are made outside of what a worker can change: a link in their place would show the node's own tree."""
    script = """
cd "$AE_SESSION_DIR" || exit 3
for name in tmp var-tmp; do mv $name old-$name 2>/dev/null; ln -s / $name; done
ls -a /tmp /var/tmp
"""
    with raw.connect(running) as client:
        client.login(account)
        for number in (0, 1):
            client.send(raw.start(worker=number, shell=script.encode(), profile=profile))
            said = _output(client, number).split()
            assert not {"proc", "etc", "usr"} & set(said), f"worker {number} sees the node's own root in its /tmp: {said}"


def _output(client: raw.Raw, worker: int) -> str:
    """All that a worker wrote, once it has ended."""
    said, ended, exited = b"", 0, False
    while ended < 3 or not exited:
        item = client.next()
        if isinstance(item, Frame):
            message = item.decode()
            ended += isinstance(message, End) and item.channel // 4 == worker
            exited = exited or (isinstance(message, Exited) and message.worker == worker)
        elif item[0] // 4 == worker:
            said += item[2]
    return said.decode(errors="replace")


@pytest.mark.parametrize("shown", ["/run", "/", "/proc", "/dev", "/sys", "/var/run"])
def test_an_input_does_not_show_what_the_sandbox_hides(running: Node, account: TestAccount, shown: str) -> None:
    done = running.client(account, "--profile", "strict", "--input", shown, "--", "ls", str(running.runtime_directory), "/proc/1/cwd/")
    assert done.returncode != 0
    assert b"local.sock" not in done.stdout
    assert b"input" in done.stderr, done.stderr


def test_an_input_is_not_where_a_worker_could_change_it(running: Node, account: TestAccount) -> None:
    """A worker that goes on replacing it by a link to /run would win the race against bubblewrap some day."""
    with raw.connect(running) as client:
        session = client.login(account).session
        place = running.runtime_directory / "sessions" / session
        scratch = running.scratch_directory / session
        client.send(raw.start(worker=0, shell=b'mkdir "$AE_SESSION_DIR/d" /tmp/d', profile="strict"))
        _output(client, 0)
        for number, path in enumerate((place / "private" / "d", place / "private", scratch / "tmp" / "d"), 1):
            client.send(raw.start(worker=number, shell=b"true", profile="strict", inputs=(str(path),)))
            assert f"the input {path} cannot be shown" in _output(client, number)
