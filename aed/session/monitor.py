"""Which wire messages the session takes from its net, in which phase, and how often: a default-deny table (OpenSSH's monitor.c is the model).

Net has checked the protocol's states already; net is not trusted, so the session checks again by a table of its own.
Lives here: the table and its use. Must not live here: what the messages do.
"""

from __future__ import annotations

from aed.errors import RemoteError
from aed.wire.messages import BY_CODE, AuthAbort, AuthRequest, AuthResponse, Goodbye, Hello, Message, Signal, Start

UNLIMITED = 0

BEFORE_HELLO = "before hello"
BEFORE_LOGIN = "before login"
IN_EXCHANGE = "in exchange"
GRANTED = "granted"

TABLE: dict[str, dict[type[Message], int]] = {
    BEFORE_HELLO: {Hello: 1, Goodbye: 1},
    BEFORE_LOGIN: {AuthRequest: 128, Goodbye: 1},
    IN_EXCHANGE: {AuthResponse: 256, AuthAbort: 128, Goodbye: 1},
    GRANTED: {Start: UNLIMITED, Signal: UNLIMITED, Goodbye: 1},
}
"""How often each may come in the whole connection. Time and tries are limited elsewhere as well; these caps end what slips through."""


class Monitor:
    """Admits messages. `phase` is set by the session only."""

    def __init__(self) -> None:
        self.phase = BEFORE_HELLO
        self._seen: dict[tuple[str, type[Message]], int] = {}

    def admit(self, code: int, channel: int, payload: bytes) -> Message:
        """The decoded message, if it may come now. Raises `RemoteError`; the session ends then."""
        kind = BY_CODE.get(code)
        limit = TABLE[self.phase].get(kind) if kind is not None else None
        if kind is None or limit is None or channel != 0:
            name = kind.__name__ if kind is not None else f"{code:#06x}"
            raise RemoteError(f"{name} is not permitted {self.phase}")
        seen = self._seen.get((self.phase, kind), 0) + 1
        if limit != UNLIMITED and seen > limit:
            raise RemoteError(f"{kind.__name__} came more than {limit} times {self.phase}")
        self._seen[self.phase, kind] = seen
        return kind.decode(payload)
