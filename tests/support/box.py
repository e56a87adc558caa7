"""A control group around a daemon: which processes are its own, and what CPU time and memory they took, whoever their parent is by now.

Lives here: reading and making cgroups for measurement. Must not live here: limits; the daemon's own groups are its business.

cgroup v1's cpuacct hierarchy is preferred: a daemon under test has no reason to touch it. Elsewhere the v2 tree, which accounts CPU without
any controller turned on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from pathlib import Path

from tests.support import machine, wait


class Box:
    """One control group. Start a command in it with `enter(*command)`; `close` removes it and must find it empty."""

    def __init__(self) -> None:
        parent, self._v2 = _hierarchy()
        self._path = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir=parent))

    def enter(self, *command: str | Path) -> list[str]:
        """The command that puts itself into the box and then becomes `command`; so not one of its children escapes."""
        return ["/bin/sh", "-c", f'echo $$ >{self._path}/cgroup.procs && exec "$@"', "sh", *[str(word) for word in command]]

    def pids(self) -> list[int]:
        """All processes in the box and in groups below it, zombies not counted."""
        found = set()
        for directory, _, _ in os.walk(self._path):
            with contextlib.suppress(OSError):
                found |= {int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()}
        return sorted(pid for pid in found if _state(pid) not in ("Z", "X", ""))

    def cpu_seconds(self) -> float:
        """User and system time of everything that ever ran in the box."""
        if self._v2:
            fields = dict(line.split() for line in (self._path / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        return int((self._path / "cpuacct.usage").read_text()) / 1e9

    def pss_bytes(self) -> int:
        """Proportional set size of all processes together: a page shared by n processes of the machine counts 1/n in each."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def kill(self) -> list[str]:
        """Ends what is left by its pid, and gives a line for each."""
        left = []
        for pid in self.pids():
            left.append(f"{pid} {command_line(pid)}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait.until(lambda: not self.pids(), f"processes end after SIGKILL: {left}")
        return left

    def close(self) -> None:
        def removed() -> bool:
            for directory, _, _ in os.walk(self._path, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:  # busy for a moment after its last process
                    return False
            return True

        wait.until(removed, f"cgroup {self._path} is empty")


def command_line(pid: int) -> str:
    """A process's words, or its name in brackets as ps does."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        return words or "[" + Path(f"/proc/{pid}/comm").read_text(errors="replace").strip() + "]"
    except OSError:
        return "(gone)"


def name(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def parent(pid: int) -> int:
    """A process's parent; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _hierarchy() -> tuple[Path, bool]:
    v2 = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpuacct" in options.split(","):
            return Path(where), False
        if kind == "cgroup2":
            v2 = Path(where)
    if v2 is None:
        raise AssertionError("no cgroup hierarchy is mounted; mount -t cgroup2 none /sys/fs/cgroup")
    return v2, True
