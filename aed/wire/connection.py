"""One end of a connection: bytes in, checked frames out; messages in, bytes out. The same core serves node and client.

Lives here: applying the table of `states.py` to a stream of frames. Must not live here: sockets, clocks, channels' bookkeeping (`channels.py`).
"""

from __future__ import annotations

from aed.errors import LocalError, RemoteError
from aed.wire import frames
from aed.wire.messages import BY_CODE, Data, Message
from aed.wire.states import CLIENT, HELLO, NODE, OPEN, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Connection:
    """`role` is `states.CLIENT` or `states.NODE`: which end this is."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.peer = NODE if role == CLIENT else CLIENT
        self.state = HELLO
        self._decoder = frames.Decoder()

    def receive(self, data: memoryview) -> Iterator[frames.Frame | frames.Piece]:
        """What the peer sent, one by one, each checked against the state that the one before it left. Raises `RemoteError`."""
        for item in self._decoder.feed(data):
            if isinstance(item, frames.Piece):
                if self.state != OPEN:
                    raise RemoteError(f"Data is not legal in state {self.state}")
            else:
                self._move(self.peer, item.kind, RemoteError)
            yield item

    def send(self, message: Message, channel: int = 0) -> bytes:
        """The bytes of a message that is legal now. Raises `LocalError`."""
        return self.send_payload(message.code, channel, message.encode())

    def send_payload(self, code: int, channel: int, payload: bytes) -> bytes:
        """As `send`, for fields already encoded. Raises `LocalError`."""
        if len(payload) > frames.MAX_CONTROL:
            raise LocalError(f"a message of {len(payload)} bytes is over the cap of {frames.MAX_CONTROL}")
        kind = BY_CODE.get(code)
        if kind is None or kind is Data:
            raise LocalError(f"code {code:#06x} is not a control message")
        self._move(self.role, kind, LocalError)
        return frames.encode_payload(code, channel, payload)

    def data_header(self, channel: int, offset: int, size: int) -> bytes:
        """What goes before `size` bytes of a stream. Raises `LocalError` outside state open."""
        if self.state != OPEN:
            raise LocalError(f"Data is not legal in state {self.state}")
        return frames.data_header(channel, offset, size)

    def _move(self, side: str, kind: type[Message], error: type[Exception]) -> None:
        state = TABLE[self.state].get((side, kind))
        if state is None:
            raise error(f"{kind.__name__} from the {side} is not legal in state {self.state}")
        self.state = state
