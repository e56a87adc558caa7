"""Records between aeclient and the master, and messages between a worker and the session: framing only, the same code at each end.

Lives here: the kinds, packing, decoders. Must not live here: sockets, what a record means to a run.
On the fast path of `aeclient --master`: no typing, dataclasses or json at run time.

A record is `u32 length | u8 kind | u32 worker | payload`, big-endian; the length counts what follows it.
A worker's message is `u32 length | payload`.
"""

from __future__ import annotations

from aed.errors import LocalError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CAP = 64 << 20
"""The longest payload. Each end refuses a longer one before it holds any of it."""

ALL_WORKERS = 0xFFFFFFFF
"""As the worker of a message from the master: every worker."""

# aeclient to master
MESSAGE = 0  # a worker's message
STARTED = 1  # a worker runs; empty payload
EXITED = 2  # a worker ended; i32 status as ssh gives it, then a sentence in UTF-8, which may be empty
ENDED = 3  # all workers ended; worker 0, i32 final status; the last record
# master to aeclient: MESSAGE only

_HEAD = 5


def pack_record(kind: int, worker: int, payload: bytes = b"") -> bytes:
    """One record."""
    _check(payload)
    return (_HEAD + len(payload)).to_bytes(4, "big") + bytes((kind,)) + worker.to_bytes(4, "big") + payload


def pack_status(status: int, text: str = "") -> bytes:
    """The payload of EXITED and ENDED."""
    return status.to_bytes(4, "big", signed=True) + text.encode(errors="replace")


def unpack_status(payload: bytes) -> tuple[int, str]:
    """The status and the sentence in the payload of EXITED and ENDED."""
    if len(payload) < 4:
        raise RemoteError(f"a status has at least 4 bytes, this one has {len(payload)}")
    return int.from_bytes(payload[:4], "big", signed=True), payload[4:].decode(errors="replace")


def pack_message(payload: bytes) -> bytes:
    """One message of a worker's channel."""
    _check(payload)
    return len(payload).to_bytes(4, "big") + payload


class MessageDecoder:
    """Takes bytes as they come and gives whole messages of a worker's channel."""

    def __init__(self, cap: int = CAP) -> None:
        self._cap = cap
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that `data` completes. The iterator must be used up before more is fed."""
        self._held += data
        at = 0
        try:
            while len(self._held) - at >= 4:
                size = int.from_bytes(self._held[at : at + 4], "big")
                if size > self._cap:
                    raise RemoteError(f"a message of {size} bytes is longer than the {self._cap} allowed")
                if len(self._held) - at - 4 < size:
                    break
                at += 4 + size
                yield bytes(self._held[at - size : at])
        finally:
            del self._held[:at]

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended: an end of the stream now cuts it."""
        return bool(self._held)


class RecordDecoder:
    """Takes bytes as they come and gives whole records as `(kind, worker, payload)`."""

    def __init__(self) -> None:
        self._messages = MessageDecoder(CAP + _HEAD)

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The records that `data` completes. The iterator must be used up before more is fed."""
        for body in self._messages.feed(data):
            if len(body) < _HEAD:
                raise RemoteError(f"a record has at least {_HEAD} bytes after its length, this one has {len(body)}")
            yield body[0], int.from_bytes(body[1:_HEAD], "big"), body[_HEAD:]

    @property
    def inside(self) -> bool:
        """Whether a record has begun and not ended."""
        return self._messages.inside


def _check(payload: bytes) -> None:
    if len(payload) > CAP:
        raise LocalError(f"a message of {len(payload)} bytes is longer than the {CAP} allowed; send it in parts")
