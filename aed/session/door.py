"""AE_CHANNEL: the socket by which a worker's program and its master exchange length-prefixed messages (PROTOCOL.md, "Messages of workers").

Lives here: the listening socket, and where messages begin and end. Must not live here: rings, the loop.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from aed.errors import RemoteError
from aed.model import Account

MAX_MESSAGE = 64 << 20
PREFIX = 4


class Framing:
    """Follows a stream of messages (u32 length, then that many bytes) without keeping it."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def whole(self) -> bool:
        """The stream stands between two messages."""
        return not self._head and not self._left

    def feed(self, data: memoryview) -> None:
        """Raises `RemoteError` on a length over the cap."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
            else:
                step = min(PREFIX - len(self._head), end - at)
                self._head += bytes(data[at : at + step])
                if len(self._head) == PREFIX:
                    self._left = int.from_bytes(self._head, "big")
                    self._head = b""
                    if self._left > MAX_MESSAGE:
                        raise RemoteError(f"a message of {self._left} bytes on AE_CHANNEL; the cap is {MAX_MESSAGE}")
            at += step


@contextlib.contextmanager
def rights_of(account: Account) -> Iterator[None]:
    """Root must not touch a name in a directory that a worker of the same account can change at this moment."""
    privileged = os.geteuid() == 0 and account.uid != 0
    if privileged:
        os.setegid(account.gid)
        os.seteuid(account.uid)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)
            os.setegid(0)


def open_door(path: str, account: Account) -> socket.socket:
    """A listening socket at `path`, in a directory that belongs to the account, made with the account's own rights."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with rights_of(account):
            mask = os.umask(0o177)
            try:
                sock.bind(path)
            finally:
                os.umask(mask)
    except BaseException:
        sock.close()
        raise
    sock.listen(8)
    return sock


def remove_door(path: str, account: Account) -> None:
    """Nobody comes in there any more. The directory is the account's, who may have put anything there, or taken it away."""
    with rights_of(account), contextlib.suppress(OSError):
        os.unlink(path)
