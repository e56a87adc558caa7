"""publickey: proof by an ssh key, permitted by the account's own authorized_keys (PROTOCOL.md, "publickey").

Lives in this package: all that the mechanism is. Must not live here: which accounts may log in (`aed.authz`).
"""
