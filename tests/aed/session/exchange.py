"""A login without processes: the session's real Login on one end of a link, and on the other what net would do with the protocol's core.

Lives here: the stage, a clock that only moves when told to, mechanisms that fail in chosen ways. Must not live here: assertions about them.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aed import config, link
from aed.audit import Audit
from aed.errors import Declined
from aed.interfaces import Attempt, Challenge
from aed.link import Link
from aed.model import Evidence, Identity
from aed.session.context import Clock, Leaf, Node, Peer
from aed.session.login import Login
from aed.session.monitor import Monitor
from aed.wire.connection import Connection
from aed.wire.frames import encode
from aed.wire.messages import BY_CODE, Hello, Message
from aed.wire.states import NODE

HELLO = Hello(versions=(1,), software="test", capabilities=(), nonce=bytes(32))


class Hands:
    """A clock moved by hand. `slept` is each sleep."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1_800_000_000.0, sleep=self.sleep)


class Mechanisms:
    """Each name is a way to fail or not to; `takes` is how long it works at it."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.takes = 0.0

    def server(self, how: str) -> Any:
        def serve(attempt: Attempt, data: bytes) -> Generator[Challenge, bytes, Evidence]:
            self.hands.now += self.takes
            if how == "asks":
                answer = yield Challenge(data=b"who are you?")
                raise Declined(f"answered {answer!r}")
            if how == "proves":
                return Evidence(identity=Identity(mechanism="proves", name="somebody"))
            raise Declined("no such account" if attempt.account is None else "wrong proof")

        return SimpleNamespace(serve=serve)


class Stage:
    """`say` messages as the client, then `run`; `heard` is what the node answered, all of it checked against the protocol's states as net does."""

    def __init__(self, directory: Path, *, tries: int = 6, key: bytes = b"k" * 32) -> None:
        self.hands = Hands()
        self.mechanisms = Mechanisms(self.hands)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.net = Link(ours)
        self.session = Link(theirs)
        self.zygote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # takes requests, and nobody answers
        self.audit = directory / "audit.jsonl"
        node = Node(
            config=config.load(None, overrides={"limits.max_auth_tries": tries}),
            groups=None,
            audit=Audit(f"file:{self.audit}", node="node1"),
            leaf=Leaf(chain=(), key="", identity=b"identity", until=0.0),
            zygote=self.zygote[0],
            filters={},
            mechanisms={how: self.mechanisms.server(how) for how in ("declines", "asks", "proves")},
            name="node1",
            embedded=False,
            scratch="",
            user="",
            sandbox_fault="",
            delay_key=key,
            clock=self.hands.clock(),
        )
        self.login = Login(node, Peer(address="192.0.2.7"), self.session, Monitor(), "s1")
        self.net.send(bytes([link.READY]) + bytes(32))

    def say(self, *messages: Message) -> None:
        """All at once: the session's record of each step is its own, and it reads one at a time."""
        for message in messages:
            self.net.send(link.message(message.code, 0, message.encode()))

    def run(self) -> BaseException | None:
        """Until Login ends, with the client gone after its last word; what it raised."""
        self.net.sock.shutdown(socket.SHUT_WR)
        try:
            self.login.run()
        except Exception as error:
            return error
        return None

    def heard(self) -> list[Message]:
        found: list[Message] = []
        while True:
            try:
                received = self.net.receive()
            except EOFError:
                return found
            if received is None:
                return found
            code, _, payload = link.parse_message(received[0])
            found.append(BY_CODE[code].decode(payload))

    def close(self) -> None:
        self.net.sock.close()
        self.session.sock.close()
        for end in self.zygote:
            end.close()
        self.login.close()
        self.login.audit.close()


def replay(said: list[Message], heard: list[Message]) -> str:
    """Put both sides' words in the order of a real conversation through the node's end of the protocol; the state at the end.

    The node answers each of the client's words with one; where it does not, the next of the client's is an error of the script.
    """
    end = Connection(NODE)
    answers = iter(heard)
    for word in said:
        list(end.receive(memoryview(encode(word))))
        answer = next(answers, None)
        if answer is not None:
            end.send(answer)
    assert next(answers, None) is None
    return end.state

