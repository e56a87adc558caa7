"""The session's event loop: epoll and a dictionary. `selectors` costs several microseconds more at each turn, and a byte there and back has four.

Must not live here: what the callbacks do, time beyond one wait.
"""

from __future__ import annotations

import select
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Callback = Callable[[int], None]


class Loop:
    """Calls back when descriptors are ready. A hang-up or an error counts as readable: the read says what it is."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Call `callback(events)` when `fd` is ready; what was said of it before is replaced, and no events forget it."""
        known = fd in self._callbacks
        if not events:
            self.forget(fd)
        elif known:
            self._callbacks[fd] = callback
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Before a descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, wait: float | None) -> bool:
        """Wait at most `wait` seconds (None: for ever) and call back for all that is ready; False if nothing was."""
        ready = self._epoll.poll(-1 if wait is None else wait)
        for fd, events in ready:
            # A callback may have closed what a later event of this turn is about.
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        return bool(ready)
