"""x509: proof by the key of a certificate that a trusted CA issued (PROTOCOL.md, "x509").

Lives in this package: all that the mechanism is. Must not live here: which accounts may log in (`aed.authz`).
"""
