"""The options of aed, each declared once: parser, check, dump and manual page come from this table.

Lives here: `OPTIONS` and the checks of single values. Must not live here: options of a mechanism (they stand in its `server.py`), reading of files.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta

from aed.config.option import Option

ACCOUNT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
"""What may be an account's name. Nothing else reaches the name service, a path or a log line as one."""

PROFILES = ("none", "default", "strict")

_MECHANISM = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
# Variables by which a worker's loader, shell or interpreter could be turned around: no configuration lets a client set them.
_FORBIDDEN_PREFIXES = ("LD_", "PYTHON", "KRB5", "GSS", "OPENSSL_", "SSL_", "PERL", "RUBY", "GLIBC_", "MALLOC_", "BASH", "AE_")
_FORBIDDEN_NAMES = ("ENV", "IFS", "PATH", "HOME", "USER", "LOGNAME", "SHELL")


def _between(low: int, high: int) -> Callable[[int], str | None]:
    return lambda value: None if low <= value <= high else f"is {value}; write a number from {low} to {high}"


def _longer_than(low: timedelta, what: str) -> Callable[[timedelta], str | None]:
    return lambda value: None if value >= low else f"is too short; write {what} or more"


def _power_of_two(value: int) -> str | None:
    if 64 << 10 <= value <= 16 << 20 and value & (value - 1) == 0:
        return None
    return f'is {value} bytes; write a power of two from "64KiB" to "16MiB"'


def _listen(value: tuple[str, ...]) -> str | None:
    for item in value:
        host, colon, port = item.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535) or not _is_host(host):
            return f'{item!r} is not an address; write host:port, as "0.0.0.0:7733" or "[::]:7733"'
    return None


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return bool(_HOST.fullmatch(host))
    try:
        ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return host.endswith("]")


def _account(value: str) -> str | None:
    return None if ACCOUNT_NAME.fullmatch(value) and value != "root" else f'{value!r} cannot be it; write an unprivileged account, as "aed"'


def _node_name(value: str) -> str | None:
    return None if not value or _HOST.fullmatch(value) else f'{value!r} is not a host name; write one, as "node1.example.org", or ""'


def _mechanisms(value: tuple[str, ...]) -> str | None:
    if not value:
        return 'is empty, so nobody could log in; name mechanisms, as ["publickey", "local"]'
    wrong = next((item for item in value if not _MECHANISM.fullmatch(item)), None)
    if wrong is not None:
        return f'{wrong!r} is not a mechanism\'s name; write names as ["publickey", "local"]'
    return "names a mechanism twice; name each once" if len(set(value)) < len(value) else None


def _account_list(value: tuple[str, ...]) -> str | None:
    wrong = next((item for item in value if not ACCOUNT_NAME.fullmatch(item.removeprefix("@"))), None)
    return None if wrong is None else f'{wrong!r} is neither an account nor @group; write names, as ["alice", "@physics"]'


def _destination(value: str) -> str | None:
    if value == "journal" or value.startswith("file:/"):
        return None
    return f'{value!r} is no destination; write "file:/var/log/aed/audit.jsonl" or "journal"'


def _profiles(value: tuple[str, ...]) -> str | None:
    if value and set(value) <= set(PROFILES) and len(set(value)) == len(value):
        return None
    return 'must name each permitted profile once; write some of "none", "default", "strict", the node\'s default first'


def _absolute(value: tuple[str, ...]) -> str | None:
    wrong = next((item for item in value if not item.startswith("/") or ".." in item.split("/")), None)
    return None if wrong is None else f'{wrong!r} is not an absolute path; write one, as "/scratch"'


def _below_run(value: tuple[str, ...]) -> str | None:
    wrong = next((item for item in value if not item.startswith("/run/") or ".." in item.split("/") or not item[5:].strip("/")), None)
    return None if wrong is None else f'{wrong!r} is not below /run; write paths such as "/run/nscd"'


def _variables(value: tuple[str, ...]) -> str | None:
    for item in value:
        if not _VARIABLE.fullmatch(item):
            return f'{item!r} is not a variable; write names, as "LANG", or beginnings, as "LC_*"'
        start = item.removesuffix("*")
        taken = item in _FORBIDDEN_NAMES or start.startswith(_FORBIDDEN_PREFIXES)
        if item != start:
            taken = taken or any(name.startswith(start) for name in _FORBIDDEN_NAMES + _FORBIDDEN_PREFIXES)
        if taken:
            return f"{item!r} would let a client change what the worker's loader, shell or interpreter does; leave it out"
    return None


OPTIONS: tuple[Option, ...] = (
    Option(
        key="listen", kind="list", default=("0.0.0.0:7733",), check=_listen, doc="Addresses to listen on, host:port. Empty: only the local socket."
    ),
    Option(key="local_socket", kind="path", default="", doc='Socket for users of this machine. "": local.sock in runtime_directory.'),
    Option(key="user", kind="str", default="aed", check=_account, doc="The account that the network processes run as."),
    Option(key="node_name", kind="str", default="", check=_node_name, doc='How this node calls itself. "": the host name.'),
    Option(key="state_directory", kind="path", default="/var/lib/aed", doc="Where the node's identity key is kept."),
    Option(key="runtime_directory", kind="path", default="/run/aed", doc="Where sockets are made."),
    Option(
        key="scratch_directory",
        kind="path",
        default="",
        doc='Where workers have their own /tmp and /var/tmp: on a disk, for they fill it. "": beside state_directory, with -scratch after its name.',
    ),
    Option(key="authentication", kind="list", default=("publickey", "local"), check=_mechanisms, doc="Mechanisms that may prove an identity."),
    Option(key="groups", kind="path", default="groups.toml", doc="The file of groups and their members."),
    Option(key="tls.certificate", kind="path", default="", doc='Host certificate (chain) of a site CA, PEM. "": the node certifies itself.'),
    Option(key="tls.key", kind="path", default="", doc="Key of tls.certificate, PEM. The network process holds it while it runs."),
    Option(
        key="limits.grace_time",
        kind="duration",
        default="120s",
        check=_longer_than(timedelta(seconds=1), '"1s"'),
        doc="Time to authenticate, in all.",
    ),
    Option(key="limits.max_auth_tries", kind="int", default=6, check=_between(1, 100), doc="Attempts in one connection, aborted ones too."),
    Option(key="limits.max_unauthenticated", kind="int", default=100, check=_between(1, 100_000), doc="Connections not yet authenticated, at once."),
    Option(key="limits.max_sessions", kind="int", default=1000, check=_between(1, 1_000_000), doc="Sessions at once."),
    Option(key="limits.max_workers", kind="int", default=64, check=_between(1, 100_000), doc="Workers of one session, alive at once."),
    Option(
        key="keepalive.interval",
        kind="duration",
        default="15s",
        check=_longer_than(timedelta(milliseconds=100), '"100ms"'),
        doc="A silent peer is asked this often.",
    ),
    Option(key="keepalive.count", kind="int", default=3, check=_between(1, 1000), doc="A peer that leaves so many unanswered is dead."),
    Option(key="streams.ring_size", kind="size", default="1MiB", check=_power_of_two, doc="Memory for each stream of a worker."),
    Option(key="accounts.minimum_uid", kind="int", default=1000, check=_between(1, 4294967294), doc="No account below it may log in."),
    Option(key="accounts.maximum_uid", kind="int", default=60000, check=_between(1, 4294967294), doc="No account above it may log in."),
    Option(key="accounts.allow", kind="list", default=(), check=_account_list, doc="If not empty, only these accounts (or @unixgroup) may log in."),
    Option(
        key="accounts.deny", kind="list", default=(), check=_account_list, doc="These accounts (or @unixgroup) may not log in, whatever else says so."
    ),
    Option(key="accounts.shells", kind="path", default="/etc/shells", doc='The list of login shells. "": any shell but nologin and false.'),
    Option(key="accounts.nologin", kind="path", default="/etc/nologin", doc="While this file exists nobody may log in."),
    Option(
        key="audit.destination",
        kind="str",
        default="file:/var/log/aed/audit.jsonl",
        check=_destination,
        doc='Where logins are recorded: "file:PATH" or "journal". No record, no login.',
    ),
    Option(
        key="sandbox.profiles",
        kind="list",
        default=("default", "strict"),
        check=_profiles,
        doc="Permitted profiles of none, default, strict; the first is the default.",
    ),
    Option(
        key="sandbox.writable", kind="list", default=(), check=_absolute, doc="Paths besides the home that workers may write to (profile default)."
    ),
    Option(
        key="sandbox.run_allowed",
        kind="list",
        default=("/run/systemd/resolve", "/run/nscd", "/run/resolvconf", "/run/NetworkManager/resolv.conf"),
        check=_below_run,
        doc="Paths below /run that workers see; the rest of /run is empty for them.",
    ),
    Option(
        key="sandbox.environment",
        kind="list",
        default=("LANG", "LC_*", "TZ", "TERM"),
        check=_variables,
        doc="Variables that the client may pass, names or NAME*.",
    ),
    Option(key="sandbox.open_files", kind="int", default=0, check=_between(0, 1 << 30), doc="Open files of a worker. 0: as the daemon has it."),
    Option(key="sandbox.processes", kind="int", default=4096, check=_between(0, 1 << 22), doc="Processes of the account. 0: as the daemon has it."),
    Option(key="sandbox.core_size", kind="size", default=0, doc="Size of a worker's core dump. 0: as the daemon has it."),
    Option(key="sandbox.memory", kind="size", default=0, doc="Address space of each process of a worker. 0: as the daemon has it."),
)
