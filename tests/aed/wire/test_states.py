"""The complete matrix: every message in every state from each side, generated from the tables themselves, for the protocol's core and for the
session's monitor (SECURITY 8, 32). And properties that the table must have, whatever it says in detail."""

from __future__ import annotations

import itertools

import pytest

from aed.errors import LocalError, RemoteError
from aed.session import monitor
from aed.session.monitor import Monitor
from aed.wire import frames
from aed.wire.connection import Connection
from aed.wire.messages import (
    BY_CODE,
    Accept,
    AuthAbort,
    AuthFailed,
    AuthRequest,
    AuthResponse,
    Data,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Signal,
    Start,
    Welcome,
)
from aed.wire.states import ANSWER, AUTHENTICATE, CLIENT, CLOSED, HELLO, JUDGE, NODE, OPEN, TABLE
from tests.aed.wire.test_vectors import MESSAGES, record

SIDES = (CLIENT, NODE)
KINDS = list(BY_CODE.values())
SAMPLES: dict[int, Message] = {case["code"]: record(BY_CODE[case["code"]], case["fields"]) for case in reversed(MESSAGES["good"])}
"""One good message of each type: the first of the vectors'."""


def path_to(state: str) -> list[tuple[str, type[Message]]]:
    """The shortest way from the start to `state`."""
    paths: dict[str, list[tuple[str, type[Message]]]] = {HELLO: []}
    for at in iter(paths.copy()):
        queue = [at]
        while queue:
            here = queue.pop(0)
            for move, there in TABLE[here].items():
                if there not in paths:
                    paths[there] = [*paths[here], move]
                    queue.append(there)
    return paths[state]


def raw(kind: type[Message]) -> bytes:
    if kind is Data:
        return frames.data_header(0, 0, 1) + b"x"
    return frames.encode(SAMPLES[kind.code])


def say(end: Connection, kind: type[Message]) -> bytes:
    """`end` sends it."""
    return end.data_header(0, 0, 1) + b"x" if kind is Data else end.send(SAMPLES[kind.code])


def arrive(state: str, role: str) -> Connection:
    """An end of a connection that has come to `state` by what was really said."""
    end = Connection(role)
    for side, kind in path_to(state):
        if side == role:
            say(end, kind)
        else:
            list(end.receive(memoryview(raw(kind))))
    assert end.state == state
    return end


MATRIX = list(itertools.product(TABLE, SIDES, KINDS))


def name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("state", "sender", "kind"), MATRIX, ids=name)
def test_receiving(state: str, sender: str, kind: type[Message]) -> None:
    end = arrive(state, NODE if sender == CLIENT else CLIENT)
    wanted = TABLE[state].get((sender, kind))
    if wanted is None:
        with pytest.raises(RemoteError, match="is not legal in state"):
            list(end.receive(memoryview(raw(kind))))
        assert end.state == state
    else:
        (item,) = end.receive(memoryview(raw(kind)))
        assert (Data if isinstance(item, frames.Piece) else item.kind) is kind
        assert end.state == wanted


@pytest.mark.parametrize(("state", "sender", "kind"), MATRIX, ids=name)
def test_sending(state: str, sender: str, kind: type[Message]) -> None:
    end = arrive(state, sender)
    wanted = TABLE[state].get((sender, kind))
    if wanted is None:
        with pytest.raises(LocalError, match="is not legal in state"):
            say(end, kind)
        assert end.state == state
    else:
        assert say(end, kind) == raw(kind)
        assert end.state == wanted


def test_matrix_is_complete() -> None:
    """No message of the vocabulary is without a place in the table, and the table has no other."""
    assert {kind for moves in TABLE.values() for _, kind in moves} == set(KINDS)
    assert {there for moves in TABLE.values() for there in moves.values()} <= set(TABLE)
    assert all(path_to(state) or state == HELLO for state in TABLE)


def test_nobody_leaves_the_end() -> None:
    assert TABLE[CLOSED] == {}
    for state in TABLE.keys() - {CLOSED}:
        assert all(TABLE[state][side, Goodbye] == CLOSED for side in SIDES)


def test_one_side_moves_the_login_on() -> None:
    """Where both could, messages that cross would leave the ends in different states."""
    for state in TABLE.keys() - {OPEN, CLOSED}:
        movers = {side for (side, kind), there in TABLE[state].items() if there != state and kind is not Goodbye}
        assert len(movers) == 1, state


def test_what_may_cross_a_move_is_legal_after_it() -> None:
    """The other side says it before it knows of the move: Ping, Pong, Goodbye. In hello and welcome nothing but Goodbye is."""
    for state, moves in TABLE.items():
        for (side, kind), there in moves.items():
            if kind is Goodbye or there == state:
                continue
            for other, crossing in TABLE[state]:
                if other != side:
                    assert (other, crossing) in TABLE[there], f"{crossing.__name__} from the {other} crosses {kind.__name__}"


def test_every_attempt_is_answered_once() -> None:
    """From AuthRequest on there is no way back to authenticate, nor into open, but by the node's word."""
    for state in (JUDGE, ANSWER):
        for (side, kind), there in TABLE[state].items():
            if there == AUTHENTICATE:
                assert (side, kind) == (NODE, AuthFailed)
            if there == OPEN:
                assert (side, kind) == (NODE, Accept)
    assert {there for (_, kind), there in TABLE[ANSWER].items() if kind in (AuthAbort, AuthResponse)} == {JUDGE}


def test_no_way_into_open_without_accept() -> None:
    for state in TABLE.keys() - {OPEN}:
        for (side, kind), there in TABLE[state].items():
            assert there != OPEN or (side, kind) == (NODE, Accept)


# The monitor: the session's own table, for net is not trusted.

PHASES = list(monitor.TABLE)


@pytest.mark.parametrize(("phase", "kind"), list(itertools.product(PHASES, KINDS)), ids=name)
def test_monitor(phase: str, kind: type[Message]) -> None:
    guard = Monitor()
    guard.phase = phase
    message = SAMPLES[kind.code]
    if kind in monitor.TABLE[phase]:
        assert guard.admit(kind.code, 0, message.encode()) == message
    else:
        with pytest.raises(RemoteError, match="is not permitted"):
            guard.admit(kind.code, 0, message.encode())


@pytest.mark.parametrize(("phase", "kind"), [(phase, kind) for phase, kinds in monitor.TABLE.items() for kind in kinds], ids=name)
def test_monitor_counts(phase: str, kind: type[Message]) -> None:
    limit = monitor.TABLE[phase][kind]
    guard = Monitor()
    payload = SAMPLES[kind.code].encode()
    for _ in range(limit if limit != monitor.UNLIMITED else 1000):
        guard.phase = phase
        guard.admit(kind.code, 0, payload)
        guard.phase = PHASES[0]  # a phase that comes back does not begin to count anew
    guard.phase = phase
    if limit != monitor.UNLIMITED:
        with pytest.raises(RemoteError, match="came more than"):
            guard.admit(kind.code, 0, payload)


@pytest.mark.parametrize(("phase", "kind"), [(phase, kind) for phase, kinds in monitor.TABLE.items() for kind in kinds], ids=name)
def test_monitor_checks_channel_and_fields(phase: str, kind: type[Message]) -> None:
    guard = Monitor()
    guard.phase = phase
    payload = SAMPLES[kind.code].encode()
    with pytest.raises(RemoteError):
        guard.admit(kind.code, 1, payload)
    with pytest.raises(RemoteError):
        guard.admit(kind.code, 0, payload + b"\0")


@pytest.mark.parametrize("code", [0, 0x16, 0x17, 0x18, 0x3F, 0xFFFF])
@pytest.mark.parametrize("phase", PHASES)
def test_monitor_refuses_codes_that_are_none(phase: str, code: int) -> None:
    guard = Monitor()
    guard.phase = phase
    with pytest.raises(RemoteError, match=f"{code:#06x} is not permitted"):
        guard.admit(code, 0, b"")


def test_monitor_admits_nothing_that_the_protocol_does_not() -> None:
    """A phase permits all that the client may say in the state it stands for, but what net keeps to itself: streams and keepalive."""
    states = {monitor.BEFORE_HELLO: HELLO, monitor.BEFORE_LOGIN: AUTHENTICATE, monitor.IN_EXCHANGE: ANSWER, monitor.GRANTED: OPEN}
    for phase, state in states.items():
        legal = {kind for side, kind in TABLE[state] if side == CLIENT}
        assert set(monitor.TABLE[phase]) == {kind for kind in legal if kind.code < 0x30} - {Ping, Pong}
    assert {Hello, AuthRequest, Start, Signal} <= {kind for phase in monitor.TABLE.values() for kind in phase}
    assert not any(Welcome in phase for phase in monitor.TABLE.values())
