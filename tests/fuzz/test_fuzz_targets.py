"""The atheris targets themselves, without atheris: their seeds go through, and reach what they are meant to reach."""

from __future__ import annotations

from types import ModuleType

import pytest

from aed.wire.states import CLOSED
from tests.fuzz import fuzz_exchange, fuzz_frames, fuzz_messages


@pytest.mark.parametrize("target", [fuzz_frames, fuzz_messages, fuzz_exchange], ids=lambda target: target.__name__.rpartition(".")[2])
def test_seeds(target: ModuleType) -> None:
    seeds = list(target.seeds())
    assert seeds
    for seed in [b"", b"\0", *seeds]:
        target.one(seed)
        for end in range(0, len(seed), max(1, len(seed) // 20)):
            target.one(seed[:end])


def test_the_exchanges_seeds_go_all_the_way() -> None:
    """Both ends of the recorded session come to its end: a target that stops at Hello finds nothing."""
    assert [fuzz_exchange.converse(seed).state for seed in fuzz_exchange.seeds()] == [CLOSED, CLOSED]
