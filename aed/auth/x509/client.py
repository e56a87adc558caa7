"""Client side of `x509`: finds certificate and key, signs the binding.

Lives here: which files are used and what is wrong with them. Must not live here: verification.
`cryptography` is imported only once there is a certificate to prove.
"""

from __future__ import annotations

import os

from aed.auth.x509.messages import ECDSA, ED25519, RSA, Proof, too_large
from aed.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from aed.interfaces import ClientContext, ClientSteps

MAX_FILE = 1 << 18
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
KEY_END = b"PRIVATE KEY-----"


def credentials(context: ClientContext) -> Iterator[tuple[str, ClientSteps]]:
    """The certificates among the named files; with none named X509_USER_CERT, else ~/.globus/usercert.pem."""
    pairs = _named(context) if context.identities else _default(context)
    for certificate, key in pairs:
        try:
            proof = _prove(context, certificate, key)
        except Unavailable as error:
            context.trace(f"x509: {error}")
            continue
        yield certificate, _send(proof)


def _send(proof: bytes) -> ClientSteps:
    yield proof


def _named(context: ClientContext) -> list[tuple[str, str]]:
    pairs = []
    for path in context.identities:
        try:
            text = _read(path)
        except Unavailable:
            continue  # publickey says what is wrong with files that are no certificates.
        if CERTIFICATE in text:
            pairs.append((path, path if KEY_END in text else _key_beside(path)))
    if not pairs:
        context.trace("x509: no named identity file holds a certificate")
    return pairs


def _default(context: ClientContext) -> list[tuple[str, str]]:
    certificate = os.environ.get("X509_USER_CERT") or f"{context.home}/.globus/usercert.pem"
    key = os.environ.get("X509_USER_KEY") or _key_beside(certificate)
    if not os.path.exists(certificate):
        context.trace(f"x509: there is no {certificate}; name a certificate by --identity or X509_USER_CERT")
        return []
    return [(certificate, key)]


def _key_beside(certificate: str) -> str:
    """usercert.pem → userkey.pem, bob.crt → bob.key; X509_USER_KEY where it is set."""
    directory, name = os.path.split(certificate)
    stem, suffix = os.path.splitext(name)
    beside = f"{stem[:-4]}key{suffix}" if stem.endswith("cert") else f"{stem}.key"
    return os.environ.get("X509_USER_KEY") or os.path.join(directory, beside)


def _read(path: str, secret: bool = False) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if secret and mode & 0o077:
                raise Unavailable(f"{path} can be used by others than you (mode {mode & 0o777:04o}); do: chmod 400 {path}")
            return file.read(MAX_FILE)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


def _prove(context: ClientContext, certificate_path: str, key_path: str) -> bytes:
    secret = _read(key_path, secret=True)
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    except ImportError:
        raise Unavailable("a certificate needs the Python package cryptography: pip install cryptography") from None
    try:
        certificates = x509.load_pem_x509_certificates(_read(certificate_path))
        public = certificates[0].public_key()
    except ValueError as error:
        raise Unavailable(f"{certificate_path} is no certificate in PEM: {error}") from None
    key = _load_key(context, key_path, secret)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != public.public_bytes(*form):
        raise Unavailable(f"{key_path} is not the key of {certificate_path}")
    algorithm, signature = _sign(key, context.binding)
    chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
    problem = too_large(chain, signature)
    if problem is not None:
        raise Unavailable(f"{certificate_path} makes {problem}")
    context.trace(f"x509: {certificate_path} ({certificates[0].subject.rfc4514_string()!a}) signed by {key_path}")
    return Proof(chain=chain, algorithm=algorithm, signature=signature).encode()


def _load_key(context: ClientContext, path: str, text: bytes) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = context.ask(f"Passphrase of {path}: ").encode() if b"ENCRYPTED" in text else None
    try:
        return load_pem_private_key(text, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unavailable(f"{path} is no private key in PEM, or the passphrase is wrong: {error}") from None


def _sign(key: PrivateKeyTypes, message: bytes) -> tuple[str, bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return RSA, key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return ED25519, key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ECDSA:
        digest = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}[key.curve.name]
        return ECDSA[key.curve.name], key.sign(message, ec.ECDSA(digest))
    raise Unavailable("a certificate's key must be RSA, ECDSA on P-256, P-384 or P-521, or Ed25519")
