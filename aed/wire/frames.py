"""Frames: a header of ten bytes, then the payload (PROTOCOL.md, "Frames").

Lives here: sizes, caps, cutting a byte stream into frames. Must not live here: states, meaning.
"""

from __future__ import annotations

from struct import Struct

from aed.errors import LocalError, RemoteError
from aed.wire.messages import BY_CODE, PER_CHANNEL, Data, Message

HEADER = Struct(">IHI")
"""Length of the payload, code, channel."""
OFFSET = Struct(">Q")
DATA_HEADER = Struct(">IHIQ")

MAX_CONTROL = 64 * 1024
MAX_DATA = 256 * 1024

_HEADER, _PAYLOAD, _OFFSET = range(3)


class Frame:
    """A whole control message, not yet decoded."""

    __slots__ = ("channel", "kind", "payload")

    def __init__(self, kind: type[Message], channel: int, payload: bytes) -> None:
        self.kind = kind
        self.channel = channel
        self.payload = payload

    def decode(self) -> Message:
        """The message. Raises `RemoteError` where the payload is not one."""
        return self.kind.decode(self.payload)


class Piece:
    """Some bytes of a stream. A Data frame may arrive as several pieces, each with its own offset; `data` is valid until the next receive."""

    __slots__ = ("channel", "data", "offset")

    def __init__(self, channel: int, offset: int, data: memoryview) -> None:
        self.channel = channel
        self.offset = offset
        self.data = data


def encode(message: Message, channel: int = 0) -> bytes:
    """The frame of a control message."""
    return encode_payload(message.code, channel, message.encode())


def encode_payload(code: int, channel: int, payload: bytes) -> bytes:
    """The frame of a control message whose fields are already encoded. Raises `LocalError` over the cap."""
    if len(payload) > MAX_CONTROL:
        raise LocalError(f"a message of {len(payload)} bytes is over the cap of {MAX_CONTROL}")
    return HEADER.pack(len(payload), code, channel) + payload


def data_header(channel: int, offset: int, size: int) -> bytes:
    """What goes before `size` bytes of a stream."""
    return DATA_HEADER.pack(size + OFFSET.size, Data.code, channel, offset)


class Decoder:
    """Cuts bytes into `Frame` and `Piece`. Holds at most one control frame; stream bytes are passed through, never collected."""

    def __init__(self) -> None:
        self._part = bytearray()
        self._stage = _HEADER
        self._need = HEADER.size
        self._kind: type[Message] = Data
        self._channel = 0
        self._offset = 0
        self._left = 0
        self._left_after_offset = 0

    def feed(self, data: memoryview) -> list[Frame | Piece]:
        """Whatever is complete with `data`. Raises `RemoteError` on a frame that may not be; the decoder is of no use after that."""
        out: list[Frame | Piece] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                out.append(Piece(self._channel, self._offset, data[at : at + size]))
                self._left -= size
                self._offset += size
                at += size
                continue
            size = min(self._need - len(self._part), end - at)
            chunk = data[at : at + size]
            at += size
            if self._part or size < self._need:
                self._part += chunk
                if len(self._part) < self._need:
                    break
                whole = bytes(self._part)
                self._part.clear()
            else:
                whole = bytes(chunk)
            frame = self._advance(whole)
            if frame is not None:
                out.append(frame)
        return out

    def _advance(self, whole: bytes) -> Frame | None:
        if self._stage == _HEADER:
            size, code, self._channel = HEADER.unpack(whole)
            kind = BY_CODE.get(code)
            if kind is None:
                raise RemoteError(f"no message has the code {code:#06x}")
            self._kind = kind
            if self._channel and code not in PER_CHANNEL:
                raise RemoteError(f"{kind.__name__} came on channel {self._channel}; it belongs on 0")
            if kind is Data:
                if not OFFSET.size < size <= MAX_DATA + OFFSET.size:
                    raise RemoteError(f"a Data frame of {size} bytes; it may have {OFFSET.size + 1} to {MAX_DATA + OFFSET.size}")
                self._left_after_offset = size - OFFSET.size
                self._stage, self._need = _OFFSET, OFFSET.size
                return None
            if size > MAX_CONTROL:
                raise RemoteError(f"a message of {size} bytes is over the cap of {MAX_CONTROL}")
            if size == 0:
                return Frame(kind, self._channel, b"")
            self._stage, self._need = _PAYLOAD, size
            return None
        stage, self._stage, self._need = self._stage, _HEADER, HEADER.size
        if stage == _PAYLOAD:
            return Frame(self._kind, self._channel, whole)
        (self._offset,) = OFFSET.unpack(whole)
        if self._offset + self._left_after_offset >= 1 << 63:
            raise RemoteError("a stream offset is out of range")
        self._left = self._left_after_offset
        return None
