"""Fields: every type at its edges, and what a decoder must refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.errors import LocalError, RemoteError
from aed.wire.codec import CODECS, MAX_ITEMS, Record, u8, u64
from aed.wire.messages import BY_CODE, AuthRequest, Message, Ping
from tests.aed.wire.strategies import MESSAGES, VALUES


class Pair(Record):
    first: u8
    second: str


class Nothing(Record):
    pass


def test_bytes_of_a_record() -> None:
    assert Pair(first=7, second="é").encode() == b"\x07\x00\x00\x00\x02\xc3\xa9"
    assert Nothing().encode() == b""
    assert Nothing.decode(b"") == Nothing()


@given(MESSAGES)
def test_every_message_comes_back(message: Message) -> None:
    assert type(message).decode(message.encode()) == message


@given(MESSAGES)
def test_a_message_cut_anywhere_or_followed_by_anything_is_refused(message: Message) -> None:
    payload = message.encode()
    for end in range(len(payload)):
        with pytest.raises(RemoteError):
            type(message).decode(payload[:end])
    with pytest.raises(RemoteError, match="1 bytes after the end"):
        type(message).decode(payload + b"\0")


@given(st.sampled_from(list(BY_CODE.values())), st.binary(max_size=200))
def test_what_is_accepted_is_canonical(kind: type[Message], payload: bytes) -> None:
    """Two encodings of one value would let a signed hash say one thing and mean another."""
    try:
        message = kind.decode(payload)
    except RemoteError:
        return
    assert message.encode() == payload


def test_strategies_know_every_field_type() -> None:
    assert set(VALUES) == set(CODECS)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_integers_at_their_edges(size: int) -> None:
    encode, decode = CODECS[f"u{8 * size}"]
    most = (1 << 8 * size) - 1
    assert (encode(0), encode(most)) == (bytes(size), b"\xff" * size)
    assert decode(b"\xff" * size, 0) == (most, size)
    wrong: list[Any] = [-1, most + 1, "1", None, 1.0]
    for value in wrong:
        with pytest.raises(LocalError):
            encode(value)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\0"])
def test_text_that_may_not_be_sent(text: str) -> None:
    with pytest.raises(LocalError):
        Pair(first=0, second=text).encode()


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"a\0b", b"\xf4\x90\x80\x80"])
def test_text_that_may_not_come(raw: bytes) -> None:
    with pytest.raises(RemoteError):
        Pair.decode(b"\0" + len(raw).to_bytes(4, "big") + raw)


@pytest.mark.parametrize("byte", [2, 255])
def test_a_flag_is_0_or_1(byte: int) -> None:
    encode, decode = CODECS["bool"]
    assert (encode(False), encode(True)) == (b"\0", b"\1")
    with pytest.raises(RemoteError):
        decode(bytes([byte]), 0)
    with pytest.raises(RemoteError):
        decode(b"", 0)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x04"])
def test_a_string_longer_than_the_message_takes_no_memory(length: bytes) -> None:
    with pytest.raises(RemoteError, match="ends inside a string"):
        Pair.decode(b"\0" + length + b"abc")


@pytest.mark.parametrize("kind", ["tuple[u16, ...]", "tuple[str, ...]", "tuple[bytes, ...]"])
def test_lists_have_a_cap(kind: str) -> None:
    encode, decode = CODECS[kind]
    item: Any = {"tuple[u16, ...]": 7, "tuple[str, ...]": "x", "tuple[bytes, ...]": b"x"}[kind]
    full = encode((item,) * MAX_ITEMS)
    assert decode(full, 0) == ((item,) * MAX_ITEMS, len(full))
    with pytest.raises(LocalError):
        encode((item,) * (MAX_ITEMS + 1))
    for count in (MAX_ITEMS + 1, 0xFFFF):
        with pytest.raises(RemoteError):
            decode(count.to_bytes(2, "big") + full[2:] * 70, 0)
    with pytest.raises(RemoteError):
        decode(b"\0", 0)


def test_records_are_frozen_and_checked_when_made() -> None:
    ping = Ping(cookie=1)
    with pytest.raises(AttributeError):
        ping.cookie = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="needs cookie"):
        Ping()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="has no more"):
        Ping(cookie=1, more=2)  # type: ignore[call-arg]


def test_records_are_equal_by_value_and_type() -> None:
    class Other(Record):
        cookie: u64

    assert Ping(cookie=1) == Ping(cookie=1) != Ping(cookie=2)
    assert Ping(cookie=1) != Other(cookie=1)
    assert len({Ping(cookie=1), Ping(cookie=1), Ping(cookie=2)}) == 2
    request = AuthRequest(user="a", named=True, groups=("x",), mechanism="local", data=b"")
    assert "user='a'" in repr(request)
