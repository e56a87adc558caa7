"""The listener: accepts, limits, forks a session and has a net forked for each connection, and cleans up after the dead (root).

It reads no byte of any client. Lives here: the accepting loop and the list of sessions. Must not live here: what a session does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import os
import pwd
import secrets
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from aed import node as nodes
from aed import privilege, spawn
from aed.errors import AedError, Unavailable
from aed.link import Link
from aed.session import main as session_main
from aed.session.context import Node, Peer

BACKLOG = 512
RESOURCE_PAUSE = 0.1
"""Seconds without accepting after the system refused a descriptor or a process: never spin."""
GRACE_MARGIN = 5.0
ORPHAN_TIME = 1.0
"""Seconds for killed orphans to go; one that hangs in the kernel (a dead NFS server) is not waited for again."""
END_TIME = 8.0
"""Seconds for sessions to end when the node is stopped: more than their workers have, less than an administrator's patience."""
_REMOVE = ("/bin/rm", "-rf", "--one-file-system", "--")
RENEWAL_RETRY = 60.0
_PEERCRED = struct.Struct("3i")


@dataclass(kw_only=True)
class Child:
    """A session process. `slot` is readable once it is authenticated (or gone)."""

    session: str
    slot: int
    started: float
    authenticated: bool = False


class Listener:
    """The node's first process. `run` returns when it was told to stop, or `once` when its only session has ended."""

    def __init__(self, node: Node, zygote_pid: int, sockets: list[socket.socket]) -> None:
        self.node = node
        self.zygote_pid = zygote_pid
        self.carrier_uid = os.geteuid() if node.embedded or os.geteuid() else pwd.getpwnam(node.config["user"]).pw_uid
        self.sockets = sockets
        self.children: dict[int, Child] = {}
        self.selector = selectors.EpollSelector()
        self.paused_until: float | None = None
        self.renewal: nodes.Helper | None = None
        self.renew_at = self._half_life()
        self.stopping = False
        self.once = False
        self.removers: set[int] = set()
        self.stuck: set[int] = set()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until the only session is over."""
        privilege.set_name("aed")
        privilege.become_subreaper()
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal ends no node; reloading is not built yet
        self._sweep()
        self._watch(self.wake_read, self._on_signal)
        for sock in self.sockets:
            self._watch(sock.fileno(), lambda sock=sock: self._accept(sock))  # type: ignore[misc]
        # What is there now stays: no collection may copy it into every session.
        gc.collect()
        gc.freeze()
        while not self.stopping and not (self.once and not self.children):
            for key, _ in self.selector.select(self._wait()):
                if self.selector.get_map().get(key.fd) is key:
                    key.data()
            self._on_time()
        self._end()

    def serve(self, connection: socket.socket, peer: Peer) -> None:
        """Give a connection its session and its net. A failure closes this connection alone."""
        with connection, contextlib.ExitStack() as stack:
            if not self._has_room():
                return
            session_end, net_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(net_end)
            stack.enter_context(session_end)
            slot_read, slot_write = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, slot_write)
            session_id = secrets.token_hex(8)
            try:
                spawn.ask(self.node.zygote, spawn.NET, connection, net_end)
                pid = os.fork()
            except BaseException:
                os.close(slot_read)
                raise
            if pid == 0:
                connection.close()
                net_end.close()
                os.close(slot_read)
                self._become_session(peer, session_end, slot_write, session_id)
        self.children[pid] = Child(session=session_id, slot=slot_read, started=time.monotonic())
        self._watch(slot_read, lambda: self._on_slot(pid))

    def _become_session(self, peer: Peer, link_end: socket.socket, slot: int, session_id: str) -> None:
        status = 1
        try:
            self.selector.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            privilege.reset_signals()
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            for sock in self.sockets:
                sock.close()
            for child in self.children.values():
                os.close(child.slot)
            if self.renewal is not None:
                os.close(self.renewal.answer)
            node = self.node

            def authenticated() -> None:
                os.write(slot, b"a")
                os.close(slot)
                node.zygote.close()

            session_main.main(node, peer, Link(link_end), session_id, authenticated)
            status = 0
        except AedError as error:
            say(f"aed-session {session_id}: {error}")
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            # Whatever stderr is worth: this process must not come back into the listener's loop.
            try:
                sys.stderr.flush()
            finally:
                os._exit(status)

    def _has_room(self) -> bool:
        limits = self.node.config
        waiting = sum(not child.authenticated for child in self.children.values())
        if waiting >= limits["limits.max_unauthenticated"]:
            say(f"aed: {waiting} connections are not authenticated yet (limits.max_unauthenticated): a new one was closed")
            return False
        if len(self.children) >= limits["limits.max_sessions"]:
            say(f"aed: {len(self.children)} sessions (limits.max_sessions): a new connection was closed")
            return False
        return True

    def _accept(self, sock: socket.socket) -> None:
        try:
            connection, address = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause(error)
            return
        try:
            self.serve(connection, peer_of(connection, address))
        except (OSError, Unavailable) as error:
            connection.close()
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Out of descriptors or processes: wait a moment, for accepting again at once would only spin."""
        say(f"aed: a connection could not be served: {error}")
        if isinstance(error, OSError) and error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN):
            return
        self.paused_until = time.monotonic() + RESOURCE_PAUSE
        for sock in self.sockets:
            self._forget(sock.fileno())

    def _on_slot(self, pid: int) -> None:
        child = self.children.get(pid)
        if child is None:
            return
        if os.read(child.slot, 1) == b"a":
            child.authenticated = True
        self._forget(child.slot)

    # Time.

    def _half_life(self) -> float:
        now = time.monotonic()
        return now + (self.node.leaf.until - now) / 2

    def _wait(self) -> float:
        now = time.monotonic()
        moments = [self.renew_at] if self.renewal is None else []
        if self.paused_until is not None:
            moments.append(self.paused_until)
        grace = self.node.config["limits.grace_time"].total_seconds() + GRACE_MARGIN
        moments += [child.started + grace for child in self.children.values() if not child.authenticated]
        return max(0.0, min(moments, default=now + 3600.0) - now)

    def _on_time(self) -> None:
        now = time.monotonic()
        if self.paused_until is not None and now >= self.paused_until:
            self.paused_until = None
            for sock in self.sockets:
                self._watch(sock.fileno(), lambda sock=sock: self._accept(sock))  # type: ignore[misc]
        if self.renewal is None and now >= self.renew_at:
            try:
                self.renewal = nodes.start_issuer(self.node.config)
                self._watch(self.renewal.answer, self._on_leaf)
            except OSError as error:
                say(f"aed: no new TLS certificate: {error}; the present one is used on")
                self.renew_at = now + RENEWAL_RETRY
        grace = self.node.config["limits.grace_time"].total_seconds() + GRACE_MARGIN
        for pid, child in self.children.items():
            if not child.authenticated and now >= child.started + grace:
                child.started = now
                os.kill(pid, signal.SIGKILL)  # it should have ended by itself; it is our unreaped child, so the pid is its own

    def _on_leaf(self) -> None:
        renewal, self.renewal = self.renewal, None
        assert renewal is not None
        self._forget(renewal.answer)
        try:
            self.node = dataclasses.replace(self.node, leaf=nodes.read_leaf(renewal))
            self.renew_at = self._half_life()
        except AedError as error:
            say(f"aed: no new TLS certificate: {error}; the present one is used on")
            self.renew_at = time.monotonic() + RENEWAL_RETRY

    # Ends.

    def _on_signal(self) -> None:
        numbers = os.read(self.wake_read, 4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.stopping = True
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.zygote_pid and not self.stopping:
                say("aed: the zygote died; a new one is started")
                self.node.zygote.close()
                zygote, self.zygote_pid = nodes.start_zygote(self.node.config, self.node.user, self.node.filters)
                self.node = dataclasses.replace(self.node, zygote=zygote)
            self.removers.discard(pid)
            self.stuck.discard(pid)
            child = self.children.pop(pid, None)
            if child is not None:
                self._bury(child)

    def _bury(self, child: Child) -> None:
        """A session is dead, in whatever way: nothing of it stays."""
        self._forget(child.slot)
        os.close(child.slot)
        self._kill_orphans()
        own = os.path.join(nodes.session_root(self.node.config), child.session)
        scratch = os.path.join(self.node.scratch, child.session)
        empty = [remove_empty(own, "private"), remove_empty(scratch, "tmp", "var-tmp")]
        if not all(empty):
            self._remove(own, scratch)

    def _sweep(self) -> None:
        """What sessions left that died together with an earlier listener. A living one holds the lock of its directory."""
        roots = (nodes.session_root(self.node.config), self.node.scratch)
        for name in {name for root in roots for name in os.listdir(root)}:
            if session_main.is_dead(os.path.join(roots[0], name)):
                self._remove(*(os.path.join(root, name) for root in roots))

    def _remove(self, *directories: str) -> None:
        """In a process of its own: an account made what is in there, a million files or a thousand levels, and we have others to serve."""
        try:
            self.removers.add(os.posix_spawn(_REMOVE[0], [*_REMOVE, *directories], {}))
        except OSError as error:
            say(f"aed: {' and '.join(directories)} could not be removed: {error.strerror}")

    def _kill_orphans(self) -> None:
        """We are the subreaper: what was below a session that was killed is our child now. Nets and checkers are not of that kind."""
        ours = {self.zygote_pid, *self.children, *self.removers, *(() if self.renewal is None else (self.renewal.pid,))}
        deadline = time.monotonic() + ORPHAN_TIME
        while strangers := [pid for pid in own_children() if pid not in ours and pid not in self.stuck and not self._is_carrier(pid)]:
            if time.monotonic() > deadline:
                say(f"aed: left by a session, killed, and still there: pids {', '.join(map(str, strangers))}")
                self.stuck.update(strangers)
                return
            for pid in strangers:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _is_carrier(self, pid: int) -> bool:
        """Whether a process is a net or a checker: they end by themselves when their session's link closes. A name is its process's own to choose, so
        the uid must be that of the daemon's own account too."""
        try:
            with open(f"/proc/{pid}/status", "rb") as file:  # bytes: a name need not be UTF-8
                status = dict(line.rstrip(b"\n").split(b":\t", 1) for line in file if line.startswith((b"Name:", b"Uid:")))
        except OSError:
            return False
        return status[b"Name"] in (b"aed-net", b"aed-checker", b"aed-zygote") and status[b"Uid"].split() == [str(self.carrier_uid).encode()] * 4

    def _end(self) -> None:
        """Told to stop: end sessions (they outlive the listener once resumption is built), then the zygote."""
        for sock in self.sockets:
            if sock.family == socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    os.unlink(sock.getsockname())
            sock.close()
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_TIME
        for pid, child in list(self.children.items()):
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)  # a process of its account's may hold it up
                time.sleep(0.005)
            del self.children[pid]
            self._bury(child)
        for pid in self.removers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.node.zygote.close()
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.zygote_pid, signal.SIGKILL)
            os.waitpid(self.zygote_pid, 0)

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, callback)

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self.selector.unregister(fd)


def say(text: str) -> None:
    """One line on standard error. Who reads there, or does not, must not end the node: nets and workers may have the same pipe."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def remove_empty(directory: str, *names: str) -> bool:
    """Remove `directory` and those below it if they are there and hold nothing: what most sessions leave. False if something is in the way."""
    try:
        for path in (*(os.path.join(directory, name) for name in names), directory):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path)  # never follows a link that an account may have put there
    except OSError:
        return False
    return True


def own_children() -> list[int]:
    """The pids of this process's children, as the kernel lists them."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def peer_of(connection: socket.socket, address: object) -> Peer:
    """Who connected, as the kernel tells."""
    if connection.family == socket.AF_UNIX:
        _, uid, _ = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        return Peer(address="unix", uid=uid)
    return Peer(address=str(address[0]) if isinstance(address, tuple) else "unknown")


def bind(node: Node) -> list[socket.socket]:
    """The listening sockets of the configuration. Raises `Unavailable` naming the address that cannot be had."""
    sockets = []
    for text in node.config["listen"]:
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((host, int(port)))
            sock.listen(BACKLOG)
        except OSError as error:
            raise Unavailable(f"cannot listen on {text}: {error.strerror}: is another daemon there? name another address in `listen`") from None
        sockets.append(sock)
    path = node.config["local_socket"] or os.path.join(node.config["runtime_directory"], "local.sock")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if is_served(path):
            raise Unavailable(f"another aed serves {path}: end it, or name another runtime_directory")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  everybody may connect; the kernel says who it is
        sock.listen(BACKLOG)
    except OSError as error:
        raise Unavailable(f"cannot listen on {path}: {error.strerror}: name another path in `local_socket`") from None
    sockets.append(sock)
    return sockets


def is_served(path: str) -> bool:
    """Whether somebody accepts connections on the socket `path`; one that a dead daemon left is nobody's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
