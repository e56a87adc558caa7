"""Hypothesis strategies for the protocol: values of each field type, any message, any cut of a byte stream.

Lives here: generation. Must not live here: assertions.
"""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import strategies as st

from aed.wire import frames
from aed.wire.codec import Record
from aed.wire.messages import BY_CODE, PER_CHANNEL, Data, Message

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
BYTES = st.binary(max_size=40)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{f"u{bits}": st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
    "bool": st.booleans(),
    "str": TEXT,
    "bytes": BYTES,
    "tuple[u16, ...]": st.lists(st.integers(0, 65535), max_size=5).map(tuple),
    "tuple[str, ...]": st.lists(TEXT, max_size=5).map(tuple),
    "tuple[bytes, ...]": st.lists(BYTES, max_size=5).map(tuple),
}
CONTROL = [kind for kind in BY_CODE.values() if kind is not Data]


def records(kind: type[Record]) -> st.SearchStrategy[Any]:
    """Any value of a record."""
    return st.builds(kind, **{name: VALUES[form] for name, form in inspect.get_annotations(kind).items()})


MESSAGES: st.SearchStrategy[Message] = st.sampled_from(list(BY_CODE.values())).flatmap(records)
CONTROL_MESSAGES: st.SearchStrategy[Message] = st.sampled_from(CONTROL).flatmap(records)


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """One good frame."""
    channel = draw(VALUES["u32"])
    if draw(st.booleans()):
        stream = draw(st.binary(min_size=1, max_size=60))
        return frames.data_header(channel, draw(st.integers(0, (1 << 63) - 1 - len(stream))), len(stream)) + stream
    message = draw(CONTROL_MESSAGES)
    return frames.encode(message, channel if message.code in PER_CHANNEL else 0)


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """`stream` in parts, as a network may deliver it."""
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
