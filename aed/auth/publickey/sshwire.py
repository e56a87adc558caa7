"""Strings and public keys in the format of ssh (RFC 4251 section 5, RFC 4253 section 6.6), read strictly.

Lives here: reading and writing of fields, which key types are accepted and why others are not. Must not live here: cryptography, files.
Standard library that a one-shot client can afford. Malformed input raises `ValueError` with a sentence.
"""

from __future__ import annotations

MAX_KEY = 8192
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384

SIGNATURE_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Accepted key types, and the signature algorithms that fit each. `ssh-rsa` names a key here, never its SHA-1 signature."""


def string(value: bytes) -> bytes:
    """`value` with its length before it."""
    return len(value).to_bytes(4, "big") + value


def read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """The string at offset `at`, and the offset behind it."""
    start = at + 4
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise ValueError("ends inside a string")
    return data[start:end], end


def read_strings(data: bytes, count: int) -> list[bytes]:
    """Exactly `count` strings that fill `data`."""
    values = []
    at = 0
    for _ in range(count):
        value, at = read_string(data, at)
        values.append(value)
    if at != len(data):
        raise ValueError("has trailing bytes")
    return values


def integer(raw: bytes) -> int:
    """The content of an mpint: positive, in its only valid encoding."""
    if not raw or raw[0] & 0x80 or (raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80)):
        raise ValueError("has an integer that is not positive or not in its shortest form")
    return int.from_bytes(raw, "big")


def key_type(key: bytes) -> str:
    """The type that a public key names, printable."""
    name = read_string(key, 0)[0]
    if not 0 < len(name) <= 64 or not name.isascii() or not name.decode("ascii").isprintable():
        raise ValueError("has no readable key type")
    return name.decode("ascii")


def rsa_numbers(key: bytes) -> tuple[int, int]:
    """Exponent and modulus of an ssh-rsa key within the sizes that we verify."""
    _, e, n = read_strings(key, 3)
    exponent, modulus = integer(e), integer(n)
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError(f"is an RSA key of {modulus.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    if exponent.bit_length() > 64:
        raise ValueError("has an RSA exponent over 64 bits")
    return exponent, modulus


def why_not(key: bytes) -> str | None:
    """Why a public key cannot be used with aed, as the end of a sentence, or None."""
    try:
        if len(key) > MAX_KEY:
            return f"is longer than {MAX_KEY} bytes"
        kind = key_type(key)
        if "-cert-v01@" in kind:
            return f"is an ssh certificate ({kind}), which aed does not support yet"
        if kind.startswith("sk-"):
            return f"is a security key ({kind}), which aed does not support yet"
        if kind not in SIGNATURE_ALGORITHMS:
            return f"is of type {kind}; accepted are {', '.join(SIGNATURE_ALGORITHMS)}"
        if kind == "ssh-rsa":
            rsa_numbers(key)
    except ValueError as error:
        return str(error)
    return None
