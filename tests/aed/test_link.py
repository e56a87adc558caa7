"""The link between a session and its net: whole records in order, descriptors with them, what is cut off refused, nothing left open."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed import link
from aed.errors import LocalError, RemoteError
from aed.link import MAX_RECORD, Link, Rings

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Link(ours), Link(theirs)


@pytest.fixture
def open_descriptors() -> Iterator[None]:
    """The test leaves as many open as it found."""
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def fill(end: Link) -> int:
    """Send until the socket takes no more; how many records there are on the way, the last of them queued."""
    count = 0
    while not end.backlog:
        end.send(link.message(1, 0, bytes(60_000)))
        count += 1
    return count


def drain(end: Link) -> list[tuple[bytes, list[int]]]:
    found = []
    while (one := end.receive()) is not None:
        found.append(one)
    return found


def test_records_come_whole_and_in_order(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    assert theirs.receive() is None
    for size in (1, 13, 1000, MAX_RECORD):
        ours.send(b"M" * size)
    assert [len(record) for record, _ in drain(theirs)] == [1, 13, 1000, MAX_RECORD]
    with pytest.raises(LocalError):
        ours.send(bytes(MAX_RECORD + 1))


def test_what_the_socket_does_not_take_waits(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    count = fill(ours)
    ours.send(b"last")
    assert not ours.flush()
    assert ours.backlog == 2
    found = drain(theirs)
    assert ours.flush()
    assert ours.backlog == 0
    found += drain(theirs)
    assert len(found) == count + 1
    assert found[-1] == (b"last", [])


def test_positions_go_together_and_before_what_follows(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.note(link.PRODUCED, 4, 100)
    ours.note(link.CONSUMED, 6, 200)
    assert theirs.receive() is None
    ours.send(link.message(7, 0, b"x"))
    ours.note(link.ENDED, 4, 100)
    assert ours.flush()
    records = [record for record, _ in drain(theirs)]
    assert [list(link.parse_positions(record)) for record in (records[0], records[2])] == [
        [(link.PRODUCED, 4, 100), (link.CONSUMED, 6, 200)],
        [(link.ENDED, 4, 100)],
    ]
    assert link.parse_message(records[1]) == (7, 0, b"x")


def test_many_positions_never_make_a_record_that_is_too_long(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    for offset in range(MAX_RECORD // link.POSITION.size * 3):
        ours.note(link.FILLED, 0, offset)
    assert ours.flush()
    offsets = [offset for record, _ in drain(theirs) for _, _, offset in link.parse_positions(record)]
    assert offsets == list(range(len(offsets)))
    assert len(offsets) == MAX_RECORD // link.POSITION.size * 3


@pytest.mark.usefixtures("open_descriptors")
def test_descriptors_arrive_and_are_not_inherited(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    number = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(number, b"shared")
    ours.send(b"O", (number,))
    os.close(number)
    ((record, (received,)),) = drain(theirs)
    assert record == b"O"
    assert os.pread(received, 10, 0) == b"shared"
    assert not os.get_inheritable(received)
    os.close(received)


@pytest.mark.usefixtures("open_descriptors")
def test_descriptors_wait_with_their_record_when_the_link_is_full(ends: tuple[Link, Link]) -> None:
    """A full link is no reason that a worker, which runs already by then, was not started."""
    ours, theirs = ends
    count = fill(ours)
    number = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(number, b"shared")
    ours.send(b"O", (number,))
    os.close(number)
    ours.send(b"last")
    found = drain(theirs)
    assert ours.flush()
    found += drain(theirs)
    assert len(found) == count + 2
    record, (received,) = found[-2]
    assert (record, os.pread(received, 10, 0)) == (b"O", b"shared")
    assert found[-1] == (b"last", [])
    os.close(received)


@pytest.mark.usefixtures("open_descriptors")
@pytest.mark.parametrize(("size", "count"), [(MAX_RECORD + 1, 0), (MAX_RECORD + 1, 3), (10, 30)])
def test_a_record_that_was_cut_off_is_refused_and_leaves_nothing_open(ends: tuple[Link, Link], size: int, count: int) -> None:
    ours, theirs = ends
    numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    ours.sock.sendmsg([bytes(size)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))] if numbers else [])
    for number in numbers:
        os.close(number)
    with pytest.raises(RemoteError, match="cut off"):
        theirs.receive()


def test_the_end_comes_after_the_last_record(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.send(b"X")
    ours.sock.close()
    assert theirs.receive() == (b"X", [])
    for _ in range(2):
        with pytest.raises(EOFError):
            theirs.receive()
    with pytest.raises(BrokenPipeError):
        theirs.send(b"X")


def test_a_peer_that_goes_with_our_records_unread_is_gone(ends: tuple[Link, Link]) -> None:
    """The kernel says ECONNRESET then, and it means the same; what the peer said last is read first."""
    ours, theirs = ends
    theirs.send(b"unread")
    ours.send(b"last words")
    ours.sock.close()
    assert theirs.receive() == (b"last words", [])
    with pytest.raises(EOFError):
        theirs.receive()


def test_an_empty_record_is_the_end(ends: tuple[Link, Link]) -> None:
    ours, theirs = ends
    ours.sock.send(b"")
    with pytest.raises(EOFError):
        theirs.receive()


@given(st.lists(st.tuples(st.sampled_from(sorted(link.POSITIONS)), U32, U64), min_size=1, max_size=5))
def test_positions_come_back(positions: list[tuple[int, int, int]]) -> None:
    raw = b"".join(link.position(*one) for one in positions)
    assert list(link.parse_positions(raw)) == positions


@given(st.integers(0, 65535), U32, st.binary(max_size=100))
def test_messages_come_back(code: int, channel: int, payload: bytes) -> None:
    assert link.parse_message(link.message(code, channel, payload)) == (code, channel, payload)


@given(U32, U32, st.lists(U32, min_size=5, max_size=5))
def test_openings_come_back(worker: int, window: int, sizes: list[int]) -> None:
    rings = Rings(stdin=sizes[0], stdout=sizes[1], stderr=sizes[2], to_worker=sizes[3], from_worker=sizes[4])
    assert rings.sizes() == tuple(sizes)
    raw = link.opening(worker, window, rings)
    assert link.parse_opening(raw) == (worker, window, rings)
    for wrong in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(RemoteError):
            link.parse_opening(wrong)


@pytest.mark.parametrize("size", [1, link.POSITION.size - 1, link.POSITION.size + 1, 2 * link.POSITION.size - 1])
def test_positions_of_a_wrong_size_are_refused(size: int) -> None:
    with pytest.raises(RemoteError):
        link.parse_positions(bytes(size))


@pytest.mark.parametrize("size", range(link.MESSAGE_HEADER.size))
def test_messages_of_a_wrong_size_are_refused(size: int) -> None:
    with pytest.raises(RemoteError):
        link.parse_message(bytes(size))


def test_kinds_are_told_apart_by_their_first_byte() -> None:
    kinds = [link.SETUP, link.OPEN, link.PRODUCED, link.CONSUMED, link.CLOSE, link.READY, link.LOST, link.FILLED, link.ACKED, link.MESSAGE]
    kinds += [link.ENDED, link.RESET]
    assert len(set(kinds)) == len(kinds)
    assert frozenset({link.PRODUCED, link.CONSUMED, link.FILLED, link.ACKED, link.ENDED, link.RESET}) == link.POSITIONS
    assert link.position(link.ACKED, 1, 2) == b"A" + struct.pack(">IQ", 1, 2)
