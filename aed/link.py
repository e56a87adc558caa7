"""The link between a session and its net: records on a SOCK_SEQPACKET pair (ARCHITECTURE.md, "Links between processes").

Lives here: the record format and the socket. Must not live here: what a record may do; each side checks what it receives.
A record is one byte of kind and a fixed structure, or bytes. VERSION goes with the first record, so that a session can outlive an upgrade.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError

from aed.errors import LocalError, RemoteError

VERSION = 1
MAX_RECORD = 72 * 1024

# session -> net
SETUP = ord("S")  # version, then a JSON object: certificate chain and key of the TLS leaf, keepalive, sizes
OPEN = ord("O")  # worker, client's window, ring sizes; carries the arena's descriptor
PRODUCED = ord("P")  # channel, offset: bytes below are in the outgoing ring
CONSUMED = ord("C")  # channel, offset: bytes below have left the incoming ring
CLOSE = ord("X")  # send what is queued, then close the connection
# net -> session
READY = ord("R")  # the TLS exporter value: the handshake is done
LOST = ord("L")  # text: why the connection is ending, for the audit record
FILLED = ord("F")  # channel, offset: the client's bytes below are in the incoming ring
ACKED = ord("A")  # channel, offset: the client has the outgoing bytes below
# both ways
POSITIONS = frozenset(b"PCFAEZ")  # a record that begins with one of these holds positions only
MESSAGE = ord("M")  # code, channel, encoded fields of a wire message
ENDED = ord("E")  # channel, offset: the stream ends there
RESET = ord("Z")  # channel, 0: nobody reads this stream any more

POSITION = Struct(">BIQ")
MESSAGE_HEADER = Struct(">BHI")
OPEN_LAYOUT = Struct(">BII5I")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rings:
    """Sizes of a worker's five rings, in the order of the arena."""

    stdin: int
    stdout: int
    stderr: int
    to_worker: int
    from_worker: int

    def sizes(self) -> tuple[int, ...]:
        return (self.stdin, self.stdout, self.stderr, self.to_worker, self.from_worker)


class Link:
    """One end. `receive` gives records until the other side is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._positions = bytearray()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def backlog(self) -> int:
        """Records that the socket has not taken yet."""
        return len(self._queue)

    def note(self, kind: int, channel: int, offset: int) -> None:
        """A position, which goes out with the next record or `flush`: one wake-up of the other side for all that happened in a turn."""
        self._positions += POSITION.pack(kind, channel, offset)
        if len(self._positions) > MAX_RECORD // 2:
            self._send_positions()

    def _send_positions(self) -> None:
        if self._positions:
            record = bytes(self._positions)
            self._positions.clear()
            self.send(record)

    def send(self, record: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send or queue a record. The caller may close its descriptors at once. `BrokenPipeError` if the peer is gone."""
        if len(record) > MAX_RECORD:
            raise LocalError(f"a record of {len(record)} bytes is over {MAX_RECORD}")
        self._send_positions()
        if not self._queue:
            try:
                self._put(record, descriptors)
                return
            except BlockingIOError:
                pass
        # The worker whose arena this may carry runs already: a full link must not make it one that was not started.
        self._queue.append((record, tuple(map(os.dup, descriptors))))

    def _put(self, record: bytes, descriptors: tuple[int, ...]) -> None:
        if descriptors:
            self.sock.sendmsg([record], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        else:
            self.sock.send(record)

    def flush(self) -> bool:
        """Send positions and what is queued; True when nothing is left."""
        self._send_positions()
        while self._queue:
            record, descriptors = self._queue[0]
            try:
                self._put(record, descriptors)
            except BlockingIOError:
                return False
            self._queue.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next record and its descriptors; None when there is none now. Raises `EOFError` when the peer is gone."""
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(MAX_RECORD, 64, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The peer left something of ours unread. The kernel says so once, and before what the peer said last, which is still here.
            return self.receive()
        descriptors: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                values = array.array("i")
                values.frombytes(payload[: len(payload) - len(payload) % values.itemsize])
                descriptors.extend(values)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for descriptor in descriptors:
                os.close(descriptor)
            raise RemoteError("a record of the link was cut off")
        if not data:
            raise EOFError
        return data, descriptors


def position(kind: int, channel: int, offset: int) -> bytes:
    """A record of PRODUCED, CONSUMED, FILLED, ACKED, ENDED or RESET."""
    return POSITION.pack(kind, channel, offset)


def parse_positions(record: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, channel and offset of each position in a record: one record may carry several. Raises `RemoteError`."""
    try:
        return POSITION.iter_unpack(record)
    except StructError:
        raise RemoteError("a position record of a wrong size") from None


def message(code: int, channel: int, payload: bytes) -> bytes:
    """A MESSAGE record."""
    return MESSAGE_HEADER.pack(MESSAGE, code, channel) + payload


def parse_message(record: bytes) -> tuple[int, int, bytes]:
    """Code, channel and fields. Raises `RemoteError`."""
    if len(record) < MESSAGE_HEADER.size:
        raise RemoteError("a message record of a wrong size")
    _, code, channel = MESSAGE_HEADER.unpack_from(record)
    return code, channel, record[MESSAGE_HEADER.size :]


def opening(worker: int, window: int, rings: Rings) -> bytes:
    """An OPEN record."""
    return OPEN_LAYOUT.pack(OPEN, worker, window, *rings.sizes())


def parse_opening(record: bytes) -> tuple[int, int, Rings]:
    """Worker, client's window, ring sizes. Raises `RemoteError`."""
    try:
        _, worker, window, *sizes = OPEN_LAYOUT.unpack(record)
    except StructError:
        raise RemoteError("an opening record of a wrong size") from None
    return worker, window, Rings(stdin=sizes[0], stdout=sizes[1], stderr=sizes[2], to_worker=sizes[3], from_worker=sizes[4])
