"""The client's event loop: which descriptors are watched for what. A thin skin over `selectors`.

Must not live here: anything about nodes, workers or time.
"""

from __future__ import annotations

import selectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Loop:
    """Descriptors that epoll refuses (regular files) are always ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._always: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._events: dict[int, int] = {}

    def want(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when `fd` is ready for `events`; 0 forgets it."""
        before = self._events.get(fd, 0)
        if events == before:
            return
        self._events[fd] = events
        if fd in self._always or not events:
            self._always.pop(fd, None)
        if before and not events:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
        elif fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        elif events:
            try:
                self._selector.register(fd, events, callback)
            except PermissionError:
                self._always[fd] = (events, callback)

    def turn(self, wait: float) -> bool:
        """Wait for something, handle it; False if nothing came in `wait` seconds."""
        ready = self._selector.select(0 if self._always else max(0.0, wait))
        always = list(self._always.items())
        for key, events in ready:
            if self._events.get(key.fd):
                key.data(events)
        for fd, (events, callback) in always:
            if fd in self._always:
                callback(events)
        return bool(ready or always)
