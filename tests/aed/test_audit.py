"""The audit record: each event one line, all of it or a refusal."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from aed.audit import Audit
from aed.errors import LocalError, Misconfigured, Unavailable
from tests.support import wait

NOON = datetime(2025, 1, 2, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@pytest.fixture
def audit(path: Path) -> Iterator[Audit]:
    made = Audit(f"file:{path}", node="node1", session="s1", now=lambda: NOON)
    yield made
    made.close()


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_a_record_has_its_time_event_node_and_session(audit: Audit, path: Path) -> None:
    audit.record("login", account="alice", tries=2, peer=None, groups=("higgs", "susy"), facts={"key": "SHA256:x"})
    expected = {
        "time": "2025-01-02T11:30:00.123Z",
        "event": "login",
        "node": "node1",
        "session": "s1",
        "account": "alice",
        "tries": 2,
        "peer": None,
        "groups": ["higgs", "susy"],
        "facts": {"key": "SHA256:x"},
    }
    assert records(path) == [expected]
    other = audit.for_session("s2")
    other.record("logout")
    audit.record("end")
    assert [record["session"] for record in records(path)] == ["s1", "s2", "s1"]


def test_the_clock_is_utc_by_default(path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    audit = Audit(f"file:{path}", node="n")
    audit.record("x")
    audit.close()
    assert before <= datetime.fromisoformat(str(records(path)[0]["time"])) <= datetime.now(UTC)


def test_the_file_is_private_and_its_directory_is_made(audit: Audit, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) & ~0o750 == 0


@pytest.mark.parametrize(
    "text", ["a\nb", 'a"}\n{"event":"forged"}', "a\0b", "\udc80", "\u2028\u2029\x85", "a\r\nb", "\x1b[2J", "é" * 10, "x" * 65536]
)
def test_whatever_the_network_sends_it_stays_one_line(audit: Audit, path: Path, text: str) -> None:
    audit.record("denied", user=text, nested=[{"deep": text}])
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1 and raw.endswith(b"\n") and raw.isascii() and b"\x1b" not in raw
    assert len(raw) < 8192
    (record,) = records(path)
    assert record["user"] == text[:1024] and record["nested"] == [{"deep": text[:1024]}]


def test_fields_of_the_record_itself_cannot_be_forged(audit: Audit, path: Path) -> None:
    with pytest.raises(LocalError, match="audit fields session, time"):
        audit.record("x", time="never", session="other")
    assert records(path) == []


def test_rotation_is_followed(audit: Audit, path: Path) -> None:
    audit.record("one")
    path.rename(path.with_suffix(".1"))
    audit.record("two")
    path.unlink()
    path.write_text('{"event": "made by logrotate"}\n')
    audit.record("three")
    assert [record["event"] for record in records(path.with_suffix(".1"))] == ["one"]
    assert [record["event"] for record in records(path)] == ["made by logrotate", "three"]


def test_a_record_after_a_torn_line_stands_alone(audit: Audit, path: Path) -> None:
    path.write_text('{"event": "tor')
    audit.record("whole")
    assert json.loads(path.read_text().splitlines()[1])["event"] == "whole"


def test_many_processes_share_the_file(audit: Audit, path: Path) -> None:
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            try:
                own = audit.for_session(str(number))
                for turn in range(100):
                    own.record("turn", turn=turn, padding="x" * (turn * 7))
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        wait.gone(child, "writer")
        os.waitpid(child, 0)
    found = records(path)
    assert len(found) == 800
    for number in range(8):
        assert [record["turn"] for record in found if record["session"] == str(number)] == list(range(100))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name, said in (
        ("fifo", "is not a regular file"),
        ("link", "Too many levels of symbolic links"),
        (".", "Is a directory"),
        ("a/b/c", "No such file"),
    ):
        with pytest.raises(Unavailable, match=said):
            Audit(f"file:{tmp_path}/{name}", node="n")
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_put_there_later_is_refused(audit: Audit, path: Path, tmp_path: Path) -> None:
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        audit.record("x")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("destination", ["", "file:", "file:relative", "syslog", "/var/log/x"])
def test_unknown_destinations(destination: str) -> None:
    with pytest.raises(Misconfigured):
        Audit(destination, node="n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "aedt", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_is_told_and_room_mends_it(small_disk: Path) -> None:
    path = small_disk / "audit.jsonl"
    ballast = small_disk / "ballast"
    audit = Audit(f"file:{path}", node="n")
    try:
        audit.record("first")
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(b"x" * 65536)
        told: list[str] = []
        written = 1
        while len(told) < 3 and written < 1000:
            try:
                audit.record("filling", padding="x" * 900)
                written += 1
            except Unavailable as error:
                told.append(str(error))
        # The write that reached the end was cut in half; the next ones found no room at all. Each is a refusal.
        assert "only a part of an audit record fitted" in told[0]
        assert "No space left on device" in told[1] and "nobody may log in" in told[2]
        ballast.unlink()
        audit.record("last")
    finally:
        audit.close()
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["event"] == "first" and json.loads(lines[-1])["event"] == "last"
    assert len(lines) == written + 2  # the torn one stands for itself, and "last"


@pytest.mark.root
def test_a_disk_turned_read_only_is_told(small_disk: Path) -> None:
    audit = Audit(f"file:{small_disk}/audit.jsonl", node="n")
    audit.record("first")
    audit.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(Unavailable, match="Read-only file system"):
        audit.record("second")
    with pytest.raises(Unavailable, match="Read-only file system"):
        Audit(f"file:{small_disk}/audit.jsonl", node="n")


def fields(datagram: bytes) -> dict[str, str]:
    """journald's native format, as its documentation has it: name, newline, length, value, newline."""
    found = {}
    while datagram:
        name, datagram = datagram.split(b"\n", 1)
        size = int.from_bytes(datagram[:8], "little")
        found[name.decode()] = datagram[8 : 8 + size].decode()
        assert datagram[8 + size : 9 + size] == b"\n"
        datagram = datagram[9 + size :]
    return found


def test_the_journal_gets_one_datagram_a_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        audit = Audit("journal", node="node1", session="s1", now=lambda: NOON, journal_socket=str(path))
        audit.record("denied", user="a\nPRIORITY=0\n\udc80", tries=3)
        wait.readable(journal.fileno(), "a record")
        found = fields(journal.recv(1 << 16))
        audit.close()
    assert found["AED_USER"] == "a\nPRIORITY=0\n\\udc80"
    assert (found["AED_EVENT"], found["AED_NODE"], found["AED_SESSION"], found["AED_TRIES"]) == ("denied", "node1", "s1", "3")
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("5", "aed")
    assert json.loads(found["MESSAGE"])["user"] == "a\nPRIORITY=0\n\udc80"


def test_a_journal_that_is_not_there_or_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(Unavailable, match="start systemd-journald"):
        Audit("journal", node="n", journal_socket=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        audit = Audit("journal", node="n", journal_socket=str(path))
        audit.record("x")
    with pytest.raises(Unavailable, match="Connection refused"):
        audit.record("y")
    audit.close()
