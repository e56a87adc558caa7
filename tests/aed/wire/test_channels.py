"""Offsets, acknowledgements, limits: no byte lost, repeated or past the limit, whatever the order of events at both ends."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aed.errors import LocalError, RemoteError
from aed.wire.channels import Receiving, Sending
from aed.wire.messages import Ack, End

SIZES = st.integers(1, 5000)


class Stream(RuleBasedStateMachine):
    """A sender that forgets what is acknowledged, a receiver with a buffer of its window, and a line that delivers in order, whenever it likes.

    The bytes are numbers, so that each is known: the byte at offset n is n % 251.
    """

    @initialize(window=st.integers(1, 4096))
    def start(self, window: int) -> None:
        self.window = window
        self.sending = Sending(limit=window)
        self.receiving = Receiving(window)
        self.kept_from = 0
        self.buffer = bytearray()
        self.consumed = 0
        self.to_receiver: deque[tuple[int, bytes] | End] = deque()
        self.to_sender: deque[Ack] = deque()

    @rule(size=SIZES)
    def send(self, size: int) -> None:
        """As much as there is room for; more, and bytes after the end, are our own fault."""
        if size > self.sending.room or self.sending.ended:
            with pytest.raises(LocalError):
                self.sending.advance(size)
            size = 0 if self.sending.ended else self.sending.room
        if size:
            offset = self.sending.sent
            self.sending.advance(size)
            self.to_receiver.append((offset, bytes(at % 251 for at in range(offset, offset + size))))

    @precondition(lambda self: not self.sending.ended)
    @rule()
    def end(self) -> None:
        self.sending.ended = True
        self.to_receiver.append(End(offset=self.sending.sent))

    @precondition(lambda self: self.to_receiver)
    @rule(cut=st.integers(0, 5000))
    def deliver(self, cut: int) -> None:
        """A frame, or a piece of one."""
        item = self.to_receiver.popleft()
        if isinstance(item, End):
            self.receiving.on_end(item.offset)
            return
        offset, data = item
        if 0 < cut < len(data):
            self.to_receiver.appendleft((offset + cut, data[cut:]))
            data = data[:cut]
        self.receiving.on_data(offset, len(data))
        self.buffer += data
        assert len(self.buffer) <= self.window, "the sender went past the buffer"

    @precondition(lambda self: self.buffer)
    @rule(size=SIZES)
    def consume(self, size: int) -> None:
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        assert taken == bytes(at % 251 for at in range(self.consumed, self.consumed + len(taken)))
        self.consumed += len(taken)

    @rule(now=st.booleans())
    def acknowledge(self, now: bool) -> None:
        ack = self.receiving.due(self.receiving.received, self.consumed, now=now)
        if ack is not None:
            self.to_sender.append(ack)
        elif now:
            assert self.receiving.due(self.receiving.received, self.consumed, now=True) is None

    @precondition(lambda self: self.to_sender)
    @rule()
    def hear(self) -> None:
        self.sending.on_ack(self.to_sender.popleft())
        self.kept_from = self.sending.acked

    @invariant()
    def in_order(self) -> None:
        if not hasattr(self, "sending"):
            return
        assert self.kept_from <= self.receiving.received <= self.sending.sent <= self.sending.limit
        assert self.sending.sent - self.consumed <= self.window
        assert self.sending.room >= 0

    def teardown(self) -> None:
        """However it stands now: if both ends go on, everything arrives, is consumed and is acknowledged."""
        if not hasattr(self, "sending"):
            return
        for _ in range(6):
            self.send(5000)
            while self.to_receiver:
                self.deliver(0)
            while self.buffer:
                self.consume(5000)
            self.acknowledge(True)
            while self.to_sender:
                self.hear()
            assert self.sending.acked == self.sending.sent == self.receiving.received == self.consumed
            assert self.sending.room == self.window
        if not self.sending.ended:
            self.end()
            self.deliver(0)
        assert self.receiving.end == self.sending.sent


Stream.TestCase.settings = settings(stateful_step_count=60)
TestStream = Stream.TestCase


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 400), st.integers(0, 400))
def test_an_ack_is_taken_if_and_only_if_it_can_be(acked: int, more: int, room: int, offset: int, limit: int) -> None:
    sending = Sending(limit=acked + more + room)
    sending.advance(acked + more)
    sending.on_ack(Ack(offset=acked, limit=acked + more + room))
    good = acked <= offset <= acked + more and limit >= acked + more + room and limit >= offset
    before = (sending.acked, sending.limit)
    if good:
        sending.on_ack(Ack(offset=offset, limit=limit))
        assert (sending.acked, sending.limit) == (offset, limit)
    else:
        with pytest.raises(RemoteError):
            sending.on_ack(Ack(offset=offset, limit=limit))
        assert (sending.acked, sending.limit) == before


@given(st.integers(1, 100), st.integers(0, 100), st.integers(0, 200), st.integers(1, 200))
def test_data_is_taken_if_and_only_if_it_is_due(window: int, had: int, offset: int, size: int) -> None:
    receiving = Receiving(window)
    had = min(had, window)
    receiving.on_data(0, had)
    if offset == had and offset + size <= window:
        receiving.on_data(offset, size)
        assert receiving.received == offset + size
    else:
        with pytest.raises(RemoteError):
            receiving.on_data(offset, size)
        assert receiving.received == had


@pytest.mark.parametrize("wrong", [0, 4, 6, 1 << 40])
def test_an_end_is_where_the_bytes_end_and_comes_once(wrong: int) -> None:
    receiving = Receiving(10)
    receiving.on_data(0, 5)
    with pytest.raises(RemoteError):
        receiving.on_end(wrong)
    receiving.on_end(5)
    with pytest.raises(RemoteError):
        receiving.on_end(5)
    with pytest.raises(RemoteError):
        receiving.on_data(5, 1)


def test_a_sender_without_a_window_sends_nothing() -> None:
    with pytest.raises(LocalError):
        Sending().advance(1)


def test_small_news_wait_for_a_quarter_of_the_window_and_never_for_ever() -> None:
    receiving = Receiving(100)
    receiving.on_data(0, 24)
    assert receiving.due(24, 24) is None
    assert receiving.due(24, 24, now=True) == Ack(offset=24, limit=124)
    assert receiving.due(24, 24, now=True) is None
    receiving.on_data(24, 25)
    assert receiving.due(49, 24) == Ack(offset=49, limit=124), "safe and not yet consumed: kept here, the limit stays"
    assert receiving.due(49, 49) == Ack(offset=49, limit=149)
