"""What does not end by itself when its session does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from aed import node as nodes
from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

ROOT_FOR_GOOD = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int main(void) { if (setresuid(0, 0, 0)) return 1; signal(SIGHUP, SIG_IGN); puts("root"); fflush(stdout); for (;;) pause(); }
"""


@pytest.mark.root
def test_a_setuid_program_that_became_root_does_not_hold_a_session(running: Node, account: TestAccount, tmp_path: Path) -> None:
    """The account may not signal it, as with sudo that waits for a password; sessions held so would use up limits.max_sessions."""
    source, program = tmp_path / "forgood.c", running.directory / "forgood"
    source.write_text(ROOT_FOR_GOOD)
    subprocess.run(["cc", "-o", str(program), str(source)], check=True)
    program.chmod(0o4755)
    with running.start_client(account, "--group", "plain", "--", str(program)) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"root\n"
        client.kill()
    wait.until(lambda: not running.processes()["worker"], "the program is gone", 20)
    running.wait_idle()


def test_an_issuer_that_was_reaped_gives_its_leaf() -> None:
    """The listener reaps every child when SIGCHLD comes, and that may come before the answer is looked at."""
    reading, writing = os.pipe()
    answer = {"chain": ["c"], "key": "k", "identity": "00", "life": 5.0}
    pid = os.fork()
    if pid == 0:
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    leaf = nodes.read_leaf(nodes.Helper(pid=pid, answer=reading))
    assert leaf.key == "k"
    assert leaf.until > time.monotonic()
