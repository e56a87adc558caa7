"""The data of mechanism `publickey` in AuthRequest, AuthChallenge and AuthResponse (PROTOCOL.md, "publickey").

Lives here: three records and their one-byte kind. Must not live here: when each is legal (`server.py`, `client.py`).

    client: Proof                       one key, nothing to ask
    client: Offer   node: Chosen   client: Proof, or AuthAbort where it cannot sign
"""

from __future__ import annotations

from aed.errors import RemoteError
from aed.wire.codec import Record, u8

MAX_OFFERED = 16


class Offer(Record):
    """Public keys that the client could sign with, in the order it prefers. The node answers with `Chosen`, or declines the attempt."""

    keys: tuple[bytes, ...]


class Chosen(Record):
    """The first offered key that would be accepted."""

    index: u8


class Proof(Record):
    """An SSHSIG over the binding, not armored."""

    sshsig: bytes


KINDS: tuple[type[Record], ...] = (Offer, Chosen, Proof)


def encode(message: Offer | Chosen | Proof) -> bytes:
    """The message with its kind before it."""
    return bytes((KINDS.index(type(message)) + 1,)) + message.encode()


def decode(data: bytes) -> Offer | Chosen | Proof:
    """The message in `data`. Raises `RemoteError`."""
    kind = data[0] if data else 0
    if not 1 <= kind <= len(KINDS):
        raise RemoteError(f"publickey: no message of kind {kind}")
    message = KINDS[kind - 1].decode(data[1:])
    assert isinstance(message, Offer | Chosen | Proof)
    if isinstance(message, Offer) and not 1 <= len(message.keys) <= MAX_OFFERED:
        raise RemoteError(f"publickey: {len(message.keys)} keys offered; 1 to {MAX_OFFERED} are allowed")
    return message
