"""Signals to a running worker, and the end of everything that a session started.

Lives here: how a signal reaches the command inside its sandbox, and how nothing is left. Must not live here: which signals a client may send.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from aed import privilege
from aed.model import Account
from aed.sandbox import processes

_PATIENCE = 5.0
"""For how long a signal waits for a worker that is not yet there."""
_TICK = 0.005
"""Between two looks at /proc, which gives no event. Only a helper process waits so."""


def signal_worker(pid: int, signum: int, account: Account, *, profile: str) -> None:
    """Send `signum` to the command that `launch` started as `pid`: to its process group, inside the sandbox if it has one.

    A child that has become the account does it, so that root never signals a process of somebody else. If the command is not there yet, an orphan of
    that child goes on trying while we return; the caller's loop reaps it with everything else that it inherits as subreaper. SIGKILL ends the whole
    sandbox, and our direct child with it. `profile` is that of the plan; `pid` must not have been reaped.
    """
    start = processes.started(pid)
    if start is None:
        return
    mask = privilege.block_signals()
    try:
        helper = os.fork()
        if helper == 0:
            _help(pid, start, signum, account, profile != "none")
    finally:
        privilege.restore_signals(mask)
    os.waitpid(helper, 0)


def _help(pid: int, start: int, signum: int, account: Account, sandboxed: bool) -> None:
    try:
        privilege.reset_signals()
        privilege.close_all_fds(())
        if os.geteuid() != account.uid:  # else this daemon is the user's own
            privilege.drop_to(account)
        if not _deliver(pid, signum, sandboxed) and os.fork() == 0:
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline and processes.started(pid) == start and not _deliver(pid, signum, sandboxed):
                time.sleep(_TICK)
    finally:
        os._exit(0)


def _deliver(pid: int, signum: int, sandboxed: bool) -> bool:
    """Whether the signal was sent, or there is nobody left to send it to. If not, the worker is on its way, and it is worth trying again."""
    try:
        if sandboxed:
            return _deliver_inside(pid, signum)
        if os.getpgid(pid) != pid:
            return False  # before setsid: the group is still the session's
        os.killpg(pid, signum)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # before the drop
    return True


def _deliver_inside(pid: int, signum: int) -> bool:
    """Bubblewrap has one child, the init of the pid namespace, and that one's oldest child is the command, in the same process group as init. Init
    has no handlers, so it ignores what comes from outside but SIGKILL and SIGSTOP.

    Bubblewrap itself is never signalled: killed at the wrong instant it leaves an init that does not yet know that it should die with it.
    """
    inits = processes.children(pid)
    if signum == signal.SIGKILL:
        if inits:
            os.kill(inits[0], signum)  # with init ends everything in its namespace, and only then bubblewrap
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signum)  # also an init that is being cloned right now: no fork escapes the signal to its group
        else:
            return False
        return True
    commands = processes.children(inits[0]) if inits else []
    if not commands:
        return False
    group = os.getpgid(commands[0])
    if group in (inits[0], commands[0]) and signum != signal.SIGSTOP:
        os.killpg(group, signum)
    else:
        os.kill(commands[0], signum)
    return True


def end_descendants(keep: Iterable[int] = (), *, patience: float = _PATIENCE) -> dict[int, int]:
    """Kill every descendant but `keep` and what is below those; the wait statuses of the children that this reaped.

    The caller is a subreaper, so nothing has left by a double fork. Stops before it kills: what is stopped forks no more. Returns after `patience`
    even if something hangs in the kernel; `processes.descendants` then tells what.
    """
    kept = frozenset(keep)
    reaped: dict[int, int] = {}
    deadline = time.monotonic() + patience
    while True:
        stopped: set[int] = set()
        while fresh := [pid for pid in processes.descendants(os.getpid(), kept) if pid not in stopped]:
            for pid in fresh:
                _send(pid, signal.SIGSTOP)
            stopped.update(fresh)
        for pid in stopped:
            _send(pid, signal.SIGKILL)
        for pid in processes.children(os.getpid()):
            if pid not in kept:
                with suppress(ChildProcessError):
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        reaped[pid] = status
        if not stopped or time.monotonic() > deadline:
            return reaped
        time.sleep(_TICK)


def _send(pid: int, signum: int) -> None:
    """To this process and no later one with its pid: a descriptor is taken first, and then it must still be below us."""
    fd = -1
    try:
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS and _is_below_us(pid):  # before Linux 5.3 only the instant between the look and the kill is unguarded
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
    if fd < 0:
        return
    try:
        if _is_below_us(pid):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signum)
    finally:
        os.close(fd)


def _is_below_us(pid: int) -> bool:
    while pid > 1:
        pid = processes.parent(pid)
        if pid == os.getpid():
            return True
    return False
