"""The command `aed`: read the configuration, then check it, print it, or serve.

Lives here: options of the command line and the words it prints. Must not live here: anything that a session needs.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import importlib.util
import os
import socket
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence

import aed
from aed import checks, listener, node, registry, stdio
from aed.config import Config, Fault, Option, dump, faults, line_of, load, mechanisms_named
from aed.errors import AedError, Misconfigured
from aed.session.context import Peer

DEFAULT_FILE = "/etc/aed/aed.toml"
USER_FILE = "~/.config/aed/aed.toml"
PRIVATE_PLACES = ("/tmp/", "/var/tmp/")  # noqa: S108
"""What a worker sees its own of. Whoever works below them means the directory that is there."""
EMBEDDED_MECHANISMS = ("local",)
MAX_PLACE = 107 - len("/aed-12345678/run/sessions/0123456789abcdef/private/w1073741823")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 with each fault on a line of its own, 2 for a wrong command line."""
    if os.geteuid() == 0 and not sys.flags.isolated and arguments is None:
        # Nothing of root's environment or directory may choose what the daemon imports.
        os.execv(sys.executable, [sys.executable, "-I", "-m", "aed.cli", *sys.argv[1:]])
    options = parse(arguments)
    try:
        if options.check:
            return check(options)
        with tempfile.TemporaryDirectory(prefix="aed-", dir=short_place()) if options.embedded else contextlib.nullcontext("") as options.directory:
            config = read_config(options)
            if options.print_config:
                print(dump(config), end="")
                return 0
            return serve(config, embedded=options.embedded, inetd=options.inetd, announce=options.announce_fd)
    except AedError as error:
        for line in str(error).splitlines():
            print(f"aed: {line}", file=sys.stderr)
        return 1


def short_place() -> str:
    """Where temporary files go, unless a socket's name below it would be longer than the 107 bytes that the kernel takes."""
    place = tempfile.gettempdir()
    return place if len(os.fsencode(place)) <= MAX_PLACE else "/tmp"  # noqa: S108  TemporaryDirectory makes a private one in it


def command_line() -> argparse.ArgumentParser:
    """The options; the manual page is made from them."""
    parser = argparse.ArgumentParser(prog="aed", description="The node's daemon: authenticates, maps to account and group, starts sandboxed workers.")
    parser.add_argument("-c", dest="file", metavar="FILE", help=f"configuration (default {DEFAULT_FILE}, unprivileged {USER_FILE}, if it exists)")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="an option that wins over the file; repeats")
    parser.add_argument("--check", action="store_true", help="say what is wrong, and what would be right, then exit")
    parser.add_argument("--print-config", action="store_true", help="print every option, its value and where it came from, then exit")
    parser.add_argument("--inetd", action="store_true", help="serve the one connection on standard input and output, then exit")
    parser.add_argument("--embedded", action="store_true", help="as --inetd, for the one who starts it only: no file, no port (used by aeclient)")
    parser.add_argument("--announce-fd", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"aed {aed.__version__}")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the default file. A user's own node does not inherit the site's."""
    options = command_line().parse_args(arguments)
    default = DEFAULT_FILE if os.geteuid() == 0 else os.path.expanduser(USER_FILE)
    if options.file is None and not options.embedded and os.path.exists(default):
        options.file = default
    return options


def mechanism_options(names: Sequence[str]) -> dict[str, Sequence[Option]]:
    """The options that the named mechanisms declare. Raises `Misconfigured` for an unknown one."""
    return {name: getattr(registry.server(name), "OPTIONS", ()) for name in names}


def read_config(options: argparse.Namespace) -> Config:
    """The configuration in force. Raises `Misconfigured`."""
    overrides = dict(split_override(text) for text in options.overrides)
    if options.embedded:
        return load(None, mechanism_options(EMBEDDED_MECHANISMS), embedded_values(options.directory) | overrides, "embedded")
    extra = mechanism_options(mechanisms_named(options.file))
    config = load(options.file, extra, overrides)
    if os.geteuid() != 0:
        own = {key: value for key, value in user_values().items() if config.source(key) == "default"}
        config = load(options.file, extra, own | overrides, "unprivileged default")
    return config


def split_override(text: str) -> tuple[str, object]:
    """`key=value` of -o. The value is written as in the file, and a string may go without its quotes."""
    key, _, value = text.partition("=")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, value
    return key, parsed["value"] if len(parsed) == 1 else value


def user_values() -> Mapping[str, str]:
    """Where an unprivileged node keeps its things."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(state, "aed-run")
    return {
        "state_directory": os.path.join(state, "aed"),
        "runtime_directory": os.path.join(runtime, "aed"),
        "audit.destination": f"file:{os.path.join(state, 'aed', 'audit.jsonl')}",
    }


def embedded_values(directory: str) -> dict[str, object]:
    """The embedded node's: nothing that lasts but the audit record, and that only where the home can be written."""
    audit = user_values()["audit.destination"]
    try:
        os.makedirs(os.path.dirname(audit.removeprefix("file:")), mode=0o700, exist_ok=True)
        writable = os.access(os.path.dirname(audit.removeprefix("file:")), os.W_OK)
    except OSError:
        writable = False
    return {
        "listen": [],
        "authentication": list(EMBEDDED_MECHANISMS),
        "state_directory": os.path.join(directory, "state"),
        "runtime_directory": os.path.join(directory, "run"),
        "audit.destination": audit if writable else f"file:{directory}/audit.jsonl",
        "sandbox.profiles": ["default", "strict", "none"],
        "sandbox.writable": [here] if (here := os.getcwd()).startswith(PRIVATE_PLACES) else [],
    }


def check(options: argparse.Namespace) -> int:
    """`--check`: each fault on standard error; 0 if there is none."""
    extra: dict[str, Sequence[Option]] = {}
    found: list[Fault] = []
    for name in mechanisms_named(options.file):
        try:
            extra |= mechanism_options((name,))
        except AedError as error:
            extra[name] = ()
            found.append(Fault(file=options.file or "default", line=line_of(options.file, "authentication"), key="authentication", what=str(error)))
    found += faults(options.file, extra)
    if not found:
        found = checks.check(read_config(options))
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if any(not fault.warning for fault in found) else 0


def serve(config: Config, *, embedded: bool, inetd: bool, announce: int | None) -> int:
    """Serve until told to stop, or the one connection of inetd. The identity certificate goes out on descriptor `announce`."""
    require_packages()
    connection = stdio.connection() if embedded or inetd else None
    if os.geteuid() != 0 and not embedded:
        print("aed: unprivileged: all processes have one uid, workers are not kept from each other, only this account may log in", file=sys.stderr)
    if not embedded:
        refuse_faults(checks.check(config))
    ready, zygote_pid = node.prepare(config, embedded=embedded)
    if announce is not None:
        with open(announce, "wb") as file:
            file.write(ready.leaf.identity)
    sockets: list[socket.socket] = [] if connection is not None else listener.bind(ready)
    server = listener.Listener(ready, zygote_pid, sockets)
    if connection is not None:
        server.once = True
        server.serve(connection, caller(connection, embedded=embedded))
    for sock in sockets:
        name = sock.getsockname()
        print(f"aed: listening on {name if isinstance(name, str) else address(name)}", file=sys.stderr)
    if connection is None:
        digest = base64.b64encode(hashlib.sha256(ready.leaf.identity).digest()).rstrip(b"=").decode()
        print(f"aed: ready, identity SHA256:{digest}", file=sys.stderr, flush=True)
    server.run()
    return 0


def require_packages() -> None:
    """Raise `Misconfigured` where only the client was installed, before a helper process fails of it."""
    missing = [name for name in ("OpenSSL", "cryptography", "twisted", "pyseccomp") if importlib.util.find_spec(name) is None]
    if missing:
        raise Misconfigured(f"the daemon's packages are not installed ({', '.join(missing)}): pip install 'aed[daemon]', or '.[daemon]' in a clone")


def caller(connection: socket.socket, *, embedded: bool) -> Peer:
    """Who is at the other end of standard input. Only the embedded node's socket was made by its user; elsewhere the kernel can name who made
    a socket pair, not who sends the bytes."""
    peer = listener.peer_of(connection, connection.getpeername())
    return peer if embedded else Peer(address="stdio" if peer.uid is not None else peer.address)


def refuse_faults(found: Sequence[Fault]) -> None:
    """Say what is wrong with the machine; raise `Misconfigured` unless all of it are warnings."""
    for fault in found:
        if fault.warning:
            print(f"aed: {fault}", file=sys.stderr)
    wrong = [str(fault) for fault in found if not fault.warning]
    if wrong:
        raise Misconfigured("\n".join(wrong))


def address(name: tuple[object, ...]) -> str:
    """host:port as it is written in the configuration."""
    host = str(name[0])
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


if __name__ == "__main__":
    sys.exit(main())
