"""Field types of control messages and the base class that turns annotations into an encoding (PROTOCOL.md, "Fields").

Lives here: encoding of values. Must not live here: which messages exist (`messages.py`) or when they are legal (`states.py`).
No `typing` or `dataclasses` at run time: together they cost a one-shot client 30 ms.
"""

from __future__ import annotations

from aed.errors import LocalError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform

    Encoder = Callable[[Any], bytes]
    Decoder = Callable[[bytes, int], tuple[Any, int]]
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


u8 = int
u16 = int
u32 = int
u64 = int

MAX_ITEMS = 1024


def _integer(size: int) -> tuple[Encoder, Decoder]:
    def encode(value: int) -> bytes:
        try:
            return value.to_bytes(size, "big")
        except (OverflowError, AttributeError):
            raise LocalError(f"{value!r} does not fit in {size} bytes") from None

    def decode(data: bytes, at: int) -> tuple[int, int]:
        end = at + size
        if end > len(data):
            raise RemoteError("message ends inside an integer")
        return int.from_bytes(data[at:end], "big"), end

    return encode, decode


def _encode_bytes(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _decode_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 4
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise RemoteError("message ends inside a string")
    return bytes(data[start:end]), end


def _encode_text(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise LocalError("text is not valid Unicode") from None
    if "\0" in value:
        raise LocalError("text holds a NUL")
    return _encode_bytes(raw)


def _decode_text(data: bytes, at: int) -> tuple[str, int]:
    raw, end = _decode_bytes(data, at)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise RemoteError("text is not UTF-8") from None
    if "\0" in text:
        raise RemoteError("text holds a NUL")
    return text, end


def _encode_flag(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def _decode_flag(data: bytes, at: int) -> tuple[bool, int]:
    raw = data[at : at + 1]
    if raw not in (b"\0", b"\1"):
        raise RemoteError("a flag is neither 0 nor 1, or missing")
    return raw == b"\1", at + 1


def _sequence(item: tuple[Encoder, Decoder]) -> tuple[Encoder, Decoder]:
    encode_item, decode_item = item

    def encode(values: tuple[Any, ...]) -> bytes:
        if len(values) > MAX_ITEMS:
            raise LocalError(f"more than {MAX_ITEMS} items in a list")
        return len(values).to_bytes(2, "big") + b"".join(map(encode_item, values))

    def decode(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        start = at + 2
        count = int.from_bytes(data[at:start], "big")
        if start > len(data) or count > MAX_ITEMS:
            raise RemoteError(f"a list is cut off or has more than {MAX_ITEMS} items")
        at = start
        values = []
        for _ in range(count):
            value, at = decode_item(data, at)
            values.append(value)
        return tuple(values), at

    return encode, decode


_text = (_encode_text, _decode_text)
_bytes = (_encode_bytes, _decode_bytes)

CODECS: dict[str, tuple[Encoder, Decoder]] = {
    "u8": _integer(1),
    "u16": _integer(2),
    "u32": _integer(4),
    "u64": _integer(8),
    "bool": (_encode_flag, _decode_flag),
    "str": _text,
    "bytes": _bytes,
    "tuple[u16, ...]": _sequence(_integer(2)),
    "tuple[str, ...]": _sequence(_text),
    "tuple[bytes, ...]": _sequence(_bytes),
}


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """A frozen value whose annotated fields are encoded in order. Used for control messages and for the data of mechanisms."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[tuple[str, Encoder, Decoder], ...]]
    _fields = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple((name, *CODECS[kind]) for name, kind in cls.__annotations__.items()) if "__annotations__" in cls.__dict__ else ()

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            put = self.__dict__
            for name, _, _ in self._fields:
                try:
                    put[name] = values.pop(name)
                except KeyError:
                    raise TypeError(f"{type(self).__name__} needs {name}") from None
            if values:
                raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__.values())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"

    def encode(self) -> bytes:
        """The fields as bytes. Raises `LocalError` where a value does not fit its type."""
        values = self.__dict__
        return b"".join([encode(values[name]) for name, encode, _ in self._fields])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The value in `data`, all of it. Raises `RemoteError` where it is cut off, malformed or followed by more bytes."""
        record = cls.__new__(cls)
        put = record.__dict__
        at = 0
        for name, _, decode in cls._fields:
            put[name], at = decode(data, at)
        if at != len(data):
            raise RemoteError(f"{len(data) - at} bytes after the end of {cls.__name__}")
        return record
