"""Session side of `x509`: caps the chain, has it checked, re-validates what the checker says.

Lives here: the exchange. Must not live here: parsing of certificates: the checker does that, as user aed.
"""

from __future__ import annotations

import os
import re
from typing import Any

from aed.auth.x509.messages import Proof, too_large
from aed.config.option import Option
from aed.errors import Declined, RemoteError
from aed.interfaces import Attempt, Check, Steps
from aed.model import Evidence, Identity

CRL_MODES = ("require", "if-present", "off")
NAME = re.compile(r"/[A-Za-z0-9.]+=.+")
MAX_NAME = 1024
FACTS = {"issuer": MAX_NAME, "serial": 64, "not_after": 64, "crl": 64}


def _absolute(path: str) -> str | None:
    return None if os.path.isabs(path) else "must be an absolute path"


def _mode(mode: str) -> str | None:
    return None if mode in CRL_MODES else f"must be one of {', '.join(CRL_MODES)}"


OPTIONS: tuple[Option, ...] = (
    Option(
        key="ca_directory",
        kind="path",
        default="/etc/grid-security/certificates",
        doc="Directory of trusted CAs and their CRLs: hashed names as `openssl rehash` makes them, or plain *.pem and *.r0. Readable by user aed.",
        check=_absolute,
    ),
    Option(
        key="crl",
        kind="str",
        default="if-present",
        doc="Revocation lists: `require` one of each CA, `if-present` uses those that are there, `off` uses none. An expired one refuses.",
        check=_mode,
    ),
)


def serve(attempt: Attempt, data: bytes) -> Steps:
    """One proof, no challenge."""
    proof = Proof.decode(data)
    problem = too_large(proof.chain, proof.signature)
    if problem is not None:
        raise RemoteError(f"x509: {problem}")
    answer = yield Check(
        question={
            "chain": [certificate.hex() for certificate in proof.chain],
            "algorithm": proof.algorithm,
            "signature": proof.signature.hex(),
            "binding": attempt.binding.encode().hex(),
            "ca_directory": attempt.options.get("ca_directory", OPTIONS[0].default),
            "crl": attempt.options.get("crl", OPTIONS[1].default),
            "now": attempt.now,
        }
    )
    return _evidence(answer)


def _evidence(answer: Any) -> Evidence:
    """The checker parsed hostile bytes, so its answer is taken field by field."""
    if not isinstance(answer, dict):
        raise Declined("the checker gave no answer")
    name = _text(answer, "name", MAX_NAME)
    if not NAME.fullmatch(name):
        raise Declined("the checker gave a name that is none")
    facts = tuple((fact, _text(answer, fact, limit)) for fact, limit in FACTS.items())
    return Evidence(identity=Identity(mechanism="x509", name=name), facts=facts)


def _text(answer: dict[str, Any], field: str, limit: int) -> str:
    value = answer.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise Declined(f"the checker gave no valid {field}")
    return value
