"""Makes the test vectors of PROTOCOL.md, `tests/vectors/*.json`. Everything random in a session is fixed here.

    python tools/make_vectors.py            writes them
    python tools/make_vectors.py --check    exit 1 if a file is not what it would write

Within a protocol version a vector is never changed, only added. Must not live here: what a vector must hold to (tests/aed/wire/test_vectors.py).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aeclient import records
from aed.auth.publickey import messages as publickey
from aed.auth.publickey import sshsig, sshwire
from aed.auth.x509 import messages as x509
from aed.wire import frames
from aed.wire.binding import CONTEXT, Binding
from aed.wire.codec import Record
from aed.wire.messages import (
    Accept,
    Ack,
    AuthAbort,
    AuthChallenge,
    AuthFailed,
    AuthRequest,
    AuthResponse,
    Data,
    End,
    Exited,
    Goodbye,
    Hello,
    Message,
    Notice,
    NotStarted,
    Ping,
    Pong,
    Reset,
    Signal,
    Start,
    Started,
    Welcome,
)
from aed.wire.states import CLIENT, NODE

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"

CLIENT_NONCE = bytes(range(32))
NODE_NONCE = bytes(range(32, 64))
CERTIFICATE = b"stands for the identity certificate in DER"
EXPORTER = bytes(range(64, 96))
KEY = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
PUBLIC = sshwire.string(b"ssh-ed25519") + sshwire.string(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
OTHER_PUBLIC = sshwire.string(b"ssh-ed25519") + sshwire.string(bytes([9]) * 32)

HELLO = Hello(versions=(1,), software="aeclient 0.1", capabilities=(), nonce=CLIENT_NONCE)
WELCOME = Welcome(
    version=1,
    software="aed 0.1",
    capabilities=(),
    nonce=NODE_NONCE,
    node="node1.example.org",
    certificate=CERTIFICATE,
    mechanisms=("publickey", "x509", "local"),
)
ACCEPT = Accept(
    session="s-0001",
    identity="publickey:SHA256:fingerprint",
    account="alice",
    group="higgs",
    groups=("higgs", "top"),
    denied=("admin",),
    profile="default",
    max_workers=64,
    notice="",
)
START = Start(
    worker=0,
    workers=2,
    run="r-1",
    argv=(b"cat", b"-u"),
    shell=b"",
    names=("LANG",),
    values=("C.UTF-8",),
    profile="",
    inputs=(),
    stdin=True,
    window=1 << 20,
)


def plain(value: Any) -> Any:
    """A field's value in JSON: bytes as hexadecimal text."""
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def fields(record: Record) -> dict[str, Any]:
    return {name: plain(value) for name, value in record.__dict__.items()}


# Messages.


def samples() -> Iterator[tuple[str, Message, int]]:
    """Name, message, channel: each type at least once, each field type at its edges."""
    yield "hello", HELLO, 0
    yield "hello that speaks nothing", Hello(versions=(), software="", capabilities=(), nonce=b""), 0
    later = Hello(versions=(2, 1, 65535), software="aeclient 9 – é ☃ 𝄞", capabilities=("resume", "pty"), nonce=CLIENT_NONCE)
    yield "hello of a later client", later, 0
    yield "welcome", WELCOME, 0
    yield "goodbye", Goodbye(fault=0, reason="done", text=""), 0
    yield "goodbye, denied", Goodbye(fault=3, reason="version", text="this node speaks protocol version 1 only: update aeclient"), 0
    yield "ping", Ping(cookie=0), 0
    yield "pong", Pong(cookie=(1 << 64) - 1), 0
    yield "authrequest", AuthRequest(user="alice", named=True, groups=("higgs", "top"), mechanism="publickey", data=b"\x01\x00\x00"), 0
    yield "authrequest, empty", AuthRequest(user="", named=False, groups=(), mechanism="local", data=b""), 0
    yield "authchallenge", AuthChallenge(data=b"\x02\x00"), 0
    yield "authresponse", AuthResponse(data=bytes(range(256))), 0
    yield "authabort", AuthAbort(), 0
    yield "authfailed, unproved", AuthFailed(mechanisms=("publickey", "x509"), text=""), 0
    yield "authfailed, proved", AuthFailed(mechanisms=("publickey",), text="alice is in higgs and top, not in admin"), 0
    yield "accept", ACCEPT, 0
    yield "start", START, 0
    yield "start of a shell command", Start(**{**START.__dict__, "worker": (1 << 30) - 1, "argv": (), "shell": b"echo \xff", "stdin": False}), 0
    yield "started", Started(worker=0, window=1 << 20), 0
    yield "notstarted", NotStarted(worker=3, text="group higgs may run 2 workers in a session here, and 2 are running"), 0
    yield "exited", Exited(worker=0, status=0, signal=0, text="", cpu=1_500_000, wall=2_000_000, memory=10_240), 0
    yield "exited by a signal", Exited(worker=1, status=0, signal=9, text="killed", cpu=0, wall=(1 << 64) - 1, memory=0), 0
    yield "signal", Signal(worker=0, name="INT"), 0
    yield "notice", Notice(text="this node restarts at 18:00"), 0
    yield "data, its offset alone", Data(offset=(1 << 63) - 1), 0
    yield "ack", Ack(offset=4, limit=(1 << 20) + 4), 0
    yield "ack on standard error of worker 1", Ack(offset=0, limit=0), 5
    yield "end", End(offset=4), (1 << 32) - 2
    yield "reset", Reset(), 6


def refused_payloads() -> Iterator[tuple[str, str, bytes]]:
    """Name, message, payload that must be refused."""
    yield "a byte after the end", "Ping", bytes(9)
    yield "cut off inside an integer", "Ping", bytes(7)
    yield "nothing where a field is due", "Goodbye", b""
    yield "a message without fields has none", "Reset", b"\x00"
    yield "a flag of 2", "AuthRequest", AuthRequest(user="", named=True, groups=(), mechanism="", data=b"").encode().replace(b"\x01", b"\x02", 1)
    yield "a string past the end", "Notice", b"\x00\x00\x00\x02a"
    yield "a string of 4 GiB", "Notice", b"\xff\xff\xff\xff"
    yield "half a length", "Notice", b"\x00\x00"
    yield "not UTF-8", "Notice", b"\x00\x00\x00\x01\xff"
    yield "overlong UTF-8", "Notice", b"\x00\x00\x00\x02\xc0\xaf"
    yield "a surrogate", "Notice", b"\x00\x00\x00\x03\xed\xa0\x80"
    yield "a NUL", "Notice", b"\x00\x00\x00\x03a\x00b"
    yield "1025 items", "AuthFailed", b"\x04\x01" + bytes(4 * 1025) + bytes(4)
    yield "fewer items than said", "AuthFailed", b"\x00\x02" + bytes(4)


def message_vectors() -> dict[str, Any]:
    return {
        "good": [
            {
                "name": name,
                "message": type(message).__name__,
                "code": message.code,
                "fields": fields(message),
                "payload": message.encode().hex(),
                "channel": channel,
                **({} if isinstance(message, Data) else {"frame": frames.encode(message, channel).hex()}),
            }
            for name, message, channel in samples()
        ],
        "refused": [{"name": name, "message": message, "payload": payload.hex()} for name, message, payload in refused_payloads()],
    }


# Frames.


def data(channel: int, offset: int, stream: bytes) -> bytes:
    return frames.data_header(channel, offset, len(stream)) + stream


def frame_vectors() -> dict[str, Any]:
    """Streams with what they hold, and beginnings that must be refused once all of the given bytes are there."""

    def whole(message: Message, channel: int = 0) -> tuple[bytes, dict[str, Any]]:
        return frames.encode(message, channel), {"message": type(message).__name__, "channel": channel, "payload": message.encode().hex()}

    def stream(channel: int, offset: int, content: bytes) -> tuple[bytes, dict[str, Any]]:
        return data(channel, offset, content), {"message": "Data", "channel": channel, "offset": offset, "bytes": content.hex()}

    good = {
        "one message": [whole(HELLO)],
        "a message without fields": [whole(AuthAbort())],
        "one byte of a stream": [stream(4, 0, b"x")],
        "the last offset": [stream(0, (1 << 63) - 2, b"x")],
        "a mixture": [whole(Ping(cookie=1)), stream(0, 0, b"hello"), whole(Reset(), 1), stream(0, 5, b" world"), whole(End(offset=11))],
    }
    header, everything = frames.HEADER.pack, 0xFFFFFFFF
    refused = {
        "no such code": header(0, 0x00, 0),
        "reserved for resume": header(0, 0x16, 0),
        "no such code, channel": header(0, 0x3F, 1),
        "a control message on a channel": header(8, Ping.code, 1),
        "a control message over the cap": header(frames.MAX_CONTROL + 1, Notice.code, 0),
        "a control message of 4 GiB": header(everything, Notice.code, 0),
        "an ack over the cap": header(frames.MAX_CONTROL + 1, Ack.code, 7),
        "no stream bytes at all": header(0, Data.code, 0),
        "half an offset": header(7, Data.code, 0),
        "an offset and no bytes": header(8, Data.code, 0),
        "a Data frame over the cap": header(8 + frames.MAX_DATA + 1, Data.code, 0),
        "a Data frame of 4 GiB": header(everything, Data.code, 0),
        "an offset that is too large": header(9, Data.code, 0) + frames.OFFSET.pack((1 << 63) - 1),
        "an offset that wraps": header(9, Data.code, 0) + frames.OFFSET.pack((1 << 64) - 1),
    }
    return {
        "good": [
            {"name": name, "stream": b"".join(raw for raw, _ in parts).hex(), "items": [item for _, item in parts]} for name, parts in good.items()
        ],
        "refused": [{"name": name, "stream": raw.hex()} for name, raw in refused.items()],
    }


# What is signed.


def binding(**changes: Any) -> Binding:
    base: dict[str, Any] = {
        "context": CONTEXT,
        "version": 1,
        "mechanism": "publickey",
        "user": "alice",
        "groups": ("higgs", "top"),
        "node_nonce": NODE_NONCE,
        "identity": hashlib.sha256(CERTIFICATE).digest(),
        "exporter": EXPORTER,
        "client_nonce": CLIENT_NONCE,
        "hellos": hashlib.sha256(HELLO.encode() + WELCOME.encode()).digest(),
    }
    return Binding(**{**base, **changes})


def proof(of: Binding) -> bytes:
    """An SSHSIG as ssh-keygen makes it; ed25519 has no randomness."""
    signature = KEY.sign(sshsig.signed_data(of.encode()))
    return sshsig.envelope(PUBLIC, sshwire.string(b"ssh-ed25519") + sshwire.string(signature))


def binding_vectors() -> dict[str, Any]:
    cases = {"publickey": binding(), "x509, nothing asked for": binding(mechanism="x509", user="", groups=()), "not ASCII": binding(user="élise")}
    return {
        "hello": HELLO.encode().hex(),
        "welcome": WELCOME.encode().hex(),
        "certificate": CERTIFICATE.hex(),
        "ed25519_seed": (bytes([7]) * 32).hex(),
        "bindings": [
            {
                "name": name,
                "fields": fields(case),
                "bytes": case.encode().hex(),
                "sshsig_signed_data": sshsig.signed_data(case.encode()).hex(),
                "sshsig": proof(case).hex(),
            }
            for name, case in cases.items()
        ],
    }


# Mechanisms' data, workers' messages, master's records.


def mechanism_vectors() -> dict[str, Any]:
    own: list[publickey.Offer | publickey.Chosen | publickey.Proof] = [
        publickey.Offer(keys=(OTHER_PUBLIC, PUBLIC)),
        publickey.Chosen(index=1),
        publickey.Proof(sshsig=proof(binding())),
    ]
    certificate = x509.Proof(chain=(b"certificate", b"its issuer"), algorithm=x509.ED25519, signature=bytes(64))
    refused = {
        "empty": b"",
        "kind 0": b"\x00",
        "kind 4": b"\x04",
        "no key": b"\x01\x00\x00",
        "17 keys": b"\x01" + publickey.Offer(keys=(b"",) * 17).encode(),
        "more than a Chosen": b"\x02\x00\x00",
    }
    return {
        "publickey": [{"record": type(record).__name__, "fields": fields(record), "data": publickey.encode(record).hex()} for record in own],
        "publickey_refused": [{"name": name, "data": raw.hex()} for name, raw in refused.items()],
        "x509": [{"record": "Proof", "fields": fields(certificate), "data": certificate.encode().hex()}],
    }


def record_vectors() -> dict[str, Any]:
    messages = (b"", b"hi", bytes(range(256)))
    master = (
        (records.STARTED, 0, b""),
        (records.MESSAGE, 1, b"hi"),
        (records.MESSAGE, records.ALL_WORKERS, b""),
        (records.EXITED, 1, records.pack_status(137, "killed")),
        (records.ENDED, 0, records.pack_status(255)),
    )
    return {
        "worker_messages": [{"payload": payload.hex(), "bytes": records.pack_message(payload).hex()} for payload in messages],
        "master_records": [
            {"kind": kind, "worker": worker, "payload": payload.hex(), "bytes": records.pack_record(kind, worker, payload).hex()}
            for kind, worker, payload in master
        ],
    }


# A session.


def conversation() -> Iterator[tuple[str, Message | tuple[int, bytes], int]]:
    """Who sends what on which channel; a stream's bytes are (offset, bytes)."""
    ask: dict[str, Any] = {"user": "alice", "named": True, "groups": ("higgs", "top")}
    offer = publickey.encode(publickey.Offer(keys=(OTHER_PUBLIC, PUBLIC)))
    chosen = publickey.encode(publickey.Chosen(index=1))
    failed = AuthFailed(mechanisms=WELCOME.mechanisms, text="")
    yield CLIENT, HELLO, 0
    yield NODE, WELCOME, 0
    yield CLIENT, AuthRequest(**ask, mechanism="local", data=b""), 0
    yield NODE, failed, 0
    yield CLIENT, AuthRequest(**ask, mechanism="publickey", data=offer), 0
    yield NODE, AuthChallenge(data=chosen), 0
    yield CLIENT, AuthAbort(), 0
    yield NODE, failed, 0
    yield CLIENT, AuthRequest(**ask, mechanism="publickey", data=offer), 0
    yield NODE, AuthChallenge(data=chosen), 0
    yield NODE, Ping(cookie=1), 0
    yield CLIENT, Pong(cookie=1), 0
    yield CLIENT, AuthResponse(data=publickey.encode(publickey.Proof(sshsig=proof(binding())))), 0
    yield NODE, ACCEPT, 0
    yield CLIENT, START, 0
    yield CLIENT, Start(**{**START.__dict__, "worker": 1, "stdin": False, "profile": "wrong"}), 0
    yield NODE, Started(worker=0, window=65536), 0
    yield NODE, NotStarted(worker=1, text="no sandbox profile 'wrong' is permitted here; group higgs has default, strict"), 0
    yield CLIENT, (0, b"hello "), 0
    yield CLIENT, (6, b"world\n"), 0
    yield CLIENT, End(offset=12), 0
    yield NODE, Ack(offset=12, limit=12 + 65536), 0
    yield NODE, (0, b"hello world\n"), 0
    yield NODE, (0, records.pack_message(b"half way")), 2
    yield CLIENT, (0, records.pack_message(b"go on")), 2
    yield NODE, Ack(offset=9, limit=9 + 65536), 2
    yield CLIENT, Ack(offset=12, limit=12 + (1 << 20)), 0
    yield CLIENT, Ack(offset=12, limit=12 + (1 << 20)), 2
    yield CLIENT, Reset(), 1
    yield NODE, End(offset=0), 1
    yield CLIENT, Signal(worker=0, name="TERM"), 0
    yield NODE, Exited(worker=0, status=0, signal=15, text="", cpu=1500, wall=200_000, memory=2048), 0
    yield NODE, End(offset=12), 0
    yield NODE, End(offset=12), 2
    yield NODE, Notice(text="this node restarts at 18:00"), 0
    yield CLIENT, Goodbye(fault=0, reason="done", text=""), 0


def session_vectors() -> dict[str, Any]:
    steps = []
    for side, said, channel in conversation():
        step: dict[str, Any] = {"from": side, "channel": channel}
        if isinstance(said, tuple):
            step |= {"message": "Data", "offset": said[0], "stream": said[1].hex(), "bytes": data(channel, *said).hex()}
        else:
            step |= {"message": type(said).__name__, "fields": fields(said), "bytes": frames.encode(said, channel).hex()}
        steps.append(step)
    return {"certificate": CERTIFICATE.hex(), "exporter": EXPORTER.hex(), "binding": binding().encode().hex(), "steps": steps}


FILES = {
    "messages.json": message_vectors,
    "frames.json": frame_vectors,
    "binding.json": binding_vectors,
    "mechanisms.json": mechanism_vectors,
    "records.json": record_vectors,
    "session.json": session_vectors,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, make in FILES.items():
        text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        path = VECTORS / name
        if arguments == ["--check"]:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    for name in stale:
        print(f"tests/vectors/{name} is not what tools/make_vectors.py makes", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
