"""Hostile payloads: whatever the bytes, a decoder gives a value or a RemoteError, and no value has two encodings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeclient.records import MessageDecoder, RecordDecoder
from aed.auth.publickey import messages as publickey
from aed.auth.x509 import messages as x509
from aed.errors import RemoteError
from aed.session.door import Framing
from aed.wire.binding import Binding
from aed.wire.codec import Record
from aed.wire.messages import BY_CODE
from tests.aed.wire.strategies import records

KINDS: list[type[Record]] = [*BY_CODE.values(), Binding, publickey.Offer, publickey.Chosen, publickey.Proof, x509.Proof]


@st.composite
def damaged(draw: st.DrawFn, kind: type[Record]) -> bytes:
    """A good payload with some bytes changed, taken away or put in: it gets further than noise."""
    payload = bytearray(draw(records(kind)).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4) | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0", b"\x04\x01"]))
    return bytes(payload)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@given(data=st.data())
def test_any_payload_of(kind: type[Record], data: st.DataObject) -> None:
    payload = data.draw(st.binary(max_size=300) | damaged(kind))
    try:
        value = kind.decode(payload)
    except RemoteError:
        return
    assert value.encode() == payload


@given(st.binary(max_size=300) | st.sampled_from([1, 2, 3, 4]).flatmap(lambda kind: st.binary(max_size=100).map(lambda rest: bytes([kind]) + rest)))
def test_any_data_of_publickey(data: bytes) -> None:
    try:
        message = publickey.decode(data)
    except RemoteError:
        return
    assert publickey.encode(message) == data


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_stream_of_a_worker_or_a_master(parts: list[bytes]) -> None:
    """The session's follower and the client's decoder never disagree about where a stream of messages stands."""
    follower, decoder, master = Framing(), MessageDecoder(), RecordDecoder()
    faults = []
    for part in parts:
        try:
            follower.feed(memoryview(part))
        except RemoteError:
            faults.append("follower")
        try:
            list(decoder.feed(part))
        except RemoteError:
            faults.append("decoder")
        if faults:
            assert faults == ["follower", "decoder"]
            break
        assert follower.whole != decoder.inside
    try:
        for part in parts:
            list(master.feed(part))
    except RemoteError:
        pass
