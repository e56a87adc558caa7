"""What we refuse in certificates though OpenSSL would accept it (SECURITY.md 21, THREATS.md).

Lives here: rules on one certificate or one chain. Must not live here: signatures and trust (`trust.py`).
"""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from aed.errors import Declined

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384
CURVES = ("secp256r1", "secp384r1", "secp521r1")
HASHES = ("sha256", "sha384", "sha512")
PROXY = (x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"), x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222"))
"""proxyCertInfo of RFC 3820, and of the draft that Globus used before."""

Kind = TypeVar("Kind", bound=x509.ExtensionType)


def refuse_proxies(chain: list[x509.Certificate]) -> None:
    """Before OpenSSL sees them: its words for a proxy are no help."""
    for certificate in chain:
        if any(extension.oid in PROXY for extension in certificate.extensions):
            raise Declined("the chain holds a proxy certificate, which aed does not accept yet: use the certificate itself")


def end_entity(certificate: x509.Certificate) -> None:
    """What the client's own certificate must be: no CA, for signatures, for clients."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Declined("the certificate is a CA's, not a person's")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise Declined("the certificate's key usage does not permit signatures (digitalSignature)")
    if usage is not None and usage.key_cert_sign:
        raise Declined("the certificate's key usage permits signing certificates, and it is no CA's")
    _for_clients(certificate, "the certificate")


def verified_chain(chain: list[x509.Certificate]) -> None:
    """What each certificate of a verified chain must be, from the client's to the root, which is trusted for being in the directory."""
    if len(chain) < 2:
        raise Declined("the certificate was issued by nobody but itself")
    for certificate in chain:
        _strong_key(certificate)
    for certificate in chain[:-1]:
        digest = certificate.signature_hash_algorithm
        if digest is not None and digest.name not in HASHES:
            raise Declined(f"a certificate in the chain is signed with {digest.name}; {', '.join(HASHES)} are accepted")
    for certificate in chain[1:-1]:
        constraints = _extension(certificate, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise Declined("a certificate in the chain was issued by one that is no CA's")
        _for_clients(certificate, "an intermediate CA", (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))


def _for_clients(certificate: x509.Certificate, what: str, also: tuple[x509.ObjectIdentifier, ...] = ()) -> None:
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and not any(purpose in usage for purpose in (ExtendedKeyUsageOID.CLIENT_AUTH, *also)):
        raise Declined(f"the extended key usage of {what} does not permit authenticating clients (clientAuth)")


def _strong_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise Declined(f"a certificate in the chain has an RSA key of {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            raise Declined(f"a certificate in the chain has a key on curve {key.curve.name}; {', '.join(CURVES)} are accepted")
    elif not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        raise Declined("a certificate in the chain has a key that is neither RSA, ECDSA nor EdDSA")


def _extension(certificate: x509.Certificate, kind: type[Kind]) -> Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
