"""A malicious node against the client: what it prints, and what it remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from aeclient import cli, known_nodes
from aed.errors import Misconfigured


def test_what_a_node_says_does_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli.say("node: \x1b]0;title\x07\x9b2J\r\u202egood bye\n  known: x")
    assert capsys.readouterr().err == "aeclient: node: \\x1b]0;title\\x07\\x9b2J\\r\\u202egood bye\n  known: x\n"


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x01", b"\x30\x80\x00\x00", b"no certificate", b"\x30\x00more"])
def test_an_identity_that_is_none_does_not_spoil_known_nodes(tmp_path: Path, der: bytes) -> None:
    """A line that cannot be read is a fault for every node, so none such may be written."""
    file = str(tmp_path / "known_nodes")
    known_nodes.add("good:1", b"\x30\x01x", file)
    for change in (known_nodes.add, known_nodes.replace):
        with pytest.raises(Misconfigured):
            change("evil:1", der, file)
    assert known_nodes.lookup("good:1", file) == b"\x30\x01x"
