"""The SSHSIG format (PROTOCOL.sshsig of OpenSSH): what is signed, and the envelope of the signature.

Lives here: encoding and strict parsing, for both ends. Must not live here: signing and verification.
Our own namespace keeps our signatures apart from those of git, of files and of ssh logins: none can stand for another.
"""

from __future__ import annotations

import hashlib

from aed.auth.publickey.sshwire import MAX_KEY, read_strings, string

NAMESPACE = "aed-authentication-v1@aed"
MAGIC = b"SSHSIG"
VERSION = (1).to_bytes(4, "big")
HASH = b"sha512"
MAX_SIZE = MAX_KEY + 4096


def signed_data(message: bytes) -> bytes:
    """The bytes that the key signs for `message`."""
    return MAGIC + string(NAMESPACE.encode()) + string(b"") + string(HASH) + string(hashlib.sha512(message).digest())


def envelope(key: bytes, signature: bytes) -> bytes:
    """An SSHSIG of a public key and its ssh signature."""
    return MAGIC + VERSION + string(key) + string(NAMESPACE.encode()) + string(b"") + string(HASH) + string(signature)


def parse(blob: bytes) -> tuple[bytes, bytes]:
    """Public key and ssh signature of an SSHSIG made for us. Raises `ValueError` for anything else, also for what ssh-keygen would let pass."""
    if len(blob) > MAX_SIZE:
        raise ValueError(f"is longer than {MAX_SIZE} bytes")
    if blob[:6] != MAGIC:
        raise ValueError("is no SSHSIG")
    if blob[6:10] != VERSION:
        raise ValueError("is not of SSHSIG version 1")
    key, namespace, reserved, hash_name, signature = read_strings(blob[10:], 5)
    if namespace != NAMESPACE.encode():
        raise ValueError(f"is for namespace {ascii(namespace.decode('latin-1'))[:80]}, not {NAMESPACE}")
    if reserved:
        raise ValueError("has a reserved field that is not empty")
    if hash_name != HASH:
        raise ValueError(f"hashes with {ascii(hash_name.decode('latin-1'))[:40]}, not {HASH.decode()}")
    return key, signature


def parse_signature(signature: bytes) -> tuple[str, bytes]:
    """Algorithm and raw signature of an ssh signature."""
    algorithm, raw = read_strings(signature, 2)
    if not 0 < len(algorithm) <= 64 or not algorithm.isascii():
        raise ValueError("has no readable signature algorithm")
    return algorithm.decode("ascii"), raw
