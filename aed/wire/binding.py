"""What every signing mechanism signs (DESIGN "What is signed", PROTOCOL.md "Proofs"; ADR 0004).

Lives here: the one canonical byte string. Must not live here: signatures.
"""

from __future__ import annotations

from aed.wire.codec import Record, u16

CONTEXT = "aed authentication proof"
NONCE_SIZE = 32


class Binding(Record):
    """The statement that a proof covers. Both ends build it from what they themselves saw, never from what the other says it saw.

    `version`: the protocol version in force. `mechanism`, `user`, `groups`: as in AuthRequest. `node_nonce`: 32 random bytes of the session
    (Welcome). `identity`: SHA-256 of the node's identity certificate in DER, as the client verified it in TLS. `exporter`: 32 bytes, RFC 9266
    tls-exporter. `client_nonce`: 32 random bytes of the client (Hello). `hellos`: SHA-256 over the payloads of Hello and Welcome.
    """

    context: str
    version: u16
    mechanism: str
    user: str
    groups: tuple[str, ...]
    node_nonce: bytes
    identity: bytes
    exporter: bytes
    client_nonce: bytes
    hellos: bytes
