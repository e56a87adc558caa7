"""The start of a worker: fork, and in the child everything up to exec, in the order of the design.

Lives here: that order. Must not live here: what a sandbox consists of (`bubblewrap`), where programs are (`command`), what happens after exec.

The caller is the session: small and single-threaded. Nothing that fails in the child returns into the caller's code: it ends there, with one sentence
on the worker's stderr.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
from collections.abc import Callable
from typing import NoReturn

from aed import privilege
from aed.errors import AedError, LocalError
from aed.sandbox import bubblewrap, command, filters
from aed.sandbox.plan import Command, Plan

_UMASK = 0o022


def launch(plan: Plan, stdin: int, stdout: int, stderr: int, extra_hook: Callable[[], None] | None = None) -> int:
    """Start the worker and return the pid of our direct child, which the caller reaps.

    The child leads a session and process group of its own. Its exit status is the command's; 127 not found, 126 cannot run, 255 the launch failed.
    `extra_hook` runs in the child while it is still root, before anything of the worker's (the cgroup). Raises `Unavailable` if the sandbox's
    program is not installed, OSError if the fork fails.

    The worker dies with the caller once it runs. In the few milliseconds before, bubblewrap's inner process does not yet know that it should (it asks
    last of all, and does not look whether it is too late): so the caller's parent is a subreaper too, and when the caller has died it calls
    `signals.end_descendants`, keeping its other children.
    """
    program = "" if plan.profile == "none" else bubblewrap.find_bubblewrap()
    parent = os.getpid()
    # A handler of the caller's must not run in the child, nor write to its wake-up descriptor: nothing is delivered until dispositions are reset.
    mask = privilege.block_signals()
    try:
        pid = os.fork()
        if pid == 0:
            _child(plan, (stdin, stdout, stderr), extra_hook, parent, program)
    finally:
        privilege.restore_signals(mask)
    return pid


def _child(plan: Plan, streams: tuple[int, int, int], hook: Callable[[], None] | None, parent: int, program: str) -> NoReturn:
    status = privilege.DIED
    gc.disable()  # a collection would copy the parent's pages for nothing
    try:
        privilege.reset_signals()
        _install(streams)
        _become(plan, hook, parent)
        _exec(plan, program)
    except command.Unrunnable as error:
        status = error.status
        _say(str(error))
    except AedError as error:
        _say(str(error))
    except BaseException as error:  # also KeyboardInterrupt: this process has no other way to end
        _say(f"cannot start the worker: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _install(streams: tuple[int, int, int]) -> None:
    """The three streams become 0, 1 and 2."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3) for fd in streams]  # so that none overwrites another
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=True)


def _become(plan: Plan, hook: Callable[[], None] | None, parent: int) -> None:
    """cgroup, session, limits, account, parent's death: each needs what the next one gives up."""
    if hook is not None:
        hook()
    privilege.close_all_fds((0, 1, 2))  # after the hook, which may use a descriptor of the caller's
    os.setsid()
    for which, soft, hard in plan.rlimits:
        _limit(which, soft, hard)
    if plan.unprivileged:
        if plan.account.uid != os.getuid() or os.geteuid() != os.getuid():
            raise LocalError(f"an unprivileged daemon of uid {os.getuid()} cannot start workers of {plan.account.name!r}")
    else:
        _be_killable()
        privilege.drop_to(plan.account)
    privilege.set_parent_death_signal(parent)
    os.umask(_UMASK)


def _be_killable() -> None:
    """The daemon's protection from the out-of-memory killer is not the worker's. A score above 0 is not lowered: that takes CAP_SYS_RESOURCE."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)  # a file object would cost more than all the rest of `_become`
    if os.read(fd, 16).startswith(b"-"):
        os.write(fd, b"0")
    os.close(fd)


def _limit(which: int, soft: int, hard: int) -> None:
    """Only CAP_SYS_RESOURCE may raise a hard limit; without it (unprivileged, in a container) what is there already is the ceiling."""
    try:
        resource.setrlimit(which, (soft, hard))
    except (ValueError, OSError):
        ceiling = resource.getrlimit(which)[1]
        resource.setrlimit(which, (_lower(soft, ceiling), _lower(hard, ceiling)))


def _lower(limit: int, ceiling: int) -> int:
    if ceiling == resource.RLIM_INFINITY:
        return limit
    return ceiling if limit == resource.RLIM_INFINITY else min(limit, ceiling)


def _exec(plan: Plan, program: str) -> NoReturn:
    directory = _enter_home(plan)
    environment = dict(plan.environment)
    if plan.profile == "strict":
        environment["HOME"] = plan.session_directory
    visible = bubblewrap.visibility(plan)
    if plan.shell_command is not None:
        found = command.shell(plan.account, plan.shell_command, visible)
    else:
        found = command.find(plan.argv, os.fsencode(environment.get("PATH", "")), visible)
    if plan.profile == "none":
        if plan.seccomp is not None:
            filters.load(plan.seccomp)
        _exec_plain(found, environment)
    filter_fd = None if plan.seccomp is None else _filter_file(plan.seccomp)
    words = bubblewrap.arguments(plan, found, bubblewrap=program, directory=directory, filter_fd=filter_fd)
    os.execve(program, words, environment)


def _exec_plain(found: Command, environment: dict[str, str]) -> NoReturn:
    """Profile `none` is what ssh gives: no namespaces, and no no_new_privs either, because who chooses it wants setuid programs (apptainer's starter,
    ksu, sudo) to work. A filter, if the caller gives one, brings no_new_privs with it."""
    try:
        os.execve(found.program, found.words, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise command.Unrunnable(command.CANNOT_RUN, f"{os.fsdecode(found.program)}: {error.strerror}") from None
        os.execve("/bin/sh", (b"sh", found.program, *found.words[1:]), environment)  # as execvp, and so bubblewrap, does


def _enter_home(plan: Plan) -> str:
    """The directory in which the command starts. The look at the home makes an automounter mount it before the sandbox is made."""
    if plan.profile == "strict":
        os.chdir(plan.session_directory)
        return plan.session_directory
    try:
        os.chdir(plan.account.home)
    except (OSError, ValueError) as error:
        _say(f"could not change to home directory {plan.account.home}: {getattr(error, 'strerror', None) or error}")
        os.chdir("/")
        return "/"
    return os.path.realpath(plan.account.home)


def _filter_file(bpf: bytes) -> int:
    """Bubblewrap reads the filter from a descriptor and closes it."""
    fd = os.memfd_create("aed-filter", 0)
    os.write(fd, bpf)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _say(sentence: str) -> None:
    try:
        os.write(2, f"aed: {sentence}\n".encode(errors="backslashreplace"))
    except OSError:
        return  # nobody listens; the exit status says it as well
