"""The audit record: one JSON line for each event, to a file or to the journal. No record, no login.

Lives here: `Audit`. Must not live here: what is worth recording, logging for debugging.

Each record is one write with O_APPEND, so that all processes of a node share the file without a lock. `Unavailable` is the caller's signal
to refuse what could not be recorded.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from aed.errors import LocalError, Misconfigured, Unavailable

JOURNAL_SOCKET = "/run/systemd/journal/socket"

_LIMIT = 1024
"""Characters of one text, and items of one list: what comes from the network must not fill the disk."""
_LIST_LIMIT = 4096
"""Characters of all texts of one list together."""
_OWN_FIELDS = frozenset({"time", "event", "node", "session"})
_JOURNAL_SECONDS = 5.0
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _now() -> datetime:
    return datetime.now(UTC)


class Audit:
    """Writes records to `destination`: `file:PATH` or `journal`. Opens it at once and raises `Unavailable` if that fails."""

    def __init__(
        self, destination: str, *, node: str, session: str = "", now: Callable[[], datetime] = _now, journal_socket: str = JOURNAL_SOCKET
    ) -> None:
        self._node = node
        self._session = session
        self._now = now
        self._sink: _File | _Journal
        if destination == "journal":
            self._sink = _Journal(journal_socket)
        elif destination.startswith("file:/"):
            self._sink = _File(destination.removeprefix("file:"))
        else:
            raise Misconfigured(f'audit destination {destination!a} is neither "file:/PATH" nor "journal"')

    def for_session(self, session: str) -> Audit:
        """The same record with the name of a session in each event."""
        other = object.__new__(Audit)
        other._node, other._session, other._now, other._sink = self._node, session, self._now, self._sink
        return other

    def record(self, event: str, **fields: object) -> None:
        """Write one record. Raises `Unavailable` unless all of it was taken."""
        taken = _OWN_FIELDS & fields.keys()
        if taken:
            raise LocalError(f"audit fields {', '.join(sorted(taken))} are set by the record itself")
        time = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        values = {"time": time, "event": event, "node": self._node, "session": self._session}
        self._sink.write({**values, **{key: _capped(value) for key, value in fields.items()}})

    def close(self) -> None:
        """Close the descriptor; a later record opens it again."""
        self._sink.close()


def _capped(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key)[:_LIMIT]: _capped(inner) for key, inner in list(value.items())[:_LIMIT]}
    if isinstance(value, list | tuple | set | frozenset):
        return _capped_list((sorted(value, key=str) if isinstance(value, set | frozenset) else value)[:_LIMIT])
    return str(value)[:_LIMIT]


def _capped_list(items: Sequence[object]) -> list[object]:
    kept: list[object] = []
    room = _LIST_LIMIT
    for item in items:
        capped = _capped(item)
        room -= len(capped) if isinstance(capped, str) else 1
        if room < 0:
            return [*kept, "…"]
        kept.append(capped)
    return kept


class _File:
    """A file that others append to as well, and that may be rotated at any time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._open()

    def write(self, record: Mapping[str, object]) -> None:
        # ASCII escapes keep it one line, whatever separators or lone surrogates a name holds.
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            self._follow_rotation()
            if not self._ends_whole():
                line = b"\n" + line
            written = os.write(self._fd, line)
        except OSError as error:
            raise Unavailable(f"cannot write the audit record {self._path}: {error.strerror}; without it nobody may log in") from error
        if written != len(line):
            raise Unavailable(f"only a part of an audit record fitted into {self._path}; make room there, without it nobody may log in")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        try:
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(self._path), 0o750)
            self._fd = os.open(self._path, _FLAGS, 0o640)
            regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError as error:
            raise Unavailable(f"cannot open the audit record {self._path}: {error.strerror}; make its directory, owned by root") from error
        if not regular:
            self.close()
            raise Unavailable(f"the audit record {self._path} is not a regular file; name another or remove it")

    def _follow_rotation(self) -> None:
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path, follow_symlinks=False), os.fstat(self._fd)):
                    return
            self.close()
        self._open()

    def _ends_whole(self) -> bool:
        """Whether the last line is whole. After a full disk it may not be, and a record glued to half of another would be lost."""
        size = os.fstat(self._fd).st_size
        return size == 0 or os.pread(self._fd, 1, size - 1) == b"\n"


class _Journal:
    """journald's native protocol: one datagram a record, one field a line."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        if not os.path.exists(path):
            raise Unavailable(f"the journal's socket {path} is not there; start systemd-journald, or record to a file")

    def write(self, record: Mapping[str, object]) -> None:
        message = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
        fields = {"MESSAGE": message, "SYSLOG_IDENTIFIER": "aed", "PRIORITY": "5"}
        for key, value in record.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
            fields[f"AED_{key.upper()}"] = text
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                # A journal that hangs must not hang every login for good.
                self._socket.settimeout(_JOURNAL_SECONDS)
            self._socket.sendto(b"".join(_field(key, text) for key, text in fields.items()), self._path)
        except OSError as error:
            raise Unavailable(f"cannot write to the journal {self._path}: {error.strerror or error}; without it nobody may log in") from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _field(key: str, text: str) -> bytes:
    # The length form, always: a newline in a value can then begin no field of its own.
    value = text.encode(errors="backslashreplace")
    return key.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
