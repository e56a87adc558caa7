"""The issuer: reads the node's identity key, prints a fresh TLS leaf as JSON and exits, so that no lasting process holds the key.

Run by the listener as `python -I -m aed.issuer` (root). Makes the identity on first start. Where the site gave a host certificate, prints
that instead. Must not live here: TLS itself, trust decisions.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
import sys

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aed import privilege, spawn
from aed.errors import AedError, Misconfigured

LEAF_LIFE = datetime.timedelta(hours=24)
SKEW = datetime.timedelta(minutes=10)
FOREVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
ANSWER = 4
"""The descriptor on which the answer goes out."""


def read_private(path: str) -> bytes:
    """The bytes of a key file. Raises `Misconfigured` where group or world could read it, or it is somebody else's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise Misconfigured(f"{path}: others can read this private key, or own it: chown it to the daemon's user and chmod 600 it")
        return file.read(1 << 20)


def make_identity(path: str, node: str) -> None:
    """Write a new identity, key and self-signed certificate, in one step: a crash leaves either none or a whole one."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"aed node {node}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.UTC) - SKEW)
        .not_valid_after(FOREVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(_key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        file.flush()
        os.fsync(descriptor)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def issue_leaf(path: str) -> dict[str, object]:
    """A leaf of at most a day, signed by the identity at `path`."""
    data = read_private(path)
    identity_key = serialization.load_pem_private_key(data, None)
    identity = x509.load_pem_x509_certificate(data)
    if not isinstance(identity_key, ed25519.Ed25519PrivateKey):
        raise Misconfigured(f"{path}: not an identity that aed made: move it away and a new one is made, which clients must pin anew")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aed connection")]))
        .issuer_name(identity.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(identity.public_key()), critical=False)  # type: ignore[arg-type]
        .sign(identity_key, None)
    )
    return {
        "chain": [leaf.public_bytes(serialization.Encoding.PEM).decode()],
        "key": _key_pem(key).decode(),
        "identity": identity.public_bytes(serialization.Encoding.DER).hex(),
        "life": LEAF_LIFE.total_seconds(),
    }


def host_certificate(certificate: str, key: str) -> dict[str, object]:
    """The site's own host certificate. Its key then lives in net, which THREATS.md and `aed --check` say."""
    with open(certificate, "rb") as file:
        chain = x509.load_pem_x509_certificates(file.read(1 << 20))
    private = serialization.load_pem_private_key(read_private(key), None)
    if private.public_key() != chain[0].public_key():
        raise Misconfigured(f"{certificate}: its public key is not that of {key}: give the pair that belongs together")
    left = (chain[0].not_valid_after_utc - datetime.datetime.now(datetime.UTC)).total_seconds()
    if left <= 0:
        raise Misconfigured(f"{certificate}: expired on {chain[0].not_valid_after_utc:%Y-%m-%d}: renew it")
    return {
        "chain": [item.public_bytes(serialization.Encoding.PEM).decode() for item in chain],
        "key": _key_pem(private).decode(),
        "identity": chain[0].public_bytes(serialization.Encoding.DER).hex(),
        "life": min(left, LEAF_LIFE.total_seconds()),
    }


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: object) -> bytes:
    pem: bytes = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def main() -> int:
    """Entry of `python -I -m aed.issuer`. The answer is a JSON object on descriptor 4: the leaf, or `error`."""
    config = spawn.read_config()
    privilege.set_undumpable()
    answer: dict[str, object]
    try:
        if config["certificate"]:
            answer = host_certificate(str(config["certificate"]), str(config["key"]))
        else:
            path = str(config["identity"])
            if not os.path.lexists(path):
                make_identity(path, str(config["node"]))
            answer = issue_leaf(path)
    except (AedError, OSError, ValueError) as error:
        answer = {"error": str(error)}
    with open(ANSWER, "w") as file:
        json.dump(answer, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
