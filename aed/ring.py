"""Rings of stream bytes in shared memory (ADR 0002).

One sealed memfd per worker, the arena, holds a ring for each of its streams; the session and its net map it. Offsets are absolute and never wrap;
positions travel in the link's records, never in the shared memory, so neither side trusts what the other could scribble.

Lives here: the memory and its layout. Must not live here: who may move which position (session and net do).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Ring:
    """A window of `size` bytes over an endless stream: the byte at absolute offset n is at n % size."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.size = len(memory)

    def span(self, start: int, end: int) -> memoryview:
        """The memory of offsets [start, end), cut where the ring wraps: it may be shorter, never empty while start < end."""
        at = start % self.size
        return self._memory[at : min(at + end - start, self.size)]

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Put `data` at `offset` on. The caller knows that it fits."""
        first = self.span(offset, offset + len(data))
        first[:] = data[: len(first)]
        if len(first) < len(data):
            self._memory[: len(data) - len(first)] = data[len(first) :]


class Arena:
    """The shared memory of one worker: `sizes` of its rings, one after the other."""

    def __init__(self, descriptor: int, sizes: Sequence[int]) -> None:
        total = sum(sizes)
        if os.fstat(descriptor).st_size != total or fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("not a sealed arena of the announced size")
        self._map = mmap.mmap(descriptor, total)
        whole = memoryview(self._map)
        self._views = [whole]
        self.rings: list[Ring] = []
        at = 0
        for size in sizes:
            view = whole[at : at + size]
            self._views.append(view)
            self.rings.append(Ring(view))
            at += size

    def close(self) -> None:
        """Unmap. No view of a ring may be in use."""
        self.rings.clear()
        for view in reversed(self._views):
            view.release()
        self._map.close()


def create(sizes: Sequence[int]) -> tuple[int, Arena]:
    """A new arena and its descriptor. Pages cost nothing until they are used."""
    descriptor = os.memfd_create("aed-rings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, sum(sizes))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return descriptor, Arena(descriptor, sizes)
    except BaseException:
        os.close(descriptor)
        raise
