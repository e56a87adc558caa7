"""Checker side of `publickey`: is the signature good, and does authorized_keys permit its key. Runs as user aed, in a child of its own.

Lives here: verification with `cryptography`, the questions' shape. Must not live here: file formats (`sshsig.py`, `authorized_keys.py`).
Hostile input of any kind raises `Declined` and nothing else.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from aed.auth.publickey import sshsig
from aed.auth.publickey.authorized_keys import Match, find
from aed.auth.publickey.sshwire import SIGNATURE_ALGORITHMS, integer, key_type, read_strings, rsa_numbers, why_not
from aed.errors import Declined

CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
RSA_HASHES: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}


def check(question: dict[str, Any]) -> dict[str, Any]:
    """`step` "offer": the index of the first of `keys` that authorized_keys permits. "proof": that `sshsig` signs `binding` by a permitted key.

    `files` are `[source, text]`, `peer` and `now` what options are judged by; an absent account comes with no files and does the same work.
    """
    files = [(str(source), bytes.fromhex(text)) for source, text in question["files"]]
    if question["step"] == "offer":
        return _offer([bytes.fromhex(key) for key in question["keys"]], files, question)
    return _proof(question, files)


def fingerprint(key: bytes) -> str:
    """The key's name as ssh-keygen -l prints it."""
    return "SHA256:" + binascii.b2a_base64(hashlib.sha256(key).digest(), newline=False).decode().rstrip("=")


def _offer(keys: list[bytes], files: list[tuple[str, bytes]], question: dict[str, Any]) -> dict[str, Any]:
    reasons = []
    for index, key in enumerate(keys):
        reason = why_not(key)
        if reason is None:
            try:
                _permitted(key, files, question)
                return {"index": index}
            except Declined as error:
                reason = str(error)
            reasons.append(reason)
        else:
            reasons.append(f"offered key {index} {reason}")
    raise Declined("; ".join(reasons)[:2000])


def _proof(question: dict[str, Any], files: list[tuple[str, bytes]]) -> dict[str, Any]:
    try:
        key, signature = sshsig.parse(bytes.fromhex(question["sshsig"]))
        algorithm, raw = sshsig.parse_signature(signature)
    except ValueError as error:
        raise Declined(f"the proof {error}") from None
    if question["expected"] is not None and key != bytes.fromhex(question["expected"]):
        raise Declined("the proof is by another key than the one that was chosen")
    reason = why_not(key)
    if reason is not None:
        raise Declined(f"the proof's key {reason}")
    # The signature first, whoever the account is: that it exists, or lists the key, shall not show in the time that this takes.
    _verify(key, algorithm, raw, sshsig.signed_data(bytes.fromhex(question["binding"])))
    match = _permitted(key, files, question)
    options = match.options
    return {
        "fingerprint": fingerprint(key),
        "algorithm": algorithm,
        "source": match.source,
        "line": match.line,
        "command": options.command,
        "environment": [list(pair) for pair in options.environment],
        "pty": options.pty,
        "forwarding": options.port_forwarding and options.agent_forwarding,
    }


def _permitted(key: bytes, files: list[tuple[str, bytes]], question: dict[str, Any]) -> Match:
    match, reasons = find(files, key, question["peer"], question["now"])
    if match is not None:
        return match
    if reasons:
        raise Declined(f"authorized_keys does not permit {fingerprint(key)}: {'; '.join(reasons)}")
    if not files:
        raise Declined(f"no authorized_keys to look for {fingerprint(key)} in")
    raise Declined(f"no line of authorized_keys names {fingerprint(key)}")


def _verify(key: bytes, algorithm: str, raw: bytes, data: bytes) -> None:
    kind = key_type(key)
    if algorithm not in SIGNATURE_ALGORITHMS[kind]:
        raise Declined(f"signature algorithm {algorithm!a} does not fit a key of type {kind}")
    try:
        if kind == "ssh-ed25519":
            _verify_ed25519(key, raw, data)
        elif kind == "ssh-rsa":
            _verify_rsa(key, algorithm, raw, data)
        else:
            _verify_ecdsa(key, raw, data)
    except InvalidSignature:
        raise Declined(f"bad signature by {fingerprint(key)}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Declined(f"key or signature of type {kind} is malformed: {error}") from None


def _verify_ed25519(key: bytes, raw: bytes, data: bytes) -> None:
    _, public = read_strings(key, 2)
    Ed25519PublicKey.from_public_bytes(public).verify(raw, data)


def _verify_rsa(key: bytes, algorithm: str, raw: bytes, data: bytes) -> None:
    public = rsa.RSAPublicNumbers(*rsa_numbers(key)).public_key()
    # Some agents leave out leading zeros; OpenSSH too accepts that.
    public.verify(raw.rjust((public.key_size + 7) // 8, b"\0"), data, padding.PKCS1v15(), RSA_HASHES[algorithm])


def _verify_ecdsa(key: bytes, raw: bytes, data: bytes) -> None:
    kind, curve_name, point = read_strings(key, 3)
    if kind != b"ecdsa-sha2-" + curve_name:
        raise ValueError("the curve is not the key type's")
    curve, digest = CURVES[curve_name.decode("ascii")]
    if point[:1] != b"\4":
        raise ValueError("the point is not uncompressed")
    r, s = (integer(part) for part in read_strings(raw, 2))
    if max(r, s).bit_length() > curve.key_size:
        raise ValueError("the signature's numbers are too large")
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    public.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
