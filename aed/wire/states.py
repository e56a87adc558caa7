"""The states of a connection and every message that is legal in each: a table, and nothing else (PROTOCOL.md, "States").

The diagram in PROTOCOL.md is drawn from this table by `tools/draw_states.py`; the tests read the same table.
"""

from __future__ import annotations

from aed.wire.messages import (
    Accept,
    Ack,
    AuthAbort,
    AuthChallenge,
    AuthFailed,
    AuthRequest,
    AuthResponse,
    Data,
    End,
    Exited,
    Goodbye,
    Hello,
    Message,
    Notice,
    NotStarted,
    Ping,
    Pong,
    Reset,
    Signal,
    Start,
    Started,
    Welcome,
)

CLIENT = "client"
NODE = "node"

HELLO = "hello"
WELCOME = "welcome"
AUTHENTICATE = "authenticate"
JUDGE = "judge"
ANSWER = "answer"
OPEN = "open"
CLOSED = "closed"

Moves = dict[tuple[str, type[Message]], str]

TABLE: dict[str, Moves] = {
    HELLO: {(CLIENT, Hello): WELCOME, (CLIENT, Goodbye): CLOSED, (NODE, Goodbye): CLOSED},
    WELCOME: {(NODE, Welcome): AUTHENTICATE, (NODE, Goodbye): CLOSED, (CLIENT, Goodbye): CLOSED},
    AUTHENTICATE: {(CLIENT, AuthRequest): JUDGE},
    JUDGE: {(NODE, AuthChallenge): ANSWER, (NODE, AuthFailed): AUTHENTICATE, (NODE, Accept): OPEN},
    ANSWER: {(CLIENT, AuthResponse): JUDGE, (CLIENT, AuthAbort): JUDGE},
    OPEN: {
        **{(CLIENT, kind): OPEN for kind in (Start, Signal, Data, Ack, End, Reset)},
        **{(NODE, kind): OPEN for kind in (Started, NotStarted, Exited, Notice, Data, Ack, End, Reset)},
    },
    CLOSED: {},
}
for _state in (AUTHENTICATE, JUDGE, ANSWER, OPEN):
    for _side in (CLIENT, NODE):
        TABLE[_state].update({(_side, Ping): _state, (_side, Pong): _state, (_side, Goodbye): CLOSED})
