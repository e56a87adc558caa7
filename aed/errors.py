"""Every error of aed. The docstring of each says whose fault it is; its text tells the reader what to do next.

Lives here: exception classes only. Must not live here: anything that imports, logs or formats for one program.
No text of an error ever holds a secret.
"""

from __future__ import annotations


class AedError(Exception):
    """Base of all errors that aed raises on purpose. `str(error)` is one line for a person."""


class LocalError(AedError):
    """Our own side used an interface wrongly: a bug here, not the peer's fault."""


class RemoteError(AedError):
    """The peer broke the protocol. The connection ends."""


class Denied(AedError):
    """Something was proved or asked, and policy says no. The text may be shown to a proved identity only."""


class Declined(AedError):
    """A mechanism does not accept this proof; another may be tried. The text goes to the audit log, never to an unproved peer."""


class Misconfigured(AedError):
    """A file or the machine is not as it must be. The text says where, what is wrong, and what would be right."""


class Unavailable(AedError):
    """A part that is needed is missing or down (a program, a node, a directory). The text names it and how to get it."""
