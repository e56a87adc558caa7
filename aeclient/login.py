"""From a target to an authenticated connection: transport, TLS, trust, Hello, the mechanisms one after the other (PROTOCOL.md, "Authentication").

Lives here: the order of it, blocking, with one time limit. Must not live here: what is done with the connection (`run`), proofs (`aed.auth`).
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections import deque

import aed
from aeclient import known_nodes, tls, transport
from aeclient.target import local_user
from aed import registry
from aed.errors import Denied, Misconfigured, RemoteError, Unavailable
from aed.wire.binding import CONTEXT, NONCE_SIZE, Binding
from aed.wire.connection import Connection
from aed.wire.frames import Frame
from aed.wire.messages import (
    Accept,
    AuthAbort,
    AuthChallenge,
    AuthFailed,
    AuthRequest,
    AuthResponse,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Welcome,
)
from aed.wire.states import CLIENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aeclient.target import Target
    from aeclient.transport import Stream
    from aed.interfaces import ClientSteps

VERSIONS = (1,)
PREFERENCE = ("local", "gssapi", "publickey", "x509", "token", "password")
"""Silent proofs first, what asks a person last."""
LOGIN_TIME = 150.0
"""Seconds without a word from the node before a login is given up; more than a node's grace time."""


class Trust:
    """What the user said about identities: `accept_new` trusts an unknown node without asking, `batch` never asks, `ca` is a site's authority."""

    __slots__ = ("accept_new", "batch", "ca")

    def __init__(self, *, accept_new: bool = False, batch: bool = False, ca: str | None = None) -> None:
        self.accept_new = accept_new
        self.batch = batch
        self.ca = ca


class MechanismContext:
    """What a mechanism's client side sees (`aed.interfaces.ClientContext`)."""

    __slots__ = ("agent", "ask", "batch", "binding", "home", "identities", "local", "trace")

    def __init__(self, binding: bytes, target: Target, *, local: bool, batch: bool, trace: Callable[[str], None], ask: Callable[[str], str]) -> None:
        self.binding = binding
        self.home = os.path.expanduser("~")
        self.identities = target.identities
        agent = target.agent if target.agent is not None else os.environ.get("SSH_AUTH_SOCK")
        self.agent = None if agent in (None, "", "none") else agent
        self.local = local
        self.batch = batch
        self.trace = trace
        self.ask = ask


class Conversation:
    """A TLS connection on which frames are sent and awaited, one at a time. `where` begins each message."""

    def __init__(self, sock: ssl.SSLSocket, where: str) -> None:
        self.sock = sock
        self.wire = Connection(CLIENT)
        self.where = where
        self.frames: deque[Frame] = deque()
        sock.settimeout(LOGIN_TIME)

    def send(self, message: Message) -> None:
        try:
            self.sock.sendall(self.wire.send(message))
        except OSError as error:
            raise Unavailable(f"{self.where}: the connection broke during authentication: {error}") from None

    def next_frame(self) -> Frame:
        """The next control message, not decoded."""
        while not self.frames:
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                raise Unavailable(f"{self.where}: no word from the node for {LOGIN_TIME:.0f} s during authentication") from None
            except OSError as error:
                raise Unavailable(f"{self.where}: the connection broke during authentication: {error}") from None
            if not data:
                raise Unavailable(f"{self.where}: the node closed the connection during authentication; its audit record says why")
            self.frames.extend(item for item in self.wire.receive(memoryview(data)) if isinstance(item, Frame))
        return self.frames.popleft()

    def expect(self) -> Message:
        """The next message that is not about keeping the connection alive. Raises `Denied` where the node says goodbye."""
        while True:
            message = self.next_frame().decode()
            if isinstance(message, Ping):
                self.send(Pong(cookie=message.cookie))
            elif isinstance(message, Goodbye):
                raise Denied(f"{self.where}: {one_line(message.text or message.reason)}")
            elif not isinstance(message, Pong):
                return message


class Session:
    """An authenticated connection to one node, still blocking."""

    def __init__(self, target: Target, conversation: Conversation, accept: Accept, node: str) -> None:
        self.target = target
        self.sock = conversation.sock
        self.wire = conversation.wire
        self.early = tuple(conversation.frames)
        """What the node said in one breath with Accept."""
        self.accept = accept
        self.node = node


def login(target: Target | None, stream: Stream, groups: tuple[str, ...], trust: Trust, trace: Callable[[str], None]) -> Session:
    """Authenticate over `stream` to `target` (None: the embedded node). Raises `Unavailable`, `Denied`, `Misconfigured` or `RemoteError`, each with a
    sentence that says what to do."""
    return _Login(target, groups, trust, trace).run(stream)


class _Login:
    def __init__(self, target: Target | None, groups: tuple[str, ...], trust: Trust, trace: Callable[[str], None]) -> None:
        from aeclient.target import Target as Node

        self.embedded = target is None
        self.target = target if target is not None else Node("this machine", "")
        self.groups = groups
        self.trust = trust
        self.where = self.target.name
        self._say = trace

    def trace(self, text: str) -> None:
        self._say(f"{self.where}: {text}")

    def run(self, stream: Stream) -> Session:
        raw = stream.sock
        if self.embedded:
            return self._converse(self._shake(raw, stream.identity()), local=True)
        name = known_nodes.name_of(self.target)
        pinned = known_nodes.lookup(name)
        self.trace("connected" if self.target.via is None else f"connected through {self.target.command()}")
        if pinned is None and self.trust.ca is None:
            pinned = self._first_use(name, raw)
            raw = transport.open_stream(self.target)
        try:
            channel = self._shake(raw, pinned, self.trust.ca)
        except tls.Changed as error:
            raw.close()
            if pinned is None:
                raise Denied(f"{self.where}: its certificate is not good: {error}. Nothing was sent to it.") from None
            offered = self._offered_identity()
            raise Denied(known_nodes.changed(name, pinned, offered)) from None
        return self._converse(channel, local=transport.is_local(self.target))

    def _shake(self, raw: socket.socket, pinned: bytes | None = None, ca: str | None = None) -> tls.Channel:
        """TLS over `raw`; a failure names the node, and the command in between."""
        try:
            return tls.connect(raw, pinned=pinned, ca=ca, host=self.target.host)
        except Unavailable as error:
            raw.close()
            through = f" (through the command: {self.target.command()})" if self.target.via is not None else ""
            raise Unavailable(f"{self.where}: {error}{through}") from None

    # Trust.

    def _first_use(self, name: str, raw: socket.socket) -> bytes:
        """Ask about a node that is not known, and pin it. Nothing is proved on this connection."""
        identity = self._greet(self._shake(raw))[1].certificate
        raw.close()
        if not self.trust.accept_new:
            if self.trust.batch or not sys.stdin.isatty():
                raise Denied(known_nodes.refused_in_batch(name, identity))
            if not _confirmed(known_nodes.first_use(name, identity)):
                raise Denied(f"{name} was not trusted; nothing was sent to it")
        known_nodes.add(name, identity)
        self.trace(f"pinned as {known_nodes.fingerprint(identity)}")
        return identity

    def _offered_identity(self) -> bytes:
        """What the node that is not the pinned one says it is, for the message."""
        channel = self._shake(transport.open_stream(self.target))
        identity = self._greet(channel)[1].certificate
        channel.sock.close()
        return identity

    # The exchange.

    def _greet(self, channel: tls.Channel) -> tuple[Conversation, Welcome, bytes, bytes]:
        """Hello and Welcome: the conversation, the welcome, our nonce, the hash over both."""
        conversation = Conversation(channel.sock, self.where)
        nonce = os.urandom(NONCE_SIZE)
        hello = Hello(versions=VERSIONS, software=f"aeclient {aed.__version__}", capabilities=(), nonce=nonce)
        conversation.send(hello)
        frame = conversation.next_frame()
        welcome = frame.decode()
        if isinstance(welcome, Goodbye):
            raise Denied(f"{self.where}: {one_line(welcome.text or welcome.reason)}")
        if not isinstance(welcome, Welcome) or welcome.version not in VERSIONS or len(welcome.nonce) != NONCE_SIZE:
            raise RemoteError(f"{self.where}: the node did not welcome us as the protocol says")
        return conversation, welcome, nonce, hashlib.sha256(hello.encode() + frame.payload).digest()

    def _converse(self, channel: tls.Channel, *, local: bool) -> Session:
        conversation, welcome, nonce, hellos = self._greet(channel)
        self.trace(f"TLS 1.3 with node {welcome.node} ({welcome.software}), identity {known_nodes.fingerprint(channel.certificate or b'')}")
        user = self.target.user or local_user()
        usable = [name for name in PREFERENCE if name in welcome.mechanisms] + [name for name in welcome.mechanisms if name not in PREFERENCE]
        tried: list[str] = []
        said = ""
        for mechanism in usable:
            try:
                module = registry.client(mechanism)
            except (Misconfigured, Unavailable) as error:
                tried.append(f"{mechanism}: {error}")
                self.trace(tried[-1])
                continue
            notes: list[str] = []
            binding = Binding(
                context=CONTEXT,
                version=welcome.version,
                mechanism=mechanism,
                user=user,
                groups=self.groups,
                node_nonce=welcome.nonce,
                identity=hashlib.sha256(channel.certificate or b"").digest(),
                exporter=channel.exporter,
                client_nonce=nonce,
                hellos=hellos,
            )
            context = MechanismContext(binding.encode(), self.target, local=local, batch=self.trust.batch, trace=self._noting(notes), ask=self._ask)
            offered = False
            for what, steps in module.credentials(context):  # type: ignore[arg-type]
                offered = True
                answer = self._attempt(conversation, mechanism, user, steps)
                if isinstance(answer, Accept):
                    self.trace(f"{mechanism}: {what} accepted: {answer.identity} is {answer.account} in group {answer.group}")
                    return Session(self.target, conversation, answer, welcome.node)
                said = answer or said
                self.trace(f"{mechanism}: {what} was not accepted{': ' + answer if answer else ''}")
                tried.append(f"{mechanism}: {what} was not accepted")
            if not offered:
                tried.append(notes[-1] if notes else f"{mechanism}: nothing to offer")
        if said:
            raise Denied(f"{self.where}: {said}")
        details = "; ".join(tried) or f"the node takes {', '.join(welcome.mechanisms)}, and none of them is known here"
        raise Denied(f"{self.where}: not authenticated as {user!r}: {details}. More with -v; the node's audit record has its reason.")

    def _noting(self, notes: list[str]) -> Callable[[str], None]:
        def note(text: str) -> None:
            notes.append(text)
            self.trace(text)

        return note

    def _attempt(self, conversation: Conversation, mechanism: str, user: str, steps: ClientSteps) -> Accept | str:
        """One credential: the Accept, or what the node said to a proved identity ("" for nothing)."""
        data = next(steps)
        named = self.target.user is not None
        conversation.send(AuthRequest(user=user, named=named, groups=self.groups, mechanism=mechanism, data=data))
        while True:
            message = conversation.expect()
            if isinstance(message, AuthChallenge):
                try:
                    conversation.send(AuthResponse(data=steps.send(message.data)))
                except StopIteration:
                    conversation.send(AuthAbort())
            elif isinstance(message, Accept):
                return message
            elif isinstance(message, AuthFailed):
                return one_line(message.text)

    def _ask(self, prompt: str) -> str:
        if self.trust.batch:
            raise Unavailable("there is nobody to ask in batch mode")
        import getpass

        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            # Standard input is the worker's: it is never read for a passphrase.
            raise Unavailable("there is no terminal to ask on") from None
        return getpass.getpass(prompt)


def one_line(text: str) -> str:
    """A node's sentence: it must not look like several of ours."""
    return " ".join(text.split())


def _confirmed(question: str) -> bool:
    """The whole word, as ssh wants it; anything else but no asks again."""
    sys.stderr.write(question)
    sys.stderr.flush()
    while True:
        answer = sys.stdin.readline()
        word = answer.strip().lower()
        if word in ("yes", "no") or not answer:
            return word == "yes"
        sys.stderr.write("Please type yes or no: ")
        sys.stderr.flush()
