"""A certification authority made for a test: CAs, certificates, CRLs, a trust directory hashed by openssl or plain.

Lives here: what the tests of x509 share. Must not live here: tests.
"""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.fromtimestamp(1_800_000_000, UTC)
DAY = timedelta(days=1)
_serials = itertools.count(1000)

KEYS: dict[str, Any] = {
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def person(common: str = "Bob") -> x509.Name:
    return name((NameOID.DOMAIN_COMPONENT, "ch"), (NameOID.DOMAIN_COMPONENT, "cern"), (NameOID.COMMON_NAME, common))


@dataclass
class Issued:
    """A certificate, its key, and who issued it (None: itself)."""

    certificate: x509.Certificate
    key: Any
    issuer: Issued | None

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def write(self, directory: Path, *intermediates: Issued, passphrase: bytes | None = None, stem: str = "user") -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{stem}cert.pem", directory / f"{stem}key.pem"
        certificate.write_bytes(b"".join(each.pem() for each in (self, *intermediates)))
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        key.touch(0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return certificate


def usage(**changes: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    return x509.KeyUsage(**{**dict.fromkeys((*names, "encipher_only", "decipher_only"), False), **changes})


def issue(
    issuer: Issued | None,
    subject: x509.Name,
    *,
    ca: bool | None = False,
    key: Any = None,
    eku: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    key_usage: x509.KeyUsage | None = None,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    start: datetime = NOW - 30 * DAY,
    end: datetime = NOW + 30 * DAY,
) -> Issued:
    key = key or KEYS["p256"]()
    signer = issuer.key if issuer else key
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(next(_serials)).not_valid_before(start).not_valid_after(end)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if eku and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
    if key_usage is None:
        key_usage = usage(key_cert_sign=True, crl_sign=True) if ca else usage(digital_signature=True)
    builder = builder.add_extension(key_usage, critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Issued(builder.sign(signer, _digest(signer)), key, issuer)


def _digest(key: Any) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def root(common: str = "Root", **options: Any) -> Issued:
    return issue(None, name((NameOID.COMMON_NAME, common)), ca=True, **options)


def crl(issuer: Issued, *revoked: Issued, update: datetime = NOW - DAY, until: datetime = NOW + DAY, key: Any = None) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(update).next_update(until)
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(update)
        builder = builder.add_revoked_certificate(entry.build())
    signer = key or issuer.key
    return builder.sign(signer, _digest(signer)).public_bytes(Encoding.PEM)


def plain(directory: Path, *authorities: Issued, crls: tuple[bytes, ...] = ()) -> Path:
    directory.mkdir(exist_ok=True)
    for number, authority in enumerate(authorities):
        (directory / f"ca{number}.pem").write_bytes(authority.pem())
    for number, text in enumerate(crls):
        (directory / f"ca{number}.r0").write_bytes(text)
    return directory


def hashed(directory: Path, *authorities: Issued, crls: tuple[bytes, ...] = ()) -> Path:
    """As `openssl rehash` leaves it."""
    directory.mkdir(exist_ok=True)
    for number, authority in enumerate(authorities):
        (directory / f"ca{number}.pem").write_bytes(authority.pem())
    for number, text in enumerate(crls):
        (directory / f"crl{number}.pem").write_bytes(text)
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    return directory
