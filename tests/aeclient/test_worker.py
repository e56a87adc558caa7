"""A worker's channel over a real Unix socket, the other end in bare bytes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aeclient import worker
from aed.errors import RemoteError, Unavailable


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "channel"))
        listening.listen()
        listening.settimeout(20)
        yield listening


def test_messages_both_ways(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_CHANNEL", listener.getsockname())
    with worker.channel() as channel, listener.accept()[0] as peer:
        channel.send(b"hello")
        channel.send(b"")
        assert peer.recv(100) == bytes.fromhex("00000005") + b"hello" + bytes(4)
        peer.sendall(bytes.fromhex("00000001 61 00000000 00000002 6263"))
        assert [channel.receive(), channel.receive()] == [b"a", b""]
        peer.shutdown(socket.SHUT_WR)
        assert list(channel) == [b"bc"]
        assert channel.receive() is None


def test_end_inside_a_message(listener: socket.socket) -> None:
    with worker.channel(listener.getsockname()) as channel, listener.accept()[0] as peer:
        peer.sendall(bytes.fromhex("00000002 61"))
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(RemoteError, match="inside a message"):
            channel.receive()


def test_no_channel_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AE_CHANNEL", raising=False)
    with pytest.raises(Unavailable, match="AE_CHANNEL is not set"):
        worker.channel()
    with pytest.raises(Unavailable, match="cannot be reached: No such file"):
        worker.channel(str(tmp_path / "absent"))


def test_a_worker_without_any_library(listener: socket.socket) -> None:
    code = 'import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ["AE_CHANNEL"]); s.sendall(b"\\0\\0\\0\\2ok")'
    child = subprocess.Popen([sys.executable, "-I", "-c", code], env={**os.environ, "AE_CHANNEL": listener.getsockname()})  # noqa: S603
    with listener.accept()[0] as peer:
        assert peer.makefile("rb").read() == b"\0\0\0\2ok"
    assert child.wait() == 0
