"""The way to the master: the records of `records.py` on a descriptor, either a program of ours (`--master`) or one that started us.

Lives here: that socket and what waits for it. Must not live here: the node's connection.
"""

from __future__ import annotations

import os
import shlex
import socket

from aeclient import records
from aed.errors import LocalError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_WAITING = 4 << 20
"""Bytes for a slow master that we hold before we stop taking more from the workers."""


class MasterLink:
    """Our end towards the master."""

    def __init__(self, sock: socket.socket, pid: int | None = None) -> None:
        self.sock = sock
        self.pid = pid
        self.closed = False
        sock.setblocking(False)
        self._decoder = records.RecordDecoder()
        self._waiting = bytearray()

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    @property
    def swamped(self) -> bool:
        return len(self._waiting) > MOST_WAITING

    def send(self, kind: int, worker: int, payload: bytes = b"") -> None:
        """Send or queue a record; a master that is gone loses it."""
        if not self.closed:
            self._waiting += records.pack_record(kind, worker, payload)
            self.flush()

    def flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self.sock.send(memoryview(self._waiting)[: 1 << 18].tobytes())]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """Messages for workers: the worker (or `records.ALL_WORKERS`) and the payload."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for kind, worker, payload in self._decoder.feed(data):
            if kind != records.MESSAGE:
                raise LocalError(f"the master sent a record of kind {kind}; it may send kind {records.MESSAGE}, a message, only")
            yield worker, payload

    def close(self) -> None:
        self.closed = True
        self._waiting.clear()
        self.sock.close()

    def finish(self, status: int) -> int:
        """Tell that all is over, wait for a program of ours to end, and give its exit status, 128+n after signal n (0 where there is none)."""
        if not self.closed:
            self.sock.setblocking(True)
            self.send(records.ENDED, 0, records.pack_status(status))
            if not self.closed:
                self.sock.shutdown(socket.SHUT_WR)
        if self.pid is None:
            return 0
        _, state = os.waitpid(self.pid, 0)
        status = os.waitstatus_to_exitcode(state)
        return 128 - status if status < 0 else status


def start(command: str) -> MasterLink:
    """Run the master's program, words split as a shell does, with our socket in AE_MASTER_FD. Raises `Unavailable` if it cannot be started."""
    words = shlex.split(command)
    if not words:
        raise LocalError("--master needs a program")
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.set_inheritable(True)
        environment = os.environ | {"AE_MASTER_FD": str(theirs.fileno())}
        try:
            pid = os.posix_spawnp(words[0], words, environment)
        except OSError as error:
            raise Unavailable(f"the master {words[0]!r} cannot be started: {error.strerror}") from None
    return MasterLink(ours, pid)


def inherited(number: int) -> MasterLink:
    """The descriptor that a master which started us gave."""
    try:
        return MasterLink(socket.socket(fileno=number))
    except OSError as error:
        raise LocalError(f"--master-fd {number} is not a socket: {error.strerror}") from None
