"""A worker as decided: everything that a launch needs, frozen before the fork.

Lives here: the value and what makes it valid. Must not live here: looking anything up, starting anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aed.errors import LocalError
from aed.model import Account

PROFILES = ("none", "default", "strict")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One worker. Exactly one of `argv` (exec'd without a shell) and `shell_command` (handed to the login shell with -c) is given."""

    account: Account
    argv: tuple[bytes, ...] = ()
    shell_command: bytes | None = None
    profile: str
    session_directory: str
    """Exists, belongs to the account, mode 0700. Every worker of the session sees and changes it; the home in `strict`."""
    temporary: str = ""
    """Exists, belongs to the account, mode 0700, and holds the private /tmp and /var/tmp. No sandbox shows it under its own name, so that no worker
    puts a link where the next one's /tmp is going to be. "" for a plan whose session has one worker: then it is the session's directory."""
    writable: tuple[str, ...] = ()
    """Besides the home; `default` only: `strict` writes to the session's directory and nowhere else."""
    inputs: tuple[str, ...] = ()
    """Read-only paths that `strict` shows besides the system."""
    run_allowed: tuple[str, ...] = ()
    """What of /run is shown. A socket here is a way out of the sandbox."""
    devices: tuple[str, ...] = ()
    """Devices beyond the usual ones, as /dev/nvidia0."""
    environment: Mapping[str, str]
    """Complete, as `build_environment` made it. `strict` replaces HOME."""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """(resource, soft, hard), numbers of `resource`."""
    seccomp: bytes | None = None
    """A filter from `aed.sandbox.filters`."""
    unprivileged: bool = False
    """This daemon is not root's, but the user's own: no account to drop to, the worker has our uid (which may be 0, in a container)."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise LocalError(f"no sandbox profile {self.profile!r}; there are {', '.join(PROFILES)}")
        if bool(self.argv) == (self.shell_command is not None):
            raise LocalError("a worker has either words or a shell command")
        if any(b"\0" in word for word in (*self.argv, self.shell_command or b"")):
            raise LocalError("a word of the command holds a NUL byte")
        for path in (self.session_directory, self.temporary or "/", *self.writable, *self.inputs, *self.run_allowed, *self.devices):
            if not path.startswith("/") or "\0" in path:
                raise LocalError(f"not an absolute path: {path!r}")
        if self.profile == "strict" and self.seccomp is None:
            raise LocalError("profile strict needs its seccomp filter: without it the worker could make user namespaces of its own")


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to exec, found as the account: `program` is the file, `words` the argument vector."""

    program: bytes
    words: tuple[bytes, ...] = field(default=())
