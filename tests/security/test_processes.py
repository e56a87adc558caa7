"""What each process of a running node holds: descriptors, and keys in memory."""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from aed.wire.messages import Started
from tests.support import raw, wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


@pytest.fixture
def busy(running: Node, account: TestAccount, attacker: TestAccount) -> Iterator[Node]:
    """Two sessions with a worker each, and one connection that has only said Hello, in the order that would show a leak from one to the next."""
    with raw.connect(running) as first, raw.connect(running) as waiting, raw.connect(running) as last:
        first.login(account)
        first.send(raw.start("sleep", "50"))
        first.expect(Started)
        waiting.greet()
        last.login(attacker, ("plain",))
        last.send(raw.start("sleep", "50"))
        last.expect(Started)
        wait.until(lambda: len(running.processes()["checker"]) == 1, "one connection waits for its proof")
        yield running
    running.wait_idle()


def kinds(pid: int) -> Counter[str]:
    """How many descriptors above 2 there are of each kind."""
    names = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd") if int(name) > 2]
    return Counter(re.sub(r":\[\d+\]$", "", name) for name in names)


RING, EPOLL = "/memfd:aed-rings (deleted)", "anon_inode:[eventpoll]"


def test_descriptors_are_those_of_the_role_and_of_one_connection(busy: Node) -> None:
    roles = busy.processes()
    for pid in roles["zygote"]:
        assert kinds(pid) == {"socket": 1, "pipe": 2}  # requests; its own wake-up
    for pid in roles["checker"]:
        assert kinds(pid) == {"socket": 1}  # its question
    for pid in roles["net"]:
        found = kinds(pid)
        assert found.pop(RING, 0) <= 1
        assert found == {"socket": 2, "pipe": 2, EPOLL: 1}  # connection and link; the reactor's own
    for pid in roles["session"]:
        found = kinds(pid)
        assert found.pop(str(busy.audit_file)) == 1
        if EPOLL in found:
            locked = [name for name in found if name.startswith(f"{busy.runtime_directory}/sessions/")]
            assert [found.pop(name) for name in locked] == [1]  # its own directory, held against a sweep
            assert found == {"socket": 2, "pipe": 4, EPOLL: 1, RING: 1}  # link and door; wake-up, stdout, stderr
        else:
            assert found == {"socket": 3, "pipe": 1}  # link, zygote, checker; the slot
    sleeping = [pid for pid in roles["worker"] if os.readlink(f"/proc/{pid}/exe").endswith("/sleep")]
    assert [kinds(pid) for pid in sleeping] == [Counter(), Counter()]


def test_the_identity_key_is_in_no_lasting_process(busy: Node) -> None:
    """Neither its PEM text nor its bytes, in any writable memory."""
    text = re.search(r"KEY-----\n(.+?)\n-----END", (busy.directory / "state" / "identity.pem").read_text(), re.S)
    assert text is not None
    secrets = (text[1].replace("\n", "")[20:].encode(), base64.b64decode(text[1])[-32:])
    looked_at = 0
    for role, pids in busy.processes().items():
        for pid in pids:
            memory = writable_memory(pid)
            looked_at += bool(memory)
            assert not any(secret in memory for secret in secrets), role
    assert looked_at >= 8


def writable_memory(pid: int) -> bytes:
    """What a process could have written into; as much of it as can be read."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            addresses, rights = line.split()[:2]
            low, high = (int(word, 16) for word in addresses.split("-"))
            if rights.startswith("rw"):
                try:
                    memory.seek(low)
                    parts.append(memory.read(high - low))
                except OSError:
                    continue
    return b"".join(parts)


def test_carriers_of_hostile_bytes_have_a_limit_of_memory(busy: Node) -> None:
    """Beyond seccomp: one that was taken over, and outlives its session, must not take the memory of all."""
    nets = busy.processes()["net"]
    assert nets
    for pid in nets:
        with open(f"/proc/{pid}/limits") as limits:
            assert [line.split()[3:5] for line in limits if line.startswith("Max data size")] == [["536870912"] * 2]
