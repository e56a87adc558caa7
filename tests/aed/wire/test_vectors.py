"""The vectors of tests/vectors, replayed from both ends: what is encoded here is what they say, and what they say is understood here."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aeclient import records
from aed.auth.publickey import messages as publickey
from aed.auth.publickey import sshsig, sshwire
from aed.auth.x509 import messages as x509
from aed.errors import RemoteError
from aed.wire import frames, messages
from aed.wire.binding import Binding
from aed.wire.channels import Receiving, Sending
from aed.wire.codec import Record
from aed.wire.connection import Connection
from aed.wire.messages import BY_CODE, Accept, Ack, Data, End, Message, Start, Started
from aed.wire.states import CLIENT, CLOSED, NODE
from tools import draw_states, make_vectors

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def record(kind: type[Record], fields: dict[str, Any]) -> Any:
    """A record from its fields in JSON."""
    kinds = inspect.get_annotations(kind)

    def value(form: str, plain: Any) -> Any:
        if form.startswith("tuple["):
            return tuple(value(form[6:-6], item) for item in plain)
        return bytes.fromhex(plain) if form == "bytes" else plain

    assert list(fields) == list(kinds)
    return kind(**{name: value(kinds[name], plain) for name, plain in fields.items()})


def kind_of(name: str) -> type[Message]:
    kind: type[Message] = getattr(messages, name)
    assert issubclass(kind, Message)
    return kind


MESSAGES = load("messages.json")
FRAMES = load("frames.json")
BINDING = load("binding.json")
MECHANISMS = load("mechanisms.json")
RECORDS = load("records.json")
SESSION = load("session.json")


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"].replace(" ", "-") for case in cases])


@named(MESSAGES["good"])
def test_message(case: dict[str, Any]) -> None:
    kind = kind_of(case["message"])
    payload = bytes.fromhex(case["payload"])
    message = record(kind, case["fields"])
    assert kind.code == case["code"]
    assert message.encode() == payload
    assert kind.decode(payload) == message
    if kind is not Data:
        frame = bytes.fromhex(case["frame"])
        assert frames.encode(message, case["channel"]) == frame
        (item,) = frames.Decoder().feed(memoryview(frame))
        assert isinstance(item, frames.Frame)
        assert (item.kind, item.channel, item.decode()) == (kind, case["channel"], message)


def test_every_message_has_a_vector() -> None:
    assert {case["code"] for case in MESSAGES["good"]} == set(BY_CODE)


@named(MESSAGES["refused"])
def test_refused_payload(case: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        kind_of(case["message"]).decode(bytes.fromhex(case["payload"]))


@pytest.mark.parametrize("step", [1, 3, 7, 10_000])
@named(FRAMES["good"])
def test_frames(case: dict[str, Any], step: int) -> None:
    stream = bytes.fromhex(case["stream"])
    decoder = frames.Decoder()
    found: list[dict[str, Any]] = []
    for at in range(0, len(stream), step):
        for item in decoder.feed(memoryview(stream[at : at + step])):
            if isinstance(item, frames.Frame):
                found.append({"message": item.kind.__name__, "channel": item.channel, "payload": item.payload.hex()})
            elif found and found[-1].get("offset", 0) + len(found[-1].get("bytes", "")) // 2 == item.offset != 0 and found[-1]["message"] == "Data":
                found[-1]["bytes"] += item.data.hex()
            else:
                found.append({"message": "Data", "channel": item.channel, "offset": item.offset, "bytes": item.data.hex()})
    assert found == case["items"]


@named(FRAMES["refused"])
def test_refused_frame(case: dict[str, Any]) -> None:
    stream = bytes.fromhex(case["stream"])
    decoder = frames.Decoder()
    assert decoder.feed(memoryview(stream[:-1])) == []
    with pytest.raises(RemoteError):
        decoder.feed(memoryview(stream[-1:]))


@named(BINDING["bindings"])
def test_binding(case: dict[str, Any]) -> None:
    binding = record(Binding, case["fields"])
    encoded = bytes.fromhex(case["bytes"])
    assert binding.encode() == encoded
    assert Binding.decode(encoded) == binding
    assert binding.hellos == hashlib.sha256(bytes.fromhex(BINDING["hello"] + BINDING["welcome"])).digest()
    assert binding.identity == hashlib.sha256(bytes.fromhex(BINDING["certificate"])).digest()
    signed = sshsig.signed_data(encoded)
    assert signed == bytes.fromhex(case["sshsig_signed_data"])
    key, signature = sshsig.parse(bytes.fromhex(case["sshsig"]))
    _, raw = sshsig.parse_signature(signature)
    Ed25519PublicKey.from_public_bytes(sshwire.read_strings(key, 2)[1]).verify(raw, signed)


def test_publickey_data() -> None:
    for case in MECHANISMS["publickey"]:
        message = record(getattr(publickey, case["record"]), case["fields"])
        assert publickey.encode(message).hex() == case["data"]
        assert publickey.decode(bytes.fromhex(case["data"])) == message
    assert [case["record"] for case in MECHANISMS["publickey"]] == [kind.__name__ for kind in publickey.KINDS]


@named(MECHANISMS["publickey_refused"])
def test_refused_publickey_data(case: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        publickey.decode(bytes.fromhex(case["data"]))


def test_x509_data() -> None:
    for case in MECHANISMS["x509"]:
        proof = record(x509.Proof, case["fields"])
        assert proof.encode().hex() == case["data"]
        assert x509.Proof.decode(bytes.fromhex(case["data"])) == proof


def test_workers_messages_and_masters_records() -> None:
    messages_, whole = records.MessageDecoder(), records.RecordDecoder()
    for case in RECORDS["worker_messages"]:
        payload = bytes.fromhex(case["payload"])
        assert records.pack_message(payload).hex() == case["bytes"]
        assert list(messages_.feed(bytes.fromhex(case["bytes"]))) == [payload]
    for case in RECORDS["master_records"]:
        one = (case["kind"], case["worker"], bytes.fromhex(case["payload"]))
        assert records.pack_record(*one).hex() == case["bytes"]
        assert list(whole.feed(bytes.fromhex(case["bytes"]))) == [one]


# The session.


def test_session_between_two_ends() -> None:
    """Each end says its part in the recorded bytes, and the other understands it."""
    ends = {CLIENT: Connection(CLIENT), NODE: Connection(NODE)}
    for step in SESSION["steps"]:
        sender = ends[step["from"]]
        raw = bytes.fromhex(step["bytes"])
        if step["message"] == "Data":
            stream = bytes.fromhex(step["stream"])
            assert sender.data_header(step["channel"], step["offset"], len(stream)) + stream == raw
        else:
            assert sender.send(record(kind_of(step["message"]), step["fields"]), step["channel"]) == raw
        (item,) = ends[sender.peer].receive(memoryview(raw))
        assert item.channel == step["channel"]
        if isinstance(item, frames.Piece):
            assert (item.offset, item.data.hex()) == (step["offset"], step["stream"])
        else:
            assert item.decode() == record(kind_of(step["message"]), step["fields"])
        assert ends[CLIENT].state == ends[NODE].state
    assert ends[CLIENT].state == CLOSED


@pytest.mark.parametrize("role", [CLIENT, NODE])
def test_session_of_one_end_that_gets_every_byte_alone(role: str) -> None:
    """Driven by the transcript as by a peer with the smallest packets there are; what this end says comes out as recorded."""
    end = Connection(role)
    for step in SESSION["steps"]:
        raw = bytes.fromhex(step["bytes"])
        if step["from"] != role:
            items = [item for at in range(len(raw)) for item in end.receive(memoryview(raw[at : at + 1]))]
            content = b"".join(item.data for item in items if isinstance(item, frames.Piece))
            assert content.hex() == step.get("stream", "")
            assert step["message"] == "Data" or len(items) == 1
        elif step["message"] == "Data":
            end.data_header(step["channel"], step["offset"], len(step["stream"]) // 2)
        else:
            assert end.send_payload(kind_of(step["message"]).code, step["channel"], raw[frames.HEADER.size :]) == raw
    assert end.state == CLOSED


def test_sessions_streams_keep_to_their_limits() -> None:
    """The arithmetic of channels accepts the transcript at both ends, and every stream ends with all its bytes."""
    sending: dict[tuple[str, int], Sending] = {}
    receiving: dict[tuple[str, int], Receiving] = {}
    for step in SESSION["steps"]:
        key = (step["from"], step["channel"])
        back = (NODE if step["from"] == CLIENT else CLIENT, step["channel"])
        if step["message"] == "Data":
            size = len(step["stream"]) // 2
            sending[key].advance(size)
            receiving[key].on_data(step["offset"], size)
            continue
        message = record(kind_of(step["message"]), step["fields"])
        if isinstance(message, Started):
            window = next(step["fields"]["window"] for step in SESSION["steps"] if step["message"] == Start.__name__)
            for side, channels, size in ((CLIENT, (0, 2), message.window), (NODE, (0, 1, 2), window)):
                sending |= {(side, channel): Sending(size) for channel in channels}
                receiving |= {(side, channel): Receiving(size) for channel in channels}
        elif isinstance(message, Ack):
            sending[back].on_ack(message)
            taken = receiving[back].received
            assert receiving[back].due(taken, taken, now=True) == message
        elif isinstance(message, End):
            assert message.offset == sending[key].sent
            receiving[key].on_end(message.offset)
    assert {key: stream.end for key, stream in receiving.items()} == {(CLIENT, 0): 12, (CLIENT, 2): None, (NODE, 0): 12, (NODE, 1): 0, (NODE, 2): 12}


def test_sessions_proof_signs_the_sessions_binding() -> None:
    """Rebuilt as an implementer would, from the transcript alone."""
    payloads = [bytes.fromhex(step["bytes"])[frames.HEADER.size :] for step in SESSION["steps"]]
    hello, welcome = messages.Hello.decode(payloads[0]), messages.Welcome.decode(payloads[1])
    request = messages.AuthRequest.decode(payloads[8])
    binding = Binding(
        context="aed authentication proof",
        version=welcome.version,
        mechanism=request.mechanism,
        user=request.user,
        groups=request.groups,
        node_nonce=welcome.nonce,
        identity=hashlib.sha256(bytes.fromhex(SESSION["certificate"])).digest(),
        exporter=bytes.fromhex(SESSION["exporter"]),
        client_nonce=hello.nonce,
        hellos=hashlib.sha256(payloads[0] + payloads[1]).digest(),
    )
    assert binding.encode().hex() == SESSION["binding"]
    answer = next(payload for step, payload in zip(SESSION["steps"], payloads, strict=True) if step["message"] == "AuthResponse")
    proof = publickey.decode(messages.AuthResponse.decode(answer).data)
    assert isinstance(proof, publickey.Proof)
    key, signature = sshsig.parse(proof.sshsig)
    raw = sshsig.parse_signature(signature)[1]
    Ed25519PublicKey.from_public_bytes(sshwire.read_strings(key, 2)[1]).verify(raw, sshsig.signed_data(binding.encode()))
    assert any(step["message"] == Accept.__name__ for step in SESSION["steps"])


# The tools.


def test_vectors_are_what_the_tool_makes() -> None:
    assert make_vectors.main(["--check"]) == 0


def test_protocol_is_drawn_from_the_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_states.main(["--check"]) == 0, "run python tools/draw_states.py"
    copy = tmp_path / "PROTOCOL.md"
    copy.write_text(draw_states.DOCUMENT.read_text().replace("client AuthRequest", "node AuthRequest"))
    assert draw_states.main(["--check"], copy) == 1
    assert "run python tools/draw_states.py" in capsys.readouterr().err
    draw_states.main([], copy)
    assert draw_states.main(["--check"], copy) == 0
