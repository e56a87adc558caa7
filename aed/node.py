"""Making a node ready: mechanisms, groups, audit, filters, identity, zygote, directories.

Lives here: what has to be there before the first connection. Must not live here: the loop that accepts (`listener`), command lines (`cli`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pwd
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aed import registry, spawn
from aed.audit import Audit
from aed.authz.accounts import lookup
from aed.authz.groups_file import Groups, load_groups
from aed.authz.shadow import getspnam
from aed.config import Config
from aed.errors import Misconfigured, Unavailable
from aed.model import Account
from aed.sandbox import filters
from aed.sandbox.probe import probe
from aed.session.context import Leaf, Node

ZYGOTE_CONTROL = 4
ISSUER_ANSWER = 4
RUNTIME_LIMIT = 61
"""A Unix socket's path has 107 bytes, and a worker's door lies some way below the runtime directory."""


@dataclass(frozen=True, kw_only=True)
class Helper:
    """A started helper process and the descriptor of its answer."""

    pid: int
    answer: int


def prepare(config: Config, *, embedded: bool) -> tuple[Node, int]:
    """The node, and its zygote's pid. Raises `Misconfigured` or `Unavailable` with what to do."""
    make_directories(config)
    issuer = start_issuer(config)
    bpf = filters.compile_all()
    user = config["user"] if os.geteuid() == 0 and not embedded else ""
    zygote, zygote_pid = start_zygote(config, user, bpf)
    mechanisms = {name: registry.server(name) for name in config["authentication"]}
    groups: Groups | None = None if embedded else load_groups(config["groups"])
    fault = sandbox_fault(config, user, bpf)
    warm_up()
    leaf = read_leaf(issuer)
    node = Node(
        config=config,
        groups=groups,
        audit=Audit(config["audit.destination"], node=node_name(config)),
        leaf=leaf,
        zygote=zygote,
        filters=bpf,
        mechanisms=mechanisms,
        name=node_name(config),
        embedded=embedded,
        user=user,
        sandbox_fault=fault,
        delay_key=os.urandom(32),
        scratch=scratch_root(config),
    )
    return node, zygote_pid


def node_name(config: Config) -> str:
    """The configured name, else the host's."""
    return str(config["node_name"]) or socket.gethostname()


def warm_up() -> None:
    """What every session would do first by itself: the name service's modules and the digests are loaded at their first use."""
    lookup("aed-nobody-has-this-name")
    getspnam("root")
    hmac.digest(b"", hashlib.sha256(b"").digest(), hashlib.sha256)


def sandbox_fault(config: Config, user: str, bpf: Mapping[str, bytes]) -> str:
    """Why no sandbox can be made here, asked by making one; "" if it can."""
    wanted = [name for name in config["sandbox.profiles"] if filters.FOR_PROFILE[name] is not None]
    if not wanted:
        return ""
    entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    account = Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,), home="/", shell="")
    try:
        probe(wanted[0], account, seccomp=bpf[str(filters.FOR_PROFILE[wanted[0]])], unprivileged=not user)
    except (Unavailable, OSError) as error:
        return str(error)
    return ""


def make_directories(config: Config) -> None:
    """The state directory is the daemon's alone; the runtime directory may be entered, its content not listed."""
    if len(os.fsencode(config["runtime_directory"])) > RUNTIME_LIMIT:
        raise Misconfigured(f"runtime_directory {config['runtime_directory']}: longer than {RUNTIME_LIMIT} bytes, so sockets below it have no name")
    for path, mode in (
        (config["state_directory"], 0o700),
        (config["runtime_directory"], 0o711),
        (session_root(config), 0o711),
        (scratch_root(config), 0o711),
    ):
        try:
            os.makedirs(path, exist_ok=True)
            status = os.stat(path, follow_symlinks=False)
            if status.st_uid != os.geteuid():
                raise Misconfigured(f"{path}: owned by uid {status.st_uid}: chown it to the user that runs aed (uid {os.geteuid()})")
            os.chmod(path, mode)
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}: make this directory, or name another in aed.toml") from None


def session_root(config: Config) -> str:
    """Where each session has its directory."""
    return os.path.join(config["runtime_directory"], "sessions")


def scratch_root(config: Config) -> str:
    """Where each session has its workers' /tmp. Not in the runtime directory: that is memory, and everybody's."""
    return str(config["scratch_directory"]) or f"{config['state_directory'].rstrip('/')}-scratch"


def start_issuer(config: Config) -> Helper:
    """Have a fresh leaf made; `read_leaf` takes it."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    request = {
        "identity": os.path.join(config["state_directory"], "identity.pem"),
        "certificate": config["tls.certificate"],
        "key": config["tls.key"],
        "node": node_name(config),
    }
    pid = spawn.run_isolated("aed.issuer", {theirs: ISSUER_ANSWER}, request)
    os.close(theirs)
    return Helper(pid=pid, answer=ours)


def read_leaf(issuer: Helper) -> Leaf:
    """The leaf that the issuer printed. Raises `Misconfigured` with its reason."""
    with open(issuer.answer, "rb") as file:
        raw = file.read()
    with contextlib.suppress(ChildProcessError):  # the listener's loop may have reaped it already
        os.waitpid(issuer.pid, 0)
    try:
        answer: Mapping[str, Any] = json.loads(raw)
    except ValueError:
        raise Misconfigured("the issuer of TLS certificates died: run `python -I -m aed.issuer` by hand to see why") from None
    if "error" in answer:
        raise Misconfigured(str(answer["error"]))
    return Leaf(
        chain=tuple(answer["chain"]), key=answer["key"], identity=bytes.fromhex(answer["identity"]), until=time.monotonic() + float(answer["life"])
    )


def start_zygote(config: Config, user: str, bpf: Mapping[str, bytes]) -> tuple[socket.socket, int]:
    """The socket on which it takes requests, and its pid. `user` is the account that it becomes, "" for our own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {
        "user": user,
        "mechanisms": list(config["authentication"]),
        "filters": {name: base64.b64encode(blob).decode() for name, blob in bpf.items()},
    }
    with theirs:
        pid = spawn.run_isolated("aed.zygote", {theirs.fileno(): ZYGOTE_CONTROL}, request)
    return ours, pid
