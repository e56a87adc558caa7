"""A worker's streams as the session sees them: between descriptors and rings (ADR 0002).

A byte leaves the outgoing ring only when the client has acknowledged it; every position that net reports is checked.
Must not live here: processes, messages of the protocol.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from aed.errors import RemoteError
from aed.ring import Ring

CHUNK = 256 * 1024


class Outgoing:
    """From a descriptor into a ring, towards the client. `tell(offset)` reports bytes, `ended(offset)` the end, once."""

    def __init__(self, ring: Ring, tell: Callable[[int], None], ended: Callable[[int], None]) -> None:
        self.ring = ring
        self.produced = 0
        self.acked = 0
        self.finished = False
        self.dropped = False
        self._tell = tell
        self._ended = ended

    @property
    def full(self) -> bool:
        return self.produced - self.acked == self.ring.size

    @property
    def delivered(self) -> bool:
        """All is written and the client has it."""
        return self.finished and self.acked == self.produced

    def read_from(self, descriptor: int, most: int = CHUNK, check: Callable[[memoryview], None] | None = None) -> int | None:
        """Read once. Bytes read, 0 at the end of the stream, None if there is nothing now. The ring must not be full. What makes `check` raise is
        never reported."""
        try:
            room = min(self.ring.size - (self.produced - self.acked), most)
            size = os.readv(descriptor, [self.ring.span(self.produced, self.produced + room)])
        except BlockingIOError:
            return None
        except OSError:  # a pty or socket whose other end is gone
            return 0
        if size:
            if check is not None:
                check(self.ring.span(self.produced, self.produced + size))
            self.produced += size
            self._tell(self.produced)
        return size

    def finish(self) -> None:
        if not self.finished:
            self.finished = True
            self._ended(self.produced)

    def on_acked(self, offset: int) -> None:
        """Net says that the client has everything below `offset`. Raises `RemoteError` where that cannot be."""
        if self.dropped:
            return
        if not self.acked <= offset <= self.produced:
            raise RemoteError(f"net acknowledged {offset}, outside [{self.acked}, {self.produced}]")
        self.acked = offset

    def drop(self) -> None:
        """The client reads no more: what is here is nobody's, and the stream ends."""
        self.dropped = True
        self.acked = self.produced
        self.finish()


class Incoming:
    """From a ring to a descriptor, from the client. `tell(offset)` reports what has left the ring, a quarter at a time: a report wakes net."""

    def __init__(self, ring: Ring, tell: Callable[[int], None]) -> None:
        self.ring = ring
        self.filled = 0
        self.consumed = 0
        self._told = 0
        self.end: int | None = None
        self._tell = tell

    @property
    def waiting(self) -> bool:
        return self.consumed < self.filled

    @property
    def at_end(self) -> bool:
        return self.end == self.consumed

    def on_filled(self, offset: int) -> None:
        """Net says that bytes below `offset` are in the ring. Raises `RemoteError` where that cannot be."""
        if not self.filled <= offset <= self.consumed + self.ring.size or self.end is not None:
            raise RemoteError(f"net filled to {offset}, with {self.consumed} consumed of a ring of {self.ring.size}")
        self.filled = offset

    def on_ended(self, offset: int) -> None:
        """The stream ends at `offset`. Raises `RemoteError` where that is not its last byte."""
        if offset != self.filled or self.end is not None:
            raise RemoteError(f"a stream ended at {offset}, filled to {self.filled}")
        self.end = offset

    def write_to(self, descriptor: int) -> bool:
        """Write what there is. False when the descriptor takes no more now. Raises `BrokenPipeError` when nobody reads it."""
        try:
            while self.waiting:
                self.consumed += os.write(descriptor, self.ring.span(self.consumed, self.filled))
        except BlockingIOError:
            return False
        except ConnectionResetError:
            raise BrokenPipeError from None
        finally:
            self._report()
        return True

    def discard(self) -> None:
        """Nobody will read this: let it flow away."""
        self.consumed = self.filled
        self._report()

    def _report(self) -> None:
        if self.consumed - self._told >= self.ring.size // 4:
            self._told = self.consumed
            self._tell(self.consumed)
