"""Net's loop: frames between TLS and the session's link, stream bytes between TLS and the rings.

Lives here: class `Net`, and `main`, which the zygote calls in the forked child. Must not live here: TLS (`tls`), offsets (`streams`).
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.epollreactor import EPollReactor

from aed import link as records
from aed.errors import AedError, RemoteError
from aed.link import Link
from aed.net.streams import Outbound, Streams
from aed.net.tls import BULK, READ_SIZE, RECORD, Broken, TlsSocket, use_leaf
from aed.wire import states
from aed.wire.connection import Connection
from aed.wire.frames import Frame, Piece
from aed.wire.messages import BY_CODE, Ack, End, Exited, Fault, Goodbye, Message, Ping, Pong, Reset, clip

READS_PER_TURN = 16
MAX_QUEUE = 256
"""Control frames for the client, or records for the session, that may wait before we stop reading."""
MEMORY = 1 << 29
"""Of its own; the rings are shared and not in it. A net that is not ours any more shall not take the node's memory."""
ACK_DELAY = 0.02
FLUSH_TIME = 5.0
LINGER_TIME = 2.0
PINGED = (states.AUTHENTICATE, states.JUDGE, states.ANSWER, states.OPEN)


class Descriptor:
    """What Twisted's reactor needs of a file descriptor. `doRead` and `doWrite` are its names."""

    def __init__(self, number: int, on_read: Callable[[], None], on_write: Callable[[], None]) -> None:
        self._number = number
        self.doRead = on_read
        self.doWrite = on_write

    def fileno(self) -> int:
        return self._number

    def logPrefix(self) -> str:
        return "net"

    def connectionLost(self, reason: object) -> None:
        """Net notices a lost connection where it reads and writes; the reactor's own word adds nothing."""


class Net:
    """The connection between one client and one session."""

    def __init__(self, reactor: Any, sock: socket.socket, link: Link, context: SSL.Context, setup: dict[str, Any]) -> None:
        self.reactor = reactor
        self.link = link
        self.wire = Connection(states.NODE)
        self.tls = TlsSocket(sock, context)
        self.keepalive_interval: float = setup["keepalive_interval"]
        self.keepalive_count: int = setup["keepalive_count"]
        self.shaken = False
        self.closing = False
        self.lingering = False
        self.heard = False
        self.silent = 0
        self.bulk = False
        self.control: deque[bytes] = deque()
        self.streams = Streams()
        self.acks_due = False
        self.tls_side = Descriptor(sock.fileno(), self.on_network, self.write)
        self.link_side = Descriptor(link.fileno(), self.on_link, self.flush_link)

    def start(self) -> None:
        self.reactor.addReader(self.tls_side)
        self.reactor.addReader(self.link_side)
        self.reactor.callLater(self.keepalive_interval, self.keepalive)

    # The network side.

    def on_network(self) -> None:
        """Read what there is, but not for ever; the reactor comes back."""
        try:
            self._read()
        except RemoteError as error:
            self.refuse(str(error))
        except Broken as error:
            self.lost(f"the connection broke: {error}")
        finally:
            self._tell_filled()
            self._flush_link()

    def _read(self) -> None:
        if self.lingering:
            if self.tls.drain():
                self.stop()
            return
        if not self.shaken:
            if not self.tls.handshake():
                return
            self.shaken = True
            self._tell(bytes([records.READY]) + self.tls.exporter())
        for _ in range(READS_PER_TURN):
            if self.closing:
                return
            if self.link.backlog > MAX_QUEUE or len(self.control) > MAX_QUEUE:
                self.reactor.removeReader(self.tls_side)
                return
            size = self.tls.fill()
            self.heard = self.heard or size > 0
            for item in self.wire.receive(self.tls.buffer[:size]):
                if isinstance(item, Piece):
                    self.streams.take(item.channel, item.offset, item.data)
                else:
                    self._on_frame(item)
            if size < READ_SIZE:
                return
        self.reactor.callLater(0, self.on_network)

    def _on_frame(self, frame: Frame) -> None:
        kind = frame.kind
        if kind is Ack:
            out = self.streams.outgoing(frame.channel)
            if out is not None:
                self._acknowledged(out, Ack.decode(frame.payload))
        elif kind is Ping:
            self._queue(Pong(cookie=Ping.decode(frame.payload).cookie))
        elif kind is Pong:
            Pong.decode(frame.payload)
        elif kind is End:
            stream = self.streams.incoming(frame.channel)
            if stream is not None:
                stream.receiving.on_end(End.decode(frame.payload).offset)
                self._tell_filled()
                self.link.note(records.ENDED, frame.channel, stream.receiving.received)
        elif kind is Reset:
            out = self.streams.outgoing(frame.channel)
            if out is not None:
                Reset.decode(frame.payload)
                out.drop()
                self.streams.offer(out)
                self.link.note(records.RESET, frame.channel, 0)
        else:
            self._tell_filled()
            self._tell(records.message(kind.code, frame.channel, frame.payload))
            if kind is Goodbye:
                self.close()
                self.write()

    def _acknowledged(self, out: Outbound, ack: Ack) -> None:
        news = ack.offset > out.sending.acked
        out.sending.on_ack(ack)
        if news:
            self.link.note(records.ACKED, out.channel, ack.offset)
        self.streams.offer(out)
        self.write()
        self.streams.forget_if_done(out.worker)

    def _tell_filled(self) -> None:
        news = False
        for channel, offset in self.streams.filled():
            self.link.note(records.FILLED, channel, offset)
            news = True
        if news:
            self._acks_soon()

    def _flush_link(self) -> None:
        """All that this turn brought goes to the session at once."""
        try:
            if self.link.flush():
                return
        except OSError:
            return
        self.reactor.addWriter(self.link_side)

    # The session's side.

    def on_link(self) -> None:
        """One record a turn while a person types: the reactor comes back for the next, which costs less than asking in vain. When bytes come in bulk,
        all records there are, so that the frames grow with the load."""
        try:
            received = self.link.receive()
            while received is not None:
                self._on_record(*received)
                received = self.link.receive() if self.bulk else None
        except AedError as error:
            self.lost(f"the session's word could not be passed on: {error}")
        except (EOFError, OSError):
            self.say_goodbye(Fault.LOCAL, "session-lost", "the session on the node ended without a word: ask the node's administrator for its log")
        self.write()
        self._flush_link()

    def _on_record(self, record: bytes, descriptors: list[int]) -> None:
        kind = record[0]
        if kind in records.POSITIONS:
            for position in records.parse_positions(record):
                self._on_position(*position)
        elif kind == records.MESSAGE:
            self._pass_on(*records.parse_message(record))
        elif kind == records.OPEN:
            self.streams.open(record, descriptors)
        elif kind == records.CLOSE:
            self.close()

    def _on_position(self, kind: int, channel: int, offset: int) -> None:
        if kind == records.CONSUMED or kind == records.RESET:
            stream = self.streams.inbound.get(channel)
            if stream is None:
                return
            if kind == records.CONSUMED:
                stream.consumed = offset
                self._acks_soon()
            else:
                self._queue(Reset(), channel)
        else:
            out = self.streams.outbound.get(channel)
            if out is None or out.dropped:
                return
            self.bulk = offset - out.sending.sent >= BULK
            out.produced = offset
            if kind == records.ENDED:
                out.end = offset
            self.streams.offer(out)

    def _pass_on(self, code: int, channel: int, payload: bytes) -> None:
        if self.wire.state == states.CLOSED:  # the session did not know yet
            return
        self.control.append(self.wire.send_payload(code, channel, payload))
        if BY_CODE[code] is Exited:
            self.streams.exited(Exited.decode(payload).worker)

    # Sending.

    def _queue(self, message: Message, channel: int = 0) -> None:
        if self.wire.state == states.CLOSED:
            return
        self.control.append(self.wire.send(message, channel))
        self.write()

    def write(self) -> None:
        """Give TLS all that is queued, until it takes no more."""
        if self.lingering:
            return
        if not self.shaken:
            return
        try:
            while self.tls.flush():
                if self.control:
                    self.tls.queue(b"".join(self.control))
                    self.control.clear()
                elif self.closing:
                    self._finish()
                    return
                elif self.streams.ready and self.wire.state == states.OPEN:
                    self._next_data()
                else:
                    self.streams.unmap_ended()
                    self.reactor.removeWriter(self.tls_side)
                    if not self.closing:
                        self.reactor.addReader(self.tls_side)
                    return
        except Broken as error:
            self.lost(f"the connection broke: {error}")
            return
        self.reactor.addWriter(self.tls_side)

    def _next_data(self) -> None:
        out, start, data = self.streams.next_piece()
        if len(data):
            header = self.wire.data_header(out.channel, start, len(data))
            # Header and first bytes in one TLS record, the rest from the ring as it is.
            first = RECORD - len(header)
            self.tls.queue(header + data[:first])
            if len(data) > first:
                self.tls.queue(data[first:])
        if out.at_end:
            out.sending.ended = True
            self.control.append(self.wire.send(End(offset=out.sending.sent), out.channel))
            self.streams.forget_if_done(out.worker)
        self.streams.offer(out)

    def _acks_soon(self) -> None:
        """Report at once what is much; the rest a little later, so that a byte there and back needs no frame of its own."""
        self._send_acks(now=False)
        if self.streams.inbound and not self.acks_due:
            self.acks_due = True
            self.reactor.callLater(ACK_DELAY, self._acks_now)

    def _acks_now(self) -> None:
        self.acks_due = False
        self._send_acks(now=True)

    def _send_acks(self, *, now: bool) -> None:
        if self.closing or self.wire.state != states.OPEN:
            return
        frames = [self.wire.send(ack, channel) for channel, ack in self.streams.acks(now=now)]
        if frames:
            self.control.extend(frames)
            self.write()

    def _tell(self, record: bytes) -> None:
        try:
            self.link.send(record)
        except OSError:
            return
        if self.link.backlog:
            self.reactor.addWriter(self.link_side)

    def flush_link(self) -> None:
        with contextlib.suppress(OSError):
            if not self.link.flush():
                return
        self.reactor.removeWriter(self.link_side)
        if not self.closing:
            self.reactor.addReader(self.tls_side)
            self.on_network()

    # Endings.

    def keepalive(self) -> None:
        self.reactor.callLater(self.keepalive_interval, self.keepalive)
        self.silent = 0 if self.heard else self.silent + 1
        self.heard = False
        if self.silent > self.keepalive_count:
            self.lost(f"the client was silent for {self.silent} keepalive intervals")
        elif self.silent and not self.closing and self.wire.state in PINGED:
            self._queue(Ping(cookie=self.silent))

    def refuse(self, text: str) -> None:
        """The client broke the protocol: say so to both sides, then end."""
        self._tell(bytes([records.LOST]) + f"protocol: {text}".encode()[:1024])
        self.say_goodbye(Fault.REMOTE, "protocol", text)

    def say_goodbye(self, fault: int, reason: str, text: str) -> None:
        if self.closing:
            return
        with contextlib.suppress(AedError):
            self.control.append(self.wire.send(Goodbye(fault=fault, reason=reason, text=clip(text))))
        self.close()
        self.write()

    def close(self) -> None:
        """Send what is queued, then end."""
        if not self.closing:
            self.closing = True
            self.reactor.removeReader(self.tls_side)
            self.reactor.callLater(FLUSH_TIME, self.stop)
            if not self.shaken:
                self.stop()

    def _finish(self) -> None:
        self.tls.finish()
        self.lingering = True
        self.reactor.removeWriter(self.tls_side)
        self.reactor.addReader(self.tls_side)
        self.reactor.callLater(LINGER_TIME, self.stop)

    def lost(self, why: str) -> None:
        self._tell(bytes([records.LOST]) + why.encode()[:1024])
        self.stop()

    def stop(self) -> None:
        """The process ends with the reactor; the session sees the link close."""
        if self.reactor.running:
            self.reactor.crash()


def main(sock: socket.socket, link: Link, context: SSL.Context, confine: Callable[[], None]) -> None:
    """Serve one connection, from the link's SETUP record to its end. `confine` loads the seccomp filter once all is set up."""
    link.sock.setblocking(True)
    received = link.receive()
    link.sock.setblocking(False)
    if received is None or received[0][0] != records.SETUP or received[0][1] != records.VERSION:
        raise RemoteError("the session speaks another version of the link")
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reactor = EPollReactor()  # type: ignore[no-untyped-call]
    setup = json.loads(received[0][2:])
    use_leaf(context, setup["chain"], setup["key"])
    net = Net(reactor, sock, link, context, setup)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    confine()
    net.start()
    reactor.run(installSignalHandlers=False)
