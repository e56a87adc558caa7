"""The listener must outlive whatever an account leaves behind."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root

DEEP = """
import os
os.chdir("/tmp")
for _ in range(3000):
    os.mkdir("d"); os.chdir("d")
"""


def test_a_deep_tree_in_tmp_does_not_end_the_listener(running: Node, account: TestAccount) -> None:
    done = running.client(account, "--", str(running.prefix.python), "-c", DEEP)
    assert done.returncode == 0, done.stderr
    running.wait_idle()
    places = (running.runtime_directory / "sessions", running.scratch_directory)
    wait.until(lambda: not any(list(place.iterdir()) for place in places), "the deep tree is gone", 30)
    assert os.path.exists(f"/proc/{running.pid}"), running.stderr()[-3000:]
    assert running.client(account, "--", "true").returncode == 0, running.stderr()[-3000:]


ORPHAN = r"""
import ctypes, os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, b"\xff\xfe\n:\t", 0, 0, 0)
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(60)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(60)
"""


def test_an_orphans_name_does_not_end_the_listener(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--group", "plain", "--", str(running.prefix.python), "-c", ORPHAN) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        (session,) = running.processes()["session"]
        os.kill(session, signal.SIGKILL)
        client.communicate(timeout=30)
    running.wait_idle()
    assert running.client(account, "--", "true").returncode == 0, running.stderr()[-3000:]
