"""A worker's streams between real pipes and rings, under any schedule of the pipe, the session, net and the client: every byte once and in order,
and no position of net's is believed that cannot be."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aed.errors import RemoteError
from aed.ring import Ring
from aed.session.streams import Incoming, Outgoing


def numbers(start: int, end: int) -> bytes:
    """Bytes that tell where they belong."""
    return bytes(at % 251 for at in range(start, end))


def ring(size: int) -> Ring:
    return Ring(memoryview(bytearray(size)))


def read(source: Ring, start: int, end: int) -> bytes:
    out = b""
    while start < end:
        span = source.span(start, end)
        out += span
        start += len(span)
    return out


def pipe() -> tuple[int, int]:
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


class Towards(RuleBasedStateMachine):
    """worker → pipe → ring → client."""

    @initialize(size=st.integers(1, 300))
    def start(self, size: int) -> None:
        self.reader, self.writer = pipe()
        self.told = 0
        self.ends: list[int] = []
        self.ring = ring(size)
        self.stream = Outgoing(self.ring, self._told, self.ends.append)
        self.written = 0
        self.sent = 0

    def _told(self, offset: int) -> None:
        assert offset > self.told
        self.told = offset

    @precondition(lambda self: self.writer >= 0)
    @rule(size=st.integers(1, 200))
    def worker_writes(self, size: int) -> None:
        self.written += os.write(self.writer, numbers(self.written, self.written + size))

    @precondition(lambda self: self.writer >= 0)
    @rule()
    def worker_closes(self) -> None:
        os.close(self.writer)
        self.writer = -1

    @precondition(lambda self: not self.stream.full and not self.stream.finished)
    @rule(most=st.integers(1, 400))
    def session_reads(self, most: int) -> None:
        before = self.stream.produced
        size = self.stream.read_from(self.reader, most)
        if size is None:
            assert self.writer >= 0
            assert self.written == before
        elif size == 0:
            assert self.writer < 0
            assert self.written == before
            self.stream.finish()
        else:
            assert size <= most
            assert self.told == self.stream.produced == before + size

    @rule(size=st.integers(1, 300))
    def net_sends(self, size: int) -> None:
        end = min(self.sent + size, self.told)
        assert read(self.ring, self.sent, end) == numbers(self.sent, end)
        self.sent = end

    @rule(size=st.integers(0, 300))
    def client_acknowledges(self, size: int) -> None:
        self.stream.on_acked(min(self.stream.acked + size, self.sent))

    @rule(size=st.integers(1, 1 << 40))
    def net_lies(self, size: int) -> None:
        for offset in (self.stream.acked - size, self.stream.produced + size):
            with pytest.raises(RemoteError):
                self.stream.on_acked(offset)

    @invariant()
    def nothing_unacknowledged_is_overwritten(self) -> None:
        if hasattr(self, "stream"):
            kept = read(self.ring, self.stream.acked, self.stream.produced)
            assert kept == numbers(self.stream.acked, self.stream.produced)
            assert self.stream.produced - self.stream.acked <= self.ring.size
            assert self.stream.delivered == (bool(self.ends) and self.stream.acked == self.stream.produced)

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        if self.writer >= 0:
            self.worker_closes()
        while not self.stream.finished:
            self.net_sends(300)
            self.client_acknowledges(300)
            self.session_reads(300)
        self.net_sends(300)
        self.client_acknowledges(300)
        assert self.sent == self.stream.produced == self.written
        self.stream.finish()
        assert self.ends == [self.written], "the end is told once"
        assert self.stream.delivered
        os.close(self.reader)


class Away(RuleBasedStateMachine):
    """client → ring → pipe → worker."""

    @initialize(size=st.integers(4, 300))
    def start(self, size: int) -> None:
        self.reader, self.writer = pipe()
        self.ring = ring(size)
        self.told = 0
        self.stream = Incoming(self.ring, self._told)
        self.got = 0

    def _told(self, offset: int) -> None:
        assert self.told < offset <= self.stream.consumed
        self.told = offset

    @precondition(lambda self: self.stream.end is None)
    @rule(size=st.integers(0, 300))
    def net_fills(self, size: int) -> None:
        """As far as it may by what it was told."""
        start = self.stream.filled
        end = min(start + size, self.told + self.ring.size)
        self.ring.write(start, numbers(start, end))
        self.stream.on_filled(end)

    @precondition(lambda self: self.stream.end is None)
    @rule()
    def net_ends(self) -> None:
        self.stream.on_ended(self.stream.filled)

    @rule(size=st.integers(1, 1 << 40))
    def net_lies(self, size: int) -> None:
        for offset in (self.stream.filled - size, self.stream.consumed + self.ring.size + size):
            with pytest.raises(RemoteError):
                self.stream.on_filled(offset)
        for offset in (self.stream.filled - size, self.stream.filled + size):
            with pytest.raises(RemoteError):
                self.stream.on_ended(offset)
        if self.stream.end is not None:
            with pytest.raises(RemoteError):
                self.stream.on_filled(self.stream.filled)
            with pytest.raises(RemoteError):
                self.stream.on_ended(self.stream.filled)

    @rule()
    def session_writes(self) -> None:
        assert self.stream.write_to(self.writer), "the pipe is larger than any ring here"
        assert not self.stream.waiting

    @rule()
    def worker_reads(self) -> None:
        try:
            data = os.read(self.reader, 1000)
        except BlockingIOError:
            return
        assert data == numbers(self.got, self.got + len(data))
        self.got += len(data)

    @invariant()
    def net_is_never_stopped_for_good(self) -> None:
        """What is taken and not told stays under a quarter of the ring: the client has room once the worker has read."""
        if hasattr(self, "stream"):
            assert self.stream.consumed - self.told < self.ring.size // 4

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.session_writes()
        while self.got < self.stream.filled:
            self.worker_reads()
        assert self.got == self.stream.filled == self.stream.consumed
        assert self.stream.at_end == (self.stream.end is not None)
        os.close(self.reader)
        os.close(self.writer)


for machine in (Towards, Away):
    machine.TestCase.settings = settings(stateful_step_count=40)
TestTowards = Towards.TestCase
TestAway = Away.TestCase


def test_a_pipe_that_is_full_takes_a_part() -> None:
    reader, writer = pipe()
    stream = Incoming(ring(1 << 20), lambda _: None)
    stream.on_filled(1 << 20)
    assert not stream.write_to(writer)
    assert stream.waiting
    held = stream.consumed
    assert 0 < held < 1 << 20
    assert len(os.read(reader, 1 << 20)) == held
    assert not stream.write_to(writer)
    assert stream.consumed > held
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_nobody_reads_any_more(kind: str) -> None:
    """A pipe and a socket say it in different words."""
    stream = Incoming(ring(64), lambda _: None)
    stream.on_filled(10)
    if kind == "pipe":
        reader, writer = pipe()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            stream.write_to(writer)
        os.close(writer)
    else:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            theirs.send(b"x")
            theirs.send(b"unread")
            ours.recv(1)
            theirs.close()
            with pytest.raises(BrokenPipeError):
                for _ in range(3):
                    stream.consumed = 0
                    stream.write_to(ours.fileno())
    stream.discard()
    assert not stream.waiting


def test_what_nobody_reads_flows_away_and_is_told() -> None:
    told: list[int] = []
    stream = Incoming(ring(64), told.append)
    stream.on_filled(60)
    stream.discard()
    assert (stream.consumed, told) == (60, [60])
    stream.on_ended(60)
    assert stream.at_end


def test_a_socket_whose_peer_died_is_at_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.send(b"unread")
        theirs.close()
        assert Outgoing(ring(64), lambda _: None, lambda _: None).read_from(ours.fileno()) == 0


def test_a_client_that_reads_no_more_frees_the_ring_and_ends_the_stream_once() -> None:
    reader, writer = pipe()
    ends: list[int] = []
    stream = Outgoing(ring(64), lambda _: None, ends.append)
    os.write(writer, bytes(100))
    assert stream.read_from(reader) == 64
    assert stream.full
    stream.drop()
    assert stream.delivered
    assert ends == [64]
    stream.on_acked(5)  # on its way when the stream was dropped
    stream.finish()
    assert (stream.acked, ends) == (64, [64])
    os.close(reader)
    os.close(writer)
