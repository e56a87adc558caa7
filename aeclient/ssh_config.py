"""What ssh's own configuration says about a host, as `ssh -G` resolves it: HostName, User, IdentityFile, IdentityAgent, ProxyJump, ProxyCommand.

Lives here: asking ssh, and telling what the user configured from what `ssh -G` prints anyway. Must not live here: aed's configuration, connecting.
ssh's Port is sshd's port and is never used. On the fast path: ssh is run only where some file could say something (it takes about 5 ms).
"""

from __future__ import annotations

import os
import re

from aeclient.target import Target, check_host, check_name, local_user, shell_quote
from aed.errors import Misconfigured

SYSTEM = "/etc/ssh/ssh_config"
# `ssh -G` prints these where the user named none; it prints them all, or none of them
_DEFAULT_KEYS = frozenset(f"~/.ssh/id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss"))
_OURS = rb"(?im)^\s*(hostname|user|identityfile|identityagent|proxyjump|proxycommand|match)\b"
_PERCENT = r"%(.)|\$\{(\w+)\}"
_JUMP = r"(?:ssh://)?(?:([^@/]+)@)?(\[[^\]/]+\]|[^:/@\[\]]+)(?::([0-9]+))?/?"


def complete(target: Target, file: str | None = None) -> Target:
    """`target` with what ssh's configuration adds where aed's own and the command line said nothing. `file` is used in place of the usual files.

    Without ssh, without configuration, or without a host on a network the target comes back as it is.
    """
    if not target.host or target.host.startswith("/") or not (file or _may_say_something()):
        return target
    said = _ask(target, file)
    host = said.get("hostname", [target.host])[0]
    user = said.get("user", [""])[0]
    return Target(
        target.name,
        # ssh prints the name in lower case where nothing is configured
        target.host if host == target.host.lower() else check_host(f"HostName of {target.host} in ssh's configuration", host),
        target.port,
        user=target.user or (None if user in ("", local_user()) else check_name(f"User of {target.host} in ssh's configuration", user, "user")),
        group=target.group,
        identities=target.identities or _identities(said.get("identityfile", []), target, host, user),
        agent=target.agent or _agent(said.get("identityagent", [""])[0]),
        via=target.via or _transport(said, file),
    )


def _home() -> str:
    """Where ssh looks: the account's home, whatever $HOME says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")


def _may_say_something() -> bool:
    if os.path.exists(f"{_home()}/.ssh/config"):
        return True
    try:
        if any(name.endswith(".conf") for name in os.listdir(f"{SYSTEM}.d")):
            return True
    except OSError:
        pass
    try:
        with open(SYSTEM, "rb") as file:
            return re.search(_OURS, file.read()) is not None
    except OSError:
        return False


def _ask(target: Target, file: str | None) -> dict[str, list[str]]:
    # posix_spawn, as `import subprocess` costs more than ssh does
    words = ["ssh", "-T", "-G", *(["-F", file] if file else []), *(["-l", target.user] if target.user else []), "--", target.host]
    ours, theirs = os.pipe()
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)]
    with open(ours, encoding="utf-8", errors="replace") as pipe:
        try:
            child = os.posix_spawnp("ssh", words, os.environ, file_actions=streams)
        except OSError:
            # no ssh, no configuration of ssh's
            return {}
        finally:
            os.close(theirs)
        lines = pipe.read().splitlines()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise Misconfigured(f"ssh refuses its configuration for {target.host}: {'; '.join(lines)}; see: ssh -G {target.host}")
    said: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    return said


def _configured(names: list[str]) -> list[str]:
    return [] if len(names) > 1 and _DEFAULT_KEYS.issuperset(names) else [name for name in names if name != "none"]


def _identities(names: list[str], target: Target, host: str, user: str) -> tuple[str, ...]:
    values = {"%": "%", "d": _home(), "h": host, "n": target.host, "r": user, "u": local_user(), "p": str(target.port)}

    def fill(found: re.Match[str]) -> str:
        # what we cannot fill in stays, and no such file exists then
        return values.get(found.group(1), found.group()) if found.group(1) else os.environ.get(found.group(2), found.group())

    paths = (re.sub(r"^~(?=/)", lambda _: _home(), re.sub(_PERCENT, fill, name)) for name in _configured(names))
    return tuple(path for path in paths if os.path.isfile(path))


def _agent(value: str) -> str | None:
    if value in ("", "SSH_AUTH_SOCK"):
        return None
    if value.startswith("$"):
        return os.environ.get(value[1:].strip("{}"))
    return value


def _transport(said: dict[str, list[str]], file: str | None) -> str | None:
    """ssh's way to the host as a command with `%h %p %r` still to be filled in; the port is aed's, as the target fills it in."""
    jumps = said.get("proxyjump", ["none"])[0]
    if jumps != "none":
        *before, last = jumps.split(",")
        words = ["ssh", *(["-F", file] if file else [])]
        if before:
            words += ["-J", ",".join(before)]
        found = re.fullmatch(_JUMP, last)
        if found is None:
            raise Misconfigured(f"ProxyJump {jumps!r} in ssh's configuration: {last!r} is not of the form [user@]host[:port]")
        user, host, port = found.groups()
        words += (["-l", user] if user else []) + (["-p", port] if port else []) + ["-W", "[%h]:%p", "--", host.strip("[]")]
        return " ".join(word if word == "[%h]:%p" else shell_quote(word).replace("%", "%%") for word in words).replace("[%h]:%p", "'[%h]:%p'")
    command = said.get("proxycommand", ["none"])[0]
    return None if command == "none" else command
