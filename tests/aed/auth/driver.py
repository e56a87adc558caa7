"""Pumps a mechanism's real client against its real server with its real check, in one process.

Lives here: what the session and aeclient do around a mechanism, without network and processes. Must not live here: any mechanism.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aed.errors import Declined
from aed.interfaces import Attempt, Challenge, Check, ClientContext, ReadUserFiles, Steps
from aed.model import Account, Evidence
from aed.wire.binding import CONTEXT, Binding

ME = Account(name="alice", uid=os.getuid(), gid=os.getgid(), groups=(os.getgid(),), home="/nonexistent", shell="/bin/sh")


def binding(mechanism: str = "publickey", /, **changes: Any) -> Binding:
    fields: dict[str, Any] = {
        "context": CONTEXT,
        "version": 1,
        "mechanism": mechanism,
        "user": "alice",
        "groups": ("higgs", "top"),
        "node_nonce": b"n" * 32,
        "identity": b"i" * 32,
        "exporter": b"e" * 32,
        "client_nonce": b"c" * 32,
        "hellos": b"h" * 32,
    }
    return Binding(**{**fields, **changes})


CHANGES: dict[str, Any] = {
    "context": "another proof",
    "version": 2,
    "mechanism": "other",
    "user": "bob",
    "groups": ("top", "higgs"),
    "node_nonce": b"x" * 32,
    "identity": b"x" * 32,
    "exporter": b"x" * 32,
    "client_nonce": b"x" * 32,
    "hellos": b"x" * 32,
}
"""Another value for each field of a binding."""


def attempt(mechanism: str, account: Account | None = ME, **changes: Any) -> Attempt:
    base = Attempt(
        mechanism=mechanism,
        user="alice",
        groups=("higgs", "top"),
        binding=binding(mechanism),
        account=account,
        peer="192.0.2.7",
        peer_uid=None,
        now=1_800_000_000.0,
    )
    return replace(base, **changes)


def context(home: str, trace: list[str], mechanism: str = "publickey", **changes: Any) -> ClientContext:
    def ask(prompt: str) -> str:
        raise AssertionError(f"asked {prompt}")

    base = ClientContext(binding=binding(mechanism).encode(), home=home, identities=(), agent=None, trace=trace.append, ask=ask)
    return replace(base, **changes)


@dataclass
class Node:
    """The session's part: runs `serve`, does its steps, records the questions."""

    serve: Callable[[Attempt, bytes], Steps]
    check: Callable[[dict[str, Any]], dict[str, Any]]
    attempt: Attempt
    files: dict[str, bytes] = field(default_factory=dict)
    questions: list[dict[str, Any]] = field(default_factory=list)
    challenges: list[bytes] = field(default_factory=list)
    read: list[ReadUserFiles] = field(default_factory=list)

    def run(self, data: bytes, respond: Callable[[bytes], bytes]) -> Evidence:
        steps = self.serve(self.attempt, data)
        try:
            step = next(steps)
            while True:
                try:
                    result = self._result(step, respond)
                except Declined as declined:
                    step = steps.throw(declined)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            assert isinstance(end.value, Evidence)
            return end.value

    def _result(self, step: Any, respond: Callable[[bytes], bytes]) -> Any:
        if isinstance(step, Challenge):
            self.challenges.append(step.data)
            try:
                return respond(step.data)
            except StopIteration:  # AuthAbort
                raise Declined("the client gave up") from None
        if isinstance(step, Check):
            question = json.loads(json.dumps(dict(step.question)))
            self.questions.append(question)
            return json.loads(json.dumps(self.check(question)))
        assert isinstance(step, ReadUserFiles)
        self.read.append(step)
        return [self.files[path] for path in step.paths if path in self.files]


@dataclass
class Login:
    """How a login ended: evidence or None, what each declined attempt said, the credentials' names."""

    evidence: Evidence | None
    declined: list[str]
    tried: list[str]


def login(node: Node, client: Any, client_context: ClientContext) -> Login:
    """What aeclient does: each credential in turn until one is accepted."""
    result = Login(None, [], [])
    for name, steps in client.credentials(client_context):
        result.tried.append(name)
        first = next(steps)
        try:
            result.evidence = node.run(first, steps.send)
            return result
        except Declined as declined:
            result.declined.append(str(declined))
        finally:
            steps.close()
    return result
