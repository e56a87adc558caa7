"""A daemon beside another, and one after another that died: what it must not take, and what it clears away."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aed import listener
from aed.session import main as session_main
from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


@pytest.fixture
def running(node: Callable[..., Node]) -> Iterator[Node]:
    yield node()


def test_a_second_daemon_does_not_take_the_firsts_socket(running: Node, account: TestAccount) -> None:
    local = f"{running.runtime_directory}/local.sock"
    before = os.stat(local).st_ino
    second = subprocess.run(
        [running.prefix.bin("aed"), "-c", str(running.config_file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert f"another aed serves {local}" in second.stderr
    assert os.stat(local).st_ino == before
    assert running.client(account, "--", "true").returncode == 0


def test_a_socket_that_a_dead_daemon_left_is_nobodys() -> None:
    directory = tempfile.mkdtemp(prefix="aedt-")
    try:
        assert not listener.is_served(f"{directory}/none.sock")
        Path(f"{directory}/file").write_text("")
        assert not listener.is_served(f"{directory}/file")
    finally:
        shutil.rmtree(directory)


def test_what_dead_sessions_left_is_swept_at_a_start(running: Node, account: TestAccount) -> None:
    """Directories of no living session go at the next start, of whatever kind; those of a living one are locked by it."""
    sessions = running.runtime_directory / "sessions"
    old = [sessions / "0123456789abcdef", running.scratch_directory / "0123456789abcdef"]
    for directory in old:
        (directory / "tmp").mkdir(parents=True)
        (directory / "tmp" / "big").write_text("x")
        os.utime(directory, (0, 0))
    with running.start_client(account, "--", "cat") as client:
        session = running.wait_audit(lambda record: record["event"] == "worker_started", "the worker runs")["session"]
        os.utime(sessions / session, (0, 0))
        assert session_main.is_dead(str(old[0]))
        assert not session_main.is_dead(str(sessions / session))
        command = [running.prefix.bin("aed"), "-c", str(running.config_file), "--inetd"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30, check=True)
        wait.until(lambda: not any(directory.exists() for directory in old), "the leftovers are gone")
        assert (sessions / session / "private").is_dir()
        client.communicate(b"")
    assert client.returncode == 0
    running.wait_idle()
