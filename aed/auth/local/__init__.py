"""local: proof by the uid that the kernel vouches for, on a Unix socket of this machine (PROTOCOL.md, "local").

Lives in this package: all that the mechanism is. Must not live here: which accounts may log in (`aed.authz`).
"""
