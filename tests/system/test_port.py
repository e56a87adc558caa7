"""What anybody can do to the port: nothing that another client would notice."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aed.wire import frames
from aed.wire.frames import Frame
from aed.wire.messages import BY_CODE, Accept, AuthRequest, Data, Fault, Goodbye, Ping, Pong, Signal
from tests.support import raw, wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


@contextlib.contextmanager
def tcp(node: Node, seconds: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection((node.address, node.port), seconds) as sock:
        yield sock


def wait_end(sock: socket.socket) -> bytes:
    """Everything until the node closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def descriptors(pid: int) -> list[str]:
    """What a process's descriptors are, sorted by number."""
    base = Path(f"/proc/{pid}/fd")
    found = []
    for name in sorted(os.listdir(base), key=int):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(base / name))
    return found


def works(node: Node, account: TestAccount) -> None:
    done = node.client(account, "--", "echo", "served")
    assert (done.returncode, done.stdout) == (0, b"served\n"), done.stderr


# Not TLS 1.3.


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 65536,
        b"\xff" * 16,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\xff\xff" + b"\1" * 4096,
        random.Random(7733).randbytes(200_000),  # noqa: S311
    ],
    ids=["zeros", "ones", "http", "ssh", "huge hello", "random"],
)
def test_bytes_that_are_no_tls_end_their_connection_only(running: Node, account: TestAccount, garbage: bytes) -> None:
    with tcp(running) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(garbage)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        wait_end(sock)
    running.wait_idle()


def test_tls_1_2_is_refused(running: Node) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tcp(running) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock)


def test_tls_is_never_resumed(running: Node) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with tcp(running) as sock, context.wrap_socket(sock) as tls:
        tls.sendall(frames.HEADER.pack(0, 0x7777, 0))
        wait_end(tls)
        session = tls.session
    with tcp(running) as sock, context.wrap_socket(sock, session=session) as tls:
        assert not tls.session_reused


# Frames.

FRAMES = {
    "no such code": frames.HEADER.pack(0, 0x7777, 0),
    "all ones": b"\xff" * 10,
    "empty Hello": frames.HEADER.pack(0, 0x01, 0),
    "Hello over the cap": frames.HEADER.pack(frames.MAX_CONTROL + 1, 0x01, 0),
    "4 GiB of Hello": frames.HEADER.pack(0xFFFFFFFF, 0x01, 0),
    "Hello on a channel": frames.HEADER.pack(4, 0x01, 7) + b"1234",
    "Hello of noise at the cap": frames.HEADER.pack(frames.MAX_CONTROL, 0x01, 0) + bytes(frames.MAX_CONTROL),
    "Data before a login": frames.data_header(0, 0, 1) + b"x",
    "empty Data": frames.HEADER.pack(8, Data.code, 0) + bytes(8),
    "Start first": frames.encode(raw.start("true")),
    "Ping first": frames.encode(Ping(cookie=1)),
    "Accept from the client": frames.HEADER.pack(0, Accept.code, 0),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_may_not_be_is_told_and_ends_the_connection(running: Node, name: str) -> None:
    with raw.connect(running) as client:
        client.send_bytes(FRAMES[name])
        goodbye = client.expect(Goodbye)
        assert goodbye.fault == Fault.REMOTE
        assert goodbye.text
        client.wait_closed()


def test_hello_with_trailing_bytes_or_an_odd_nonce_is_refused(running: Node) -> None:
    with raw.connect(running) as client:
        client.send_bytes(frames.encode_payload(0x01, 0, client.hello.encode() + b"x"))
        assert "after the end of Hello" in client.expect(Goodbye).text
        client.wait_closed()


def test_truncated_frames_end_quietly(running: Node) -> None:
    for size in (1, 9, 10, 40):
        with raw.connect(running) as client:
            client.send_bytes(frames.encode(client.hello)[:size])
            client.sock.unwrap() if size == 40 else client.sock.shutdown(socket.SHUT_WR)
            wait_end(client.sock)


OPEN_FRAMES = {
    "a channel that never was": frames.data_header(400, 0, 1) + b"x",
    "more than the window": b"".join(frames.data_header(0, at, 1 << 18) + bytes(1 << 18) for at in range(0, 3 << 20, 1 << 18)),
    "a gap": frames.data_header(0, 5, 1) + b"x",
    "an offset near 2**63": frames.data_header(0, (1 << 63) - 4, 3) + b"xyz",
    "an acknowledgement of what was not sent": frames.encode_payload(0x31, 0, (1 << 40).to_bytes(8, "big") + (1 << 41).to_bytes(8, "big")),
    "an end elsewhere": frames.encode_payload(0x32, 0, (99).to_bytes(8, "big")),
    "the same worker again": frames.encode(raw.start("true")),
    "a signal that is none": frames.encode(Signal(worker=0, name="RTMIN")),
    "another proof": frames.encode(AuthRequest(user="x", named=False, groups=(), mechanism="publickey", data=b"")),
}


@pytest.mark.parametrize("name", OPEN_FRAMES)
def test_after_the_login_the_rules_hold_too(running: Node, account: TestAccount, name: str) -> None:
    """The worker reads nothing, so that its window stays as it is."""
    with raw.connect(running) as client:
        client.login(account)
        client.send(raw.start("sleep", "1000", stdin=True))
        with contextlib.suppress(OSError):
            client.send_bytes(OPEN_FRAMES[name])
        seen = []
        with contextlib.suppress(raw.Ended):
            while True:
                item = client.next()
                seen.append(item.decode() if isinstance(item, Frame) else item)
        goodbyes = [message for message in seen if isinstance(message, Goodbye)]
        assert [goodbye.fault for goodbye in goodbyes] == [Fault.REMOTE], seen
    running.wait_idle()
    ended = [record for record in running.audit() if record["event"] == "session_ended"][-1]
    assert str(ended["reason"]).startswith("protocol:")


def test_every_message_in_every_early_state_is_answered_or_refused(running: Node) -> None:
    """The complete matrix is the wire's own test; here each code is sent to the real thing once, empty and out of turn."""
    for code in BY_CODE:
        with raw.connect(running) as client:
            client.greet()
            client.send_bytes(frames.HEADER.pack(0, code, 0))
            client.wait_closed()


def test_ping_is_answered(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.greet()
        client.send(Ping(cookie=77))
        assert client.expect(Pong).cookie == 77


# Time and room.


@pytest.fixture
def narrow(node: Callable[..., Node]) -> Node:
    return node(config={"limits": {"grace_time": "1500ms", "max_unauthenticated": 2}})


def test_who_is_silent_loses_the_slot(narrow: Node, account: TestAccount) -> None:
    with tcp(narrow) as silent, raw.connect(narrow) as half:
        half.greet()
        half.send_bytes(frames.HEADER.pack(400, AuthRequest.code, 0) + b"half")
        wait.until(lambda: len(narrow.processes()["session"]) == 2, "two sessions hold the slots")
        with tcp(narrow) as third:
            assert wait_end(third) == b""  # no room: closed at once, unserved
        goodbye = half.expect(Goodbye)
        assert (goodbye.fault, goodbye.reason) == (Fault.DENIED, "grace time")
        half.wait_closed()
        assert wait_end(silent) == b""
    narrow.wait_idle()
    works(narrow, account)
    assert [record["reason"] for record in narrow.audit() if record["event"] == "no_login"].count("grace time") == 2


def test_one_byte_at_a_time_wins_no_time(narrow: Node, account: TestAccount) -> None:
    with raw.connect(narrow) as client:
        client.greet()
        request = frames.encode(client.request(account))
        poll = select.poll()
        poll.register(client.sock, select.POLLIN)
        for at in range(len(request)):
            client.send_bytes(request[at : at + 1])
            if poll.poll(20):
                break
        assert client.expect(Goodbye).reason == "grace time"
        client.wait_closed()
    narrow.wait_idle()
    works(narrow, account)


def test_who_is_authenticated_holds_no_slot(narrow: Node, account: TestAccount) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(raw.connect(narrow))
            client.login(account)
        works(narrow, account)


def test_a_thousand_quick_connections_leave_nothing(running: Node, account: TestAccount) -> None:
    works(running, account)
    running.wait_idle()
    before = {role: descriptors(pids[0]) for role, pids in running.processes().items() if pids}
    for _ in range(1000):
        with tcp(running, 30):
            pass
    running.wait_idle(30)  # until then there may be no room (limits.max_unauthenticated)
    works(running, account)
    running.wait_idle()
    after = {role: descriptors(pids[0]) for role, pids in running.processes().items() if pids}
    assert {role: len(found) for role, found in after.items()} == {role: len(found) for role, found in before.items()}


def test_running_out_of_descriptors_passes(node: Callable[..., Node], account: TestAccount) -> None:
    running = node(config={"limits": {"max_unauthenticated": 1000}})
    works(running, account)
    running.wait_idle()
    room = len(descriptors(running.pid)) + 12
    _, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (room, hard))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(tcp(running))
        wait.until(lambda: "Too many open files" in running.stderr(), "the listener says that it has no descriptors left")
        assert len(descriptors(running.pid)) <= room
    wait.until(lambda: running.client(account, "--", "true").returncode == 0, "the next client is served", 20)
    works(running, account)
    running.wait_idle()
    said = running.stderr().count("Too many open files")
    assert said < 200, "it did not spin"
