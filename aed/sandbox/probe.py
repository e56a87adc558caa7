"""Can this machine make a sandbox? Asked by making one.

Lives here: one real launch of `true`, and what its failure means for the administrator. Must not live here: what to do when it cannot (refuse, or
degrade where that is allowed: the caller's policy).
"""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import time

from aed.errors import Unavailable
from aed.model import Account
from aed.sandbox import environment, filters
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan

_TIMEOUT = 30.0
_SYSCTLS = (
    ("user.max_user_namespaces", "0", "15000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""(name, the value that forbids, the value that permits): of the kernel, of old Debian, of Ubuntu."""


def probe(profile: str, account: Account, *, seccomp: bytes | None = None, unprivileged: bool = False) -> None:
    """Run `true` once in `profile` as `account`. Raises `Unavailable` naming what is missing. `seccomp` spares compiling the filter again."""
    name = filters.FOR_PROFILE[profile]
    if name is None:
        return
    directory = tempfile.mkdtemp(prefix="aed-probe-")
    try:
        if not unprivileged:
            os.chown(directory, account.uid, account.gid)
        plan = Plan(
            account=account,
            argv=(b"true",),
            profile=profile,
            session_directory=directory,
            environment=environment.build_environment(account, granted={}, offered={}, allow=()),
            seccomp=seccomp or filters.compile_all()[name],
            unprivileged=unprivileged,
        )
        status, said = _run(plan)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if status != 0:
        raise Unavailable(f"the sandbox profile {profile} cannot be enforced for {account.name}: {_meaning(said) or f'exit status {status}'}")


def _run(plan: Plan) -> tuple[int, str]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    reading, writing = os.pipe()
    try:
        pid = launch(plan, null, null, writing)
    finally:
        os.close(null)
        os.close(writing)
    try:
        said = _read_all(reading)
    except TimeoutError:
        os.kill(pid, 9)
        said = b"it did not end"
    finally:
        os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode(errors="backslashreplace").strip()


def _read_all(fd: int) -> bytes:
    deadline = time.monotonic() + _TIMEOUT
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        part = os.read(fd, 4096)
        if not part:
            return said
        said += part


def _meaning(said: str) -> str:
    last = said.splitlines()[-1] if said else ""
    low = said.lower()
    if "namespace" in low or "uid map" in low or "unshare" in low:
        for name, forbidding, permitting in _SYSCTLS:
            if _sysctl(name) == forbidding:
                return f"user namespaces are off ({name} = {forbidding}); turn them on with `sysctl {name}={permitting}` ({last})"
        return f"no more user namespaces can be made here; in a container, its seccomp policy and the depth of nesting must permit them ({last})"
    if "mount proc" in low:
        return f"/proc cannot be mounted, as in a container that masks parts of it (docker: --security-opt systempaths=unconfined) ({last})"
    return last


def _sysctl(name: str) -> str:
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
