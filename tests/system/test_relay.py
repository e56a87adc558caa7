"""A node in between: what it can see of a login is worth nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aed import issuer
from aed.wire import frames
from aed.wire.messages import AuthFailed, AuthRequest, Hello, Message, Welcome
from aed.wire.states import TABLE
from tests.support import raw
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root

assert TABLE  # the relay below follows no table


class Evil:
    """A node with an identity of its own that carries each login, frame by frame, to the real one. `own_certificate`: in the Welcome it shows its
    own identity, as it must if the client is to come back; else it passes the real one on."""

    def __init__(self, target: Node, directory: Path, *, own_certificate: bool) -> None:
        path = directory / "evil.pem"
        issuer.make_identity(str(path), "evil")
        leaf = issuer.issue_leaf(str(path))
        self.identity = bytes.fromhex(str(leaf["identity"]))
        pair = directory / "leaf.pem"
        chain = leaf["chain"]
        assert isinstance(chain, list)
        pair.write_text("".join(chain) + str(leaf["key"]))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_cert_chain(pair)
        self.target = target
        self.own_certificate = own_certificate
        self.seen: list[Message] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listening.getsockname()[1])
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            with connection:
                if self.target is None:
                    return
                connection.settimeout(10)
                with contextlib.suppress(OSError, raw.Ended):
                    self._carry(self.context.wrap_socket(connection, server_side=True))

    def _carry(self, client: ssl.SSLSocket) -> None:
        """Question and answer in turn, which is all that a login is."""
        decoder = frames.Decoder()
        with client, raw.connect(self.target) as onward:
            while data := client.recv(1 << 16):
                for item in decoder.feed(memoryview(data)):
                    assert isinstance(item, frames.Frame)
                    message = item.decode()
                    self.seen.append(message)
                    onward.send(message)
                    answer = onward.next()
                    assert isinstance(answer, frames.Frame)
                    reply = answer.decode()
                    self.seen.append(reply)
                    if isinstance(reply, Welcome) and self.own_certificate:
                        reply = Welcome(**{**vars(reply), "certificate": self.identity})
                    client.sendall(frames.encode(reply))

    def close(self) -> None:
        self.target = None  # type: ignore[assignment]
        with socket.create_connection(("127.0.0.1", self.port)):
            self.thread.join(20)
        self.listening.close()
        assert not self.thread.is_alive()


@pytest.fixture
def evil(running: Node, tmp_path: Path) -> Iterator[Callable[[bool], Evil]]:
    made: list[Evil] = []

    def start(own_certificate: bool) -> Evil:
        made.append(Evil(running, tmp_path, own_certificate=own_certificate))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_proof_carried_on_by_another_node_is_refused(running: Node, account: TestAccount, evil: Callable[[bool], Evil]) -> None:
    between = evil(True)
    done = account.run(running.prefix.bin("aeclient"), "--node", f"127.0.0.1:{between.port}", "--accept-new", "--", "true")
    assert done.returncode == 255
    assert b"not authenticated" in done.stderr
    proofs = [message for message in between.seen if isinstance(message, AuthRequest)]
    assert proofs, "the client trusted the evil node and proved itself to it"
    refusals = [message for message in between.seen if isinstance(message, AuthFailed)]
    assert len(refusals) == len(proofs)
    assert {refusal.text for refusal in refusals} == {""}


def test_a_client_proves_nothing_to_a_node_that_shows_anothers_identity(running: Node, account: TestAccount, evil: Callable[[bool], Evil]) -> None:
    between = evil(False)
    done = account.run(running.prefix.bin("aeclient"), "--node", f"127.0.0.1:{between.port}", "--accept-new", "--", "true")
    assert done.returncode == 255
    assert b"Nothing was sent to it" in done.stderr
    assert {type(message) for message in between.seen} <= {Hello, Welcome}


def test_the_relay_itself_works(running: Node, account: TestAccount, evil: Callable[[bool], Evil]) -> None:
    """Or the refusals above would prove nothing: who builds the binding for the real connection comes in."""
    between = evil(True)
    with raw.Raw("127.0.0.1", between.port) as client:
        client.greet()
        assert client.welcome is not None
        client.send(AuthRequest(user=account.name, named=False, groups=(), mechanism="nosuch", data=os.urandom(8)))
        assert client.expect(AuthFailed).mechanisms == client.welcome.mechanisms
