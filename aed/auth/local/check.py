"""Checker side of `local`: there is nothing to parse, so nothing is accepted.

Lives here: that refusal. Must not live here: anything else.
"""

from __future__ import annotations

from typing import Any

from aed.errors import Declined


def check(question: dict[str, Any]) -> dict[str, Any]:
    """Nobody asks; whoever does is refused."""
    raise Declined("local has nothing to check")
