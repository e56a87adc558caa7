"""What a zygote does once so that its children need not: OpenSSL fetches its algorithms on first use, some 15 ms of every login.

Lives here: one handshake with a throwaway key, inside the process. Must not live here: anything that a connection uses.
"""

from __future__ import annotations

import contextlib
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from aed.net.tls import EXPORTER_LABEL, tls_context, use_leaf

ROUNDS = 8
"""A TLS 1.3 handshake and some bytes take fewer turns than this."""


def handshake() -> None:
    """A whole TLS 1.3 handshake over memory, with the kinds of keys that nodes use."""
    chain, key = _throwaway()
    context = tls_context()
    use_leaf(context, chain, key)
    server = SSL.Connection(context, None)
    server.set_accept_state()
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    for _ in range(ROUNDS):
        for end, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            try:
                other.bio_write(end.bio_read(1 << 16))
            except SSL.WantReadError:
                continue
    server.export_keying_material(EXPORTER_LABEL, 32, b"")
    client.send(b"x")
    server.bio_write(client.bio_read(1 << 16))
    server.recv(1)


def _throwaway() -> tuple[list[str], str]:
    """A leaf and its key that nobody ever sees."""
    issuer = ed25519.Ed25519PrivateKey.generate()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "warm-up")])
    now = datetime.datetime.now(datetime.UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(issuer, None)
    )
    issuer.public_key().verify(issuer.sign(b""), b"")
    key.public_key().verify(key.sign(b"", ec.ECDSA(hashes.SHA256())), b"", ec.ECDSA(hashes.SHA256()))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return [leaf.public_bytes(serialization.Encoding.PEM).decode()], private.decode()
