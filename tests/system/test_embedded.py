"""No configuration at all: `aeclient -- CMD` starts a node for itself. No root needed; as root it is root's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import box, wait
from tests.support.machine import TestAccount
from tests.support.prefix import Prefix

TREE = Path(__file__).parents[2]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts `aeclient WORDS…` with a home of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONPATH": str(TREE), "TMPDIR": str(tmp_path)}

    def start(*words: str) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([sys.executable, "-m", "aeclient.cli", *words], env=environment, cwd="/", **pipes)  # type: ignore[call-overload, no-any-return]

    return start


Start = Callable[..., subprocess.Popen[bytes]]


def run(command: Start, *words: str, input: bytes = b"") -> tuple[int, bytes, bytes]:
    with command(*words) as client:
        below = descendants(client.pid)
        out, err = client.communicate(input, timeout=40)
    for pid in below:
        wait.gone(pid, "a process of the embedded node")
    return client.returncode, out, err


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found = []
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    for child in children:
        found += [child, *descendants(child)]
    return found


def test_a_command_runs_with_nothing_configured(command: Start, tmp_path: Path) -> None:
    status, out, err = run(command, "--", "sh", "-c", "id -u; cat; echo err >&2; exit 3", input=b"in")
    assert (status, out) == (3, f"{os.getuid()}\nin".encode()), err
    assert err.endswith(b"err\n")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("aed-")], "its directory is gone"


def test_the_group_is_a_label(command: Start) -> None:
    assert run(command, "--", "printenv", "AE_GROUP")[1] == b"default\n"
    assert run(command, "--group", "atlas", "--", "printenv", "AE_GROUP")[1] == b"atlas\n"


def test_workers_are_many_and_sandboxed(command: Start) -> None:
    status, out, err = run(command, "--workers", "3", "--", "sh", "-c", "echo $AE_WORKER $(grep NoNewPrivs /proc/self/status)")
    assert status == 0, err
    assert sorted(line.split() for line in out.decode().splitlines()) == [[f"[{n}]", str(n), "NoNewPrivs:", "1"] for n in range(3)]


def test_what_is_wrong_is_told(command: Start) -> None:
    status, _, err = run(command, "--", "aedt-no-such-command")
    assert status == 127
    assert b"aedt-no-such-command: command not found" in err


def test_nothing_of_it_listens_anywhere(command: Start) -> None:
    with command("--", "cat") as client:
        wait.until(lambda: [pid for pid in descendants(client.pid) if box.name(pid) == "cat"], "the worker")
        sockets = set()
        for pid in descendants(client.pid):
            for name in os.listdir(f"/proc/{pid}/fd") if os.access(f"/proc/{pid}/fd", os.R_OK) else ():
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:"):
                    sockets.add(target[8:-1])
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                assert line.split()[9] not in sockets
        client.communicate(b"", timeout=20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_node_ends_with_its_client(command: Start, number: signal.Signals) -> None:
    with command("--", "sh", "-c", "echo ready; exec sleep 1000") as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker", 20)
        below = descendants(client.pid)
        assert len(below) >= 4
        client.send_signal(number)
        client.communicate(timeout=20)
    for pid in below:
        wait.gone(pid, "a process of the embedded node")


@pytest.mark.root
def test_in_a_node_of_one_uid_its_processes_are_closed_to_that_uid(prefix: Prefix, account: TestAccount) -> None:
    """All processes are the user's here, and no other process of the user's may look into those that hold keys and decide."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with account.popen(prefix.bin("aeclient"), "--", "cat", **pipes) as client:
        wait.until(lambda: [pid for pid in descendants(client.pid) if box.name(pid) == "cat"], "the worker")
        ours = {pid: box.name(pid) for pid in descendants(client.pid) if box.name(pid).startswith("aed-")}
        assert {"aed-zygote", "aed-net", "aed-session"} <= set(ours.values())
        for pid, name in ours.items():
            looked = account.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/mem")
            assert looked.stderr.count(b"Permission denied") == 2, (name, looked)
        client.communicate(b"", timeout=20)
