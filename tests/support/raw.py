"""A client that says whatever a test wants: TLS and frames of the real code, no state table, no manners.

Lives here: a connection that sends any frame in any order, and proofs by an account's key. Must not live here: assertions.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections import deque
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from aeclient import tls
from aed.auth.publickey import messages as publickey
from aed.auth.publickey import sshsig, sshwire
from aed.wire import frames
from aed.wire.binding import CONTEXT, NONCE_SIZE, Binding
from aed.wire.messages import Accept, AuthRequest, Hello, Message, Start, Welcome
from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

M = TypeVar("M", bound=Message)


class Ended(Exception):
    """The node closed the connection."""


class Raw:
    """A TLS connection to a node, verified by nobody. Use it in a `with`."""

    def __init__(self, address: str, port: int, seconds: float = 10.0) -> None:
        self.seconds = seconds
        plain = socket.create_connection((address, port), seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = tls.connect(plain)
        self.sock = self.channel.sock
        self.decoder = frames.Decoder()
        self.arrived: deque[frames.Frame | tuple[int, int, bytes]] = deque()
        self.hello = Hello(versions=(1,), software="raw", capabilities=(), nonce=os.urandom(NONCE_SIZE))
        self.hello_payload = b""
        self.welcome_payload = b""
        self.welcome: Welcome | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *messages: Message, channel: int = 0) -> None:
        """These messages, in one packet."""
        self.send_bytes(b"".join(frames.encode(message, channel) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def next(self) -> frames.Frame | tuple[int, int, bytes]:
        """The next frame, or (channel, offset, bytes) of a stream. Raises `Ended`."""
        deadline = time.monotonic() + self.seconds
        while not self.arrived:
            left = deadline - time.monotonic()
            if left <= 0:
                raise wait.DeadlinePassed(f"the node said nothing for {self.seconds:g} s")
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:
                raise Ended(str(error)) from None
            if not data:
                raise Ended("closed")
            for item in self.decoder.feed(memoryview(data)):
                self.arrived.append(item if isinstance(item, frames.Frame) else (item.channel, item.offset, bytes(item.data)))
        return self.arrived.popleft()

    def expect(self, kind: type[M]) -> M:
        """The next frame, which must be of this kind."""
        item = self.next()
        assert isinstance(item, frames.Frame), item
        message = item.decode()
        assert isinstance(message, kind), message
        return message

    def wait_closed(self) -> None:
        """Reads to the end of the connection. Fails if it stays open."""
        with contextlib.suppress(Ended):
            while True:
                self.next()

    # The exchange.

    def greet(self) -> Welcome:
        """Hello and Welcome."""
        self.hello_payload = self.hello.encode()
        self.send(self.hello)
        item = self.next()
        assert isinstance(item, frames.Frame)
        self.welcome_payload = item.payload
        welcome = item.decode()
        assert isinstance(welcome, Welcome), welcome
        self.welcome = welcome
        return welcome

    def binding(self, user: str, groups: tuple[str, ...] = (), **changed: Any) -> bytes:
        """What an honest client signs on this connection, with fields changed as named."""
        assert self.welcome is not None
        fields: dict[str, Any] = {
            "context": CONTEXT,
            "version": 1,
            "mechanism": "publickey",
            "user": user,
            "groups": groups,
            "node_nonce": self.welcome.nonce,
            "identity": hashlib.sha256(self.welcome.certificate).digest(),
            "exporter": self.channel.exporter,
            "client_nonce": self.hello.nonce,
            "hellos": hashlib.sha256(self.hello_payload + self.welcome_payload).digest(),
        }
        return Binding(**(fields | changed)).encode()

    def request(self, account: TestAccount, groups: tuple[str, ...] = (), *, named: bool = False, user: str = "", **changed: Any) -> AuthRequest:
        """An AuthRequest with a proof by the account's key, of a binding whose fields are changed as named."""
        name = user or account.name
        data = proof(account, self.binding(name, groups, **changed))
        return AuthRequest(user=name, named=named, groups=groups, mechanism="publickey", data=data)

    def login(self, account: TestAccount, groups: tuple[str, ...] = ()) -> Accept:
        """All the way to the grant."""
        self.greet()
        self.send(self.request(account, groups))
        return self.expect(Accept)


def connect(node: Node) -> Raw:
    """A raw connection to a running node."""
    return Raw(node.address, node.port)


def stranger() -> ed25519.Ed25519PrivateKey:
    """A key that nobody knows."""
    return ed25519.Ed25519PrivateKey.generate()


def key_of(account: TestAccount) -> ed25519.Ed25519PrivateKey:
    """The account's own key."""
    key = serialization.load_ssh_private_key(account.key.read_bytes(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return key


def public_blob(key: ed25519.Ed25519PrivateKey) -> bytes:
    """A public key as ssh writes it."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sshwire.string(b"ssh-ed25519") + sshwire.string(raw)


def proof(signer: TestAccount | ed25519.Ed25519PrivateKey, binding: bytes) -> bytes:
    """The data of a publickey AuthRequest: an SSHSIG over `binding`."""
    key = key_of(signer) if isinstance(signer, TestAccount) else signer
    signature = sshwire.string(b"ssh-ed25519") + sshwire.string(key.sign(sshsig.signed_data(binding)))
    return publickey.encode(publickey.Proof(sshsig=sshsig.envelope(public_blob(key), signature)))


def offer(signer: TestAccount | ed25519.Ed25519PrivateKey) -> bytes:
    """The data of an AuthRequest that only asks whether the key would do."""
    key = key_of(signer) if isinstance(signer, TestAccount) else signer
    return publickey.encode(publickey.Offer(keys=(public_blob(key),)))


def start(*words: str, worker: int = 0, stdin: bool = False, window: int = 1 << 20, **changed: Any) -> Start:
    """A Start of `words`."""
    fields: dict[str, Any] = {
        "worker": worker,
        "workers": 1,
        "run": "raw",
        "argv": tuple(word.encode() for word in words),
        "shell": b"",
        "names": (),
        "values": (),
        "profile": "",
        "inputs": (),
        "stdin": stdin,
        "window": window,
    }
    return Start(**(fields | changed))
