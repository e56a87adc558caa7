"""Which system calls each seccomp filter permits or refuses, and why.

Lives here: the rules, as pyseccomp takes them. Must not live here: loading. Imported only by the helper that compiles (`aed.sandbox.filters`),
because it loads libseccomp.

An argument that the kernel reads as 32 bits is compared as 32 bits: a comparison of the whole register is evaded by setting a high bit.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
import tempfile
import termios
from collections.abc import Callable

import pyseccomp as seccomp  # type: ignore[import-untyped]

_LOW = 0xFFFFFFFF
_CLONE_NEWUSER = 0x10000000
_AT_EMPTY_PATH = 0x1000
_TIOCLINUX = 0x541C
_AF_UNIX = 1
_F_GET_SEALS = 1034
_FIOCLEX, _FIONCLEX = 0x5451, 0x5450
_FCNTL = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, _F_GET_SEALS)
_IOCTL = (termios.FIONBIO, termios.FIONREAD, termios.TCGETS, _FIOCLEX, _FIONCLEX)
_AF_AX25, _AF_X25, _AF_KEY, _AF_PACKET = 3, 9, 15, 17

_UNKNOWN = -1
_NEWER = {"open_tree_attr": 467}
"""Calls that libseccomp 2.5 does not know by name; since Linux 5.1 a new call has the same number on every architecture."""

Rule = tuple[str, tuple[seccomp.Arg, ...]]


def _is(argument: int, value: int) -> seccomp.Arg:
    return seccomp.Arg(argument, seccomp.MASKED_EQ, _LOW, value)


def _without(argument: int, bits: int) -> seccomp.Arg:
    return seccomp.Arg(argument, seccomp.MASKED_EQ, bits, 0)


# What a process needs that talks over descriptors it already has. No path, no other process, no new endpoint.
_EXISTING = """
read readv write writev recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg shutdown close close_range getsockopt setsockopt getsockname getpeername
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6 pipe pipe2 eventfd2 dup dup2 dup3 lseek fstat
munmap mremap madvise brk futex futex_waitv membarrier rseq set_robust_list
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getrandom sched_yield sched_getaffinity getcpu
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall setitimer getitimer alarm pause
getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp uname sysinfo exit exit_group
""".split()  # noqa: SIM905 - lines of names

_EXISTING_WITH_ARGUMENTS: tuple[Rule, ...] = (
    # No memory becomes code. (A cffi callback made after the filter may need that: make them before.)
    ("mmap", (_without(2, mmap.PROT_EXEC),)),
    ("mprotect", (_without(2, mmap.PROT_EXEC),)),
    # F_SETOWN and F_SETSIG, or FIOASYNC and FIOSETOWN, would send any signal to any process of this uid: only these commands.
    *(("fcntl", (_is(1, c),)) for c in _FCNTL),
    *(("ioctl", (_is(1, c),)) for c in _IOCTL),
    ("socketpair", (_is(0, _AF_UNIX),)),
    # glibc 2.33 and later spell fstat so.
    ("newfstatat", (seccomp.Arg(3, seccomp.MASKED_EQ, _AT_EMPTY_PATH, _AT_EMPTY_PATH),)),
    # One's own limits, read only.
    ("prlimit64", (_is(0, 0), seccomp.Arg(2, seccomp.EQ, 0))),
)

_READING = """
stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd statfs fstatfs pread64
""".split()  # noqa: SIM905 - lines of names
_WRITE_FLAGS = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_READING_WITH_ARGUMENTS: tuple[Rule, ...] = (
    ("open", (_without(1, _WRITE_FLAGS),)),
    ("openat", (_without(2, _WRITE_FLAGS),)),  # openat2 keeps its flags where no filter can look
)

# Refused to every worker: the kernel's own administration and its most attacked corners, none of which an analysis calls.
# Permitted on purpose: ptrace and process_vm_* (gdb, ROOT's stack traces, strace, Open MPI's single-copy transport; the pid namespace leaves only the
# worker's own processes as targets), personality (setarch, sanitizers), user namespaces and mount (apptainer, in `default` only).
_NEVER = """
kexec_load kexec_file_load init_module finit_module delete_module create_module query_module get_kernel_syms bpf perf_event_open userfaultfd
add_key keyctl request_key io_uring_setup io_uring_enter io_uring_register acct swapon swapoff reboot settimeofday clock_settime clock_adjtime
adjtimex stime iopl ioperm modify_ldt syslog quotactl quotactl_fd nfsservctl lookup_dcookie vhangup
uselib ustat sysfs _sysctl open_by_handle_at fanotify_init
move_pages migrate_pages
""".split()  # noqa: SIM905 - lines of names
_NEVER_WITH_ARGUMENTS: tuple[Rule, ...] = (
    # Typing into a terminal that somebody else reads.
    ("ioctl", (_is(1, termios.TIOCSTI),)),
    ("ioctl", (_is(1, _TIOCLINUX),)),
    # Address families of hardware and clusters' interiors. AF_VSOCK reaches the hypervisor from any network namespace.
    *(("socket", (_is(0, family),)) for family in (_AF_AX25, _AF_X25, _AF_KEY)),
    ("socket", (seccomp.Arg(0, seccomp.GE, _AF_PACKET),)),
)

# `strict` also keeps its namespaces: a user namespace of its own would give it mounts, networks and the kernel code behind them.
_STRICT = """
mount umount2 pivot_root chroot setns open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr
""".split()  # noqa: SIM905 - lines of names
_STRICT_WITH_ARGUMENTS: tuple[Rule, ...] = tuple(
    (name, (seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_NEWUSER, _CLONE_NEWUSER),)) for name in ("clone", "unshare")
)


def _start(default: int) -> seccomp.SyscallFilter:
    result = seccomp.SyscallFilter(default)
    result.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)  # 32-bit x86 and x32 have other numbers for the same calls
    return result


def _add(target: seccomp.SyscallFilter, action: int, names: list[str], rules: tuple[Rule, ...]) -> None:
    for name, arguments in (*((name, ()) for name in names), *rules):
        number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
        if number == _UNKNOWN:
            number = _NEWER.get(name, _UNKNOWN)
            if number == _UNKNOWN and action != seccomp.ALLOW:  # a refusal that would silently not be one; an allow-list may lack a call
                raise RuntimeError(f"libseccomp does not know the system call {name}")
        if number >= 0:  # other negative numbers: this architecture has no such call
            target.add_rule(action, number, *arguments)


def _net() -> seccomp.SyscallFilter:
    result = _start(seccomp.ERRNO(errno.EPERM))
    _add(result, seccomp.ALLOW, _EXISTING, _EXISTING_WITH_ARGUMENTS)
    return result


def _checker() -> seccomp.SyscallFilter:
    result = _start(seccomp.ERRNO(errno.EPERM))
    existing = tuple(rule for rule in _EXISTING_WITH_ARGUMENTS if rule[0] not in _READING)
    _add(result, seccomp.ALLOW, _EXISTING + _READING, existing + _READING_WITH_ARGUMENTS)
    return result


def _worker() -> seccomp.SyscallFilter:
    result = _start(seccomp.ALLOW)
    _add(result, seccomp.ERRNO(errno.EPERM), _NEVER, _NEVER_WITH_ARGUMENTS)
    return result


def _strict() -> seccomp.SyscallFilter:
    result = _worker()
    _add(result, seccomp.ERRNO(errno.EPERM), _STRICT, _STRICT_WITH_ARGUMENTS)
    # clone3 keeps its flags where no filter can look; ENOSYS makes the C library fall back to clone.
    _add(result, seccomp.ERRNO(errno.ENOSYS), ["clone3"], ())
    return result


BUILDERS: dict[str, Callable[[], seccomp.SyscallFilter]] = {"net": _net, "checker": _checker, "worker": _worker, "worker-strict": _strict}


def export(rules: seccomp.SyscallFilter) -> bytes:
    if sys.platform != "linux":
        raise RuntimeError("seccomp is Linux's")
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
