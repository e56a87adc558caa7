"""What is measured: one function a row, which takes one side and gives one sample.

Lives here: the measurements. Must not live here: which side is which, statistics, tables.

The harness is root and starts each client as the account, the same way for both sides; clients count in no CPU or memory row.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.support import wait
from tests.support.box import Box
from tests.support.machine import TestAccount

CONCURRENT = 8
SESSIONS = 48
"""Sessions in one sample of `sessions_per_s`: enough that starting and ending the eight lanes does not show."""
IDLE_SESSIONS = 20
ROUND_TRIPS = 1000
BULK = 1 << 30
WORKERS = 100
LONG = 120.0


class Side(Protocol):
    """One of the two: a daemon in a box, and the words that start its client."""

    label: str
    box: Box

    def client(self, account: TestAccount, *command: str) -> list[str]: ...

    def client_with_workers(self, account: TestAccount, workers: int, *command: str) -> list[str]: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table. `target` is the bound on ours/peer (on ours alone where there is no peer), `more` whether more is better."""

    name: str
    unit: str
    sample: Callable[[Side, TestAccount], float]
    target: float
    more: bool
    repeat: int = 1
    peer: bool = True


def oneshot(side: Side, account: TestAccount) -> float:
    """Milliseconds from starting the client to its end."""
    started = time.perf_counter()
    _finish(_start(side.client(account, "true"), account))
    return (time.perf_counter() - started) * 1e3


def sessions_per_s(side: Side, account: TestAccount) -> float:
    """Complete sessions a second, eight client processes at any time."""
    command = side.client(account, "true")
    running: dict[int, subprocess.Popen[bytes]] = {}
    left = SESSIONS
    started = time.perf_counter()
    while left or running:
        while left and len(running) < CONCURRENT:
            process = _start(command, account)
            running[process.pid] = process
            left -= 1
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        _finish(running.pop(ended.si_pid))
    return SESSIONS / (time.perf_counter() - started)


def server_cpu(side: Side, account: TestAccount) -> float:
    """Milliseconds of CPU of everything in the node's box, for one session, until all that it started has gone."""
    sessions = 10
    idle = _idle_pids(side)
    before = side.box.cpu_seconds()
    for _ in range(sessions):
        _finish(_start(side.client(account, "true"), account))
    _until_idle(side, idle)
    return (side.box.cpu_seconds() - before) / sessions * 1e3


def download(side: Side, account: TestAccount) -> float:
    """MB/s of 1 GiB from a worker, from the worker's own start to the client's end: the data path, not the login."""
    return _bulk(side, account, f"date +%s%N >&2; exec head -c {BULK} /dev/zero", subprocess.DEVNULL)


def upload(side: Side, account: TestAccount) -> float:
    """MB/s of 1 GiB to a worker, likewise."""
    with subprocess.Popen(["head", "-c", str(BULK), "/dev/zero"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        return _bulk(side, account, "date +%s%N >&2; exec cat >/dev/null", source.stdout.fileno())


def round_trip(side: Side, account: TestAccount) -> float:
    """Median microseconds of one byte there and back through an open `cat`."""
    with _open_cat(side, account) as echo:
        for _ in range(ROUND_TRIPS // 10):
            echo()
        times = sorted(echo() for _ in range(ROUND_TRIPS))
    return times[len(times) // 2] * 1e6


def idle_memory(side: Side, account: TestAccount) -> float:
    """MiB that one idle session adds to the PSS of all the node's processes, over 20 sessions."""
    idle = _idle_pids(side)
    before = side.box.pss_bytes()
    with ExitStack() as stack:
        for _ in range(IDLE_SESSIONS):
            stack.enter_context(_open_cat(side, account))
        after = side.box.pss_bytes()
    _until_idle(side, idle)
    return (after - before) / IDLE_SESSIONS / (1 << 20)


def workers_per_s(side: Side, account: TestAccount) -> float:
    """Sandboxed workers started and finished in one session, a second: many against one, so that the login cancels out."""

    def seconds(workers: int) -> float:
        started = time.perf_counter()
        _finish(_start(side.client_with_workers(account, workers, "true"), account))
        return time.perf_counter() - started

    alone = seconds(1)
    return (WORKERS - 1) / (seconds(WORKERS) - alone)


ROWS = (
    Row(name="oneshot", unit="ms", sample=oneshot, target=0.4, more=False, repeat=3),
    Row(name="sessions_per_s", unit="1/s", sample=sessions_per_s, target=1.2, more=True),
    Row(name="server_cpu_per_session", unit="ms", sample=server_cpu, target=0.6, more=False),
    Row(name="download", unit="MB/s", sample=download, target=1.1, more=True),
    Row(name="upload", unit="MB/s", sample=upload, target=1.1, more=True),
    Row(name="rtt_p50", unit="us", sample=round_trip, target=1.5, more=False),
    Row(name="pss_idle_session", unit="MiB", sample=idle_memory, target=3.0, more=False),
    Row(name="workers_per_s", unit="1/s", sample=workers_per_s, target=150, more=True, peer=False),
)


def _start(command: list[str], account: TestAccount, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return account.popen(*command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def _finish(process: subprocess.Popen[bytes]) -> bytes:
    """Waits for the client and gives what it wrote on stderr; a client that fails ends the benchmark, for its time would mean nothing."""
    assert process.stderr is not None
    with process:
        said = process.stderr.read()
        if process.wait(LONG):
            raise AssertionError(f"{process.args!r}: exit {process.returncode}: {said.decode(errors='replace')}")
    return said


def _bulk(side: Side, account: TestAccount, script: str, stdin: int) -> float:
    said = _finish(_start(side.client(account, "sh", "-c", script), account, stdin=stdin))
    ended = time.time_ns()
    return BULK / 1e6 / ((ended - int(said.split()[-1])) / 1e9)


@contextmanager
def _open_cat(side: Side, account: TestAccount) -> Iterator[Callable[[], float]]:
    """A session with an open `cat`, known to run; gives a function that sends it a byte and tells how many seconds the echo took."""
    process = _start(side.client(account, "cat"), account, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    there, back = process.stdin.fileno(), process.stdout.fileno()

    def echo() -> float:
        started = time.perf_counter()
        os.write(there, b"x")
        if os.read(back, 1) != b"x":
            raise AssertionError(f"{process.args!r}: no echo")
        return time.perf_counter() - started

    try:
        wait.until(lambda: os.write(there, b"x"), "the session takes a byte")
        wait.readable(back, "first echo", LONG)
        os.read(back, 1)
        yield echo
    finally:
        process.stdin.close()
        _finish(process)


def _idle_pids(side: Side) -> int:
    """How many processes the node has when nobody is there: waits until the number holds."""
    seen: list[int] = []

    def steady() -> bool:
        seen.append(len(side.box.pids()))
        return len(seen) >= 10 and len(set(seen[-10:])) == 1

    wait.until(steady, f"{side.label} is idle", LONG)
    return seen[-1]


def _until_idle(side: Side, pids: int) -> None:
    wait.until(lambda: len(side.box.pids()) <= pids, f"{side.label}'s sessions end", LONG)
