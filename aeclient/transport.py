"""Getting a byte stream to a node: TCP, a Unix socket of this machine, a command's stdio, or the embedded node.

Lives here: sockets and processes. Must not live here: TLS, trust, the protocol.
"""

from __future__ import annotations

import os
import socket
import sys

from aed.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aeclient.target import Target

CONNECT_TIME = 15.0
"""Seconds for one address to answer."""


def is_local(target: Target) -> bool:
    """Whether the target is written as a Unix socket's path."""
    return target.host.startswith("/")


def open_stream(target: Target) -> socket.socket:
    """A connected stream socket. Raises `Unavailable` naming what did not answer."""
    command = target.command()
    if command is not None:
        return run_command(["/bin/sh", "-c", f"exec {command}"])
    if is_local(target):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(target.host)
        except OSError as error:
            sock.close()
            raise Unavailable(f"{target.name}: {error.strerror}: does aed run on this machine?") from None
        return sock
    try:
        return socket.create_connection((target.host, target.port), CONNECT_TIME)
    except socket.gaierror as error:
        raise Unavailable(f"{target.name}: no address is known for {target.host}: {error.strerror}") from None
    except TimeoutError:
        raise Unavailable(f"{target.name}: {target.host} port {target.port} did not answer in {CONNECT_TIME:.0f} s") from None
    except OSError as error:
        raise Unavailable(f"{target.name}: {target.host} port {target.port}: {error.strerror}: does aed run there?") from None


def run_command(words: list[str]) -> socket.socket:
    """A process that speaks on its stdio; it ends when the socket is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1)]
        os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    return ours


class Stream:
    """A connection under way. `identity` waits for an embedded node to say what it is (DER); other nodes are known otherwise, or not."""

    __slots__ = ("_announce", "sock")

    def __init__(self, sock: socket.socket, announce: int = -1) -> None:
        self.sock = sock
        self._announce = announce

    def identity(self) -> bytes:
        with open(self._announce, "rb") as file:
            certificate = file.read()
        if not certificate:
            self.sock.close()
            raise Unavailable("the embedded node did not start; its words above say why. It needs the daemon's packages: pip install 'aed[daemon]'")
        return certificate


def begin(target: Target | None) -> Stream:
    """Start connecting; None is an embedded node. The node gets its processes ready while the caller imports what it needs to speak to it."""
    return embedded() if target is None else Stream(open_stream(target))


def embedded() -> Stream:
    """Start a node for this user alone."""
    announce_read, announce_write = os.pipe()
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-m", "aed.cli", "--embedded", "--announce-fd", "3"]
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
        (os.POSIX_SPAWN_DUP2, announce_write, 3),
    ]
    with theirs:
        # In a session of its own: what is typed on the terminal is for us, and we pass it on.
        os.posix_spawn(sys.executable, words, os.environ, file_actions=actions, setsid=True)
    os.close(announce_write)
    return Stream(ours, announce_read)
