"""What an authenticated client, or one that is not yet, can make a session do to the node."""

from __future__ import annotations

import pytest

from aed.wire import frames
from aed.wire.frames import Frame
from aed.wire.messages import AuthFailed, AuthRequest, Exited, NotStarted, Started, messages
from tests.support import raw
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


def test_a_refused_attempt_cannot_write_much_into_the_audit_record(running: Node) -> None:
    """No record, no login: so nobody may fill the disk on which it is."""
    with raw.connect(running) as client:
        client.greet()
        before = running.audit_file.stat().st_size
        groups = tuple("\x01" * 60 for _ in range(900))
        client.send(AuthRequest(user="x" * 200, named=True, groups=groups, mechanism="\x01" * 2000, data=b""))
        client.expect(AuthFailed)
        grown = running.audit_file.stat().st_size - before
    assert grown < 20_000, grown


def test_an_overlong_message_of_the_master_ends_the_channel_not_the_session(running: Node, account: TestAccount) -> None:
    code = "import os, socket, time; s = socket.socket(1); time.sleep(0.5); s.connect(os.environ['AE_CHANNEL']); s.recv(9); time.sleep(0.3)"
    with raw.connect(running) as client:
        session = client.login(account).session
        client.send(raw.start(str(running.prefix.python), "-c", code))
        client.expect(Started)
        client.send_bytes(frames.data_header(messages(0), 0, 4) + b"\xff\xff\xff\xff")
        while True:
            item = client.next()
            if isinstance(item, Frame) and isinstance(exited := item.decode(), Exited):
                break
        assert exited.status == 0
    running.wait_audit(lambda record: record["event"] == "session_ended" and record["session"] == session, "the session's end")


def test_workers_whose_output_nobody_takes_are_limited(running: Node, account: TestAccount) -> None:
    """Each holds a megabyte and more of the node's memory, which no limit of the account's counts."""
    refused = None
    with raw.connect(running) as client:
        client.login(account)
        for number in range(400):
            client.send(raw.start("echo", "x", worker=number, window=0))
            while True:
                item = client.next()
                if isinstance(item, Frame) and isinstance(message := item.decode(), Exited | NotStarted):
                    break
            if isinstance(message, NotStarted):
                refused = number
                break
    assert refused is not None


def test_refused_starts_do_not_fill_the_audit_record(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        session = client.login(account).session
        for number in range(2000):
            client.send(raw.start("true", worker=number, profile="no such"))
        for _ in range(2000):
            client.expect(NotStarted)
    end = running.wait_audit(lambda record: record["event"] == "session_ended" and record["session"] == session, "the session's end")
    refusals = [record for record in running.audit() if record["event"] == "worker_refused" and record["session"] == session]
    assert 0 < len(refusals) <= 200
    assert end["workers_refused"] == 2000
