"""Hostile streams: whatever the bytes and their cuts, the frame decoder gives items or a RemoteError, and holds no more than one control frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aed.errors import RemoteError
from aed.wire.frames import HEADER, MAX_CONTROL, OFFSET, Decoder, Frame
from aed.wire.messages import BY_CODE
from tests.aed.wire.strategies import cut, framed

CODES = st.sampled_from([*BY_CODE, 0x16, 0, 0xFFFF]) | st.integers(0, 65535)
SIZES = st.sampled_from([0, 1, 7, 8, 9, 65535, 65536, 65537, 262144, 262152, 262153, 0xFFFFFFFF]) | st.integers(0, 100)
HEADERS = st.builds(HEADER.pack, SIZES, CODES, st.sampled_from([0, 1, 0xFFFFFFFF]))
PARTS = framed() | HEADERS | st.binary(max_size=30) | st.sampled_from([OFFSET.pack((1 << 63) - 1), bytes(65536)])
STREAMS = st.lists(PARTS, max_size=8).map(b"".join)


@given(st.data(), STREAMS)
def test_any_stream(data: st.DataObject, stream: bytes) -> None:
    """And a cut changes neither whether it is refused nor, up to there, what it says."""

    def run(parts: list[bytes]) -> tuple[list[tuple[object, ...]], bool]:
        decoder = Decoder()
        found: list[tuple[object, ...]] = []
        for part in parts:
            try:
                items = decoder.feed(memoryview(part))
            except RemoteError:
                return found, True
            for item in items:
                if isinstance(item, Frame):
                    assert len(item.payload) <= MAX_CONTROL
                    found.append((item.kind, item.channel, item.payload))
                else:
                    found += [(item.channel, item.offset + at, byte) for at, byte in enumerate(item.data)]
            assert len(decoder._part) < MAX_CONTROL
        return found, False

    bytewise, refused = run([stream[at : at + 1] for at in range(len(stream))] if len(stream) < 3000 else [stream])
    found, also = run(data.draw(cut(stream)))
    assert also == refused
    assert found == bytewise[: len(found)]
    assert refused or found == bytewise
