"""Bytes in bulk, and processes that die or hang in the middle of them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import struct
from pathlib import Path

import pytest

from aed.wire.messages import Goodbye
from tests.support import box, machine, raw, wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root

SIZE = 200 << 20
GENERATE = f"import sys; b=bytes(range(256))*4096; [sys.stdout.buffer.write(b) for _ in range({SIZE >> 20})]"


@pytest.fixture(scope="module")
def digest() -> str:
    """Of SIZE bytes as GENERATE writes them."""
    block = bytes(range(256)) * 4096
    whole = hashlib.sha256()
    for _ in range(SIZE >> 20):
        whole.update(block)
    return whole.hexdigest()


def client_command(running: Node, account: TestAccount, *words: str) -> str:
    """The command line of a client, for a shell."""
    return " ".join(f"'{word}'" for word in (*running.arguments(account), *words))


def test_200_mib_arrive_whole(running: Node, account: TestAccount, digest: str) -> None:
    command = client_command(running, account, "--", str(running.prefix.python), "-c", GENERATE)
    done = account.run("sh", "-c", f"{command} | sha256sum", seconds=50)
    assert done.stdout.decode().split()[0] == digest, done.stderr


def test_200_mib_leave_whole(running: Node, account: TestAccount, digest: str) -> None:
    command = client_command(running, account, "--", "sha256sum")
    done = account.run("sh", "-c", f"'{running.prefix.python}' -c '{GENERATE}' | {command}", seconds=50)
    assert done.stdout.decode().split()[0] == digest, done.stderr


def test_200_mib_go_both_ways_at_once(running: Node, account: TestAccount, digest: str) -> None:
    command = client_command(running, account, "--", "cat")
    done = account.run("sh", "-c", f"'{running.prefix.python}' -c '{GENERATE}' | {command} | sha256sum", seconds=50)
    assert done.stdout.decode().split()[0] == digest, done.stderr


def two(pids: list[int]) -> list[int]:
    return pids if len(pids) == 2 else []


def private_bytes(pid: int) -> int:
    """What a process has of its own and in shared memory, from smaps."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Rss:\s+(\d+) kB", text, re.M)[0]) * 1024


def test_a_client_that_stops_reading_costs_no_memory(running: Node, account: TestAccount) -> None:
    """Once the windows are full the worker stands still; nothing of the 4 GB that it has to say is kept anywhere."""
    script = "head -c 4000000000 /dev/zero & head -c 4000000000 /dev/zero >&2; wait"
    with running.start_client(account, "--", "sh", "-c", script) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        wait.readable(client.stdout.fileno(), "the worker writes")
        os.read(client.stdout.fileno(), 100)
        writers = wait.until(lambda: two([pid for pid in running.processes()["worker"] if box.name(pid) == "head"]), "both writers")
        processes = running.processes()
        (net,), (session,) = processes["net"], processes["session"]
        client.send_signal(signal.SIGSTOP)
        looks: list[list[str]] = []

        def stands_still() -> bool:
            looks.append([Path(f"/proc/{pid}/io").read_text() for pid in writers])
            return len(looks) > 20 and all(look == looks[-1] for look in looks[-20:])

        wait.until(stands_still, "the writers stand still", 20)
        written = sum(int(re.findall(r"wchar: (\d+)", text)[0]) for text in looks[-1])
        assert 1 << 20 < written < 64 << 20
        assert private_bytes(net) < 80 << 20
        assert private_bytes(session) < 64 << 20
        client.kill()
        client.communicate()
    running.wait_idle()


def test_a_worker_killed_from_outside_is_137(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--", "sleep", "1000") as client:
        worker = wait.until(lambda: [pid for pid in running.processes()["worker"] if box.name(pid) == "sleep"], "the worker")[0]
        os.kill(worker, signal.SIGKILL)
        client.communicate(timeout=20)
    assert client.returncode == 128 + signal.SIGKILL


def sleepers(running: Node) -> list[int]:
    return [pid for pid in running.processes()["worker"] if box.name(pid) == "sleep"]


@pytest.mark.parametrize("group", ["higgs", "plain"])
def test_a_session_killed_takes_all_that_is_its_own_and_nothing_else(running: Node, account: TestAccount, other: TestAccount, group: str) -> None:
    with running.start_client(other, "--", "cat") as bystander:
        wait.until(lambda: len(running.processes()["worker"]) >= 1, "the bystander's worker")
        sessions = set(running.processes()["session"])
        with running.start_client(account, "--group", group, "-c", "(setsid sleep 1001 &); sleep 1000") as client:
            wait.until(lambda: len(sleepers(running)) == 2, "two processes of the worker")
            victims = sleepers(running)
            (session,) = set(running.processes()["session"]) - sessions
            os.kill(session, signal.SIGKILL)
            for pid in victims:
                wait.gone(pid, "a process of the killed session")
            _, err = client.communicate(timeout=20)
        assert client.returncode == 255
        assert err.decode().strip()
        assert "Traceback" not in err.decode()
        wait.until(lambda: len(list((running.runtime_directory / "sessions").iterdir())) == 1, "only the bystander's directory is left")
        out, _ = bystander.communicate(b"still here", timeout=20)
        assert (bystander.returncode, out) == (0, b"still here")


def test_a_worker_that_took_a_daemons_name_dies_with_its_session(running: Node, account: TestAccount) -> None:
    """The name of a process is its own to choose; it must not pass for one of ours."""
    name = "import ctypes,os,time; os.fork() and os.wait(); ctypes.CDLL(None).prctl(15, b'aed-net'); print('named', flush=True); time.sleep(1000)"
    with running.start_client(account, "--group", "plain", "--", str(running.prefix.python), "-c", name) as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"named\n", "the worker")
        (session,) = running.processes()["session"]
        (worker,) = (pid for pid in machine.pids_of_uid(account.uid) if box.name(pid) == "aed-net")
        os.kill(session, signal.SIGKILL)
        wait.gone(worker, "the worker with a daemon's name")
        client.communicate(timeout=20)


def test_a_net_killed_ends_its_workers_and_the_client_says_so(running: Node, account: TestAccount) -> None:
    mark = account.home / "hung-up"
    mark.unlink(missing_ok=True)
    script = f"trap '' PIPE; trap 'touch {mark}' HUP; echo ready; while :; do sleep 0.05; done"
    with running.start_client(account, "--", "sh", "-c", script) as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker")
        processes = running.processes()
        os.kill(processes["net"][0], signal.SIGKILL)
        _, err = client.communicate(timeout=20)
        assert client.returncode == 255
        assert b"1 of its workers had not ended, and the node ends them" in err
        wait.until(mark.exists, "the worker got SIGHUP")
        for pid in processes["worker"]:
            wait.gone(pid, "a worker that ignores SIGHUP gets SIGKILL")
    running.wait_idle()
    mark.unlink()


def test_a_client_killed_ends_its_workers(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--workers", "2", "--", "sh", "-c", "trap '' HUP; echo ready; sleep 1000; sleep 1000") as client:
        assert client.stdout is not None
        seen = wait.read_until(client.stdout.fileno(), b"ready\n", "a worker")
        while seen.count(b"ready") < 2:
            seen += wait.read_until(client.stdout.fileno(), b"ready\n", "the other worker")
        client.kill()
        client.communicate()
    running.wait_idle()


def test_a_zygote_killed_is_replaced(running: Node, account: TestAccount) -> None:
    (zygote,) = running.processes()["zygote"]
    with running.start_client(account, "--", "cat") as client:
        wait.until(lambda: running.processes()["worker"], "a session from before")
        os.kill(zygote, signal.SIGKILL)
        wait.until(lambda: running.processes()["zygote"] not in ([], [zygote]), "a new zygote")
        wait.until(lambda: running.client(account, "--", "true").returncode == 0, "the next login", 20)
        out, _ = client.communicate(b"from before", timeout=20)
        assert (client.returncode, out) == (0, b"from before")
    assert "the zygote died; a new one is started" in running.stderr()


# Ends of streams.


def test_head_ends_an_endless_worker(running: Node, account: TestAccount) -> None:
    done = account.run("sh", "-c", f"{client_command(running, account, '--', 'yes')} | head -1")
    assert done.stdout == b"y\n"
    running.wait_idle()


def test_a_worker_that_closes_its_input_stops_the_client_from_sending(running: Node, account: TestAccount) -> None:
    command = client_command(running, account, "--", "sh", "-c", "head -c 5; exec <&-; echo; echo closed; exit 3")
    done = account.run("sh", "-c", f"yes | {command}")
    assert (done.returncode, done.stdout) == (3, b"y\ny\ny\nclosed\n")


def test_a_worker_that_reads_nothing_ends_when_it_likes(running: Node, account: TestAccount) -> None:
    done = account.run("sh", "-c", f"yes | {client_command(running, account, '--', 'sh', '-c', 'echo x; exit 4')}")
    assert (done.returncode, done.stdout) == (4, b"x\n")


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-", "</etc/hostname"])
def test_inputs_of_every_kind_end(running: Node, account: TestAccount, redirection: str) -> None:
    done = account.run("sh", "-c", f"{client_command(running, account, '--', 'cat')} {redirection}")
    expected = Path("/etc/hostname").read_bytes() if "hostname" in redirection else b""
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_no_input_at_all(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--no-input", "--", "cat") as client:
        assert client.wait(20) == 0


@pytest.mark.parametrize(("redirection", "status", "out", "err"), [(">&-", 0, b"", b"err\n"), ("2>&-", 0, b"out\n", b"")])
def test_streams_that_are_closed_are_nobodys(running: Node, account: TestAccount, redirection: str, status: int, out: bytes, err: bytes) -> None:
    words = ("--", "sh", "-c", "echo out; echo err >&2")
    done = account.run("sh", "-c", f"{client_command(running, account, *words)} {redirection}")
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_a_full_disk_is_told(running: Node, account: TestAccount) -> None:
    done = account.run("sh", "-c", f"{client_command(running, account, '--', 'yes')} >/dev/full")
    assert (done.returncode, done.stderr) == (255, b"aeclient: cannot write the output: No space left on device\n")


def test_a_reset_without_a_word_ends_the_worker(running: Node, account: TestAccount) -> None:
    """No Goodbye, no TLS close: the line is cut."""
    with raw.connect(running) as client:
        client.login(account)
        client.send(raw.start("sleep", "1000"))
        wait.until(lambda: sleepers(running), "the worker")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
    running.wait_idle()


def test_a_goodbye_while_workers_run_ends_them(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.login(account)
        client.send(raw.start("sh", "-c", "while :; do echo x; done", window=1 << 16))
        client.next()
        client.send(Goodbye(fault=0, reason="done", text=""))
        client.wait_closed()
    running.wait_idle()
    assert running.audit()[-1]["reason"] == "goodbye: done"
