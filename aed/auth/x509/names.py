"""Distinguished names in the grid's slash form, one string for one name: "/DC=ch/DC=cern/CN=Bob".

Lives here: the writing. Must not live here: matching (`aed.authz`).
A slash or backslash inside a value has a backslash before it, so that no value can pass for more than itself.
"""

from __future__ import annotations

from cryptography import x509

from aed.errors import Declined

MAX_NAME = 1024

# As OpenSSL and Globus spell them; any other is written by its number.
_SPELLING = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}


def slash_form(name: x509.Name) -> str:
    """`name` as text. Raises `Declined` for a name that is empty, too long, holds characters that do not print (NUL among them), or has a part of
    several attributes, whose order the encoding does not keep."""
    parts = []
    for rdn in name.rdns:
        attributes = list(rdn)
        if len(attributes) != 1:
            raise Declined("a name in the certificate has a part with several attributes")
        value = attributes[0].value
        if not isinstance(value, str) or not value.isprintable():
            raise Declined("a name in the certificate holds characters that do not print")
        kind = attributes[0].oid.dotted_string
        escaped = value.replace("\\", "\\\\").replace("/", "\\/")
        parts.append(f"/{_SPELLING.get(kind, kind)}={escaped}")
    text = "".join(parts)
    if not text:
        raise Declined("a name in the certificate is empty")
    if len(text) > MAX_NAME:
        raise Declined(f"a name in the certificate is longer than {MAX_NAME} characters")
    return text
