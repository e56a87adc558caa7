"""The authentication exchange under any sequence of words, legal or not, at every layer that judges them: Connection, Monitor, Login.

Nothing but RemoteError (their fault) and LocalError (ours) comes out of the first two; of Login nothing but Over and RemoteError, and never a grant.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aed.errors import LocalError, RemoteError
from aed.session import monitor
from aed.session.login import Over
from aed.session.monitor import Monitor
from aed.wire.connection import Connection
from aed.wire.frames import Frame, Piece, data_header, encode
from aed.wire.messages import (
    AuthAbort,
    AuthChallenge,
    AuthFailed,
    AuthRequest,
    AuthResponse,
    Data,
    Goodbye,
    Hello,
    Message,
    Welcome,
)
from aed.wire.states import CLIENT, NODE, TABLE
from tests.aed.session.exchange import Stage
from tests.aed.wire.strategies import CONTROL_MESSAGES, MESSAGES, records
from tests.aed.wire.test_states import arrive

NONCES = st.just(bytes(32)) | st.binary(max_size=40)
HELLOS = st.builds(Hello, versions=st.sampled_from([(1,), (2, 1), (2,), ()]), software=st.just("x"), capabilities=st.just(()), nonce=NONCES)
REQUESTS = st.builds(
    AuthRequest,
    user=st.sampled_from(["alice", "bob", "", "root", "../x", "\n", "x" * 300]),
    named=st.booleans(),
    groups=st.sampled_from([(), ("higgs",)]),
    mechanism=st.sampled_from(["declines", "asks", "password", "", "../x"]),
    data=st.binary(max_size=20),
)
LIKELY = HELLOS | REQUESTS | records(AuthResponse) | records(AuthAbort) | records(Goodbye)
WORDS = st.lists(LIKELY | CONTROL_MESSAGES, max_size=12)


SAID = st.lists(st.tuples(st.booleans(), MESSAGES, st.sampled_from([0, 0, 0, 1, 5])), max_size=30)


@given(st.sampled_from(list(TABLE)), SAID, st.sampled_from([CLIENT, NODE]))
def test_any_conversation(state: str, words: list[tuple[bool, Message, int]], role: str) -> None:
    """Either end, in any state, said to and made to say anything: the state follows the table and nothing else."""
    end = arrive(state, role)
    for ours, message, channel in words:
        before = end.state
        side = role if ours else end.peer
        try:
            if ours:
                end.data_header(channel, 0, 1) if isinstance(message, Data) else end.send(message, channel)
            else:
                for item in end.receive(memoryview(framed(message, channel))):
                    assert isinstance(item, Piece) or item.decode() == message
        except LocalError:
            assert ours
            assert (side, type(message)) not in TABLE[before]
            assert end.state == before
        except RemoteError:
            assert not ours
            assert end.state == before
            return
        else:
            assert end.state == TABLE[before][side, type(message)]


def framed(message: Message, channel: int) -> bytes:
    """A frame, made without asking whether it may be."""
    if isinstance(message, Data):
        return data_header(channel, message.offset % (1 << 62), 1) + b"x"
    return encode(message, channel)


CODES = st.integers(0, 70) | st.integers(0, 65535)


@given(st.lists(st.tuples(st.sampled_from(list(monitor.TABLE)), CODES, st.integers(0, 2), st.binary(max_size=60))))
def test_any_record_to_the_monitor(records_: list[tuple[str, int, int, bytes]]) -> None:
    guard = Monitor()
    for phase, code, channel, payload in records_:
        guard.phase = phase
        try:
            message = guard.admit(code, channel, payload)
        except RemoteError:
            continue
        assert (message.code, channel) == (code, 0)
        assert type(message) in monitor.TABLE[phase]
        assert message.encode() == payload


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(WORDS)
def test_any_words_before_a_login(words: list[Message]) -> None:
    """As net brings them: through the protocol's states and then to the session. And as a net that has gone over brings them: at once."""
    filtered: list[Message] = []
    net = Connection(NODE)
    try:
        for word in words:
            for item in net.receive(memoryview(encode(word))):
                assert isinstance(item, Frame)
                filtered.append(item.decode())
            # What the node would say is not known here: the likely answers are tried, so that more than one word gets through.
            for answer in ANSWERS:
                try:
                    net.send(answer)
                    break
                except LocalError:
                    continue
    except RemoteError:
        pass
    for said in (filtered, words):
        outcome(said, [])


ANSWERS: list[Message] = [
    Welcome(version=1, software="", capabilities=(), nonce=bytes(32), node="", certificate=b"", mechanisms=()),
    AuthChallenge(data=b""),
    AuthFailed(mechanisms=(), text=""),
]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.lists(LIKELY, max_size=4), st.lists(st.binary(min_size=1, max_size=60) | st.binary(max_size=60).map(lambda rest: b"M" + rest), max_size=5))
def test_any_records_of_a_net_that_has_gone_over(words: list[Message], raw: list[bytes]) -> None:
    outcome(words, raw)


def outcome(words: list[Message], raw: list[bytes]) -> None:
    """Login ends with a word for the record; what it answered is legal for a node, in order."""
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory))
        try:
            stage.say(*words)
            for record in raw:
                stage.net.send(record)
            error: Any = stage.run()
            assert isinstance(error, Over | RemoteError), repr(error)
            for answer in stage.heard():
                assert isinstance(answer, Welcome | AuthChallenge | AuthFailed)
                assert not isinstance(answer, AuthFailed) or answer.text == ""
        finally:
            stage.close()

