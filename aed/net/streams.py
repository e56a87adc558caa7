"""The workers' streams as net sees them: rings, how far each direction has come, what is to be sent and reported next.

Lives here: bookkeeping. Must not live here: TLS, the reactor, the link's socket.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from aed import link as records
from aed.errors import RemoteError
from aed.link import Rings
from aed.ring import Arena, Ring
from aed.wire.channels import Receiving, Sending
from aed.wire.frames import MAX_DATA
from aed.wire.messages import Ack, messages, stderr, stdio


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

    def __init__(self, worker: int, descriptor: int, rings: Rings, window: int) -> None:
        self.worker = worker
        self.exited = False
        self._arena = Arena(descriptor, rings.sizes())
        stdin, stdout, errors, to_worker, from_worker = self._arena.rings
        io, err, talk = stdio(worker), stderr(worker), messages(worker)
        self.inbound = (Inbound(io, stdin), Inbound(talk, to_worker))
        self.outbound = (Outbound(self, io, stdout, window), Outbound(self, err, errors, window), Outbound(self, talk, from_worker, window))

    @property
    def done(self) -> bool:
        """The worker has ended and the client has all that it wrote."""
        return self.exited and all(out.done for out in self.outbound)

    def close(self) -> None:
        self._arena.close()


class Streams:
    """All workers' streams. `ready` are those with something to send, in turn."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerStreams] = {}
        self.inbound: dict[int, Inbound] = {}
        self.outbound: dict[int, Outbound] = {}
        self.ready: deque[Outbound] = deque()
        self._highest = -1
        self._filled: set[Inbound] = set()
        self._ended: list[WorkerStreams] = []

    def open(self, record: bytes, descriptors: list[int]) -> None:
        """The session has started a worker. Raises `RemoteError` on a record that cannot be."""
        worker, window, rings = records.parse_opening(record)
        streams = WorkerStreams(worker, descriptors[0], rings, window)
        os.close(descriptors[0])
        self.workers[worker] = streams
        self._highest = max(self._highest, worker)
        self.outbound |= {out.channel: out for out in streams.outbound}
        self.inbound |= {stream.channel: stream for stream in streams.inbound}

    def incoming(self, channel: int) -> Inbound | None:
        """The stream from the client on `channel`; None for a late word about a worker that has ended, which is no fault. Raises `RemoteError` for
        a channel that never was."""
        stream = self.inbound.get(channel)
        if stream is None:
            self._check_past(channel)
        return stream

    def outgoing(self, channel: int) -> Outbound | None:
        """The stream to the client on `channel`, as `incoming`."""
        out = self.outbound.get(channel)
        if out is None:
            self._check_past(channel)
        return out

    def _check_past(self, channel: int) -> None:
        if channel // 4 > self._highest:
            raise RemoteError(f"channel {channel} was never opened")

    def take(self, channel: int, offset: int, data: memoryview) -> None:
        """Bytes of the client go into their ring."""
        stream = self.incoming(channel)
        if stream is not None:
            stream.take(offset, data)
            self._filled.add(stream)

    def filled(self) -> Iterator[tuple[int, int]]:
        """Channel and offset of what was taken since the last call."""
        while self._filled:
            stream = self._filled.pop()
            yield stream.channel, stream.receiving.received

    def offer(self, out: Outbound) -> None:
        """`out` may have something to send now."""
        if not out.queued and out.has_something:
            out.queued = True
            self.ready.append(out)

    def next_piece(self) -> tuple[Outbound, int, memoryview]:
        """The next stream in turn, an offset, and bytes to send from there: none where only its end is left."""
        out = self.ready.popleft()
        out.queued = False
        start = out.sending.sent
        size = min(out.sendable, MAX_DATA)
        data = out.ring.span(start, start + size) if size else memoryview(b"")
        out.sending.advance(len(data))
        return out, start, data

    def acks(self, *, now: bool) -> Iterator[tuple[int, Ack]]:
        """What is due to be acknowledged, by channel."""
        for stream in self.inbound.values():
            ack = stream.due(now=now)
            if ack is not None:
                yield stream.channel, ack

    def exited(self, worker: int) -> None:
        """The worker has ended; its streams are kept until the client has everything."""
        streams = self.workers.get(worker)
        if streams is not None:
            streams.exited = True
            self.forget_if_done(streams)

    def forget_if_done(self, streams: WorkerStreams) -> None:
        if not streams.done:
            return
        self.workers.pop(streams.worker, None)
        for out in streams.outbound:
            self.outbound.pop(out.channel, None)
        for stream in streams.inbound:
            self.inbound.pop(stream.channel, None)
            self._filled.discard(stream)
        self._ended.append(streams)

    def unmap_ended(self) -> None:
        """Only when none of their memory is waiting to be sent."""
        while self._ended:
            self._ended.pop().close()
