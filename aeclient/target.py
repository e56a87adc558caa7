"""A node as a user names it, and the checks that every name passes before it reaches a command or a socket.

Lives here: `Target`, `Options`, the grammar `user@host:port`, the `%h` `%p` `%r` of a transport command. Must not live here: reading any file.
On the fast path: no typing, dataclasses, argparse or json at run time.
"""

from __future__ import annotations

import re

from aed.errors import Misconfigured

DEFAULT_PORT = 7733

# Narrow on purpose: what these let through needs no quoting in a shell, is no option of a program and no surprise in a log line.
# Texts, not compiled: compiling those that a run does not use costs a one-shot client more than all else here.
_HOST = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_ADDRESS6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_][A-Za-z0-9._-]*)?"
_SOCKET = r"/[A-Za-z0-9._@+/-]+"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._@+-]*"
_PORT = r"[0-9]{1,5}"
_PERCENT = r"(?s)%(.?)"


class Options:
    """What the command line said about all nodes; it wins over configuration, and `user@` or `:port` in a node's own text wins over it."""

    __slots__ = ("group", "identities", "user", "via")

    def __init__(self, *, user: str | None = None, group: str | None = None, identities: tuple[str, ...] = (), via: str | None = None) -> None:
        self.user = None if user is None else check_name("-l", user, "user")
        self.group = None if group is None else check_groups("--group", group)
        self.identities = identities
        self.via = via


class Target:
    """One node to connect to. `name` is for messages; None and () mean that nothing was configured, so the connection's own defaults apply.

    `via` is a shell command that speaks the protocol on its stdio, with `%h %n %p %r` still in it. `agent` is an agent's socket, "none" for no agent.
    Without a node (`--via` alone) `host` is empty; for a Unix socket of this machine it is the socket's path.
    """

    __slots__ = ("agent", "group", "host", "identities", "name", "port", "user", "via")

    def __init__(
        self,
        name: str,
        host: str,
        port: int = DEFAULT_PORT,
        *,
        user: str | None = None,
        group: str | None = None,
        identities: tuple[str, ...] = (),
        agent: str | None = None,
        via: str | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.user = user
        self.group = group
        self.identities = identities
        self.agent = agent
        self.via = via

    def _fields(self) -> tuple[object, ...]:
        return (self.name, self.host, self.port, self.user, self.group, self.identities, self.agent, self.via)

    def __repr__(self) -> str:
        return f"Target{self._fields()!r}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def command(self) -> str | None:
        """`via` with `%h` (host), `%n` (name as given), `%p` (port), `%r` (user) and `%%` filled in, for `/bin/sh -c`; None: connect directly."""
        if self.via is None:
            return None
        return re.sub(_PERCENT, self._fill, self.via)

    def _fill(self, found: re.Match[str]) -> str:
        match found.group(1):
            case "%":
                return "%"
            case "h":
                return shell_quote(self.host)
            case "n":
                return shell_quote(self.name)
            case "p":
                return str(self.port)
            case "r":
                # as ssh does: the local account's name where no user was given
                return shell_quote(self.user or local_user())
        raise Misconfigured(f"{self.name}: '{found.group()}' in the command {self.via!r} is unknown; only %h, %n, %p, %r and %% are")


def local_user() -> str:
    """The name of the account that runs this program."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise Misconfigured(f"uid {os.getuid()} has no account on this machine; say who you are with -l USER") from None


def shell_quote(word: str) -> str:
    """One shell word. Names that passed the checks here come back unchanged, so that a template may have quotes of its own around them."""
    if re.fullmatch(r"[A-Za-z0-9@%+=:,./_-]+", word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def check_host(where: str, host: str) -> str:
    """`host` if it is a host name, an IP address without brackets or the absolute path of a Unix socket."""
    if re.fullmatch(_HOST, host) or re.fullmatch(_ADDRESS6, host) or re.fullmatch(_SOCKET, host):
        return host
    hint = "" if host.isascii() else "; write a name outside ASCII in its xn-- form"
    raise Misconfigured(f"{where}: {host!r} is no host name: letters, digits, '.', '_' and '-' make one, and it does not start with '-'{hint}")


def check_name(where: str, name: str, what: str) -> str:
    """`name` if it can be a user, a group, an alias or a set; `what` says which for the message."""
    if re.fullmatch(_NAME, name):
        return name
    raise Misconfigured(f"{where}: {name!r} is no {what} name: letters, digits and '._@+-' make one, and it starts with a letter, a digit or '_'")


def check_groups(where: str, groups: str) -> str:
    """`groups` if it is one group or several in the order of preference, joined by commas."""
    for group in groups.split(","):
        check_name(where, group, "group")
    return groups


def check_port(where: str, port: str | int) -> int:
    """`port` as a number from 1 to 65535."""
    if re.fullmatch(_PORT, str(port)) and 1 <= int(port) <= 65535:
        return int(port)
    raise Misconfigured(f"{where}: {port!r} is no port; a port is a number from 1 to 65535 (aed's is {DEFAULT_PORT})")


def parse_address(where: str, text: str) -> tuple[str | None, str, int | None]:
    """`[user@]host[:port]`, `[user@][IPv6][:port]` or `[user@]/path/of/socket` taken apart and checked; `where` begins each message."""
    before, at, rest = text.rpartition("@")
    user = check_name(where, before, "user") if at else None
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or not re.fullmatch(_ADDRESS6, host) or (tail and tail[0] != ":"):
            raise Misconfigured(f"{where}: {rest!r} is no address; an IPv6 address looks like [2001:db8::1] or [2001:db8::1]:{DEFAULT_PORT}")
        return user, host, check_port(where, tail[1:]) if tail else None
    if rest.count(":") > 1:
        raise Misconfigured(f"{where}: {rest!r}: an IPv6 address goes in brackets, [{rest}]")
    host, colon, port = rest.partition(":")
    if colon and host.startswith("/"):
        raise Misconfigured(f"{where}: {rest!r}: a socket's path has no port")
    return user, check_host(where, host), check_port(where, port) if colon else None
