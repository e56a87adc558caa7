"""Asking the zygote for a net or a checker: one byte and the descriptors, on a shared SOCK_SEQPACKET pair.

Lives here: both ends of that request, and the start of the zygote. Must not live here: what a net or a checker does.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from collections.abc import Mapping

from aed.errors import RemoteError, Unavailable

NET = b"n"
CHECKER = b"c"


def ask(zygote: socket.socket, kind: bytes, *ends: socket.socket) -> None:
    """Have the zygote fork a child of `kind` that gets `ends`. Raises `Unavailable` when the zygote is gone or swamped."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno() for end in ends]))]
    try:
        zygote.sendmsg([kind], rights)
    except OSError as error:
        raise Unavailable(f"the zygote takes no request: {error}") from None


def take(control: socket.socket) -> tuple[bytes, list[socket.socket]] | None:
    """The zygote's side: the next request, or None when nobody is left to ask. Raises `RemoteError` on one that is malformed."""
    data, ancillary, flags, _ = control.recvmsg(16, 64, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    descriptors: list[int] = []
    for _level, _kind, payload in ancillary:
        values = array.array("i")
        values.frombytes(payload)
        descriptors.extend(values)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(sockets) != {NET: 2, CHECKER: 1}.get(data):
        for sock in sockets:
            sock.close()
        raise RemoteError("a malformed request to the zygote")
    return data, sockets


def run_isolated(module: str, keep: Mapping[int, int], config: object) -> int:
    """Fork and exec `python -I -m MODULE` with `keep` (parent's descriptor → child's) and `config` as JSON on descriptor 3; gives the pid.

    The new process has no memory of ours. Nothing else of the environment or the descriptors goes along.
    """
    config_fd = os.memfd_create("aed-config")
    os.write(config_fd, json.dumps(config).encode())
    os.lseek(config_fd, 0, os.SEEK_SET)
    actions = [(os.POSIX_SPAWN_DUP2, config_fd, 3)] + [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in keep.items()]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    try:
        return os.posix_spawn(sys.executable, [sys.executable, "-I", "-B", "-m", module], environment, file_actions=actions)
    finally:
        os.close(config_fd)


def read_config() -> dict[str, object]:
    """The `config` of `run_isolated`, in the new process."""
    with open(3, "rb") as file:
        config = json.load(file)
    if not isinstance(config, dict):
        raise RemoteError("the configuration of a helper process is not an object")
    return config
