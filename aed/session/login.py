"""Who comes in: the exchange from Hello to Accept, straight down, with one deadline (PROTOCOL.md, "Authentication").

Lives here: driving mechanisms, the count of tries, the answer's schedule, the audit record of each attempt. Must not live here: proofs
(`aed.auth`), policy (`authorize`), anything after the grant.
"""

from __future__ import annotations

import hashlib
import os
import select

import aed
from aed import link as records
from aed.authz import user_files
from aed.authz.accounts import lookup
from aed.checker import Checker
from aed.errors import Declined, Denied, RemoteError, Unavailable
from aed.interfaces import Attempt, Challenge, Check, ReadUserFiles, Steps
from aed.link import Link
from aed.model import Account, Evidence, Grant
from aed.session.authorize import authorize
from aed.session.context import Node, Peer
from aed.session.monitor import BEFORE_LOGIN, IN_EXCHANGE, Monitor
from aed.session.schedule import failure_delay
from aed.wire.binding import CONTEXT, NONCE_SIZE, Binding
from aed.wire.messages import AuthAbort, AuthChallenge, AuthFailed, AuthRequest, AuthResponse, Fault, Goodbye, Hello, Message, Welcome, clip

VERSIONS = (1,)
CAPABILITIES: tuple[str, ...] = ()
MAX_USER = 256
MAX_STEPS = 64
RECORDED_NAME, RECORDED_GROUPS = 64, 16
"""What anybody may write into the audit record, without any proof, is little: were the disk full, nobody could log in."""


class Over(Exception):
    """The connection ends before a login. `reason` is a word for the record; `text`, if there is one, has been or will be told to the client."""

    def __init__(self, reason: str, text: str = "", fault: int = Fault.NONE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text
        self.fault = fault


class Aborted(Declined):
    """The client gave the attempt up."""


class Login:
    """One connection's way to a grant. `session` is the id that the grant will have."""

    def __init__(self, node: Node, peer: Peer, link: Link, monitor: Monitor, session: str) -> None:
        self.node = node
        self.peer = peer
        self.link = link
        self.monitor = monitor
        self.session = session
        self.audit = node.audit.for_session(session)
        self.clock = node.clock
        self.deadline = self.clock.monotonic() + node.config["limits.grace_time"].total_seconds()
        self.exporter = b""
        self.nonce = os.urandom(NONCE_SIZE)
        self.client_nonce = b""
        self.hellos = b""
        self.checker: Checker | None = None
        self.fixed: tuple[str, bool, tuple[str, ...]] | None = None

    def run(self) -> Grant:
        """Raises `Over` where nobody came in, `RemoteError` where the client or net broke the protocol."""
        self._read_exporter()
        self._greet()
        self.monitor.phase = BEFORE_LOGIN
        tries = 0
        while True:
            request = self._next(AuthRequest)
            assert isinstance(request, AuthRequest)
            tries += 1
            started = self.clock.monotonic()
            grant, text = self._attempt(request)
            if grant is not None:
                return grant
            delay = failure_delay(request.user, self.node.delay_key, self.clock.monotonic() - started)
            self.clock.sleep(max(0.0, started + delay - self.clock.monotonic()))
            if tries >= self.node.config["limits.max_auth_tries"]:
                raise Over("too many tries", text or "too many authentication attempts: name one credential with --identity", Fault.DENIED)
            self.send(AuthFailed(mechanisms=tuple(self.node.mechanisms), text=clip(text)))

    def send(self, message: Message) -> None:
        self.link.send(records.message(message.code, 0, message.encode()))

    def _read_exporter(self) -> None:
        record = self._record()
        if record[0] != records.READY or len(record) != 33:
            raise RemoteError("net spoke before TLS was ready")
        self.exporter = record[1:]

    def _greet(self) -> None:
        code, channel, payload = records.parse_message(self._record(records.MESSAGE))
        hello = self.monitor.admit(code, channel, payload)
        if not isinstance(hello, Hello):
            raise Over("closed by the client")
        version = next((version for version in hello.versions if version in VERSIONS), None)
        if version is None:
            spoken = ", ".join(map(str, VERSIONS))
            raise Over("version", f"this node ({aed.__version__}) speaks protocol version {spoken} only: update aeclient", Fault.DENIED)
        if len(hello.nonce) != NONCE_SIZE:
            raise RemoteError(f"a nonce of {len(hello.nonce)} bytes; it has {NONCE_SIZE}")
        self.client_nonce = hello.nonce
        welcome = Welcome(
            version=version,
            software=f"aed {aed.__version__}",
            capabilities=CAPABILITIES,
            nonce=self.nonce,
            node=self.node.name,
            certificate=self.node.leaf.identity,
            mechanisms=tuple(self.node.mechanisms),
        )
        if self.peer.uid is None:
            self.checker = Checker(self.node.zygote)  # nobody from elsewhere logs in without one
        self.hellos = hashlib.sha256(payload + welcome.encode()).digest()
        self.version = version
        self.send(welcome)

    def _attempt(self, request: AuthRequest) -> tuple[Grant | None, str]:
        """A grant, or none and what a proved identity may be told."""
        asked = (request.user, request.named, request.groups)
        if self.fixed is None:
            if len(request.user) > MAX_USER or not request.user.isprintable():
                raise RemoteError("the user name is too long or not printable")
            self.fixed = asked
        elif asked != self.fixed:
            raise RemoteError("the user or the groups changed during the exchange")
        groups = [name[:RECORDED_NAME] for name in request.groups[:RECORDED_GROUPS]]
        facts: dict[str, object] = {"mechanism": request.mechanism[:RECORDED_NAME], "user": request.user, "groups": groups}
        if request.mechanism not in self.node.mechanisms:
            self._record_failure(facts, "this mechanism is not configured")
            return None, ""
        try:
            account = lookup(request.user)
            evidence = self._prove(request, account, facts)
        except Declined as error:
            self._record_failure(facts, str(error))
            return None, ""
        facts |= {"identity": str(evidence.identity), **{f"proof_{name}": value for name, value in evidence.facts}}
        try:
            grant = authorize(self.node, evidence, request.user if request.named else "", request.groups, self.session, account)
        except Denied as error:
            self._record_failure(facts, str(error), proved=True)
            return None, str(error)
        facts |= {"account": grant.account.name, "account_rule": grant.account_rule, "group": grant.group.name, "group_rule": grant.group_rule}
        try:
            self.audit.record("login", peer=self.peer.address, **facts)
        except Unavailable as error:
            raise Over(f"no record: {error}", "this node cannot record logins, so it takes none: tell its administrator", Fault.LOCAL) from None
        return grant, ""

    def _prove(self, request: AuthRequest, account: Account | None, facts: dict[str, object]) -> Evidence:
        """Run the mechanism's steps to their end."""
        attempt = Attempt(
            mechanism=request.mechanism,
            user=request.user,
            groups=request.groups,
            binding=Binding(
                context=CONTEXT,
                version=self.version,
                mechanism=request.mechanism,
                user=request.user,
                groups=request.groups,
                node_nonce=self.nonce,
                identity=hashlib.sha256(self.node.leaf.identity).digest(),
                exporter=self.exporter,
                client_nonce=self.client_nonce,
                hellos=self.hellos,
            ),
            account=account,
            peer=self.peer.address,
            peer_uid=self.peer.uid,
            options=self.node.config.mechanism_options(request.mechanism),
            now=self.clock.wall(),
        )
        steps: Steps = self.node.mechanisms[request.mechanism].serve(attempt, request.data)
        result: object = None
        for _ in range(MAX_STEPS):
            try:
                step = steps.send(result)
            except StopIteration as end:
                evidence: Evidence = end.value
                return evidence
            if isinstance(step, Challenge):
                result = self._challenge(step)
            elif isinstance(step, Check):
                deadline = min(self.deadline, self.clock.monotonic() + step.timeout)
                try:
                    result = self._checker().ask(request.mechanism, step.question, deadline)
                except Declined as error:
                    steps.throw(error)
                    raise
            elif isinstance(step, ReadUserFiles):
                result, reasons = user_files.read(step)
                if reasons:
                    facts["files"] = [*already, *reasons] if isinstance(already := facts.get("files"), list) else reasons
        raise Declined(f"the mechanism took more than {MAX_STEPS} steps")

    def _checker(self) -> Checker:
        """The one that waits, or a new one: each answers one question."""
        checker, self.checker = self.checker or Checker(self.node.zygote), None
        return checker

    def close(self) -> None:
        """What only a login needs."""
        if self.checker is not None:
            self.checker.close()

    def _challenge(self, step: Challenge) -> bytes:
        self.send(AuthChallenge(data=step.data))
        self.monitor.phase = IN_EXCHANGE
        answer = self._next(AuthResponse, AuthAbort)
        self.monitor.phase = BEFORE_LOGIN
        if isinstance(answer, AuthResponse):
            return answer.data
        raise Aborted("the client gave up")

    def _record_failure(self, facts: dict[str, object], reason: str, *, proved: bool = False) -> None:
        try:
            self.audit.record("refused", peer=self.peer.address, proved=proved, reason=reason, **facts)
        except Unavailable as error:
            raise Over(f"no record: {error}") from None

    def _next(self, *kinds: type[Message]) -> Message:
        message = self.monitor.admit(*records.parse_message(self._record(records.MESSAGE)))
        if isinstance(message, Goodbye):
            raise Over("closed by the client")
        if not isinstance(message, kinds):
            raise RemoteError(f"{type(message).__name__} came, {kinds[0].__name__} was due")
        return message

    def _record(self, kind: int | None = None) -> bytes:
        """The next record of net, waited for until the grace time ends."""
        poll = select.poll()
        poll.register(self.link, select.POLLIN)
        while True:
            try:
                received = self.link.receive()
            except (EOFError, OSError):
                raise Over("the connection ended") from None
            if received is not None:
                record, descriptors = received
                for descriptor in descriptors:
                    os.close(descriptor)
                if record[0] == records.LOST:
                    raise Over(record[1:].decode(errors="replace"))
                if kind is not None and record[0] != kind:
                    raise RemoteError(f"net sent record {record[0]:#x} before the login")
                return record
            left = self.deadline - self.clock.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise Over("grace time", "authentication took too long", Fault.DENIED)
