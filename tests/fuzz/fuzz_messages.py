"""atheris: payloads of every message, of the binding, of the mechanisms' data, and streams of workers and masters. The first byte chooses.

A value, whose only encoding these bytes are, or RemoteError.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz import engine

with engine.instrumented():
    from aeclient.records import MessageDecoder, RecordDecoder
    from aed.auth.publickey import messages as publickey
    from aed.auth.x509 import messages as x509
    from aed.errors import RemoteError
    from aed.session.door import Framing
    from aed.wire.binding import Binding
    from aed.wire.codec import Record
    from aed.wire.messages import BY_CODE

KINDS: list[type[Record]] = [*(BY_CODE[code] for code in sorted(BY_CODE)), Binding, x509.Proof]


def one(data: bytes) -> None:
    if not data:
        return
    choice, rest = data[0] % (len(KINDS) + 2), data[1:]
    if choice == len(KINDS):
        with contextlib.suppress(RemoteError):
            assert publickey.encode(publickey.decode(rest)) == rest
    elif choice == len(KINDS) + 1:
        streams(rest)
    else:
        try:
            value = KINDS[choice].decode(rest)
        except RemoteError:
            return
        assert value.encode() == rest


def streams(data: bytes) -> None:
    """The follower in the session and the decoder in the client agree."""
    follower, decoder, master = Framing(), MessageDecoder(), RecordDecoder()
    faults = 0
    try:
        follower.feed(memoryview(data))
    except RemoteError:
        faults += 1
    try:
        list(decoder.feed(data))
    except RemoteError:
        faults += 1
    assert faults in (0, 2)
    assert faults or follower.whole != decoder.inside
    with contextlib.suppress(RemoteError):
        list(master.feed(data))


def seeds() -> Iterator[bytes]:
    names = {kind.__name__: number for number, kind in enumerate(KINDS)}
    for case in [*engine.vectors("messages.json")["good"], *engine.vectors("messages.json")["refused"]]:
        yield bytes([names[case["message"]]]) + bytes.fromhex(case["payload"])
    for case in engine.vectors("binding.json")["bindings"]:
        yield bytes([names["Binding"]]) + bytes.fromhex(case["bytes"])
    for case in engine.vectors("mechanisms.json")["publickey"]:
        yield bytes([len(KINDS)]) + bytes.fromhex(case["data"])
    for case in engine.vectors("mechanisms.json")["x509"]:
        yield bytes([names["Proof"]]) + bytes.fromhex(case["data"])
    for kind in ("worker_messages", "master_records"):
        yield bytes([len(KINDS) + 1]) + b"".join(bytes.fromhex(case["bytes"]) for case in engine.vectors("records.json")[kind])


if __name__ == "__main__":
    engine.run(one, seeds())
