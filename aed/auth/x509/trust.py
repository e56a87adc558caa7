"""Verification of a chain against a directory of CAs and CRLs, by OpenSSL through pyOpenSSL.

Lives here: the trust store and which CRLs apply. Must not live here: rules of our own (`rules.py`).
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from OpenSSL import crypto

from aed.errors import Declined

UNABLE_TO_GET_CRL = 3
MAX_FILE = 64 << 20
_HASHED = re.compile(r"[0-9a-f]{8}\.(r?)[0-9]{1,3}")
_CERTIFICATES = (".pem", ".crt", ".0")
_REVOCATIONS = (".r0", ".crl")


class Directory:
    """The CA directory as it is now. Hashed: OpenSSL opens only the files it needs. Plain: every file is read, and a bad one refuses all."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._names = sorted(os.listdir(path))
        except OSError as error:
            raise Declined(f"the CA directory {path} cannot be read: {error.strerror}") from None
        hashed = [match for name in self._names if (match := _HASHED.fullmatch(name))]
        self._hashed = any(not match[1] for match in hashed)
        self._certificates: list[x509.Certificate] = []
        self._revocations: list[x509.CertificateRevocationList] = []
        if not self._hashed:
            self._read_plain()

    def _read_plain(self) -> None:
        for name in self._names:
            if not name.endswith(_CERTIFICATES + _REVOCATIONS):
                continue
            path = os.path.join(self._path, name)
            try:
                with open(path, "rb") as file:
                    text = file.read(MAX_FILE)
                if name.endswith(_REVOCATIONS):
                    self._revocations.append(_revocation_list(text))
                else:
                    self._certificates += x509.load_pem_x509_certificates(text)
            except (OSError, ValueError) as error:
                raise Declined(f"{path} in the CA directory cannot be used: {error}") from None

    def store(self, now: float, flags: int) -> crypto.X509Store:
        """A store for one verification at `now`: pyOpenSSL permits no change after first use."""
        store = crypto.X509Store()
        store.set_time(datetime.fromtimestamp(now, UTC))
        store.set_flags(flags)
        if self._hashed:
            store.load_locations(None, self._path)
        for certificate in self._certificates:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        for revocations in self._revocations:
            store.add_crl(revocations)
        return store

    def has_crl(self, issuer: crypto.X509) -> bool:
        """Whether there is a CRL by this issuer's name, usable or not."""
        if self._hashed:
            return any(name.startswith(f"{issuer.subject_name_hash():08x}.r") for name in self._names)
        subject = issuer.to_cryptography().subject
        return any(revocations.issuer == subject for revocations in self._revocations)


def _revocation_list(text: bytes) -> x509.CertificateRevocationList:
    if text.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(text)
    return x509.load_der_x509_crl(text)


def verify(chain: list[x509.Certificate], path: str, crl: str, now: float) -> tuple[list[x509.Certificate], str]:
    """The verified chain from the client's certificate to a root in the directory at `path`, and which CRLs were used. Raises `Declined`."""
    directory = Directory(path)
    presented = [crypto.X509.from_cryptography(certificate) for certificate in chain]
    flags = crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL if crl == "require" else 0
    verified = _verify(directory.store(now, flags), presented[0], presented[1:])
    used = "checked" if crl == "require" else "off"
    if crl == "if-present":
        # CRL_CHECK_ALL would want one of every CA, so each certificate is checked on its own, as the first of the rest of its chain.
        absent = 0
        for at, (certificate, issuer) in enumerate(pairwise(verified), 1):
            if directory.has_crl(issuer):
                _verify(directory.store(now, crypto.X509StoreFlags.CRL_CHECK), certificate, verified[at:])
            else:
                absent += 1
        used = f"absent of {absent} of {len(verified) - 1} CAs" if absent else "checked"
    return [certificate.to_cryptography() for certificate in verified], used


def _verify(store: crypto.X509Store, certificate: crypto.X509, others: list[crypto.X509]) -> list[crypto.X509]:
    try:
        return crypto.X509StoreContext(store, certificate, others).get_verified_chain()
    except crypto.X509StoreContextError as error:
        number, depth, sentence = error.errors
        if number == UNABLE_TO_GET_CRL:
            sentence = "no CRL of its issuer that is readable and applies"
        raise Declined(f"certificate {depth} of the chain: {sentence}") from None
