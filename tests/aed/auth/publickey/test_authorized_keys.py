"""authorized_keys: sshd's own files are accepted as they are, and whatever is not understood matches no key."""

from __future__ import annotations

import binascii
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.auth.publickey.authorized_keys import MAX_LINE, Match, Options, find
from aed.auth.publickey.sshwire import string

KEY = string(b"ssh-ed25519") + string(b"p" * 32)
TEXT = b"ssh-ed25519 " + binascii.b2a_base64(KEY, newline=False)


def look(text: bytes, peer: str = "192.0.2.7", now: float = 1_800_000_000.0) -> tuple[Match | None, list[str]]:
    return find([("keys", text)], KEY, peer, now)


def options(before: bytes, **changes: float) -> Options:
    match, reasons = look(before + b" " + TEXT + b" me@home\n", **changes)  # type: ignore[arg-type]
    assert match, reasons
    return match.options


def refused(before: bytes, words: str, peer: str = "192.0.2.7") -> None:
    match, reasons = look(before + b" " + TEXT + b"\n", peer)
    assert match is None
    assert len(reasons) == 1
    assert words in reasons[0], reasons
    assert reasons[0].isprintable()


@pytest.mark.parametrize(
    "line",
    [
        TEXT,
        TEXT + b"\n",
        TEXT + b"\r\n",
        b"  \t" + TEXT + b" a comment \xff\xfe",
        TEXT + b' comment "with quote',
        b"# c\n\n  \n\t#x\n" + TEXT,
        TEXT + b"\tcomment",
    ],
)
def test_lines_without_options(line: bytes) -> None:
    match, _ = look(b"ssh-rsa AAAA other\n" + line)
    assert match
    assert match.options == Options()
    assert match.line == 1 + line.count(b"\n", 0, line.index(TEXT)) + 1


def test_first_permitting_line_of_the_first_file_counts() -> None:
    text = b'from="10.0.0.1" ' + TEXT + b"\nno-pty " + TEXT + b"\n" + TEXT
    match, reasons = find([("a", b"noise"), ("b", text), ("c", TEXT)], KEY, "192.0.2.7", 0)
    assert match == Match(source="b", line=2, options=Options(pty=False))
    assert reasons == ["b:1: from= does not list 192.0.2.7"]


@pytest.mark.parametrize("text", [b"", b"# " + TEXT, b"  #" + TEXT, TEXT[:-4], TEXT + b"AAAA", TEXT.replace(b"ssh-ed25519", b"ssh-rsa"), b"x" + TEXT])
def test_what_does_not_name_the_key(text: bytes) -> None:
    assert look(text)[0] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"no-pty", Options(pty=False)),
        (b"No-PTY,no-X11-forwarding,no-user-rc,no-touch-required", Options(pty=False)),
        (b"no-agent-forwarding", Options(agent_forwarding=False)),
        (b"no-port-forwarding,no-pty,port-forwarding", Options(pty=False)),
        (b"restrict", Options(pty=False, port_forwarding=False, agent_forwarding=False)),
        (b"restrict,pty", Options(port_forwarding=False, agent_forwarding=False)),
        (b"pty,restrict,agent-forwarding", Options(pty=False, port_forwarding=False)),
        (b'permitopen="host:80"', Options(port_forwarding=False)),
        (b'command="say \\"hi, you\\" # and go"', Options(command='say "hi, you" # and go')),
        (b'command="a\\b\\\\"', None),
        (b'command="a\\\\b"', Options(command="a\\\\b")),
        (b'command="h\xc3\xa9"', Options(command="hé")),
        (b'environment="A=1",environment="B=x=y",environment="A=2"', Options(environment=(("A", "1"), ("B", "x=y")))),
        (b'from="192.0.2.7"', Options(sources="192.0.2.7")),
    ],
)
def test_options(text: bytes, expected: Options | None) -> None:
    if expected is None:
        refused(text, "quote is not closed")
    else:
        assert options(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"frobnicate", "unknown or malformed option 'frobnicate'"),
        (b'frobnicate="x"', "unknown option frobnicate="),
        (b"no-pty,frobnicate", "unknown or malformed"),
        (b"no-restrict", "unknown or malformed"),
        (b"no-command", "unknown or malformed"),
        (b"ptyx", "no comma"),
        (b"restricted", "no comma"),
        (b"no-pty,", "unknown or malformed"),
        (b",no-pty", "unknown or malformed"),
        (b"no-pty,,no-pty", "unknown or malformed"),
        (b'pty="yes"', "unknown option pty="),
        (b'command="a', "quote is not closed"),
        (b"command=a", "unknown or malformed"),
        (b'command="a"b', "no comma"),
        (b'command="a",command="b"', "twice"),
        (b'from="192.0.2.7",from="*"', "twice"),
        (b'command="\xff"', "not UTF-8"),
        (b'command="a\x1b[0m"', "control characters"),
        (b'command="a\0"', "control characters"),
        (b'environment="1A=x"', "NAME=value"),
        (b'environment="A"', "NAME=value"),
        (b'environment="A B=x"', "NAME=value"),
        (b",".join(b'environment="A%d=x"' % n for n in range(65)), "more than 64"),
        (b"cert-authority", "cert-authority"),
        (b'cert-authority,principals="a"', "cert-authority"),
        (b'principals="a"', "principals="),
        (b"verify-required", "verify-required"),
        (b'tunnel="1"', "unknown option"),
        (b'expiry-time="tomorrow"', "YYYYMMDD"),
        (b'expiry-time="20301301"', "no date"),
        (b'expiry-time="20260101"', "has passed"),
        (b'command="' + b"x" * MAX_LINE + b'"', "longer than"),
        (b"no-pty ssh-ed25519", "not where it should be"),
    ],
)
def test_options_fail_closed(text: bytes, words: str) -> None:
    refused(text, words)


@pytest.fixture
def zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "XYZ-5"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("20270115Z", 1799971200),
        ("202701150800Z", 1800000000),
        ("20270115080000Z", 1800000000),
        ("202701151300", 1800000000),
        ("20270115130001", 1800000001),
    ],
)
def test_expiry_time(zone: None, text: str, last: int) -> None:
    line = f'expiry-time="{text}" '.encode() + TEXT
    assert look(line, now=last)[0]
    match, reasons = look(line, now=last + 1)
    assert match is None
    assert "has passed" in reasons[0]


@pytest.mark.parametrize(
    ("patterns", "peer", "permitted"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.3.0/24", "192.0.2.7", False),
        ("10.0.0.0/8,192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24,!192.0.2.7", "192.0.2.7", False),
        ("!192.0.2.7,*", "192.0.2.7", False),
        ("!192.0.2.7", "192.0.2.8", False),
        ("!192.0.2.7,192.0.2.*", "192.0.2.8", True),
        ("!192.0.2.*,*", "192.0.2.8", False),
        ("192.0.?.7", "192.0.2.7", True),
        ("192.0.2.?", "192.0.2.70", False),
        ("*", "2001:db8::1", True),
        ("2001:db8::/32", "2001:DB8:0::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("*.cern.ch", "192.0.2.7", False),
        ("*.cern.ch,192.0.2.7", "192.0.2.7", True),
        ("!*.evil.org,*", "192.0.2.7", False),
        ("192.0.2.1/24", "192.0.2.7", False),
        ("!192.0.2.1/24,*", "192.0.2.7", False),
        ("192.0.2.0/255.255.255.0", "192.0.2.7", False),
        ("!192.000.002.007,*", "192.0.2.7", False),
        ("192.0.2.7,", "192.0.2.7", False),
        ("", "192.0.2.7", False),
        (" 192.0.2.7", "192.0.2.7", False),
        ("*", "unix", False),
        ("unix", "unix", False),
    ],
)
def test_from(patterns: str, peer: str, permitted: bool) -> None:
    match, reasons = look(f'from="{patterns}" '.encode() + TEXT, peer)
    assert bool(match) == permitted, reasons
    assert permitted or "from=" in reasons[0]


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_noise_around_the_key(before: bytes, after: bytes) -> None:
    find([("keys", before + TEXT + after)], KEY, "192.0.2.7", 0)


@given(st.text(st.sampled_from('no-ptyrescm=",\\ fA/*!1'), max_size=40))
def test_noise_in_options(before: str) -> None:
    match, reasons = look(before.encode() + b" " + TEXT)
    assert (match is None) == bool(reasons) or before.lstrip(" \t").startswith("#")
