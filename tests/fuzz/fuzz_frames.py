"""atheris: the frame decoder. The first bytes say how the rest is cut; whole and cut must give the same, and nothing but RemoteError may come out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz import engine

with engine.instrumented():
    from aed.errors import RemoteError
    from aed.wire.frames import MAX_CONTROL, Decoder, Frame, Piece


def decode(parts: list[bytes]) -> tuple[list[tuple[object, ...]], bool]:
    """The items, with streams byte by byte, and whether the stream was refused."""
    decoder = Decoder()
    found: list[tuple[object, ...]] = []
    for part in parts:
        try:
            items: list[Frame | Piece] = decoder.feed(memoryview(part))
        except RemoteError:
            return found, True
        for item in items:
            if isinstance(item, Frame):
                assert len(item.payload) <= MAX_CONTROL
                found.append((item.kind, item.channel, item.payload))
            else:
                found += [(item.channel, item.offset + at, byte) for at, byte in enumerate(item.data)]
    return found, False


def one(data: bytes) -> None:
    step, stream = 1 + int.from_bytes(data[:1], "big"), data[1:]
    cut, also = decode([stream[at : at + step] for at in range(0, len(stream), step)])
    whole, refused = decode([stream])
    assert refused == also
    assert whole == cut[: len(whole)]
    assert refused or whole == cut


def seeds() -> Iterator[bytes]:
    for case in [*engine.vectors("frames.json")["good"], *engine.vectors("frames.json")["refused"]]:
        yield b"\x02" + bytes.fromhex(case["stream"])
    for side in ("client", "node"):
        yield b"\xff" + engine.session_bytes(side)


if __name__ == "__main__":
    engine.run(one, seeds())
