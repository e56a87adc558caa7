"""What a process gives up, and the proof that it is gone: uid, groups, capabilities, descriptors, signals, dumpability.

Lives here: the few system calls by which every aed process confines itself. Must not live here: policy (who becomes whom), look-ups, forks,
seccomp filters (`aed.sandbox.filters`).

Arguments that are wrong raise `LocalError` before anything has changed. Once a change has begun every failure ends the process: a process
that is half one account and half another must not run one more line of its caller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Iterable
from typing import NoReturn

from aed.errors import LocalError
from aed.model import Account

DIED = 255
"""Exit status of a process that could not confine itself, as ssh's own failures."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SYS_CLOSE_RANGE = 436
"""The same number on every architecture. Called directly: `os.closerange` would try two thousand million closes on a kernel before 5.9."""
_LAST_FD = 0x7FFFFFFF
_NO_ID = 0xFFFFFFFF
"""(uid_t)-1, "leave unchanged" to setresuid, which thereby keeps root and reports success."""
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.prctl.restype = ctypes.c_int
_libc.syscall.restype = ctypes.c_long
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


def prctl(option: int, argument: int = 0, pointer: int = 0) -> int:
    """`prctl(2)`, with a failure raised as OSError."""
    result: int = _libc.prctl(option, argument, pointer, 0, 0)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
    return result


def drop_to(account: Account) -> None:
    """Become `account` for ever, and prove it: all three uids and gids, exactly its groups, no capability, no way back.

    A process that is not root and already has the uid is only checked. The superuser is refused: it is nobody's account.
    """
    for what, number in (("uid", account.uid), *(("gid", gid) for gid in (account.gid, *account.groups))):
        if not 0 <= number < _NO_ID:
            raise LocalError(f"refusing to become {account.name!r}: {what} {number} is out of range")
    if account.uid == 0:
        raise LocalError(f"refusing to become {account.name!r}: uid 0 is root")
    if os.geteuid() != 0:
        if os.getresuid() != (account.uid,) * 3:
            raise LocalError(f"cannot become {account.name!r} (uid {account.uid}): this process is neither root nor that account")
        _prove_no_return(account)
        return
    groups = set(account.groups) | {account.gid}
    try:
        os.setgroups(sorted(groups))
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        _clear_capabilities()
        set_undumpable()  # where fs.suid_dumpable is 1 the change of uid did not see to it, and until an exec the memory is root's
    except (OSError, OverflowError) as error:
        die(f"cannot become {account.name!r} (uid {account.uid}): {error}")
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3 or set(os.getgroups()) != groups:
        die(f"not wholly {account.name!r} after the change of uid, gid and groups")
    _prove_no_return(account)


def _prove_no_return(account: Account) -> None:
    """Ask for root again in every way there is. One success is the end of the process."""
    attempts: list[tuple[Callable[..., None], tuple[object, ...]]] = [(os.setresuid, (0, 0, 0)), (os.setresuid, (-1, 0, -1)), (os.setgroups, ([0],))]
    if account.gid != 0:
        attempts += [(os.setresgid, (0, 0, 0)), (os.setresgid, (-1, 0, -1))]
    for call, arguments in attempts:
        try:
            call(*arguments)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):  # EINVAL: this user namespace has no such id at all
                die(f"cannot prove that root is given up: {error}")
        else:
            die(f"root could be had back after becoming {account.name!r}")


def _clear_capabilities() -> None:
    """setresuid empties the permitted and effective sets, never the inheritable one, and not even those if securebits say so."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    left = (ctypes.c_uint32 * 6)()
    if _libc.capget(header, left) != 0 or any(left):
        raise PermissionError("capabilities are left")


def set_undumpable() -> None:
    """No core, and no other process of this uid may ptrace it or read its memory and environment. An exec or a change of uid undoes it."""
    prctl(_PR_SET_DUMPABLE, 0)


def set_parent_death_signal(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Die with the parent. Ends the process if the parent is gone already. A change of uid clears it, so it comes after the drop."""
    prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent_pid:
        os._exit(DIED)


def set_name(name: str) -> None:
    """What ps and top call this process: at most 15 bytes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    prctl(_PR_SET_NAME, ctypes.addressof(text))


def become_subreaper() -> None:
    """Orphaned descendants become our children, so that none can leave by a double fork."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Setuid bits and file capabilities have no effect on this process and its descendants from now on."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


class SignalMask(ctypes.Structure):
    """sigset_t. The `signal` module would turn every member into an enum, at a millisecond for each worker."""

    _fields_ = (("bits", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),)


def block_signals() -> SignalMask:
    """Deliver nothing until `restore_signals` gets what this returns. Around a fork: no handler of the parent's runs in the child."""
    everything, before = SignalMask(), SignalMask()
    _libc.sigfillset(ctypes.byref(everything))
    _set_mask(everything, before)
    return before


def restore_signals(mask: SignalMask) -> None:
    _set_mask(mask, None)


def reset_signals() -> None:
    """Every disposition to default, nothing blocked: exec keeps both an ignored signal and a mask."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        _libc.signal(number, None)  # refused for SIGKILL, SIGSTOP and the C library's own two, which cannot be otherwise
    _set_mask(SignalMask(), None)


def _set_mask(mask: SignalMask, before: SignalMask | None) -> None:
    if _libc.sigprocmask(signal.SIG_SETMASK, ctypes.byref(mask), before and ctypes.byref(before)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"sigprocmask: {os.strerror(number)}")


def close_all_fds(keep: Iterable[int]) -> None:
    """Close every descriptor but those of `keep`."""
    first = 0
    for fd in (*sorted(set(keep)), _LAST_FD + 1):
        if fd > first:
            _close_between(first, fd - 1)
        first = fd + 1


def _close_between(first: int, last: int) -> None:
    if _libc.syscall(ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)) == 0:
        return
    for name in os.listdir("/proc/self/fd"):
        if first <= int(name) <= last:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor by which the directory itself was read


def die(sentence: str) -> NoReturn:
    """One sentence on descriptor 2, and the end: no handler, no `finally`, no buffer of the parent's is run or written."""
    try:
        os.write(2, f"aed: {sentence}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(DIED)
