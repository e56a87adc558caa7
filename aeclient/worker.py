"""The worker's side of talking to the master, for workers written in Python.

Lives here: `channel()` and `Channel`. Must not live here: anything of the client. Any language can do without this: connect to the Unix socket
named in AE_CHANNEL; each message, both ways, is its length as four bytes, big-endian, and then its bytes.
"""

from __future__ import annotations

import os
import socket

from aeclient.records import MessageDecoder, pack_message
from aed.errors import RemoteError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


def channel(path: str | None = None) -> Channel:
    """This worker's channel to the master."""
    path = path or os.environ.get("AE_CHANNEL")
    if not path:
        raise Unavailable("AE_CHANNEL is not set: this program is no worker; start it by: aeclient --master PROGRAM -- ...")
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(path)
    except OSError as error:
        stream.close()
        raise Unavailable(f"the channel to the master, {path}, cannot be reached: {error.strerror or error}") from None
    return Channel(stream)


class Channel:
    """Messages to and from the master. Context manager; iterating gives the master's messages until it has no more. For one thread at a time."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._decoder = MessageDecoder()
        self._arrived: list[bytes] = []

    def send(self, payload: bytes) -> None:
        """Send one message. Waits while the master is behind."""
        self._stream.sendall(pack_message(payload))

    def receive(self) -> bytes | None:
        """The master's next message; None when there will be no more."""
        while not self._arrived:
            data = self._stream.recv(1 << 18)
            if not data:
                if self._decoder.inside:
                    raise RemoteError("the channel to the master ended inside a message")
                return None
            self._arrived.extend(self._decoder.feed(data))
        return self._arrived.pop(0)

    def __iter__(self) -> Iterator[bytes]:
        while (payload := self.receive()) is not None:
            yield payload

    def close(self) -> None:
        """No more messages either way. What was sent arrives."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
