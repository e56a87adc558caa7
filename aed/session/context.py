"""What a session is born with: the configuration of the moment, the node's identity, the way to the zygote, the peer.

Lives here: one frozen value. The listener fills it, the session reads it; a reload makes a new one for later sessions only.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aed.audit import Audit
from aed.authz.groups_file import Groups
from aed.config import Config


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """The TLS leaf of the moment, as the issuer gave it. `identity` is the certificate that clients pin, DER; `until` in monotonic seconds."""

    chain: tuple[str, ...]
    key: str
    identity: bytes
    until: float


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The clocks that decisions use. Delays and deadlines are monotonic; `wall` is for validity dates and records only."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Node:
    """What all sessions of a node share."""

    config: Config
    groups: Groups | None
    """None in the embedded node: any valid name is a label."""
    audit: Audit
    leaf: Leaf
    zygote: socket.socket
    filters: Mapping[str, bytes]
    mechanisms: Mapping[str, Any]
    """Server modules by name, in the order of the configuration."""
    name: str
    embedded: bool
    user: str
    """The account of nets and checkers; "" where all processes are the caller's own."""
    sandbox_fault: str
    """Why this machine cannot make a sandbox; "" where it can."""
    delay_key: bytes
    scratch: str
    """The directory in which each session makes its workers' /tmp."""
    clock: Clock = Clock()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who connected: `address` as text ("unix" for a socket of this machine), `uid` if the kernel vouches for one."""

    address: str
    uid: int | None = None
