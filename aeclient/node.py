"""One authenticated node in the client's loop: the TLS socket without blocking, frames in and out, and this run's workers there.

Lives here: moving bytes and offsets. Must not live here: what the user sees (`run`).
"""

from __future__ import annotations

import ssl

from aeclient.login import Session
from aed.errors import RemoteError
from aed.wire.channels import Receiving, Sending
from aed.wire.frames import MAX_DATA, Frame, Piece
from aed.wire.messages import Message, messages, stderr, stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 1 << 21
RECORD = 16 * 1024
READ_SIZE = 1 << 18
BULK = 4096
"""From so many bytes on it is worth looking for more at once."""


class Worker:
    """One worker as the client sees it. Output streams are `Receiving`, input streams `Sending`."""

    def __init__(self, number: int, node: Node, *, stdin: bool) -> None:
        self.number = number
        self.node = node
        self.started = False
        self.status: int | None = None
        self.text = ""
        self.incoming = {channel: Receiving(WINDOW) for channel in (stdio(number), stderr(number), messages(number))}
        self.stdin = Sending()
        self.to_worker = Sending()
        self.wants_stdin = stdin

    @property
    def finished(self) -> bool:
        """It has ended and all its output is here."""
        return self.status is not None and (not self.started or all(stream.end is not None for stream in self.incoming.values()))


class Node:
    """The connection to one node."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = session.target.name
        self.sock = session.sock
        self.fd = self.sock.fileno()
        self.sock.setblocking(False)
        self.wire = session.wire
        self.heard = True
        self.silent = 0
        self.gone: str | None = None
        self._queue: list[bytes | memoryview] = []
        self._buffer = memoryview(bytearray(READ_SIZE))

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    def send(self, message: Message, channel: int = 0) -> None:
        if self.gone is None:
            self._queue.append(self.wire.send(message, channel))
            self.flush()

    def send_data(self, channel: int, stream: Sending, data: memoryview | bytes) -> None:
        """Send bytes for which there is room."""
        start = stream.sent
        for at in range(0, len(data), MAX_DATA):
            part = data[at : at + MAX_DATA]
            header = self.wire.data_header(channel, start + at, len(part))
            # Header and first bytes in one TLS record, the rest as it is.
            first = RECORD - len(header)
            self._queue.append(header + part[:first])
            if len(part) > first:
                self._queue.append(part[first:])
        stream.advance(len(data))
        self.flush()

    def flush(self) -> None:
        """Give TLS what it takes now."""
        try:
            while self._queue:
                head = self._queue[0]
                sent = self.sock.send(head)
                if sent == len(head):
                    del self._queue[0]
                else:
                    self._queue[0] = memoryview(head)[sent:]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.lose(f"the connection broke: {error.strerror or error}")

    def receive(self) -> Iterator[Frame | Piece]:
        """What has come. The end of the connection sets `gone`."""
        size, why = self._fill()
        if size:
            self.heard = True
            try:
                yield from self.wire.receive(self._buffer[:size])
            except RemoteError as error:
                why = f"the node broke the protocol: {error}"
        if why is not None:
            self.lose(why)

    def _fill(self) -> tuple[int, str | None]:
        """Read TLS records into the buffer until there are no more or it is full: bytes, and why no more will come."""
        size, room = 0, len(self._buffer)
        try:
            while size < room:
                got = self.sock.recv_into(self._buffer[size:], room - size)
                if not got:
                    return size, "the node closed the connection without a word"
                size += got
                if size < BULK and not self.sock.pending():
                    break  # most likely all there is; the loop comes back if not
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return size, None
        except OSError as error:
            return size, f"the connection broke: {error.strerror or error}"
        return size, None

    def lose(self, why: str) -> None:
        if self.gone is None:
            self.gone = why
            self._queue.clear()

    def close(self) -> None:
        self.sock.close()
