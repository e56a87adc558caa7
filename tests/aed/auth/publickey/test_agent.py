"""The agent client against agents that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aed.auth.publickey import agent
from aed.auth.publickey.sshwire import string
from aed.errors import Unavailable


@contextmanager
def agent_that_answers(directory: Path, answer: bytes) -> Iterator[str]:
    path = str(directory / "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b"\0\0\0\0", "answer of 0 bytes"),
        (b"\xff\xff\xff\xff", "answer of 4294967295 bytes"),
        (b"\0\0\0\5\x0c", "closed the connection"),
        (string(b"\5"), "refused"),
        (string(b"\x0e"), "refused"),
        (string(b"\x0c\0\0\0\1"), "ends inside"),
        (string(b"\x0c\0\0\0\1\xff\xff\xff\xff"), "ends inside"),
    ],
)
def test_bad_lists(tmp_path: Path, answer: bytes, words: str) -> None:
    with agent_that_answers(tmp_path, answer) as path, pytest.raises(Unavailable, match=words):
        agent.keys(path)


def test_bad_signature_answer(tmp_path: Path) -> None:
    with agent_that_answers(tmp_path, string(b"\x0e\0\0\0\7x")) as path, pytest.raises(Unavailable, match="ends inside"):
        agent.sign(path, b"key", b"data")


def test_comments_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    with agent_that_answers(tmp_path, string(b"\x0c\0\0\0\1" + string(b"key") + string(b"\x1b[2J\xff" + b"x" * 200))) as path:
        ((key, comment),) = agent.keys(path)
    assert key == b"key"
    assert comment.isprintable()
    assert len(comment) == 80
