"""Reading a TOML file together with the line on which each key stands (tomllib does not tell).

Lives here: `Document`, `read`. Must not live here: what any key means.

The scanner only runs over text that tomllib has accepted, so it may be simple: it follows headers, keys, multi-line strings and brackets.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aed.config.option import Fault

Path = tuple[str | int, ...]

_LIMIT = 16 << 20
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|\n|[\[\]{}]|=|[^\"'#\n\[\]{}=]+",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed file. `line(path)` is where `path` stands, or the nearest table around it; members of [[x]] have their index in the path."""

    file: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, what: str) -> Fault:
        """A fault at `path`."""
        key = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{_shown(part)}" for part in path).lstrip(".")
        return Fault(file=self.file, line=self.line(path), key=key, what=what)


def read(file: str) -> Document | Fault:
    """The document in `file`, or the one fault that kept it from being read."""
    try:
        with open(file, "rb") as stream:
            raw = stream.read(_LIMIT + 1)
    except OSError as error:
        return Fault(file=file, line=0, key="file", what=f"cannot be read ({error.strerror}); name a readable TOML file")
    if len(raw) > _LIMIT:
        return Fault(file=file, line=0, key="file", what="is larger than 16 MiB; a configuration is smaller")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Fault(file=file, line=raw.count(b"\n", 0, error.start) + 1, key="file", what="is not UTF-8 here; save it as UTF-8")
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = _AT_LINE.search(str(error))
        line = int(where[1]) if where and where[1] else text.count("\n") + 1
        return Fault(file=file, line=line, key="file", what=f"is not TOML: {_AT_LINE.sub('', str(error))}; correct this line")
    except RecursionError:
        return Fault(file=file, line=0, key="file", what="is nested too deeply; write flat tables")
    return Document(file=file, data=data, lines=dict(_scan(text)))


def _shown(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else ascii(part)


def _scan(text: str) -> Iterator[tuple[Path, int]]:
    """Each header and key with its line. A statement ends at a newline outside of brackets and strings."""
    table: Path = ()
    counts: dict[Path, int] = {}
    for line, head, is_key in _statements(text):
        if is_key:
            yield (*table, *_parts(head)), line
        elif head.startswith("[["):
            path = _numbered(_parts(head[2:-2]), counts)
            index = counts.get(path, 0)
            counts[path] = index + 1
            table = (*path, index)
            yield table, line
        else:
            table = _numbered(_parts(head[1:-1]), counts)
            yield table, line


def _statements(text: str) -> Iterator[tuple[int, str, bool]]:
    line, start, depth, head, has_value = 1, 1, 0, "", False
    for piece in _PIECE.findall(text + "\n"):
        if piece == "\n" and (depth == 0 or not has_value):
            if head.strip() and not has_value:
                yield start, head.strip(), False
            head, has_value, depth, start = "", False, 0, line + 1
        elif piece == "=" and not has_value:
            yield start, head.strip(), True
            has_value = True
        elif has_value:
            depth += (piece in ("[", "{")) - (piece in ("]", "}"))
        elif not piece.startswith("#"):
            head += piece
        line += piece.count("\n")


def _parts(key: str) -> tuple[str, ...]:
    """The names in a dotted, perhaps quoted key; tomllib itself undoes the quoting."""
    node: Any = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(node, dict):
        ((name, node),) = node.items()
        parts.append(name)
    return tuple(parts)


def _numbered(parts: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """`parts` with the index of the last member put behind each array of tables on the way, as `[fruit.skin]` means the last `[[fruit]]`."""
    path: Path = ()
    for place, part in enumerate(parts):
        path = (*path, part)
        if path in counts and place < len(parts) - 1:
            path = (*path, counts[path] - 1)
    return path
