"""Client of the ssh-agent protocol (draft-ietf-sshm-ssh-agent) over its Unix socket: list keys, sign.

Lives here: the two requests and their answers. Must not live here: which key to use.
"""

from __future__ import annotations

import socket

from aed.auth.publickey.sshwire import read_string, string
from aed.errors import Unavailable

REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14
RSA_SHA2_512 = 4

MAX_ANSWER = 1 << 18
MAX_KEYS = 256
LIST_SECONDS = 5.0
SIGN_SECONDS = 120.0
"""An agent may ask its owner to confirm, or wait for a touch."""


def keys(path: str) -> list[tuple[bytes, str]]:
    """Public keys and comments that the agent at `path` holds. Raises `Unavailable`."""
    body = _ask(path, bytes((REQUEST_IDENTITIES,)), IDENTITIES_ANSWER, LIST_SECONDS)
    count = int.from_bytes(body[:4], "big")
    found = []
    at = 4
    try:
        for _ in range(min(count, MAX_KEYS)):
            key, at = read_string(body, at)
            comment, at = read_string(body, at)
            found.append((key, _printable(comment)))
    except ValueError as error:
        raise Unavailable(f"the ssh-agent at {path} gave a list that {error}") from None
    return found


def sign(path: str, key: bytes, data: bytes) -> bytes:
    """The agent's ssh signature over `data`. Raises `Unavailable`, also where it does not hold the key or its owner refused."""
    flags = RSA_SHA2_512 if key.startswith(string(b"ssh-rsa")) else 0
    request = bytes((SIGN_REQUEST,)) + string(key) + string(data) + flags.to_bytes(4, "big")
    body = _ask(path, request, SIGN_RESPONSE, SIGN_SECONDS)
    try:
        return read_string(body, 0)[0]
    except ValueError as error:
        raise Unavailable(f"the ssh-agent at {path} gave a signature that {error}") from None


def _ask(path: str, request: bytes, expected: int, seconds: float) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(seconds)
            agent.connect(path)
            agent.sendall(string(request))
            size = int.from_bytes(_receive(agent, 4), "big")
            if not 1 <= size <= MAX_ANSWER:
                raise Unavailable(f"the ssh-agent at {path} announced an answer of {size} bytes")
            answer = _receive(agent, size)
    except OSError as error:
        raise Unavailable(f"the ssh-agent at {path} does not answer: {error.strerror or error}") from None
    if answer[0] != expected:
        raise Unavailable(f"the ssh-agent at {path} refused")
    return answer[1:]


def _receive(agent: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = agent.recv(size - len(parts))
        if not part:
            raise Unavailable("the ssh-agent closed the connection")
        parts += part
    return bytes(parts)


def _printable(comment: bytes) -> str:
    """A comment fit for a terminal: it may come from another machine's agent."""
    return "".join(c if c.isprintable() else "?" for c in comment.decode("utf-8", "replace"))[:80]
