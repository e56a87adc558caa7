"""The tree of processes as /proc shows it.

Lives here: reading children, start times and process groups. Must not live here: signals, policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


def children(pid: int) -> list[int]:
    """The children of every thread of `pid`, each thread's oldest first. Empty if it is gone."""
    result: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            result += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except OSError:
        return result
    return result


def descendants(pid: int, leave_out: frozenset[int] = frozenset()) -> Iterator[int]:
    """Everything below `pid`, parents first, without the processes of `leave_out` and what is below those."""
    for child in children(pid):
        if child not in leave_out:
            yield child
            yield from descendants(child, leave_out)


def started(pid: int) -> int | None:
    """When `pid` started, in ticks since boot: with the pid it names one process, also after the pid is used again. None if it is gone."""
    fields = _status(pid)
    return int(fields[19]) if fields else None


def parent(pid: int) -> int:
    """0 if it is gone or came from outside of our pid namespace."""
    fields = _status(pid)
    return int(fields[1]) if fields else 0


def _status(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the name, which stands in parentheses and may hold blanks and parentheses."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return []


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)
