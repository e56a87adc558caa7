"""Session side of `local`: the uid of the socket's other end, as the kernel recorded it (SO_PEERCRED), becomes an identity.

Lives here: uid to name. Must not live here: reading the socket's credentials (the listener did), mapping (`aed.authz`).
"""

from __future__ import annotations

import pwd

from aed.errors import Declined, RemoteError
from aed.interfaces import Attempt, Steps
from aed.model import Evidence, Identity


def serve(attempt: Attempt, data: bytes) -> Steps:
    """One step, no challenge. The own account is the uid's account and no other, whoever was asked for: the identity map decides about others."""
    if data:
        raise RemoteError("local: data where none belongs")
    if attempt.peer_uid is None:
        raise Declined("the client is not on a Unix socket of this machine")
    name = _name(attempt.peer_uid)
    return Evidence(
        identity=Identity(mechanism="local", name=name or f"uid-{attempt.peer_uid}"),
        own_account=name,
        facts=(("uid", str(attempt.peer_uid)),),
    )
    yield  # A generator as every serve is, though it has nothing to ask.


def _name(uid: int) -> str | None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    # A name service that answers for another uid, or with a name that could pass for an unnamed uid, gives no name.
    return entry.pw_name if entry.pw_uid == uid and entry.pw_name and not entry.pw_name.startswith("uid-") else None
