"""Rings in shared memory: what is written at an offset is read at it, in both processes' maps, and an arena is what it says it is."""

from __future__ import annotations

import fcntl
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed import ring
from aed.ring import Arena, Ring

SIZES = (4096, 64, 128)


def read(source: Ring, start: int, end: int) -> bytes:
    """The bytes of [start, end), span by span."""
    out = b""
    while start < end:
        span = source.span(start, end)
        assert len(span) > 0
        out += span
        start += len(span)
    return out


@given(st.integers(1, 64), st.lists(st.binary(min_size=1, max_size=64), max_size=30), st.integers(0, 1 << 62))
def test_what_is_written_is_read(size: int, parts: list[bytes], start: int) -> None:
    """From any offset, for any ring size, whatever wraps."""
    one = Ring(memoryview(bytearray(size)))
    for part in parts:
        part = part[:size]
        one.write(start, part)
        assert read(one, start, start + len(part)) == part
        start += len(part)


@given(st.integers(1, 64), st.integers(0, 1 << 62), st.integers(0, 64))
def test_a_span_stays_inside_and_ends_at_the_wrap(size: int, start: int, length: int) -> None:
    one = Ring(memoryview(bytearray(size)))
    length = min(length, size)
    span = one.span(start, start + length)
    assert len(span) == min(length, size - start % size)


@given(st.integers(2, 64), st.integers(0, 1000), st.data())
def test_writing_touches_nothing_else(size: int, start: int, data: st.DataObject) -> None:
    memory = bytearray(b"#" * size)
    part = data.draw(st.binary(max_size=size))
    Ring(memoryview(memory)).write(start, part)
    rest = [at for at in range(size) if (at - start) % size >= len(part)]
    assert all(memory[at] == ord("#") for at in rest)


def test_two_maps_are_one_memory_and_rings_do_not_overlap() -> None:
    descriptor, ours = ring.create(SIZES)
    theirs = Arena(descriptor, SIZES)
    assert [one.size for one in theirs.rings] == list(SIZES)
    for number, one in enumerate(ours.rings):
        one.write(7, bytes([number + 1]) * one.size)
    for number, one in enumerate(theirs.rings):
        assert read(one, 7, 7 + one.size) == bytes([number + 1]) * one.size
    ours.close()
    theirs.close()
    os.close(descriptor)


def test_an_arena_cannot_change_its_size() -> None:
    """A net that could shrink it would kill its session by SIGBUS."""
    descriptor, arena = ring.create(SIZES)
    for size in (0, sum(SIZES) - 1, sum(SIZES) + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert not os.get_inheritable(descriptor)
    arena.close()
    os.close(descriptor)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW])
def test_an_arena_that_could_change_its_size_is_not_taken(seals: int) -> None:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, sum(SIZES))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(ValueError, match="not a sealed arena"):
        Arena(descriptor, SIZES)
    os.close(descriptor)


def test_an_arena_of_another_size_is_not_taken() -> None:
    descriptor, arena = ring.create(SIZES)
    with pytest.raises(ValueError, match="not a sealed arena"):
        Arena(descriptor, (*SIZES, 1))
    arena.close()
    os.close(descriptor)


def test_a_closed_arena_has_no_memory() -> None:
    descriptor, arena = ring.create(SIZES)
    one = arena.rings[0]
    arena.close()
    with pytest.raises(ValueError, match="released"):
        one.span(0, 1)
    os.close(descriptor)


def test_an_arena_in_use_is_not_unmapped() -> None:
    """A view that somebody still reads from would else be memory of something else."""
    descriptor, arena = ring.create(SIZES)
    view = arena.rings[0].span(0, 10)
    with pytest.raises(BufferError):
        arena.close()
    view.release()
    os.close(descriptor)


def test_pages_cost_nothing_until_they_are_used() -> None:
    descriptor, arena = ring.create((16 * mmap.PAGESIZE,))
    assert os.fstat(descriptor).st_blocks == 0
    arena.rings[0].write(0, b"x")
    assert os.fstat(descriptor).st_blocks > 0
    arena.close()
    os.close(descriptor)
