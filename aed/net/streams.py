"""A worker's streams as net sees them: rings, and how far each direction has come.

Lives here: bookkeeping. Must not live here: TLS, the reactor, the link.
"""

from __future__ import annotations

from aed.link import Rings
from aed.ring import Arena, Ring
from aed.wire.channels import Receiving, Sending
from aed.wire.messages import Ack


class Outbound:
    """A stream towards the client: the session fills the ring, net sends it."""

    def __init__(self, worker: WorkerStreams, channel: int, ring: Ring, window: int) -> None:
        self.worker = worker
        self.channel = channel
        self.ring = ring
        self.sending = Sending(limit=window)
        self.produced = 0
        self.end: int | None = None
        self.queued = False
        self.dropped = False

    def drop(self) -> None:
        """The client reads no more: what was not sent yet never is."""
        self.dropped = True
        self.produced = self.end = self.sending.sent

    @property
    def sendable(self) -> int:
        return min(self.produced - self.sending.sent, self.sending.room)

    @property
    def at_end(self) -> bool:
        """All is sent and only the End is missing."""
        return self.end == self.sending.sent and not self.sending.ended

    @property
    def has_something(self) -> bool:
        return self.sendable > 0 or self.at_end

    @property
    def done(self) -> bool:
        return self.sending.ended and (self.dropped or self.sending.acked == self.sending.sent)


class Inbound:
    """A stream from the client: net fills the ring, the session empties it."""

    def __init__(self, channel: int, ring: Ring) -> None:
        self.channel = channel
        self.ring = ring
        self.receiving = Receiving(ring.size)
        self.consumed = 0

    def take(self, offset: int, data: memoryview) -> None:
        """Put bytes into the ring. Raises `RemoteError` where they are not due."""
        self.receiving.on_data(offset, len(data))
        self.ring.write(offset, data)

    def due(self, *, now: bool) -> Ack | None:
        return self.receiving.due(self.receiving.received, self.consumed, now=now)


class WorkerStreams:
    """All streams of one worker, over one arena."""

    def __init__(self, worker: int, descriptor: int, rings: Rings, window: int, stdio: int, stderr: int, messages: int) -> None:
        self.worker = worker
        self.exited = False
        self._arena = Arena(descriptor, rings.sizes())
        stdin, stdout, errors, to_worker, from_worker = self._arena.rings
        self.inbound = (Inbound(stdio, stdin), Inbound(messages, to_worker))
        self.outbound = (Outbound(self, stdio, stdout, window), Outbound(self, stderr, errors, window), Outbound(self, messages, from_worker, window))

    @property
    def done(self) -> bool:
        """The worker has ended and the client has all that it wrote."""
        return self.exited and all(out.done for out in self.outbound)

    def close(self) -> None:
        self._arena.close()
