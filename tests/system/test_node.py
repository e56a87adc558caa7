"""The daemon as a whole: it starts, says so, and goes without a trace."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable

import pytest

from tests.support import box, wait
from tests.support.node import Node

pytestmark = pytest.mark.root


def test_it_starts_and_leaves_nothing(node: Callable[..., Node]) -> None:
    running = node()
    assert running.identity.startswith("SHA256:")
    roles = {role: len(pids) for role, pids in running.processes().items() if pids}
    assert roles == {"listener": 1, "zygote": 1}, [box.command_line(pid) for pid in running.box.pids()]
    zygote = running.processes()["zygote"][0]
    wait.until(lambda: os.stat(f"/proc/{zygote}/fd").st_uid == 0, "the zygote is undumpable, so not readable by others of its uid")
    running.stop()


def test_a_connection_has_its_own_processes_and_they_go_with_it(node: Callable[..., Node]) -> None:
    running = node()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((running.address, running.port)) as plain, context.wrap_socket(plain) as tls:
        assert tls.version() == "TLSv1.3"
        wait.until(lambda: len(running.processes()["net"]) == len(running.processes()["session"]) == 1, "one net and one session")
    running.wait_idle()
