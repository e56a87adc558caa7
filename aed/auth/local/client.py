"""Client side of `local`: there is nothing to send, the kernel says who we are.

Lives here: when it is worth trying. Must not live here: the connection.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from aed.interfaces import ClientContext, ClientSteps


def credentials(context: ClientContext) -> Iterator[tuple[str, ClientSteps]]:
    """The caller's own uid, where the node is on a socket of this machine."""
    if not context.local:
        context.trace("local: the node is not reached over a Unix socket of this machine")
        return
    yield "this machine's user", _nothing()


def _nothing() -> ClientSteps:
    yield b""
