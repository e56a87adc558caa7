"""Where workers' output goes: descriptors that may block, and lines that carry a worker's number.

Lives here: writing to this process's own stdout and stderr without ever stopping the loop. Must not live here: the protocol.
"""

from __future__ import annotations

import os
import select
import stat

SAFE_WRITE = 4096
"""What a terminal takes without blocking once poll says so (PIPE_BUF)."""


class Sink:
    """One of our descriptors. `write` takes what goes now; `pending` bytes wait until the loop finds it writable.

    A terminal is shared with others, so it is not made non-blocking: it gets small pieces after a poll. A pipe is made non-blocking, as ssh does,
    and made blocking again at the end.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._waiting: list[memoryview] = []
        mode = os.fstat(fd).st_mode
        self.plain = stat.S_ISREG(mode) or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd))
        self._terminal = os.isatty(fd)
        self._restore = False
        if not self.plain and not self._terminal and os.get_blocking(fd):
            os.set_blocking(fd, False)
            self._restore = True

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def write(self, data: memoryview | bytes) -> bool:
        """Write now what goes, keep the rest. True if nothing had to wait. Raises `BrokenPipeError` when nobody reads any more."""
        view = memoryview(data)
        if not self._waiting:
            view = view[self._put(view) :]
        if len(view):
            self._waiting.append(memoryview(bytes(view)))
        return not self._waiting

    def flush(self) -> bool:
        """Write what waits; True when nothing does."""
        while self._waiting:
            head = self._waiting[0]
            size = self._put(head)
            if size < len(head):
                self._waiting[0] = head[size:]
                return False
            del self._waiting[0]
        return True

    def _put(self, view: memoryview) -> int:
        total = 0
        while total < len(view):
            part = view[total:]
            if self._terminal:
                if not select.select((), (self.fd,), (), 0)[1]:
                    return total
                part = part[:SAFE_WRITE]
            try:
                total += os.write(self.fd, part)
            except BlockingIOError:
                return total
        return total

    def drop(self) -> None:
        """Nobody reads: forget what waits."""
        self.closed = True
        self._waiting.clear()

    def restore(self) -> None:
        if self._restore:
            os.set_blocking(self.fd, True)


class Lines:
    """Puts a worker's number before each line; holds an unfinished line back until it is whole, or long, or the stream ends."""

    LONGEST = 16 * 1024

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._rest = b""

    def feed(self, data: memoryview) -> bytes:
        """The whole lines, each with its prefix."""
        *lines, rest = (self._rest + data).split(b"\n")
        out = [self._prefix + line + b"\n" for line in lines]
        if len(rest) > self.LONGEST:
            out.append(self._prefix + rest + b"\n")
            rest = b""
        self._rest = rest
        return b"".join(out)

    def end(self) -> bytes:
        """The last line, if it had no newline."""
        rest, self._rest = self._rest, b""
        return self._prefix + rest + b"\n" if rest else b""
