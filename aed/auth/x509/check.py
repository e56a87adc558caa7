"""Checker side of `x509`: is the chain trusted, and did its first key sign. Runs as user aed, in a child of its own.

Lives here: the order of the checks and the signature. Must not live here: trust (`trust.py`), rules (`rules.py`), names (`names.py`).
Hostile input of any kind raises `Declined` and nothing else.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from aed.auth.x509 import rules
from aed.auth.x509.messages import ECDSA, ED25519, RSA, too_large
from aed.auth.x509.names import slash_form
from aed.auth.x509.trust import verify
from aed.errors import Declined

DIGESTS = {"ecdsa-sha256": hashes.SHA256(), "ecdsa-sha384": hashes.SHA384(), "ecdsa-sha512": hashes.SHA512()}


def check(question: dict[str, Any]) -> dict[str, Any]:
    """`chain` (DER, the client's first), `algorithm`, `signature` over `binding`; `ca_directory`, `crl`, `now` as configured."""
    try:
        return _check(question)
    except Declined:
        raise
    except Exception as error:
        # A parser's refusal has many classes (ValueError, DuplicateExtension, UnsupportedAlgorithm, OpenSSL.crypto.Error, …). Whatever it is, the
        # proof is not accepted and the next one may be.
        raise Declined(f"the certificate cannot be understood: {type(error).__name__}: {str(error)[:200]!a}") from None


def _check(question: dict[str, Any]) -> dict[str, Any]:
    encoded = [bytes.fromhex(certificate) for certificate in question["chain"]]
    signature = bytes.fromhex(question["signature"])
    problem = too_large(encoded, signature)
    if problem is not None:
        raise Declined(problem)
    chain = [x509.load_der_x509_certificate(certificate) for certificate in encoded]
    rules.refuse_proxies(chain)
    rules.end_entity(chain[0])
    verified, crl = verify(chain, question["ca_directory"], question["crl"], question["now"])
    rules.verified_chain(verified)
    _verify_signature(verified[0], question["algorithm"], signature, bytes.fromhex(question["binding"]))
    return {
        "name": slash_form(verified[0].subject),
        "issuer": slash_form(verified[0].issuer),
        "serial": f"{verified[0].serial_number:x}",
        "not_after": verified[0].not_valid_after_utc.isoformat(),
        "crl": crl,
    }


def _verify_signature(certificate: x509.Certificate, algorithm: str, signature: bytes, message: bytes) -> None:
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm == RSA:
            key.verify(signature, message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == ECDSA.get(key.curve.name):
            key.verify(signature, message, ec.ECDSA(DIGESTS[algorithm]))
        elif isinstance(key, ed25519.Ed25519PublicKey) and algorithm == ED25519:
            key.verify(signature, message)
        else:
            raise Declined(f"signature algorithm {algorithm[:40]!a} does not fit the certificate's key")
    except InvalidSignature:
        raise Declined("bad signature by the certificate's key") from None
