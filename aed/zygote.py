"""The zygote: holds the imports of nets and checkers, and no secret; forks one for each request (user aed).

Started by the listener as `python -I -m aed.zygote`. Must not live here: anything that reads a client's bytes.
"""

from __future__ import annotations

import base64
import gc
import os
import pwd
import selectors
import signal
import socket
import sys
from collections.abc import Callable

from OpenSSL import SSL

from aed import checker, privilege, registry, spawn
from aed.errors import AedError
from aed.link import Link
from aed.model import Account
from aed.net import main as net
from aed.net import tls, warm
from aed.sandbox import filters

CONTROL = 4
"""The descriptor of the requests' socket."""


def become(user: str) -> None:
    """Drop to the system user of the daemon, where we are root."""
    if user:
        entry = pwd.getpwnam(user)
        privilege.drop_to(Account(name=user, uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,), home="/", shell=""))
    privilege.set_undumpable()


def run_child(body: Callable[[], None], name: str) -> None:
    """In the forked child: run `body`, never come back."""
    status = 1
    try:
        gc.enable()
        signal.set_wakeup_fd(-1)
        privilege.reset_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        privilege.set_name(name)
        privilege.set_undumpable()
        body()
        status = 0
    except AedError as error:
        print(f"{name}: {error}", file=sys.stderr)
    except Exception as error:  # a bug: one line for the log, the connection ends
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def serve(control: socket.socket, bpf: dict[str, bytes]) -> None:
    """Fork a child for each request until nobody is left to ask."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    selector = selectors.PollSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    context = tls.tls_context()
    gc.collect()
    gc.freeze()
    while True:
        for key, _ in selector.select():
            if key.fileobj == wake_read:
                os.read(wake_read, 4096)
                reap()
                continue
            try:
                request = spawn.take(control)
            except (AedError, OSError) as error:
                print(f"aed-zygote: {error}", file=sys.stderr)
                continue
            if request is None:
                return
            fork_for(request, control, context, bpf)


def fork_for(request: tuple[bytes, list[socket.socket]], control: socket.socket, context: SSL.Context, bpf: dict[str, bytes]) -> None:
    kind, sockets = request
    try:
        pid = os.fork()
    except OSError as error:
        print(f"aed-zygote: fork: {error}", file=sys.stderr)
        pid = -1
    if pid == 0:
        control.close()
        # Of all others (the wake-up pipe of the zygote is one) a child that is not ours any more could make use.
        privilege.close_all_fds((0, 1, 2, *(sock.fileno() for sock in sockets)))
        if kind == spawn.NET:
            run_child(lambda: net.main(sockets[0], Link(sockets[1]), context, lambda: filters.load(bpf["net"])), "aed-net")
        else:
            run_child(lambda: checker.main(sockets[0], lambda: filters.load(bpf["checker"])), "aed-checker")
    for sock in sockets:
        sock.close()


def reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def main() -> None:
    """Entry of `python -I -m aed.zygote`."""
    config = spawn.read_config()
    gc.disable()
    become(str(config["user"]))
    privilege.set_name("aed-zygote")
    for mechanism in config["mechanisms"] if isinstance(config["mechanisms"], list) else ():
        registry.check(str(mechanism))
    compiled = config["filters"]
    bpf = {name: base64.b64decode(text) for name, text in compiled.items()} if isinstance(compiled, dict) else {}
    warm.handshake()
    control = socket.socket(fileno=CONTROL)
    serve(control, bpf)


if __name__ == "__main__":
    main()
