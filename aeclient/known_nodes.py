"""The nodes whose identity this user trusts: `known_nodes` beside `client.toml`, as ssh's known_hosts, and the sentences about it.

Lives here: names of nodes, the file, fingerprints, texts. Must not live here: printing, asking, certificates' contents (a DER certificate is opaque).
Each line is `NAME BASE64(DER identity certificate)`; `#` begins a comment line. NAME is `host:port`,
`[IPv6]:port`, the path of a Unix socket or `via:COMMAND` (percent-coded).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re

from aeclient.config import check_private, directory
from aeclient.target import Target
from aed.errors import Misconfigured, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNSAFE = rb"[^A-Za-z0-9_./:@=+-]"


def name_of(target: Target) -> str:
    """The name that a target is known by: where it is, however it is reached; the command itself where only that is known."""
    if not target.host:
        return "via:" + re.sub(_UNSAFE, lambda found: b"%%%02X" % found.group()[0], (target.via or "").encode()).decode()
    if target.host.startswith("/"):
        return target.host
    if target.host.startswith("/"):
        return "unix:" + re.sub(_UNSAFE, lambda found: b"%%%02X" % found.group()[0], target.host.encode()).decode()
    host = target.host.lower()
    return f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"


def path() -> str:
    """The user's file."""
    return os.path.join(directory(), "known_nodes")


def fingerprint(der: bytes) -> str:
    """`SHA256:…` of a certificate, in the form that ssh uses for keys."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def lookup(name: str, file: str | None = None) -> bytes | None:
    """The pinned identity certificate of a node. Any malformed line is a fault: it could be the one that pins this node."""
    return _entries(file or path()).get(name)


def add(name: str, der: bytes, file: str | None = None) -> None:
    """Pin a node that is not known yet. Another identity already pinned under that name is never replaced here."""

    def edit(text: str, where: str) -> str:
        pinned = _parse(text, where).get(name)
        if pinned is not None and pinned != der:
            raise Misconfigured(changed(name, pinned, der, where))
        return text if pinned is not None else _ended(text) + line(name, der)

    _edit(file or path(), edit)


def replace(name: str, der: bytes, file: str | None = None) -> None:
    """Pin a node, whatever was pinned under that name."""
    _edit(file or path(), lambda text, _: _ended(_without(text, name)) + line(name, der))


def forget(name: str, file: str | None = None) -> bool:
    """Remove a node; False if it was not known."""
    where = file or path()
    known = os.path.exists(where) and name in _entries(where)
    if known:
        _edit(where, lambda text, _: _without(text, name))
    return known


def line(name: str, der: bytes) -> str:
    """The line that pins a node. Raises `Misconfigured` for what no file could be read with again."""
    if not _is_one_sequence(der):
        raise Misconfigured(f"{name}: what it gives as its identity is no certificate; it was not pinned")
    return f"{name} {base64.b64encode(der).decode()}\n"


def first_use(name: str, der: bytes) -> str:
    """The question on a terminal when a node is not known."""
    return (
        f"{name} is not known yet. Its identity is\n  {fingerprint(der)}\n"
        "Compare it with what the node's administrator published; whoever holds this identity sees what you send.\n"
        "Trust it from now on (yes/no)? "
    )


def refused_in_batch(name: str, der: bytes, file: str | None = None) -> str:
    """The refusal of an unknown node where nobody can be asked."""
    return (
        f"{name} is not known (its identity is {fingerprint(der)}) and there is no terminal to ask on; "
        f"use --accept-new to trust it now, or add the line to {file or path()}:\n{line(name, der)}"
    )


def changed(name: str, pinned: bytes, offered: bytes, file: str | None = None) -> str:
    """The refusal of a node whose identity is not the pinned one."""
    where = file or path()
    number = next((at for at, words in _lines(_read(where)) if words[0] == name), 1)
    return (
        f"{name} is not the node it was: its identity has changed, or somebody is in between. Nothing was sent to it.\n"
        f"  known:   {fingerprint(pinned)}\n  offered: {fingerprint(offered)}\n"
        f"If its administrator confirms the new identity, remove line {number} of {where} and connect again."
    )


def _entries(where: str) -> dict[str, bytes]:
    return _parse(_read(where), where)


def _read(where: str) -> str:
    try:
        with open(where, "rb") as file:
            check_private(where, os.fstat(file.fileno()))
            return file.read().decode(errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Misconfigured(f"{where}:1: cannot be read: {error.strerror}") from None


def _lines(text: str) -> list[tuple[int, list[str]]]:
    numbered = ((number, each.split()) for number, each in enumerate(text.split("\n"), 1))
    return [(number, words) for number, words in numbered if words and not words[0].startswith("#")]


def _parse(text: str, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, words in _lines(text):
        try:
            name, encoded = words
            der = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise Misconfigured(f"{where}:{number}: is not 'NAME BASE64'; correct or remove it") from None
        if not _is_one_sequence(der):
            raise Misconfigured(f"{where}:{number}: {name}: holds no whole DER certificate; remove the line and connect again")
        if found.setdefault(name, der) != der:
            raise Misconfigured(f"{where}:{number}: {name}: is pinned twice with different identities; remove the wrong one")
    return found


def _is_one_sequence(der: bytes) -> bool:
    """Whether the bytes are one DER SEQUENCE to the last byte: it catches a truncated line without a parser of certificates."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    octets = der[1] & 0x7F
    return len(der) == 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _without(text: str, name: str) -> str:
    return "\n".join(each for each in text.split("\n") if each.split()[:1] != [name])


def _edit(where: str, change: Callable[[str, str], str]) -> None:
    """Change the file as a whole: readers see the old or the new one, and no two writers lose each other's lines."""
    import fcntl

    where = os.path.realpath(where)
    try:
        os.makedirs(os.path.dirname(where), mode=0o700, exist_ok=True)
        while True:
            lock = os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # the writer before us has put a new file in its place: lock that one
                if os.path.exists(where) and os.path.samestat(os.fstat(lock), os.stat(where)):
                    _put(where, change(_read(where), where))
                    return
            finally:
                os.close(lock)
    except OSError as error:
        raise Unavailable(f"{where} cannot be written ({error.strerror}); the node is not remembered") from None


def _put(where: str, text: str) -> None:
    new = f"{where}.{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(new, where)
