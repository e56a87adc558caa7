"""What `aed --check` and the start look at beyond the file itself: the machine that it is meant for.

Lives here: looks, and sentences that name the cure. Must not live here: parsing (aed.config), changes of any kind: a check makes nothing.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator

from aed.authz import groups_file
from aed.config import Config, Fault

_KEY_MARK = b"PRIVATE KEY-----"
_KEY_PREFIX_LIMIT = 1 << 16


def check(config: Config) -> list[Fault]:
    """Everything on this machine that would keep `config` from working as it says. A fault with `warning` set does not stop a start."""
    root = os.geteuid() == 0
    looks = (_groups, _x509, _directories, _audit, _private_keys, _bubblewrap, _host_key)
    found = [fault for look in looks for fault in look(config)]
    if root:
        found += [*_user(config), *_unknown_unix_groups(config), *_trusted(config), *_code(config)]
    else:
        found.append(_fault(config, "user", "this process is not root: it can only serve the account that it runs as", warning=True))
    return found


def _fault(config: Config, key: str, what: str, *, warning: bool = False) -> Fault:
    """A fault on the line that set `key`; where that is the default, on the file, with the key's default named."""
    source = config.source(key)
    file, colon, line = source.rpartition(":")
    if colon and line.isdigit():
        return Fault(file=file, line=int(line), key=key, what=what, warning=warning)
    return Fault(file=config.file or source, line=0, key=key, what=what, warning=warning)


def _user(config: Config) -> Iterator[Fault]:
    user = config["user"]
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        make = f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {user}"
        yield _fault(config, "user", f"there is no account {user}; make it: {make}")
        return
    if entry.pw_uid == 0:
        yield _fault(config, "user", f"account {user} is root; name an unprivileged one")


def _groups(config: Config) -> Iterator[Fault]:
    _, faults = groups_file.parse(config["groups"])
    if not os.path.lexists(config["groups"]):
        yield _fault(config, "groups", f"there is no file {config['groups']}, so nobody could enter a group; make it, as conf/groups.toml shows")
        return
    yield from faults
    groups, _ = groups_file.parse(config["groups"])
    for group in groups.groups:
        if not set(group.profiles) & set(config["sandbox.profiles"]):
            what = f"permits {', '.join(group.profiles)} only, and the node (sandbox.profiles) none of them; add one here or there"
            yield Fault(file=config["groups"], line=0, key=f"groups.{group.name}.profiles", what=what)


def _x509(config: Config) -> Iterator[Fault]:
    directory = config.mechanism_options("x509").get("ca_directory")
    if "x509" in config["authentication"] and directory and not os.path.isdir(directory):
        yield _fault(
            config, "x509.ca_directory", f"there is no directory {directory}, so no certificate is trusted; put the site's CAs there, or drop x509"
        )


def _directories(config: Config) -> Iterator[Fault]:
    for key in ("state_directory", "runtime_directory", "scratch_directory"):
        complaint = _writable_directory(config[key]) if config[key] else None
        if complaint:
            yield _fault(config, key, complaint)


def _audit(config: Config) -> Iterator[Fault]:
    destination: str = config["audit.destination"]
    if destination == "journal":
        if not os.path.exists("/run/systemd/journal/socket"):
            yield _fault(config, "audit.destination", 'there is no journal here (/run/systemd/journal/socket); write "file:/var/log/aed/audit.jsonl"')
        return
    path = destination.removeprefix("file:")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        complaint = _writable_directory(os.path.dirname(path))
    except OSError as error:
        complaint = f"{path} cannot be looked at ({error.strerror})"
    else:
        complaint = (
            None if stat.S_ISREG(mode) and os.access(path, os.W_OK) else f"{path} is not a file that can be written; remove it or name another"
        )
    if complaint:
        yield _fault(config, "audit.destination", f"{complaint}; without an audit record nobody may log in")


def _writable_directory(path: str) -> str | None:
    """What keeps `path` from being a directory of ours, there already or to be made in a parent that is there."""
    if os.path.isdir(path):
        return None if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written; chown it to the daemon's account"
    if os.path.lexists(path):
        return f"{path} is not a directory; remove it or name another"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
        return None
    return f"{path} is not there and cannot be made; make it: mkdir -p {path}"


def _private_keys(config: Config) -> Iterator[Fault]:
    if config["tls.key"]:
        complaint = _open_key(config["tls.key"])
        if complaint:
            yield _fault(config, "tls.key", complaint)
        if not os.access(config["tls.certificate"], os.R_OK):
            yield _fault(config, "tls.certificate", f"{config['tls.certificate']} cannot be read; name the certificate's PEM file")
    directory = config["state_directory"]
    for name in sorted(os.listdir(directory)) if os.access(directory, os.R_OK | os.X_OK) and os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        complaint = _open_key(path) if _holds_key(path) else None
        if complaint:
            yield _fault(config, "state_directory", complaint)


def _holds_key(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and _KEY_MARK in os.read(fd, _KEY_PREFIX_LIMIT)
    finally:
        os.close(fd)


def _open_key(path: str) -> str | None:
    """SECURITY: a private key that group or world can read is refused."""
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}); name the key's PEM file"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file; name the key's PEM file"
    if status.st_mode & 0o077:
        return f"{path} is a private key that others can read (mode {stat.S_IMODE(status.st_mode):04o}); chmod 600 {path}, and think of it as stolen"
    if status.st_uid != os.geteuid():
        return f"{path} is a private key of uid {status.st_uid}; chown it to uid {os.geteuid()}"
    return None


def _bubblewrap(config: Config) -> Iterator[Fault]:
    if set(config["sandbox.profiles"]) - {"none"} and shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin") is None:
        yield _fault(
            config, "sandbox.profiles", 'need bwrap, which is not here; install the package bubblewrap, or write ["none"] and have no sandbox'
        )


def _host_key(config: Config) -> Iterator[Fault]:
    if config["tls.key"]:
        what = "the network process of each connection holds this host key; without tls.key it holds only a certificate's key of one day"
        yield _fault(config, "tls.key", what, warning=True)


def _unknown_unix_groups(config: Config) -> Iterator[Fault]:
    """A misspelled @group in accounts.deny denies nobody, which nothing else would ever show."""
    for key in ("accounts.allow", "accounts.deny"):
        for entry in config[key]:
            if entry.startswith("@") and not _is_group(entry[1:]):
                yield _fault(config, key, f"there is no Unix group {entry[1:]}; correct or remove {entry}")


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _trusted(config: Config) -> Iterator[Fault]:
    """What root obeys must be root's alone, each directory above it too."""
    keys = ("groups", "tls.certificate", "tls.key", "state_directory", "runtime_directory", "scratch_directory")
    for key, path in (("file", config.file), *((key, config[key]) for key in keys)):
        if not path or not os.path.lexists(path):
            continue
        complaint = _others_may_change(os.path.realpath(path))
        if complaint:
            yield Fault(file=path, line=0, key=key, what=complaint) if key == "file" else _fault(config, key, complaint)


def _code(config: Config) -> Iterator[Fault]:
    """The interpreter and every directory that it imports from: whoever may write there is root."""
    places = {os.path.realpath(sys.executable), os.path.dirname(os.path.realpath(__file__)), *(os.path.realpath(path) for path in sys.path if path)}
    for path in sorted(places):
        complaint = _others_may_change(path) if os.path.lexists(path) else None
        if complaint:
            what = f"the daemon's own code is not root's alone: {complaint}, or install aed into a directory of root's"
            yield Fault(file=path, line=0, key="installation", what=what)


def _others_may_change(path: str) -> str | None:
    while True:
        status = os.lstat(path)
        # In a sticky directory (/tmp) nobody can rename what is root's.
        writable = status.st_mode & 0o022 and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)
        if status.st_uid != 0 or writable:
            return f"{path} can be changed by others than root; chown root {path} and chmod go-w {path}"
        if path == "/":
            return None
        path = os.path.dirname(path)
