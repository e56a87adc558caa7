"""One connection's network side: TLS 1.3, frames, windows, keepalive (user aed, under seccomp).

Net carries; it decides nothing about who may do what. It holds the TLS leaf's key and no other secret, and moves stream bytes between TLS and the
rings that the session shares with it. Must not live here: authentication, accounts, workers, files.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.epollreactor import EPollReactor

from aed import link as records
from aed.errors import AedError, RemoteError
from aed.link import Link
from aed.net_streams import Inbound, Outbound, WorkerStreams
from aed.wire import states
from aed.wire.connection import Connection
from aed.wire.frames import MAX_DATA, Frame, Piece
from aed.wire.messages import (
    BY_CODE,
    Accept,
    Ack,
    End,
    Exited,
    Fault,
    Goodbye,
    Ping,
    Pong,
    Reset,
    messages,
    stderr,
    stdio,
)

RECORD = 16 * 1024
READ_SIZE = 8 * RECORD
READS_PER_TURN = 16
MAX_QUEUE = 256
BULK = 4096
ACK_DELAY = 0.02
FLUSH_TIME = 5.0
LINGER_TIME = 2.0
CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
PARTIAL_WRITE = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE of <openssl/ssl.h>, which pyOpenSSL sets but does not name
EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266


def tls_context() -> SSL.Context:
    """TLS 1.3 only, no resumption (a resumed session would skip what the client verifies). Made before the fork; it has no key yet."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(PARTIAL_WRITE)  # one call for a whole frame instead of one for each 16 KiB
    return context


def use_leaf(context: SSL.Context, chain: list[str], key: str) -> None:
    """The certificate and the only key that a net ever sees."""
    certificates = [crypto.load_certificate(crypto.FILETYPE_PEM, pem.encode()) for pem in chain]
    context.use_certificate(certificates[0])
    for extra in certificates[1:]:
        context.add_extra_chain_cert(extra)
    context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key.encode()))


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
        self.sock = sock
        self.wire = Connection(states.NODE)
        use_leaf(context, setup["chain"], setup["key"])
        self.tls = SSL.Connection(context, sock)
        self.tls.set_accept_state()
        self.keepalive_interval: float = setup["keepalive_interval"]
        self.keepalive_count: int = setup["keepalive_count"]
        self.shaken = False
        self.closing = False
        self.lingering = False
        self.heard = False
        self.silent = 0
        self.bulk = False
        self.buffer = memoryview(bytearray(READ_SIZE + RECORD))
        self.control: deque[bytes] = deque()
        self.sending: deque[memoryview | bytes] = deque()
        self.workers: dict[int, WorkerStreams] = {}
        self.highest = -1
        self.outbound: dict[int, Outbound] = {}
        self.inbound: dict[int, Inbound] = {}
        self.ready: deque[Outbound] = deque()
        self.filled: set[Inbound] = set()
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
        except (SSL.Error, OSError) as error:
            self.lost(f"the connection broke: {describe(error)}")
        finally:
            self._tell_filled()
            self._flush_link()

    def _read(self) -> None:
        if self.lingering:
            self._drain()
            return
        if not self.shaken and not self._handshake():
            return
        for _ in range(READS_PER_TURN):
            if self.closing:
                return
            if self.link.backlog > MAX_QUEUE or len(self.control) > MAX_QUEUE:
                self.reactor.removeReader(self.tls_side)
                return
            size = self._fill()
            for item in self.wire.receive(self.buffer[:size]):
                if isinstance(item, Piece):
                    self._on_piece(item)
                else:
                    self._on_frame(item)
            if size < READ_SIZE:
                return
        self.reactor.callLater(0, self.on_network)

    def _fill(self) -> int:
        """Read TLS records into the buffer until there are no more, or no room for another."""
        size = 0
        try:
            while size < READ_SIZE:
                got = self.tls.recv_into(self.buffer[size:], RECORD)
                size += got
                if got < RECORD and not self.tls.pending():
                    break  # most likely all there is; asking in vain costs more than the reactor's next call
        except SSL.WantReadError:
            pass
        except (SSL.Error, OSError):
            if not size:
                raise
        self.heard = self.heard or size > 0
        return size

    def _handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.WantWriteError:
            self.reactor.addWriter(self.tls_side)
            return False
        self.shaken = True
        exporter = self.tls.export_keying_material(EXPORTER_LABEL, 32, b"")
        self._tell(bytes([records.READY]) + exporter)
        return True

    def _drain(self) -> None:
        """After our last byte: read and drop until the client closes, so that no reset overtakes what it has not read yet."""
        while self.sock.recv_into(self.buffer):
            pass
        self.stop()

    def _on_piece(self, piece: Piece) -> None:
        stream = self.inbound.get(piece.channel)
        if stream is None:
            self._check_past(piece.channel)
            return
        stream.take(piece.offset, piece.data)
        self.filled.add(stream)

    def _on_frame(self, frame: Frame) -> None:
        kind = frame.kind
        if kind is Ack:
            out = self.outbound.get(frame.channel)
            if out is None:
                self._check_past(frame.channel)
            else:
                self._acknowledged(out, Ack.decode(frame.payload))
        elif kind is Ping:
            self._queue(Pong(cookie=Ping.decode(frame.payload).cookie))
        elif kind is Pong:
            Pong.decode(frame.payload)
        elif kind is End:
            stream = self.inbound.get(frame.channel)
            if stream is None:
                self._check_past(frame.channel)
                return
            stream.receiving.on_end(End.decode(frame.payload).offset)
            self._tell_filled()
            self.link.note(records.ENDED, frame.channel, stream.receiving.received)
        elif kind is Reset:
            out = self.outbound.get(frame.channel)
            if out is None:
                self._check_past(frame.channel)
                return
            Reset.decode(frame.payload)
            out.drop()
            self._offer(out)
            self.link.note(records.RESET, frame.channel, 0)
        else:
            self._tell_filled()
            self._tell(records.message(kind.code, frame.channel, frame.payload))
            if kind is Goodbye:
                self.close()
                self.write()

    def _check_past(self, channel: int) -> None:
        """A late word about a worker that has ended is no fault; a channel that never was, is."""
        if channel // 4 > self.highest:
            raise RemoteError(f"channel {channel} was never opened")

    def _acknowledged(self, out: Outbound, ack: Ack) -> None:
        news = ack.offset > out.sending.acked
        out.sending.on_ack(ack)
        if news:
            self.link.note(records.ACKED, out.channel, ack.offset)
        self._offer(out)
        self.write()
        self._forget_if_done(out.worker)

    def _tell_filled(self) -> None:
        for stream in self.filled:
            self.link.note(records.FILLED, stream.channel, stream.receiving.received)
        if self.filled:
            self.filled.clear()
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
            self._open(record, descriptors)
        elif kind == records.CLOSE:
            self.close()

    def _on_position(self, kind: int, channel: int, offset: int) -> None:
        if kind == records.CONSUMED or kind == records.RESET:
            stream = self.inbound.get(channel)
            if stream is None:
                return
            if kind == records.CONSUMED:
                stream.consumed = offset
                self._acks_soon()
            else:
                self._queue(Reset(), channel)
        else:
            out = self.outbound.get(channel)
            if out is None or out.dropped:
                return
            self.bulk = offset - out.sending.sent >= BULK
            out.produced = offset
            if kind == records.ENDED:
                out.end = offset
            self._offer(out)

    def _pass_on(self, code: int, channel: int, payload: bytes) -> None:
        if self.wire.state == states.CLOSED:  # the session did not know yet
            return
        self.control.append(self.wire.send_payload(code, channel, payload))
        kind = BY_CODE[code]
        if kind is Exited:
            streams = self.workers.get(Exited.decode(payload).worker)
            if streams is not None:
                streams.exited = True
                self._forget_if_done(streams)
        elif kind is Accept:
            self.heard = True

    def _open(self, record: bytes, descriptors: list[int]) -> None:
        worker, window, rings = records.parse_opening(record)
        streams = WorkerStreams(worker, descriptors[0], rings, window, stdio(worker), stderr(worker), messages(worker))
        os.close(descriptors[0])
        self.workers[worker] = streams
        self.highest = max(self.highest, worker)
        for out in streams.outbound:
            self.outbound[out.channel] = out
        for stream in streams.inbound:
            self.inbound[stream.channel] = stream

    def _forget_if_done(self, streams: WorkerStreams) -> None:
        if not streams.done:
            return
        self.workers.pop(streams.worker, None)
        for out in streams.outbound:
            self.outbound.pop(out.channel, None)
        for stream in streams.inbound:
            self.inbound.pop(stream.channel, None)
            self.filled.discard(stream)
        streams.close()

    # Sending.

    def _queue(self, message: Any, channel: int = 0) -> None:
        if self.wire.state == states.CLOSED:
            return
        self.control.append(self.wire.send(message, channel))
        if not self.sending:
            self.write()

    def _offer(self, out: Outbound) -> None:
        if not out.queued and out.has_something:
            out.queued = True
            self.ready.append(out)

    def write(self) -> None:
        """Give TLS all that is queued, until it takes no more."""
        if self.lingering:
            return
        if not self.shaken:
            self.on_network()
            return
        try:
            self._write()
        except SSL.WantWriteError:
            self.reactor.addWriter(self.tls_side)
            return
        except (SSL.Error, OSError) as error:
            self.lost(f"the connection broke: {describe(error)}")
            return
        self.reactor.removeWriter(self.tls_side)
        if not self.closing:
            self.reactor.addReader(self.tls_side)

    def _write(self) -> None:
        while True:
            while self.sending:
                part = self.sending[0]
                taken = self.tls.send(part)
                if taken == len(part):
                    self.sending.popleft()
                else:
                    self.sending[0] = memoryview(part)[taken:]
            if self.control:
                self.sending.append(b"".join(self.control))
                self.control.clear()
            elif self.closing:
                self._finish()
                return
            elif self.ready and self.wire.state == states.OPEN:
                self._next_data()
            else:
                return

    def _next_data(self) -> None:
        out = self.ready.popleft()
        out.queued = False
        size = min(out.sendable, MAX_DATA)
        if size:
            start = out.sending.sent
            data = out.ring.span(start, start + size)
            out.sending.advance(len(data))
            header = self.wire.data_header(out.channel, start, len(data))
            if len(data) < RECORD:
                self.sending.append(header + data)
            else:
                self.sending.append(header)
                self.sending.append(data)
        if out.at_end:
            out.sending.ended = True
            self.control.append(self.wire.send(End(offset=out.sending.sent), out.channel))
            self._forget_if_done(out.worker)
        self._offer(out)

    def _acks_soon(self) -> None:
        """Report at once what is much; the rest a little later, so that a byte there and back needs no frame of its own."""
        waiting = False
        for stream in self.inbound.values():
            ack = stream.due(now=False)
            if ack is not None:
                self._queue(ack, stream.channel)
            waiting = True
        if waiting and not self.acks_due:
            self.acks_due = True
            self.reactor.callLater(ACK_DELAY, self._acks_now)

    def _acks_now(self) -> None:
        self.acks_due = False
        if self.closing or self.wire.state != states.OPEN:
            return
        for stream in self.inbound.values():
            ack = stream.due(now=True)
            if ack is not None:
                self.control.append(self.wire.send(ack, stream.channel))
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
        elif self.silent and not self.closing and self.wire.state in (states.AUTHENTICATE, states.JUDGE, states.ANSWER, states.OPEN):
            self._queue(Ping(cookie=self.silent))

    def refuse(self, text: str) -> None:
        """The client broke the protocol: say so to both sides, then end."""
        self._tell(bytes([records.LOST]) + f"protocol: {text}".encode()[:1024])
        self.say_goodbye(Fault.REMOTE, "protocol", text)

    def say_goodbye(self, fault: int, reason: str, text: str) -> None:
        if self.closing:
            return
        with contextlib.suppress(AedError):
            self.control.append(self.wire.send(Goodbye(fault=fault, reason=reason, text=text)))
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
        with contextlib.suppress(SSL.Error):
            self.tls.shutdown()
        self.sock.shutdown(socket.SHUT_WR)
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


def describe(error: Exception) -> str:
    """One line about a TLS or system error."""
    if isinstance(error, SSL.ZeroReturnError):
        return "closed by the client"
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1])
    if isinstance(error, SSL.Error):
        return "; ".join(str(part[-1]) for part in (error.args[0] if error.args and isinstance(error.args[0], list) else [])) or type(error).__name__
    return str(error)


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
    net = Net(reactor, sock, link, context, json.loads(received[0][2:]))
    confine()
    net.start()
    reactor.run(installSignalHandlers=False)
