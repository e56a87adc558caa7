"""What a plug-in implements (packages `aed.auth.*` now; authz, delegation, sandbox in their own modules as they come).

Lives here: types that mechanisms and the session share. Must not live here: any mechanism, any I/O.

A mechanism is a package `aed.auth.NAME` (or an entry point of group `aed.auth`) with three modules:

`client.py`  `def credentials(context: ClientContext) -> Iterator[ClientAttempt]`; standard library only where it can.
`server.py`  `def serve(attempt: Attempt, data: bytes) -> Steps` and optionally `OPTIONS: tuple[Option, ...]`; runs in the session as root.
`check.py`   `def check(question: dict[str, Any]) -> dict[str, Any]`; runs in the checker as user aed. Raises `Declined`.

Three outcomes of `serve`: it returns `Evidence` (accepted), raises `Declined` (try another), raises anything else (the connection ends).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aed.model import Account, Evidence
from aed.wire.binding import Binding


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """Step: send `data` to the client; the step's result is the client's answer (bytes)."""

    data: bytes


@dataclass(frozen=True, kw_only=True)
class Check:
    """Step: ask this mechanism's `check` in a checker process. `question` and the result are JSON objects (bytes as hex text).

    The step raises `Declined` if the check declined, died or took longer than `timeout` seconds.
    """

    question: Mapping[str, Any]
    timeout: float = 10.0


@dataclass(frozen=True, kw_only=True)
class ReadUserFiles:
    """Step: read files as `account`, in a killable child, with StrictModes. The result is a list of `bytes`, one for each path that could be
    read; a path that is absent is left out; one that is unsafe is left out too and its reason goes to the audit log.

    `paths` are relative to the home unless absolute; each file is read to at most `limit` bytes.
    """

    account: Account
    paths: tuple[str, ...]
    strict: bool = True
    limit: int = 1 << 20
    timeout: float = 10.0


Step = Challenge | Check | ReadUserFiles
Steps = Generator[Step, Any, Evidence]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One authentication attempt, immutable. A new attempt is a new object."""

    mechanism: str
    user: str
    groups: tuple[str, ...]
    binding: Binding
    account: Account | None
    peer: str
    """The client's address as text, or `unix` for a socket of this machine."""
    peer_uid: int | None
    """The uid that the kernel vouches for (SO_PEERCRED), on a socket of this machine only."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The mechanism's own section of the configuration, checked."""
    now: float = 0.0
    """Seconds since the epoch, for validity dates."""


class ServerModule(Protocol):
    """A mechanism's `server` module."""

    def serve(self, attempt: Attempt, data: bytes) -> Steps: ...


@dataclass(frozen=True, kw_only=True)
class ClientContext:
    """What a mechanism's client side may use. `binding` are the bytes to sign for this mechanism; `trace` prints one line with -v;
    `ask(prompt)` reads a secret from the terminal, or raises `Unavailable` in batch; `identities` are the files named by --identity
    or configuration (empty: the defaults); `agent` is the agent's socket path or None; `home` the user's home; `local` says that the
    node is reached over a Unix socket; `batch` that nobody may be asked, by a helper program neither."""

    binding: bytes
    home: str
    identities: tuple[str, ...]
    agent: str | None
    trace: Callable[[str], None]
    ask: Callable[[str], str]
    local: bool = False
    batch: bool = False


ClientSteps = Generator[bytes, bytes, None]
"""A client attempt: each yielded value is sent (first in AuthRequest.data, then in AuthResponse.data); `send()` gives the node's challenge.
One that ends instead of answering gives the attempt up (AuthAbort)."""


class ClientModule(Protocol):
    """A mechanism's `client` module. `credentials` yields `(what, steps)`: a short name of the credential for messages, and its exchange."""

    def credentials(self, context: ClientContext) -> Iterator[tuple[str, ClientSteps]]: ...
