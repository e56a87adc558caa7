"""A checker: answers one question of a session about a proof, then exits (user aed, under seccomp).

Lives here: the question's and the answer's form, at both ends. Must not live here: any mechanism (they bring their `check.py`).
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from aed import registry, spawn
from aed.errors import Declined, RemoteError, Unavailable

MAX_MESSAGE = 8 << 20
MEMORY = 1 << 30


def main(sock: socket.socket, confine: Callable[[], None]) -> None:
    """The checker's side: read the question, answer it, end."""
    try:
        question = json.loads(_receive(sock, None))
    except RemoteError:
        return  # the session did not need us
    module = registry.check(question["mechanism"])
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    confine()
    answer: dict[str, Any]
    try:
        answer = {"accepted": module.check(question["question"])}
    except Declined as error:
        answer = {"declined": str(error)}
    _send(sock, answer)


class Checker:
    """The session's side: a checker that waits for its one question. Started early, it is ready by the time that the proof is here."""

    def __init__(self, zygote: socket.socket) -> None:
        """Raises `Unavailable` if none can be had."""
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                spawn.ask(zygote, spawn.CHECKER, theirs)
        except BaseException:
            self._sock.close()
            raise

    def ask(self, mechanism: str, question: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """The answer. Raises `Declined` where the check declined, died, or was not done by `deadline` (monotonic seconds)."""
        with self._sock:
            try:
                _send(self._sock, {"mechanism": mechanism, "question": dict(question)})
                answer = json.loads(_receive(self._sock, deadline))
            except (Unavailable, RemoteError, ValueError, OSError) as error:
                raise Declined(f"the checker gave no answer: {error}") from None
        if not isinstance(answer, dict):
            raise Declined("the checker gave no object")
        if "accepted" in answer and isinstance(answer["accepted"], dict):
            return answer["accepted"]
        raise Declined(str(answer.get("declined", "the checker gave no reason"))[:512])

    def close(self) -> None:
        """It is not needed; it ends."""
        self._sock.close()


def _send(sock: socket.socket, value: object) -> None:
    data = json.dumps(value).encode()
    sock.sendall(len(data).to_bytes(4, "big") + data)


def _receive(sock: socket.socket, deadline: float | None) -> bytes:
    size = int.from_bytes(_exactly(sock, 4, deadline), "big")
    if size > MAX_MESSAGE:
        raise RemoteError(f"a question or answer of {size} bytes")
    return _exactly(sock, size, deadline)


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while len(parts) < size:
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Unavailable("it took too long")
        chunk = os.read(sock.fileno(), size - len(parts))
        if not chunk:
            raise RemoteError("it ended early")
        parts += chunk
    return bytes(parts)
