"""atheris: a whole conversation with one end, with the session's monitor behind a node's.

The first byte chooses the end; then pieces follow, each with a byte of length before it, that come from the peer; a length with its high bit set is
a word of ours instead.

Nothing but RemoteError and LocalError may come out, the state moves by the table alone, and the monitor never sees what the states had not let pass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz import engine

with engine.instrumented():
    from aed.errors import LocalError, RemoteError
    from aed.session import monitor
    from aed.wire.connection import Connection
    from aed.wire.frames import Frame
    from aed.wire.messages import BY_CODE, Ping, Pong
    from aed.wire.states import ANSWER, AUTHENTICATE, CLIENT, HELLO, JUDGE, NODE, OPEN, TABLE, WELCOME

CODES = sorted(BY_CODE)
PHASES = {
    HELLO: monitor.BEFORE_HELLO,
    WELCOME: monitor.BEFORE_LOGIN,
    AUTHENTICATE: monitor.BEFORE_LOGIN,
    JUDGE: monitor.BEFORE_LOGIN,
    ANSWER: monitor.IN_EXCHANGE,
    OPEN: monitor.GRANTED,
}


def one(data: bytes) -> None:
    converse(data)


def converse(data: bytes) -> Connection:
    """The end, after all that it took."""
    end = Connection(NODE if not data or data[0] & 1 else CLIENT)
    guard = monitor.Monitor()
    at = 1
    try:
        while at < len(data):
            size = data[at] & 0x7F
            word, ours = data[at + 1 : at + 1 + size], data[at] & 0x80
            at += 1 + size
            if ours:
                say(end, CODES[size % len(CODES)])
            else:
                hear(end, guard, word)
    except RemoteError:
        pass
    return end


def say(end: Connection, code: int) -> None:
    before = end.state
    try:
        end.send_payload(code, 0, b"")
    except LocalError:
        assert end.state == before
    else:
        assert end.state == TABLE[before][end.role, BY_CODE[code]]


def hear(end: Connection, guard: monitor.Monitor, word: bytes) -> None:
    before = end.state
    for item in end.receive(memoryview(word)):
        if not isinstance(item, Frame):
            assert end.state == before == OPEN
            continue
        assert end.state == TABLE[before][end.peer, item.kind]
        if end.role == NODE and item.kind.code < 0x30 and item.kind not in (Ping, Pong):
            guard.phase = PHASES[before]
            guard.admit(item.kind.code, item.channel, item.payload)
        else:
            item.decode()
        before = end.state


def seeds() -> Iterator[bytes]:
    """The recorded session, as each end hears it and answers."""
    for role, chooser in ((NODE, b"\x01"), (CLIENT, b"\x00")):
        seed = chooser
        for step in engine.vectors("session.json")["steps"]:
            raw = bytes.fromhex(step["bytes"])
            if step["from"] != role:
                for begin in range(0, len(raw), 127):
                    part = raw[begin : begin + 127]
                    seed += bytes([len(part)]) + part
            elif step["message"] != "Data":
                number = next(at for at, code in enumerate(CODES) if BY_CODE[code].__name__ == step["message"])
                seed += bytes([0x80 | number]) + bytes(number)
        yield seed


if __name__ == "__main__":
    engine.run(one, seeds())
