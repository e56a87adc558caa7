"""AE_CHANNEL: the socket by which a worker's program and its master exchange length-prefixed messages (PROTOCOL.md, "Messages of workers").

Lives here: the listening socket, and where messages begin and end. Must not live here: rings, the loop.
"""

from __future__ import annotations

import os
import socket

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


def open_door(path: str, account: Account) -> socket.socket:
    """A listening socket at `path`, in a directory that belongs to the account, made with the account's own rights."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    privileged = os.geteuid() == 0 and account.uid != 0
    # Root must not touch a name in a directory that a worker of the same account can change at this moment.
    if privileged:
        os.setegid(account.gid)
        os.seteuid(account.uid)
    try:
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
    except BaseException:
        sock.close()
        raise
    finally:
        if privileged:
            os.seteuid(0)
            os.setegid(0)
    sock.listen(8)
    return sock
