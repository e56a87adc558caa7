"""Signals reach the command inside its sandbox, and an end leaves nothing. Real processes of a throwaway account."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aed import privilege
from aed.model import Account
from aed.sandbox import processes
from aed.sandbox.launch import launch
from aed.sandbox.plan import PROFILES, Plan
from aed.sandbox.signals import signal_worker
from tests.aed.sandbox.conftest import living
from tests.support import wait

pytestmark = pytest.mark.root
Plans = Callable[..., Plan]
each_profile = pytest.mark.parametrize("profile", PROFILES)

WAITS = """
import signal, subprocess, sys
number = int(sys.argv[1])
child = subprocess.Popen(["sleep", "1000"])
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
print("ready", flush=True)
signal.sigwait([number])
print("caught", flush=True)
print("child", child.wait(), flush=True)
sys.exit(3)
"""


@contextmanager
def worker(plan: Plan) -> Iterator[tuple[int, int]]:
    """(pid, its output)."""
    null = os.open(os.devnull, os.O_RDONLY)
    reading, writing = os.pipe()
    pid = launch(plan, null, writing, writing)
    os.close(writing)
    os.close(null)
    try:
        yield pid, reading
    finally:
        os.close(reading)


def status(pid: int) -> int:
    """As a shell reports it, whether the command or its sandbox died of the signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code


@each_profile
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reaches_the_command_and_its_group(plan: Plans, person: Account, profile: str, signum: int) -> None:
    """The sandbox is not killed: the command goes on to its end. So did `sleep` in the same group, which dies of the signal."""
    with worker(plan(profile, "/usr/bin/python3", "-c", WAITS, str(int(signum)))) as (pid, out):
        wait.read_until(out, b"ready\n", "the worker")
        signal_worker(pid, signum, person, profile=profile)
        assert wait.read_until(out, f"caught\nchild {-signum}\n".encode(), "the command and its child")
        assert status(pid) == 3


@each_profile
def test_an_unhandled_signal_ends_the_worker(plan: Plans, person: Account, profile: str) -> None:
    with worker(plan(profile, "sh", "-c", "echo ready; exec sleep 1000")) as (pid, out):
        wait.read_until(out, b"ready\n", "the worker")
        signal_worker(pid, signal.SIGTERM, person, profile=profile)
        assert status(pid) == 128 + signal.SIGTERM


@each_profile
def test_kill_ends_everything(plan: Plans, person: Account, profile: str) -> None:
    with worker(plan(profile, "sh", "-c", "trap '' INT TERM; sleep 1000 & echo ready; wait; sleep 1000")) as (pid, out):
        wait.read_until(out, b"ready\n", "the worker")
        signal_worker(pid, signal.SIGKILL, person, profile=profile)
        assert status(pid) == 128 + signal.SIGKILL
    wait.until(lambda: not living(person.uid), "the end of the account's processes")


@each_profile
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_once_is_not_lost(plan: Plans, person: Account, profile: str, signum: int) -> None:
    """Before exec, before the drop, before the sandbox: at whatever point the child is. The orphan that waits is reaped here as a subreaper does."""
    program = f"""
from aed import privilege
from aed.model import Account
from aed.sandbox import processes
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from aed.sandbox.signals import signal_worker
import os
privilege.become_subreaper()
plan = Plan(**{_fields(plan(profile, "sleep", "1000"))!r})
for _ in range(20):
    pid = launch(plan, 0, 1, 2)
    signal_worker(pid, {int(signum)}, plan.account, profile=plan.profile)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in ({int(signum)} + 128, -{int(signum)}), code
while processes.children(os.getpid()):
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def _fields(plan: Plan) -> dict[str, object]:
    names = ("account", "argv", "profile", "session_directory", "seccomp")
    return {name: getattr(plan, name) for name in names} | {"environment": dict(plan.environment)}


def test_a_worker_that_is_gone_is_no_error(plan: Plans, person: Account) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    signal_worker(pid, signal.SIGTERM, person, profile="default")


@pytest.mark.parametrize("profile", ["none", "default"])
def test_a_process_of_someone_else_is_never_signalled(plan: Plans, person: Account, profile: str) -> None:
    """The pid is used again by root: whoever signals has become the account, so the kernel refuses."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        privilege.become_subreaper()
        before = set(processes.children(os.getpid()))
        signal_worker(other.pid, signal.SIGTERM, person, profile=profile)
        signal_worker(other.pid, signal.SIGKILL, person, profile=profile)
        orphans = set(processes.children(os.getpid())) - before
        assert other.poll() is None
        other.kill()
        other.wait()
    for orphan in orphans:
        os.waitpid(orphan, 0)


def test_end_of_descendants_leaves_only_what_is_kept(plan: Plans, person: Account) -> None:
    """Double forks, a process that forks for ever, one that ignores signals; a kept child with a child of its own stays."""
    program = f"""
from aed import privilege
from aed.model import Account
from aed.sandbox import processes
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from aed.sandbox.signals import end_descendants
import os, sys
privilege.become_subreaper()
def start(script):
    fields = {_fields(plan("none", "sh"))!r}
    reading, writing = os.pipe()
    pid = launch(Plan(**(fields | dict(argv=(b"sh", b"-c", script)))), 0, writing, 2)
    assert os.read(reading, 6) == b"ready\\n"
    return pid
kept = start(b"sleep 1000 & echo ready; wait")
gone = [
    start(b"(setsid setsid sleep 1000 &) ; (trap '' TERM INT HUP; setsid sh -c 'sleep 1000; sleep 1000' &); echo ready; sleep 1000"),
    start(b"echo ready; while :; do (sleep 0.01; true) & sleep 0.01; done"),
]
reaped = end_descendants((kept,))
assert set(gone) <= set(reaped), (gone, reaped)
left = set(processes.descendants(os.getpid()))
assert left == {{kept, *processes.children(kept)}} and len(left) == 2, left
end_descendants()
assert not list(processes.descendants(os.getpid()))
"""
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not living(person.uid)


@each_profile
def test_a_session_killed_while_its_worker_starts_leaves_nothing_to_its_subreaper(plan: Plans, person: Account, profile: str) -> None:
    """Killed when so many processes were there: at each step of the sandbox's making. What bubblewrap leaves, the session's parent ends."""
    program = f"""
from aed import privilege
from aed.model import Account
from aed.sandbox import processes
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from aed.sandbox.signals import end_descendants
import os, signal
privilege.become_subreaper()
me = os.getpid()
for number in range(40):
    session = os.fork()
    if session == 0:
        launch(Plan(**{_fields(plan(profile, "sleep", "1000"))!r}), 0, 1, 2)
        signal.pause()
    while len(list(processes.descendants(session))) < 1 + number % {1 if profile == "none" else 3}:
        pass
    os.kill(session, signal.SIGKILL)
    os.waitpid(session, 0)
    end_descendants()
    assert not list(processes.descendants(me))
"""
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not living(person.uid)
