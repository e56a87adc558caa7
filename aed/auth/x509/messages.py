"""The data of mechanism `x509` in AuthRequest (PROTOCOL.md, "x509").

Lives here: the one record, its caps, the names of signature algorithms. Must not live here: certificates.
"""

from __future__ import annotations

from aed.wire.codec import Record

MAX_CERTIFICATES = 10
MAX_CHAIN = 48 * 1024
MAX_SIGNATURE = 4096

RSA = "rsa-pss-sha256"
ED25519 = "ed25519"
ECDSA = {"secp256r1": "ecdsa-sha256", "secp384r1": "ecdsa-sha384", "secp521r1": "ecdsa-sha512"}
"""The curve fixes the hash. RSA is PSS with MGF1 and a salt of 32 bytes, as TLS 1.3 has it."""


class Proof(Record):
    """`chain`: certificates in DER, the client's own first. `signature` over the binding, by the first one's key."""

    chain: tuple[bytes, ...]
    algorithm: str
    signature: bytes


def too_large(chain: tuple[bytes, ...] | list[bytes], signature: bytes) -> str | None:
    """Which cap is exceeded, or None."""
    if not 1 <= len(chain) <= MAX_CERTIFICATES:
        return f"{len(chain)} certificates; 1 to {MAX_CERTIFICATES} are allowed"
    if sum(map(len, chain)) > MAX_CHAIN:
        return f"certificates of more than {MAX_CHAIN} bytes together"
    if not 1 <= len(signature) <= MAX_SIGNATURE:
        return f"a signature of {len(signature)} bytes"
    return None
