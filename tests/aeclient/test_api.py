"""The master's interface over a real socket, with a real process at the other end that builds its records by hand."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from aeclient.api import Exit, Master, Message, Run, run
from aed.errors import LocalError, RemoteError, Unavailable

# What stands in for aeclient: it shares no code with the other end.
PRELUDE = """
import os, socket, struct, sys
words = sys.argv[1:]
stream = socket.socket(fileno=int(words[words.index("--master-fd") + 1]))
file = stream.makefile("rb")
def put(kind, worker, payload=b""):
    stream.sendall(struct.pack(">IBI", 5 + len(payload), kind, worker) + payload)
def get():
    size, kind, worker = struct.unpack(">IBI", file.read(9))
    return kind, worker, file.read(size - 5)
def end(status):
    put(3, 0, struct.pack(">i", status))
"""


def start(code: str, **options: object) -> Run:
    return run(["cmd", "-x"], client=[sys.executable, "-c", PRELUDE + code], **options)  # type: ignore[arg-type]


@pytest.fixture
def pair() -> Iterator[tuple[Master, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with Master(ours) as master, theirs:
        yield master, theirs


def record(kind: int, worker: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", 5 + len(payload), kind, worker) + payload


def test_a_whole_run() -> None:
    code = """
put(1, 0); put(1, 1)
put(0, 1, b"one"); put(0, 0, b"zero")
kind, worker, payload = get()
put(0, worker, b"got " + payload)
assert get() == (0, 0xFFFFFFFF, b"all of you")
put(2, 0, struct.pack(">i", 0))
put(2, 1, struct.pack(">i", 137) + "killed by signal 9".encode())
end(137)
"""
    with start(code) as master:
        messages = iter(master)
        assert [next(messages), next(messages)] == [Message(1, b"one"), Message(0, b"zero")]
        assert master.started == {0, 1}
        assert master.status is None
        master.send(1, b"to one")
        master.broadcast(b"all of you")
        assert list(messages) == [Message(1, b"got to one")]
        assert master.exits == {0: Exit(0, 0, ""), 1: Exit(1, 137, "killed by signal 9")}
        assert master.status == 137
    assert master.process.returncode == 0


def test_words_of_the_command() -> None:
    code = 'words[1] = "N"; put(0, 0, "\\0".join(words).encode()); end(0)'
    with start(code, group="higgs", nodes=["a", "b:1"], workers=3, options=["-v"]) as master:
        words = next(iter(master)).payload.decode().split("\0")
    assert words == ["--master-fd", "N", "--group", "higgs", "--node", "a", "--node", "b:1", "--workers", "3", "-v", "--", "cmd", "-x"]
    with start(code, per_node=2) as master:
        words = next(iter(master)).payload.decode().split("\0")
    assert words == ["--master-fd", "N", "--per-node", "2", "--", "cmd", "-x"]


def test_both_ends_write_much_at_once() -> None:
    code = """
import threading
def write():
    for _ in range(64): put(0, 0, bytes(1 << 18))
writer = threading.Thread(target=write); writer.start(); writer.join()
sizes = [len(get()[2]) for _ in range(64)]
put(0, 1, str(sum(sizes)).encode()); end(0)
"""
    # the other end reads nothing until it has written all: a master that does not read while it writes waits for ever
    with start(code) as master:
        for _ in range(64):
            master.send(0, bytes(1 << 18))
        messages = list(master)
    assert sum(len(message.payload) for message in messages if message.worker == 0) == 64 << 18
    assert messages[-1] == Message(1, str(64 << 18).encode())


def test_sending_after_the_end_goes_nowhere() -> None:
    with start("end(0)") as master:
        master.process.wait()
        master.send(0, bytes(1 << 22))
        assert list(master) == []
        assert master.status == 0


def test_last_record_counts_though_the_socket_is_gone(pair: tuple[Master, socket.socket]) -> None:
    # more than one read's worth lies there and the other end is gone: sending fails before the last record has been read
    master, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    peer.sendall(record(0, 0, bytes(280 << 10)) + record(3, 0, struct.pack(">i", 3)))
    peer.close()
    master.send(0, b"x")
    assert len(list(master)) == 1
    assert master.status == 3


def test_aeclient_that_dies_is_told() -> None:
    with start('put(0, 0, b"x"); os.kill(os.getpid(), 9)') as master:
        messages = iter(master)
        assert next(messages) == Message(0, b"x")
        with pytest.raises(RemoteError, match="before it said how the run ended"):
            next(messages)
        with pytest.raises(RemoteError, match="before it said how the run ended"):
            master.send(0, b"y")
    assert master.process.returncode == -signal.SIGKILL


def test_leaving_early_ends_the_run() -> None:
    with start('put(0, 0, b"x"); import signal; signal.pause()') as master:
        next(iter(master))
    assert master.process.returncode == -signal.SIGTERM


def test_no_descriptor_leaks_to_the_run_or_stays_here() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with start('put(0, 0, repr(sorted(map(int, os.listdir("/proc/self/fd")))).encode()); end(0)') as master:
        numbers = next(iter(master)).payload.decode()
    # the standard three, the socket, its own makefile shares it, and the directory being listed
    assert len(numbers.split(",")) == 5, numbers
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_client_that_is_absent() -> None:
    with pytest.raises(Unavailable, match="cannot be started: No such file"):
        run(["x"], client=["/nonexistent/aeclient"])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (bytes.fromhex("04000006 00 00000000"), "longer than"),
        (bytes.fromhex("00000004 00000000"), "at least 5 bytes"),
        (record(2, 0, b"abc"), "at least 4 bytes"),
        (record(9, 0), "kind 9"),
    ],
)
def test_malformed_records_are_the_other_end_s_fault(pair: tuple[Master, socket.socket], raw: bytes, says: str) -> None:
    pair[1].sendall(raw)
    with pytest.raises(RemoteError, match=says):
        next(iter(pair[0]))


def test_messages_before_a_cut_arrive(pair: tuple[Master, socket.socket]) -> None:
    pair[1].sendall(record(0, 4, b"whole") + record(0, 4, b"cut")[:-1])
    pair[1].close()
    messages = iter(pair[0])
    assert next(messages) == Message(4, b"whole")
    with pytest.raises(RemoteError, match="before it said"):
        next(messages)


def test_wrong_use(pair: tuple[Master, socket.socket]) -> None:
    for number in (-1, 0xFFFFFFFF):
        with pytest.raises(LocalError, match="no number of a worker"):
            pair[0].send(number, b"")
    with pytest.raises(LocalError, match="in parts"):
        pair[0].broadcast(bytes((64 << 20) + 1))


def test_largest_message_both_ways(pair: tuple[Master, socket.socket]) -> None:
    master, peer = pair
    payload = os.urandom(1 << 20) * 64
    writer = threading.Thread(target=peer.sendall, args=(record(0, 1, payload) + record(3, 0, bytes(4)),))
    writer.start()
    assert list(master) == [Message(1, payload)]
    writer.join()


MASTER = """
import sys
from aeclient.api import Master
with Master.from_environment() as master:
    for message in master:
        master.send(message.worker, message.payload[::-1])
sys.exit(master.status)
"""


def test_program_started_as_a_master(pair: tuple[Master, socket.socket]) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    environment = {**os.environ, "AE_MASTER_FD": str(theirs.fileno())}
    child = subprocess.Popen([sys.executable, "-c", MASTER], env=environment, pass_fds=(theirs.fileno(),))  # noqa: S603
    theirs.close()
    with ours:
        ours.sendall(record(1, 5) + record(0, 5, b"abc"))
        assert ours.makefile("rb").read(12) == record(0, 5, b"cba")
        ours.sendall(record(2, 5, struct.pack(">i", 4)) + record(3, 0, struct.pack(">i", 4)))
        assert child.wait() == 4
        assert ours.recv(1) == b""


def test_program_not_started_as_a_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AE_MASTER_FD", raising=False)
    with pytest.raises(Unavailable, match="AE_MASTER_FD is not set"):
        Master.from_environment()
    for number in ("x", "-1", "987654"):
        monkeypatch.setenv("AE_MASTER_FD", number)
        with pytest.raises(Unavailable, match="AE_MASTER_FD"):
            Master.from_environment()
