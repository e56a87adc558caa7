"""What a process gives up is gone: each in a forked child, which tells by its exit status."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from aed import privilege
from aed.errors import LocalError
from aed.model import Account
from tests.support import wait

TESTER = Account(name="aedt-nobody", uid=64321, gid=64322, groups=(64322, 64323), home="/", shell="/bin/sh")
"""No entry in the user database is needed: the kernel knows numbers."""


def in_child(what: Callable[[], object]) -> tuple[int, str]:
    """(exit status, what it wrote on stderr). 0: `what` returned something true or None; 1: something false; 2: it raised."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.dup2(writing, 2)
            result = what()
            status = 0 if result is None or result else 1
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


@pytest.mark.root
def test_drop_leaves_nothing_of_root() -> None:
    def drop() -> bool:
        os.setgroups([0, 4, 27])
        privilege.prctl(8, 1)  # PR_SET_KEEPCAPS: a change of uid alone would leave all of root's capabilities permitted
        privilege.drop_to(TESTER)
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Uid"] == "64321\t64321\t64321\t64321"
        assert status["Gid"] == "64322\t64322\t64322\t64322"
        assert status["Groups"].split() == ["64322", "64323"]
        assert [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == ["0" * 16] * 4
        privilege.drop_to(TESTER)  # a second time it is only checked
        return True

    assert in_child(drop) == (0, "")


@pytest.mark.root
@pytest.mark.parametrize(
    "change",
    [{"uid": 0}, {"uid": -1}, {"uid": 0xFFFFFFFF}, {"gid": -1}, {"gid": 0xFFFFFFFF}, {"groups": (-1,)}, {"uid": 1 << 40}],
)
def test_what_is_no_account_changes_nothing(change: dict[str, int]) -> None:
    """setresuid(-1, -1, -1) succeeds and keeps root."""

    def drop() -> bool:
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        with pytest.raises(LocalError):
            privilege.drop_to(replace(TESTER, **change))  # type: ignore[arg-type]
        return before == (os.getresuid(), os.getresgid(), os.getgroups())

    assert in_child(drop) == (0, "")


@pytest.mark.root
@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
@pytest.mark.parametrize("how", ["does nothing", "fails"])
def test_a_drop_that_did_not_happen_ends_the_process(call: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        if how == "fails":
            raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, call, broken)
    status, said = in_child(lambda: privilege.drop_to(TESTER))
    assert status == privilege.DIED
    assert said.startswith("aed: ")


@pytest.mark.root
def test_root_that_can_be_had_back_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a saved uid of 0: everything looks dropped."""
    real, first = os.setresuid, [True]

    def keeps_saved(real_uid: int, effective: int, saved: int) -> None:
        if first:
            first.clear()
            real(real_uid, effective, 0)
        else:
            real(real_uid, effective, saved)

    monkeypatch.setattr(os, "setresuid", keeps_saved)
    monkeypatch.setattr(os, "getresuid", lambda: (TESTER.uid,) * 3)
    status, said = in_child(lambda: privilege.drop_to(TESTER))
    assert status == privilege.DIED
    assert "root could be had back" in said


@pytest.mark.root
def test_an_unprivileged_process_becomes_nobody_else() -> None:
    def drop() -> None:
        privilege.drop_to(TESTER)
        privilege.drop_to(replace(TESTER, uid=64000))

    status, said = in_child(drop)
    assert status == 2
    assert "this process is neither root nor that account" in said


@pytest.mark.root
def test_undumpable_hides_memory_and_environment_from_the_same_uid() -> None:
    def parent(hide: bool) -> bool:
        privilege.drop_to(TESTER)
        # What a change of uid left undumpable is made dumpable first, so that the difference is ours.
        privilege.prctl(4, 1)
        if hide:
            privilege.set_undumpable()
        script = f"for f in environ mem maps; do head -c1 /proc/{os.getpid()}/$f >/dev/null 2>&1 || exit 1; done"
        script = script.replace("environ mem maps", "environ maps")
        return subprocess.run(["sh", "-c", script], check=False).returncode == (1 if hide else 0)

    assert in_child(lambda: parent(False)) == (0, "")
    assert in_child(lambda: parent(True)) == (0, "")


def test_dies_with_the_parent() -> None:
    program = """
import os
from aed import privilege
me = os.getpid()
if os.fork() == 0:
    privilege.set_parent_death_signal(me)
    print(os.getpid(), flush=True)
    while True:
        os.read(0, 1)
os.read(0, 1)
"""
    keep, stdin = os.pipe()[::-1]
    with subprocess.Popen([sys.executable, "-c", program], stdin=stdin, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        wait.gone(child, "the child of a killed parent")
    os.close(keep)
    os.close(stdin)


def test_a_parent_that_is_gone_already_ends_the_process() -> None:
    assert in_child(lambda: privilege.set_parent_death_signal(os.getpid())) == (privilege.DIED, "")


def test_signals_are_reset() -> None:
    def reset() -> bool:
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGRTMIN + 3):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        privilege.block_signals()
        privilege.reset_signals()
        with open("/proc/self/status") as file:
            left = [int(line.split()[1], 16) for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
        own = 1 << 31 | 1 << 32  # the C library's, for threads: it lets nobody else set them, and make may have left them ignored
        return left[0] == 0 and not any(signals & ~own for signals in left[1:])

    assert in_child(reset) == (0, "")


def test_block_and_restore_give_back_the_mask() -> None:
    def check() -> bool:
        signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGUSR2,))
        mask = privilege.block_signals()
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        privilege.restore_signals(mask)
        return signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2}

    assert in_child(check) == (0, "")


@pytest.mark.parametrize("kernel", ["new", "before 5.9"])
def test_descriptors_are_closed_but_those_to_keep(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel != "new":
        monkeypatch.setattr(privilege, "_SYS_CLOSE_RANGE", 9999)

    def close() -> bool:
        high = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
        os.dup2(0, high)
        kept = [os.dup(0), os.dup(0), os.dup(0)][1:]
        privilege.close_all_fds([2, *kept, *kept])
        return {int(name) for name in os.listdir("/proc/self/fd")} - {2, *kept} == {0}  # 0 is the listing itself

    assert in_child(close) == (0, "")


def test_no_new_privileges_and_subreaper() -> None:
    def check() -> bool:
        privilege.no_new_privileges()
        privilege.become_subreaper()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                os._exit(7)
            os._exit(0)
        seen = {os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)}
        with open("/proc/self/status") as file:
            return seen == {0, 7} and "NoNewPrivs:\t1\n" in file.read()

    assert in_child(check) == (0, "")


def test_a_prctl_that_fails_is_an_error() -> None:
    with pytest.raises(OSError, match="prctl"):
        privilege.prctl(99999)
