"""The file of pinned identities and the sentences about it."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aeclient import known_nodes
from aeclient.target import Target
from aed.errors import Misconfigured, Unavailable


def der(content: bytes) -> bytes:
    """A DER SEQUENCE: to this module a certificate is opaque."""
    size = len(content)
    return b"\x30" + (bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")) + content


ONE, TWO, LONG = der(b"one"), der(b"two"), der(b"x" * 500)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "new" / "aed" / "known_nodes")


def test_names() -> None:
    assert known_nodes.name_of(Target("alias", "N1.Example.org", 7000)) == "n1.example.org:7000"
    assert known_nodes.name_of(Target("x", "2001:DB8::1")) == "[2001:db8::1]:7733"
    assert known_nodes.name_of(Target("x", "n1", via="ssh -W %h:%p gate")) == "n1:7733"
    assert known_nodes.name_of(Target("x", "/run/Aed/a")) == "/run/Aed/a"
    assert known_nodes.name_of(Target("x", "", via="ssh g aed\n#")) == "via:ssh%20g%20aed%0A%23"


def test_fingerprint_is_ssh_s_form() -> None:
    assert known_nodes.fingerprint(ONE) == "SHA256:" + base64.b64encode(hashlib.sha256(ONE).digest()).decode()[:43]


def test_add_lookup_replace_forget(file: str) -> None:
    assert known_nodes.lookup("a:1", file) is None
    known_nodes.add("a:1", ONE, file)
    known_nodes.add("[::1]:2", LONG, file)
    known_nodes.add("a:1", ONE, file)
    assert Path(file).read_text() == known_nodes.line("a:1", ONE) + known_nodes.line("[::1]:2", LONG)
    assert (known_nodes.lookup("a:1", file), known_nodes.lookup("[::1]:2", file)) == (ONE, LONG)
    known_nodes.replace("a:1", TWO, file)
    assert (known_nodes.lookup("a:1", file), known_nodes.lookup("[::1]:2", file)) == (TWO, LONG)
    assert known_nodes.forget("a:1", file)
    assert not known_nodes.forget("a:1", file)
    assert known_nodes.lookup("a:1", file) is None


def test_file_and_directory_are_private(file: str) -> None:
    before = os.umask(0)
    try:
        known_nodes.add("a:1", ONE, file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(file)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(file)) == ["known_nodes"]


def test_comments_blank_lines_and_a_last_line_without_end_are_kept(file: str) -> None:
    os.makedirs(os.path.dirname(file))
    text = f"# mine \udcff\n\n  # indented\n{known_nodes.line('a:1', ONE).strip()}"
    Path(file).write_text(text, errors="surrogateescape")
    known_nodes.add("b:1", TWO, file)
    assert Path(file).read_text(errors="surrogateescape") == f"{text}\n{known_nodes.line('b:1', TWO)}"
    known_nodes.forget("b:1", file)
    assert Path(file).read_text(errors="surrogateescape") == f"{text}\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a:1", "is not 'NAME BASE64'"),
        ("a:1 x y", "is not 'NAME BASE64'"),
        ("a:1 MA!=", "is not 'NAME BASE64'"),
        ("a:1 " + base64.b64encode(LONG[:-1]).decode(), "no whole DER certificate"),
        ("a:1 " + base64.b64encode(LONG + b"x").decode(), "no whole DER certificate"),
        ("a:1 " + base64.b64encode(b"\x04\x00").decode(), "no whole DER certificate"),
        ("b:1 " + base64.b64encode(TWO).decode(), "pinned twice"),
    ],
)
def test_malformed_lines_are_faults_with_their_place(file: str, line: str, says: str) -> None:
    known_nodes.add("b:1", ONE, file)
    with open(file, "a", encoding="utf-8") as more:
        more.write(f"\n{line}\n")
    with pytest.raises(Misconfigured, match=says) as fault:
        known_nodes.lookup("c:1", file)
    assert str(fault.value).startswith(f"{file}:3: ")
    before = Path(file).read_bytes()
    with pytest.raises(Misconfigured, match=says):
        known_nodes.add("c:1", ONE, file)
    assert Path(file).read_bytes() == before


def test_file_that_others_may_write_is_refused(file: str) -> None:
    known_nodes.add("a:1", ONE, file)
    os.chmod(file, 0o602)  # noqa: S103
    with pytest.raises(Misconfigured, match="chmod go-w"):
        known_nodes.lookup("a:1", file)


def test_add_never_replaces_another_identity(file: str) -> None:
    known_nodes.add("a:1", ONE, file)
    with pytest.raises(Misconfigured, match="is not the node it was"):
        known_nodes.add("a:1", TWO, file)
    assert known_nodes.lookup("a:1", file) == ONE


def test_many_writers_at_once_lose_nothing(file: str) -> None:
    code = "import sys; from aeclient import known_nodes as k; [k.add(f'{sys.argv[1]}:{i}', b'\\x30\\x00', sys.argv[2]) for i in range(1, 21)]"
    writers = [subprocess.Popen([sys.executable, "-c", code, f"n{each}", file]) for each in range(6)]  # noqa: S603
    assert [writer.wait() for writer in writers] == [0] * 6
    assert len(Path(file).read_text().splitlines()) == 120
    assert all(known_nodes.lookup(f"n{each}:{i}", file) for each in range(6) for i in range(1, 21))


def test_symbolic_link_stays(file: str, tmp_path: Path) -> None:
    os.makedirs(os.path.dirname(file))
    os.symlink(tmp_path / "dotfiles", file)
    known_nodes.add("a:1", ONE, file)
    assert os.path.islink(file)
    assert known_nodes.lookup("a:1", str(tmp_path / "dotfiles")) == ONE


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with pytest.raises(Unavailable, match="the node is not remembered"):
        known_nodes.add("a:1", ONE, str(tmp_path / "plain" / "known_nodes"))


def test_texts_say_what_to_do(file: str) -> None:
    known_nodes.add("z:1", ONE, file)
    known_nodes.add("a:1", ONE, file)
    question = known_nodes.first_use("a:1", ONE)
    assert known_nodes.fingerprint(ONE) in question
    assert question.endswith("(yes/no)? ")
    refused = known_nodes.refused_in_batch("b:1", TWO, file)
    assert "--accept-new" in refused
    assert refused.endswith(f"{file}:\n{known_nodes.line('b:1', TWO)}")
    changed = known_nodes.changed("a:1", ONE, TWO, file)
    assert known_nodes.fingerprint(ONE) in changed
    assert known_nodes.fingerprint(TWO) in changed
    assert f"line 2 of {file}" in changed
