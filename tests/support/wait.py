"""Waiting for an event with a deadline. Nothing else in the tests may wait for time to pass.

Lives here: waits on descriptors, pids and conditions. Must not live here: knowledge of what is waited for.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TICK = 0.02
"""How often a condition that has no event of its own is looked at: the one poll in the tests."""


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time; the text names it."""


def until(condition: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """The first true value of `condition`. Where a descriptor or a pid tells, wait for that instead."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise DeadlinePassed(f"{what}: not within {seconds:g} s (last seen: {value!r})")
        select.select([], [], [], TICK)


def readable(fd: int, what: str, seconds: float = 10.0) -> None:
    """Returns once `fd` can be read (or has ended)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise DeadlinePassed(f"{what}: nothing to read within {seconds:g} s")


def read_until(fd: int, mark: bytes, what: str, seconds: float = 10.0) -> bytes:
    """Reads `fd` until `mark` has come; gives all that was read. Ends early with what there is, as an error, at end of file."""
    deadline = time.monotonic() + seconds
    data = b""
    while mark not in data:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlinePassed(f"{what}: no {mark!r} within {seconds:g} s in {data!r}")
        readable(fd, f"{what}, after {data!r}", left)
        block = os.read(fd, 65536)
        if not block:
            raise DeadlinePassed(f"{what}: ended without {mark!r}: {data!r}")
        data += block
    return data


def gone(pid: int, what: str, seconds: float = 10.0) -> None:
    """Returns once process `pid` has ended, a child of ours or not. A zombie has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable(fd, f"{what} (pid {pid})", seconds)
    finally:
        os.close(fd)
