"""The file systems and namespaces of the profiles `default` and `strict`, as bubblewrap's arguments.

Lives here: what a worker sees, and how bubblewrap is told. Must not live here: privilege, descriptors, forks (`aed.sandbox.launch`).

Runs in the worker's own process after it has become the account, because only the account can look into a root-squashed home and only its look makes
the automounter mount it. Bubblewrap makes its mount namespace a slave of the node's: what is automounted later appears inside too.

Only options that bubblewrap 0.4 has are used, so that enterprise systems of 2020 still work; the nested user namespaces of `strict` are refused by
its seccomp filter, not by --disable-userns (0.8).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from aed.errors import Unavailable
from aed.sandbox.plan import Command, Plan

_PLACES = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")
"""Never searched in PATH: as root it is ours to choose, and unprivileged PATH is not more trustworthy."""
_SYSTEM = ("/usr", "/etc", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/sys/devices/system")
"""All that `strict` shows: programs, their configuration, and the processors' topology that numerical libraries read. No /var, no /srv, no home."""
_HIDDEN = ("/run", "/proc", "/dev", "/sys")
"""Sockets of the node's services, other processes, devices: no input of `strict` brings them back."""
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts")
"""Not the cgroup namespace: the worker may know its own limits by their path."""


def find_bubblewrap() -> str:
    for place in _PLACES:
        if os.access(place, os.X_OK):
            return place
    raise Unavailable(f"bubblewrap is not installed (looked for {', '.join(_PLACES)}): apt install bubblewrap, or dnf install bubblewrap")


def visibility(plan: Plan) -> Callable[[str], bool]:
    """Whether the worker will see a file that exists. Only for sentences: it is the mounts that hide."""
    if plan.profile == "none":
        return lambda path: True
    if plan.profile == "strict":
        shown = _real((*_SYSTEM, *plan.inputs, plan.session_directory))
        return lambda path: _below(os.path.realpath(path), shown)
    hidden = _real(("/run", "/tmp", "/var/tmp"))  # noqa: S108 - the node's, which the worker does not see
    kept = _real((plan.account.home, *plan.writable, *plan.run_allowed, plan.session_directory))
    return lambda path: _below(os.path.realpath(path), kept) or not _below(os.path.realpath(path), hidden)


def arguments(plan: Plan, command: Command, *, bubblewrap: str, directory: str, filter_fd: int | None) -> list[bytes]:
    """The argument vector that makes the sandbox and runs `command` in `directory` (as seen inside)."""
    words = [bubblewrap, *_NAMESPACES, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if plan.profile == "strict":
        words += ["--unshare-net", *_strict(plan)]
    else:
        words += _default(plan)
    for device in plan.devices:
        words += ["--dev-bind-try", device, device]
    if filter_fd is not None:
        words += ["--seccomp", str(filter_fd)]
    words += ["--chdir", directory, "--"]
    # Bubblewrap searches PATH as `find` did and can give no other argv[0]: so a bare word stays bare, and a login shell goes by its path.
    first = command.words[0] if command.words[0] == command.program or plan.argv else command.program
    return [os.fsencode(word) for word in words] + [first, *command.words[1:]]


def _default(plan: Plan) -> list[str]:
    words = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    words += _private_tmp(plan)
    words += ["--tmpfs", "/run"]
    words += _bind("--ro-bind-try", _real((*plan.run_allowed, *_resolver())))
    return words + _bind("--bind", _real((plan.account.home, *plan.writable, plan.session_directory)) - {"/"})


def _strict(plan: Plan) -> list[str]:
    words: list[str] = []
    for path in _SYSTEM:
        words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"]
    words += _private_tmp(plan)
    words += _bind("--ro-bind-try", _real(plan.run_allowed))
    for path in plan.inputs:
        if not os.path.exists(path):
            raise Unavailable(f"the input {path} does not exist, or this account cannot reach it")
    inputs = _real(plan.inputs)
    for path in inputs:
        _refuse_hidden(path, plan)
    words += _bind("--ro-bind", inputs)
    words += _bind("--bind", _real((plan.session_directory,)))
    return [*words, "--remount-ro", "/"]


def _refuse_hidden(path: str, plan: Plan) -> None:
    """Read-only or not, a socket can be connected to: an input must not bring back what every profile takes away. Nor may it be where workers of the
    session write: between this look and bubblewrap's, one of them could put a link there."""
    ours = _real((plan.session_directory, plan.temporary or plan.session_directory))
    if path == "/" or _below(path, ours) or (_below(path, set(_HIDDEN)) and not _below(path, _real(plan.run_allowed))):
        raise Unavailable(f"the input {path} cannot be shown: the sandbox hides it from every worker; name files and directories of data")


def _private_tmp(plan: Plan) -> list[str]:
    """Directories of the session's, not a tmpfs for each worker: the workers of a session find each other's files, they cost disk and not the
    memory of the group, and they vanish with the session."""
    words: list[str] = []
    for path, name in (("/tmp", "tmp"), ("/var/tmp", "var-tmp")):  # noqa: S108 - mount points
        own = os.path.join(plan.temporary or plan.session_directory, name)
        try:
            os.mkdir(own, 0o700)
            os.chmod(own, 0o1777)  # noqa: S103 - as programs expect of /tmp; the directory above is private
        except FileExistsError:
            pass
        words += ["--bind", own, path if plan.profile == "strict" else os.path.realpath(path)]
    return words


def _resolver() -> tuple[str, ...]:
    """/etc/resolv.conf is often a link into /run, and without it no name resolves. It is a plain file."""
    target = os.path.realpath("/etc/resolv.conf")
    return (target,) if target.startswith("/run/") else ()


def _real(paths: Iterable[str]) -> set[str]:
    """Existing paths without links: a bind to a name that is a link inside the sandbox fails, one to its target is seen by both names."""
    return {os.path.realpath(path) for path in paths if os.path.exists(path)}


def _bind(option: str, paths: set[str]) -> list[str]:
    """Parents first, or they would hide what is mounted below them."""
    return [word for path in sorted(paths) for word in (option, path, path)]


def _below(path: str, directories: set[str]) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
