"""Offsets, acknowledgements and limits of one direction of a channel (PROTOCOL.md, "Channels").

Lives here: arithmetic on offsets, at the sending and at the receiving end. Must not live here: buffers, I/O.
"""

from __future__ import annotations

from aed.errors import LocalError, RemoteError
from aed.wire.messages import Ack


class Sending:
    """The end that sends a stream: `sent` next offset, `acked` safe at the peer, `limit` how far the peer lets us go."""

    __slots__ = ("acked", "ended", "limit", "sent")

    def __init__(self, limit: int = 0) -> None:
        self.sent = 0
        self.acked = 0
        self.limit = limit
        self.ended = False

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self.limit - self.sent

    def advance(self, size: int) -> None:
        """`size` bytes were sent. Raises `LocalError` past the limit or after the end."""
        if size > self.room or self.ended:
            raise LocalError("sent past the limit or the end of a stream")
        self.sent += size

    def on_ack(self, ack: Ack) -> None:
        """Raises `RemoteError` where the ack covers what was not sent, or goes back."""
        if not self.acked <= ack.offset <= self.sent or ack.limit < max(self.limit, ack.offset):
            raise RemoteError("an acknowledgement goes back, or past what was sent")
        self.acked = ack.offset
        self.limit = ack.limit


class Receiving:
    """The end that takes a stream: `received` next offset, `end` where it ends once that is known."""

    __slots__ = ("_acked", "_limit", "end", "received", "step", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.step = window // 4
        """Unreported bytes that make a report due. Less where the peer keeps less than our window: it waits for the report."""
        self.received = 0
        self.end: int | None = None
        self._acked = 0
        self._limit = window

    def on_data(self, offset: int, size: int) -> None:
        """Raises `RemoteError` on a gap, a repeat, past the limit or past the end."""
        if offset != self.received or self.received + size > self._limit or self.end is not None:
            raise RemoteError(f"stream bytes at {offset}, where {self.received} was due, limit {self._limit}")
        self.received += size

    def on_end(self, offset: int) -> None:
        """Raises `RemoteError` where the stream ends elsewhere than its bytes do, or twice."""
        if offset != self.received or self.end is not None:
            raise RemoteError(f"a stream ends at {offset}, where {self.received} was due")
        self.end = offset

    def due(self, safe: int, consumed: int, *, now: bool = False) -> Ack | None:
        """The Ack to send when bytes below `safe` are kept and those below `consumed` have left the buffer, or None while it can wait.

        It can wait until `step` bytes are unreported; `now` reports whatever is new.
        """
        news = max(safe - self._acked, consumed + self.window - self._limit)
        if news <= 0 or (news < self.step and not now):
            return None
        self._acked = safe
        self._limit = consumed + self.window
        return Ack(offset=safe, limit=self._limit)
