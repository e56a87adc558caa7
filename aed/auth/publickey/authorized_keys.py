"""authorized_keys as sshd(8) describes it: which line names a key, and what its options forbid or force.

Lives here: the parser, failing closed: a line with an option that is unknown, malformed or not enforceable here matches no key.
Must not live here: reading of files, signatures. Runs in the checker, on text that the account's owner wrote.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aed.auth.publickey.addresses import permits

MAX_LINE = 8192
MAX_ENVIRONMENT = 64
MAX_REASONS = 4

_FLAG = re.compile(r"(no-)?(pty|port-forwarding|agent-forwarding|x11-forwarding|user-rc|touch-required)", re.IGNORECASE)
# Only \" is an escape, as in sshd. The three ways exclude each other: a backtrack could take an escaped quote for the closing one.
_VALUED = re.compile(r'([A-Za-z0-9-]+)="((?:\\"|[^"\\]|\\(?!"))*)"')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_EXPIRY = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?(Z?)")


class BadLine(ValueError):
    """A line that matches no key; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a line's options come to. `expiry`: seconds since the epoch."""

    command: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    pty: bool = True
    port_forwarding: bool = True
    agent_forwarding: bool = True
    sources: str | None = None
    expiry: float | None = None


@dataclass(frozen=True, kw_only=True)
class Match:
    """The line that permits a key, and where it is."""

    source: str
    line: int
    options: Options


def find(files: list[tuple[str, bytes]], key: bytes, peer: str, now: float) -> tuple[Match | None, list[str]]:
    """The first line that names `key` and permits its use by `peer` at `now`; and why lines before it that name the key do not."""
    encoded = binascii.b2a_base64(key, newline=False)
    reasons: list[str] = []
    for source, text in files:
        if encoded not in text:
            continue
        for number, line in enumerate(text.split(b"\n"), 1):
            if encoded not in line or line.lstrip(b" \t").startswith(b"#"):
                continue
            try:
                options = _line(line, encoded, key)
                _permit(options, peer, now)
            except BadLine as error:
                if len(reasons) < MAX_REASONS:
                    reasons.append(f"{source}:{number}: {error}")
                continue
            return Match(source=source, line=number, options=options), reasons
    return None, reasons


def _permit(options: Options, peer: str, now: float) -> None:
    reason = permits(options.sources, peer) if options.sources is not None else None
    if reason is not None:
        raise BadLine(reason)
    if options.expiry is not None and now > options.expiry:
        raise BadLine("expiry-time has passed")


def _line(line: bytes, encoded: bytes, key: bytes) -> Options:
    """The options of a line that names the key, which is `[options] type base64 [comment]`."""
    if len(line) > MAX_LINE:
        raise BadLine(f"longer than {MAX_LINE} bytes")
    kind = key[4 : 4 + int.from_bytes(key[:4], "big")]
    line = line.strip(b" \t\r")
    words = line.split(None, 2)
    if words[:2] == [kind, encoded]:
        return Options()
    end = _options_end(line)
    words = line[end:].split(None, 2)
    if words[:2] != [kind, encoded]:
        raise BadLine("the key is not where it should be, or is named with another type")
    try:
        text = line[:end].decode()
    except UnicodeDecodeError:
        raise BadLine("options are not UTF-8") from None
    if not text.isprintable():
        raise BadLine("options hold control characters")
    return _parse(text)


def _options_end(line: bytes) -> int:
    """The offset of the first blank outside quotes."""
    quoted = False
    at = 0
    while at < len(line) and (quoted or line[at] not in b" \t"):
        if line[at : at + 2] == b'\\"':
            at += 1
        elif line[at : at + 1] == b'"':
            quoted = not quoted
        at += 1
    if quoted:
        raise BadLine("a quote is not closed")
    return at


def _parse(text: str) -> Options:
    options = Options()
    seen: set[str] = set()
    while True:
        flag, valued = _FLAG.match(text), _VALUED.match(text)
        if valued:
            name = valued[1].lower()
            if name in seen and name != "environment":
                raise BadLine(f"{name}= is there twice")
            seen.add(name)
            options = _valued(options, name, valued[2].replace('\\"', '"'))
            text = text[valued.end() :]
        elif flag:
            options = _flag(options, flag[2].lower(), not flag[1])
            text = text[flag.end() :]
        elif text[:8].lower() == "restrict":
            options = replace(options, pty=False, port_forwarding=False, agent_forwarding=False)
            text = text[8:]
        else:
            raise BadLine(_unknown(text))
        if not text:
            return options
        if not text.startswith(","):
            raise BadLine(f"no comma before {ascii(text)[:40]}")
        text = text[1:]


def _unknown(text: str) -> str:
    name = re.split(r'[=,"]', text, maxsplit=1)[0].lower()
    if name == "cert-authority":
        return "cert-authority is not supported yet"
    if name == "verify-required":
        return "verify-required needs a security key, which is not supported yet"
    return f"unknown or malformed option {ascii(text)[:40]}"


def _flag(options: Options, name: str, value: bool) -> Options:
    if name == "pty":
        return replace(options, pty=value)
    if name == "port-forwarding":
        return replace(options, port_forwarding=value)
    if name == "agent-forwarding":
        return replace(options, agent_forwarding=value)
    return options  # x11-forwarding, user-rc, touch-required: there is nothing here that they could allow or forbid.


def _command(options: Options, value: str) -> Options:
    return replace(options, command=value)


def _from(options: Options, value: str) -> Options:
    return replace(options, sources=value)


def _environment(options: Options, value: str) -> Options:
    name, equals, content = value.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise BadLine("environment= is not NAME=value")
    if len(options.environment) >= MAX_ENVIRONMENT:
        raise BadLine(f"more than {MAX_ENVIRONMENT} environment=")
    if any(known == name for known, _ in options.environment):
        return options  # The first one counts, as in sshd.
    return replace(options, environment=(*options.environment, (name, content)))


def _expiry(options: Options, value: str) -> Options:
    match = _EXPIRY.fullmatch(value)
    if not match:
        raise BadLine("expiry-time= is not YYYYMMDD[HHMM[SS]][Z]")
    year, month, day, hour, minute, second = (int(digits or 0) for digits in match.groups()[:6])
    try:
        seconds = datetime(year, month, day, hour, minute, second, tzinfo=UTC if match[7] else None).timestamp()
    except (ValueError, OverflowError):
        raise BadLine("expiry-time= is no date") from None
    return replace(options, expiry=seconds)


def _fewer_ports(options: Options, _: str) -> Options:
    """Forwarding to some ports only cannot be expressed here, so there is none."""
    return replace(options, port_forwarding=False)


def _unsupported(_: Options, value: str) -> Options:
    raise BadLine("principals= belongs to cert-authority, which is not supported yet")


_VALUES: dict[str, Callable[[Options, str], Options]] = {
    "command": _command,
    "environment": _environment,
    "expiry-time": _expiry,
    "from": _from,
    "permitlisten": _fewer_ports,
    "permitopen": _fewer_ports,
    "principals": _unsupported,
}


def _valued(options: Options, name: str, value: str) -> Options:
    apply = _VALUES.get(name)
    if apply is None:
        raise BadLine(f"unknown option {name}=")
    return apply(options, value)
