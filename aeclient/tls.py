"""TLS 1.3 towards a node, by the standard library: who the node is, and the exporter value that proofs are bound to.

Lives here: contexts, verification, RFC 9266. Must not live here: which identity is trusted (`known_nodes`), transports, the protocol inside.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl

from aed.errors import RemoteError, Unavailable

EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
EXPORTER_SIZE = 32


class Changed(Exception):
    """The node showed another identity than the one that is expected."""


class Channel:
    """An established TLS connection: `sock`, the identity `certificate` (DER) as verified (None if nothing was), the exporter value."""

    __slots__ = ("certificate", "exporter", "sock")

    def __init__(self, sock: ssl.SSLSocket, certificate: bytes | None, exporter: bytes) -> None:
        self.sock = sock
        self.certificate = certificate
        self.exporter = exporter


def connect(raw: socket.socket, *, pinned: bytes | None = None, ca: str | None = None, host: str = "") -> Channel:
    """Shake hands over `raw`. With `pinned`, that identity certificate is the only authority; with `ca` (file or directory), the site's, and the
    certificate must be for `host`; with neither, nothing is verified and `certificate` is None.

    Raises `Changed` where verification fails, `Unavailable` where there is no TLS at the other end.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = ca is not None and pinned is None
    if pinned is not None:
        context.load_verify_locations(cadata=pinned)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a site's host certificate may be what is pinned
    elif ca is not None:
        context.load_verify_locations(**{"capath" if os.path.isdir(ca) else "cafile": ca})
    else:
        context.verify_mode = ssl.CERT_NONE
    log = os.memfd_create("aed-keylog", os.MFD_CLOEXEC)
    try:
        # The standard library has no exporter; OpenSSL's key log has the secret that it is made from.
        context.keylog_filename = f"/proc/self/fd/{log}"
        try:
            sock = context.wrap_socket(raw, server_hostname=host or None)
        except ssl.SSLCertVerificationError as error:
            raise Changed(error.verify_message) from None
        except ssl.SSLError as error:
            raise Unavailable(f"no TLS 1.3 there ({error.reason or error}): is it an aed node?") from None
        except OSError as error:
            raise Unavailable(f"the connection broke in the TLS handshake: {error.strerror or error}: is it an aed node?") from None
        exporter = _exporter(os.pread(log, 1 << 16, 0), sock)
    finally:
        os.close(log)
    certificate = pinned
    if pinned is None and ca is not None:
        certificate = sock.getpeercert(True)
    return Channel(sock, certificate, exporter)


def _exporter(log: bytes, sock: ssl.SSLSocket) -> bytes:
    """RFC 9266 tls-exporter, by RFC 8446 section 7.5."""
    cipher = sock.cipher()
    name = "sha384" if cipher is not None and cipher[0].endswith("SHA384") else "sha256"
    for line in log.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == b"EXPORTER_SECRET":
            empty = hashlib.new(name).digest()
            derived = _expand_label(name, bytes.fromhex(words[2].decode()), EXPORTER_LABEL, empty, len(empty))
            return _expand_label(name, derived, b"exporter", empty, EXPORTER_SIZE)
    raise RemoteError("TLS gave no exporter secret; authentication cannot be bound to this connection")


def _expand_label(name: str, secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446."""
    full = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context
    out = block = b""
    counter = 1
    while len(out) < size:
        block = hmac.digest(secret, block + info + bytes([counter]), name)
        out += block
        counter += 1
    return out[:size]
