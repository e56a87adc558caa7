"""The record format, written out by hand: what a master or a worker in another language would send."""

from __future__ import annotations

import pytest

from aeclient import records
from aed.errors import LocalError, RemoteError


def test_bytes_of_a_record_and_of_a_message() -> None:
    assert records.pack_record(records.MESSAGE, 7, b"hi") == bytes.fromhex("00000007 00 00000007 6869")
    assert records.pack_record(records.STARTED, records.ALL_WORKERS) == bytes.fromhex("00000005 01 ffffffff")
    assert records.pack_message(b"hi") == bytes.fromhex("00000002 6869")
    assert records.pack_status(-9, "é") == bytes.fromhex("fffffff7 c3a9")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_any_cut_gives_the_same_records(size: int) -> None:
    wanted = [(0, 1, b""), (2, 3, b"x" * 300), (0, 0xFFFFFFFE, bytes(range(256)))]
    raw = b"".join(records.pack_record(*record) for record in wanted)
    decoder = records.RecordDecoder()
    found: list[tuple[int, int, bytes]] = []
    for at in range(0, len(raw), size):
        found.extend(decoder.feed(raw[at : at + size]))
    assert found == wanted
    assert not decoder.inside


def test_cut_record_is_noticed() -> None:
    decoder = records.RecordDecoder()
    assert list(decoder.feed(records.pack_record(0, 1, b"abc")[:-1])) == []
    assert decoder.inside


def test_too_long_and_too_short_are_refused() -> None:
    with pytest.raises(RemoteError, match="longer than"):
        list(records.RecordDecoder().feed((records.CAP + 6).to_bytes(4, "big")))
    with pytest.raises(RemoteError, match="at least 5 bytes"):
        list(records.RecordDecoder().feed(bytes.fromhex("00000004 00000000")))
    with pytest.raises(RemoteError, match="longer than"):
        list(records.MessageDecoder().feed(b"\xff\xff\xff\xff"))
    with pytest.raises(RemoteError, match="at least 4 bytes"):
        records.unpack_status(b"abc")
    with pytest.raises(LocalError, match="in parts"):
        records.pack_message(bytes(records.CAP + 1))


def test_longest_payload_passes() -> None:
    payload = bytes(records.CAP)
    assert list(records.RecordDecoder().feed(records.pack_record(0, 1, payload))) == [(0, 1, payload)]
