"""One connection on standard input and output (`aed --inetd`, `aeclient --via`): a socket as it is, pipes through a small pump.

Lives here: turning descriptors 0 and 1 into a socket. Must not live here: what is spoken over it.
"""

from __future__ import annotations

import os
import socket
import stat
import threading

CHUNK = 256 * 1024


def connection() -> socket.socket:
    """The client's connection. Descriptors 0 and 1 then point to /dev/null, so that nothing is written into it by accident."""
    sock = socket.socket(fileno=os.dup(0)) if stat.S_ISSOCK(os.fstat(0).st_mode) else _pumped(os.dup(0), os.dup(1))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return sock


def _pumped(source: int, sink: int) -> socket.socket:
    """A socket whose other end a child process copies from `source` and to `sink`. A process, because the parent may fork and so has no threads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.fork() == 0:
        try:
            ours.close()
            upward = threading.Thread(target=_copy, args=(source, theirs.fileno(), theirs), daemon=True)
            upward.start()
            _copy(theirs.fileno(), sink, None)
        finally:
            os._exit(0)
    theirs.close()
    os.close(source)
    os.close(sink)
    return ours


def _copy(source: int, sink: int, half_close: socket.socket | None) -> None:
    try:
        while data := os.read(source, CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(sink, view) :]
        if half_close is not None:
            half_close.shutdown(socket.SHUT_WR)
    except OSError:
        return
