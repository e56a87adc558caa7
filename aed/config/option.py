"""One option: its declaration, and what a value of each kind looks like in TOML and in Python.

Lives here: `Option`, `Fault`, the kinds. Must not live here: the options of aed themselves, reading of files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

Kind = Literal["str", "bool", "int", "duration", "size", "path", "list"]

_DURATION_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB|TiB)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong, where, and what would be right. `line` 0 means that no line is to blame. A warning does not stop a start."""

    file: str
    line: int
    key: str
    what: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {'warning: ' if self.warning else ''}{self.what}"


class BadValue(Exception):
    """A value is not of its kind; the text says what is wrong and what would be right."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option, declared once. `default` is written as in the file ("120s", ("a", "b")). `check` gets the converted value and returns what is
    wrong and what would be right, or None. The key of a mechanism's option does not repeat the mechanism's section."""

    key: str
    kind: Kind
    default: str | bool | int | tuple[str, ...]
    doc: str
    check: Callable[[Any], str | None] | None = None

    def value(self, raw: object, base: str) -> Any:
        """`raw`, as TOML gave it, converted and checked; relative paths are taken from directory `base`. Raises `BadValue`."""
        value = _CONVERT[self.kind](raw)
        if self.kind == "path" and value:
            value = os.path.normpath(os.path.join(base, value))
        complaint = self.check(value) if self.check else None
        if complaint:
            raise BadValue(complaint)
        return value

    def toml(self, value: Any) -> str:
        """The converted `value` as it would be written in the file."""
        if self.kind == "duration":
            return _text(_duration_text(value))
        if self.kind == "size":
            return _text(_size_text(value)) if value else "0"
        if self.kind == "list":
            return "[" + ", ".join(_text(item) for item in value) + "]"
        if self.kind == "bool":
            return "true" if value else "false"
        return str(value) if self.kind == "int" else _text(value)


def _text(value: str) -> str:
    # No value holds a control character, so a JSON string is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)


def _found(raw: object) -> str:
    names = {str: "a string", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(raw), "a date or time")


def _string(raw: object) -> str:
    if not isinstance(raw, str):
        raise BadValue(f"is {_found(raw)}; write a string in quotes")
    if _CONTROL.search(raw):
        raise BadValue("holds a control character; write plain text")
    return raw


def _bool(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise BadValue(f"is {_found(raw)}; write true or false")
    return raw


def _int(raw: object) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise BadValue(f"is {_found(raw)}; write a whole number without quotes")
    return raw


def _duration(raw: object) -> timedelta:
    if not isinstance(raw, str) or not _DURATION.fullmatch(raw):
        raise BadValue('is not a duration; write a number with its unit in quotes, as "120s", "2m", "500ms" (units: ms, s, m, h, d)')
    return timedelta(milliseconds=sum(int(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(raw)))


def _size(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    match = _SIZE.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        raise BadValue('is not a size; write bytes as a number, or a string with its unit, as "1MiB" (units: B, KiB, MiB, GiB, TiB)')
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _list(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple):
        raise BadValue(f'is {_found(raw)}; write a list of strings, as ["a", "b"]')
    return tuple(_string(item) for item in raw)


def _duration_text(value: timedelta) -> str:
    left = value // timedelta(milliseconds=1)
    for unit in ("h", "m", "s"):
        if left and left % _DURATION_UNITS[unit] == 0:
            return f"{left // _DURATION_UNITS[unit]}{unit}"
    return f"{left}ms" if left else "0s"


def _size_text(value: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value % _SIZE_UNITS[unit] == 0:
            return f"{value // _SIZE_UNITS[unit]}{unit}"
    return f"{value}B"


_CONVERT: dict[Kind, Callable[[object], Any]] = {
    "str": _string,
    "bool": _bool,
    "int": _int,
    "duration": _duration,
    "size": _size,
    "path": _string,
    "list": _list,
}
