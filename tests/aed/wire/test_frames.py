"""Frames: the caps on each side of their edges, cuts at every byte, and that no cut of the stream changes what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.errors import LocalError, RemoteError
from aed.wire.connection import Connection
from aed.wire.frames import DATA_HEADER, HEADER, MAX_CONTROL, MAX_DATA, OFFSET, Decoder, Frame, Piece, data_header, encode, encode_payload
from aed.wire.messages import BY_CODE, PER_CHANNEL, Ack, Data, End, Goodbye, Hello, Message, Notice, Ping, Reset
from aed.wire.states import NODE
from tests.aed.wire.strategies import CONTROL, cut, framed

Item = tuple[str, int, int, bytes]


def items(parts: list[bytes]) -> list[Item]:
    """What a decoder gives for `parts`, with the pieces of one stream put together again, as a receiver does."""
    decoder = Decoder()
    found: list[Item] = []
    for part in parts:
        # A copy that is wiped afterwards: nothing may refer to the buffer longer than until the next feed.
        buffer = bytearray(part)
        for item in decoder.feed(memoryview(buffer)):
            if isinstance(item, Frame):
                found.append((item.kind.__name__, item.channel, 0, item.payload))
                continue
            last = found[-1] if found else ("", 0, 0, b"")
            if last[0] == "Data" and last[1] == item.channel and last[2] + len(last[3]) == item.offset:
                found[-1] = (*last[:3], last[3] + bytes(item.data))
            else:
                found.append(("Data", item.channel, item.offset, bytes(item.data)))
        buffer[:] = bytes(len(buffer))
    return found


@given(st.data(), st.lists(framed(), max_size=6))
def test_any_cut_of_the_stream_gives_the_same_items(data: st.DataObject, good: list[bytes]) -> None:
    stream = b"".join(good)
    whole = items([stream])
    assert items(data.draw(cut(stream))) == whole
    assert items([stream[at : at + 1] for at in range(len(stream))]) == whole


@given(st.data(), st.lists(framed(), max_size=3))
def test_any_cut_of_a_bad_stream_is_refused(data: st.DataObject, good: list[bytes]) -> None:
    with pytest.raises(RemoteError):
        items(data.draw(cut(b"".join(good) + HEADER.pack(0, 0xFFFF, 0) + b"more")))


@given(framed())
def test_a_frame_cut_at_every_byte_gives_no_more_than_was_there(raw: bytes) -> None:
    for end in range(len(raw)):
        found = items([raw[:end]])
        if int.from_bytes(raw[4:6], "big") == Data.code:
            assert b"".join(item[3] for item in found) == raw[DATA_HEADER.size : end]
        else:
            assert found == []


@pytest.mark.parametrize("size", [0, 1, MAX_CONTROL - 1, MAX_CONTROL])
def test_control_frames_up_to_the_cap(size: int) -> None:
    (item,) = Decoder().feed(memoryview(HEADER.pack(size, Notice.code, 0) + bytes(size)))
    assert isinstance(item, Frame)
    assert len(item.payload) == size


@pytest.mark.parametrize("size", [MAX_CONTROL + 1, MAX_DATA, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
def test_control_frames_over_the_cap_are_refused_by_their_header(kind: type[Message], size: int) -> None:
    with pytest.raises(RemoteError, match="over the cap"):
        Decoder().feed(memoryview(HEADER.pack(size, kind.code, 0)))


@pytest.mark.parametrize("size", [1, MAX_DATA - 1, MAX_DATA])
def test_data_frames_up_to_the_cap(size: int) -> None:
    (item,) = Decoder().feed(memoryview(data_header(4, 100, size) + bytes(size)))
    assert isinstance(item, Piece)
    assert (item.channel, item.offset, len(item.data)) == (4, 100, size)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 8 + MAX_DATA + 1, 0xFFFFFFFF])
def test_data_frames_that_may_not_be_are_refused_by_their_header(size: int) -> None:
    with pytest.raises(RemoteError, match="a Data frame of"):
        Decoder().feed(memoryview(HEADER.pack(size, Data.code, 0)))


@pytest.mark.parametrize(("offset", "size", "good"), [((1 << 63) - 2, 1, True), ((1 << 63) - 1, 1, False), ((1 << 64) - 1, 1, False), (0, 1, True)])
def test_stream_offsets_have_an_end(offset: int, size: int, good: bool) -> None:
    decoder = Decoder()
    raw = memoryview(HEADER.pack(8 + size, Data.code, 0) + OFFSET.pack(offset))
    if good:
        assert decoder.feed(raw) == []
    else:
        with pytest.raises(RemoteError, match="out of range"):
            decoder.feed(raw)


@pytest.mark.parametrize("code", [0, 0x06, 0x0F, 0x16, 0x17, 0x18, 0x26, 0x34, 0x3F, 0x100, 0x130, 0xFFFF])
def test_a_code_that_no_message_has(code: int) -> None:
    assert code not in BY_CODE
    for size in (0, 8, 0xFFFFFFFF):
        with pytest.raises(RemoteError, match="no message has the code"):
            Decoder().feed(memoryview(HEADER.pack(size, code, 0)))


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.__name__)
def test_a_channel_belongs_to_what_travels_on_one(kind: type[Message]) -> None:
    header = memoryview(HEADER.pack(9, kind.code, 0xFFFFFFFF))
    if kind.code in PER_CHANNEL:
        assert Decoder().feed(header) == []
    else:
        with pytest.raises(RemoteError, match="it belongs on 0"):
            Decoder().feed(header)


def test_bytes_after_the_fields_are_refused() -> None:
    (item,) = Decoder().feed(memoryview(encode_payload(Ping.code, 0, bytes(9))))
    assert isinstance(item, Frame)
    with pytest.raises(RemoteError, match="after the end of Ping"):
        item.decode()


def test_a_control_frame_is_held_once_and_stream_bytes_never() -> None:
    """What a peer can make us hold: one control frame under its cap."""
    decoder = Decoder()
    decoder.feed(memoryview(HEADER.pack(MAX_CONTROL, Notice.code, 0) + bytes(MAX_CONTROL - 1)))
    assert len(decoder._part) == MAX_CONTROL - 1
    decoder.feed(memoryview(b"\0"))
    assert len(decoder._part) == 0
    decoder.feed(memoryview(data_header(0, 0, MAX_DATA) + bytes(1000)))
    assert len(decoder._part) == 0


def test_pieces_are_views_of_what_was_fed() -> None:
    """Bulk bytes are not copied here."""
    buffer = bytearray(data_header(0, 0, 3) + b"abc")
    (item,) = Decoder().feed(memoryview(buffer))
    assert isinstance(item, Piece)
    buffer[-1] = ord("z")
    assert bytes(item.data) == b"abz"


def test_what_we_send_keeps_the_cap() -> None:
    assert encode(Reset(), 7) == HEADER.pack(0, Reset.code, 7)
    node = Connection(NODE)
    with pytest.raises(LocalError, match="over the cap"):
        node.send(Goodbye(fault=0, reason="", text="x" * MAX_CONTROL))
    for code in (0x16, Data.code):
        with pytest.raises(LocalError, match="not a control message"):
            node.send_payload(code, 0, b"")
    with pytest.raises(LocalError):
        encode_payload(Notice.code, 0, bytes(MAX_CONTROL + 1))


def test_what_came_before_a_message_that_is_not_legal_is_given() -> None:
    """The state is checked frame by frame, as if each had come alone."""
    hello = Hello(versions=(1,), software="", capabilities=(), nonce=bytes(32))
    node = Connection(NODE)
    found = []
    with pytest.raises(RemoteError, match="Ack from the client is not legal in state welcome"):
        for item in node.receive(memoryview(encode(hello) + encode(Ack(offset=0, limit=0), 0) + encode(End(offset=0), 0))):
            found.append(item)
    assert len(found) == 1
