"""The lines of the keys in a TOML text, for messages: `tomllib` does not keep them.

Lives here: `lines`. Must not live here: any reading of values; tomllib has already accepted the text.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?([^\]]*)\]")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_KEY = re.compile(rf"\s*((?:{_PART.pattern})(?:\s*\.\s*(?:{_PART.pattern}))*)\s*=")


def lines(text: str) -> dict[tuple[str, ...], int]:
    """Where each table and key first stands. Keys of inline tables are not found."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            path = table = _parts(header.group(1))
        elif key := _KEY.match(line):
            path = table + _parts(key.group(1))
        else:
            continue
        for depth in range(1, len(path) + 1):
            found.setdefault(path[:depth], number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
