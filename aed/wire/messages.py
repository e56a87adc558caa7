"""Every message of the protocol: its code, its fields, its meaning (PROTOCOL.md, "Messages").

Lives here: the vocabulary. Must not live here: who may send what when (`states.py`).
"""

from __future__ import annotations

from aed.wire.codec import Record, u8, u16, u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

BY_CODE: dict[int, type[Message]] = {}

PER_CHANNEL = range(0x30, 0x40)
"""Codes of messages that belong to one channel; every other message travels on channel 0."""


class Message(Record):
    """A message with a code. The code is a class argument, so that it stands beside the name."""

    if TYPE_CHECKING:
        code: ClassVar[int]

    def __init_subclass__(cls, code: int) -> None:
        super().__init_subclass__()
        cls.code = code
        BY_CODE[code] = cls


class Hello(Message, code=0x01):
    """The client's first message: versions it speaks, best first, what it can do, and 32 random bytes."""

    versions: tuple[u16, ...]
    software: str
    capabilities: tuple[str, ...]
    nonce: bytes


class Welcome(Message, code=0x02):
    """The node's answer: the version in force, its own nonce, its identity certificate (DER) and the mechanisms it takes."""

    version: u16
    software: str
    capabilities: tuple[str, ...]
    nonce: bytes
    node: str
    certificate: bytes
    mechanisms: tuple[str, ...]


class Goodbye(Message, code=0x03):
    """Ends the connection. `fault` is a value of `Fault`, `reason` a word for programs, `text` a sentence for people."""

    fault: u8
    reason: str
    text: str


class Ping(Message, code=0x04):
    """Asks for a Pong with the same cookie."""

    cookie: u64


class Pong(Message, code=0x05):
    """Answers a Ping."""

    cookie: u64


class AuthRequest(Message, code=0x10):
    """A proof by one mechanism. `user` (may be empty), `named` and `groups` must stay the same for the whole connection.

    `named`: the person asked for the account `user`; otherwise it is only the client's own user name, and the identity map may give another.
    """

    user: str
    named: bool
    groups: tuple[str, ...]
    mechanism: str
    data: bytes


class AuthChallenge(Message, code=0x11):
    """The mechanism on the node asks its other half something."""

    data: bytes


class AuthResponse(Message, code=0x12):
    """The answer to a challenge."""

    data: bytes


class AuthAbort(Message, code=0x13):
    """The client gives this attempt up. It counts as a try, and is answered as one, by AuthFailed."""


class AuthFailed(Message, code=0x14):
    """The attempt was not accepted. `mechanisms` may go on. `text` is empty unless the identity was proved and policy said no."""

    mechanisms: tuple[str, ...]
    text: str


class Accept(Message, code=0x15):
    """The login is granted and recorded. `denied` are the requested groups that were not given."""

    session: str
    identity: str
    account: str
    group: str
    groups: tuple[str, ...]
    denied: tuple[str, ...]
    profile: str
    max_workers: u32
    notice: str


class Start(Message, code=0x20):
    """Start a worker. `argv` is exec'd as it is; if it is empty, `shell` goes to the account's login shell.

    `worker`: its number in the run, never used twice in a session; its channels are worker*4 (standard input and output), +1 (standard
    error), +2 (messages to and from the master). `workers`: how many the run has. `profile` empty means the group's default.
    `inputs`: paths that a strict worker may read. `stdin`: whether the client will send standard input. `window`: bytes that the client
    takes on each of the worker's channels before it acknowledges.
    """

    worker: u32
    workers: u32
    run: str
    argv: tuple[bytes, ...]
    shell: bytes
    names: tuple[str, ...]
    values: tuple[str, ...]
    profile: str
    inputs: tuple[str, ...]
    stdin: bool
    window: u32


class Started(Message, code=0x21):
    """The worker runs; `window` is what the node takes on each of its channels before it acknowledges."""

    worker: u32
    window: u32


class NotStarted(Message, code=0x22):
    """The worker was refused or could not be started; `text` says why and what would be right."""

    worker: u32
    text: str


class Exited(Message, code=0x23):
    """The worker's process ended; its output is complete when each of its channels has had its End, before or after this.

    `status` is its exit status, or `signal` is not 0. Times in microseconds, memory in KiB.
    """

    worker: u32
    status: u8
    signal: u8
    text: str
    cpu: u64
    wall: u64
    memory: u64


class Signal(Message, code=0x24):
    """Send a signal (its name without SIG: INT, TERM, HUP, KILL, ...) to a worker's process group."""

    worker: u32
    name: str


class Notice(Message, code=0x25):
    """A sentence from the node for the person."""

    text: str


class Data(Message, code=0x30):
    """Bytes of a channel's stream from `offset` on. On the wire the bytes follow the offset directly, with no length of their own."""

    offset: u64


class Ack(Message, code=0x31):
    """All bytes below `offset` are safe here and need not be kept; bytes below `limit` may be sent."""

    offset: u64
    limit: u64


class End(Message, code=0x32):
    """The stream ends at `offset`: half-close. The other direction goes on."""

    offset: u64


class Reset(Message, code=0x33):
    """Nobody reads this stream any more; the sender stops (as EPIPE says it on a pipe)."""


MAX_TEXT = 1000
"""Characters of a sentence for people; what comes from the peer may be in it."""


class Fault:
    """Whose fault a Goodbye is, seen from its sender."""

    NONE = 0
    LOCAL = 1
    REMOTE = 2
    DENIED = 3


def clip(text: str) -> str:
    """A sentence that surely fits in a message, and in a log line."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def stdio(worker: int) -> int:
    """The channel of a worker's standard input (towards the node) and standard output (towards the client)."""
    return worker * 4


def stderr(worker: int) -> int:
    """The channel of a worker's standard error."""
    return worker * 4 + 1


def messages(worker: int) -> int:
    """The channel of a worker's messages to and from the master."""
    return worker * 4 + 2


MAX_WORKER = (1 << 30) - 1
