"""What a grant lets its holder start: profile, count, command, environment, limits, turned into a `Plan`.

Lives here: the decision about one Start. Must not live here: doing it.
"""

from __future__ import annotations

import resource

from aed.config import Config
from aed.errors import Denied, LocalError
from aed.model import Grant
from aed.sandbox.environment import build_environment
from aed.sandbox.filters import FOR_PROFILE
from aed.sandbox.plan import Plan
from aed.session.context import Node
from aed.wire.messages import MAX_WORKER, Start

MAX_RUN = 64
MAX_INPUTS = 64
MAX_UNTAKEN = 64
"""Ended workers whose output waits for the client, besides as many as may be alive."""


def profiles(node: Node, grant: Grant) -> tuple[str, ...]:
    """The profiles that both node and group permit, the default first."""
    return tuple(name for name in grant.group.profiles if name in node.config["sandbox.profiles"])


def default_profile(node: Node, grant: Grant) -> str:
    """The profile of who asks for none; only the embedded node does without a sandbox that this machine cannot make. "" if none is permitted."""
    if node.embedded and node.sandbox_fault:
        return "none"
    return next(iter(profiles(node, grant)), "")


def notice(node: Node) -> str:
    """What the user must know of this node before the work starts."""
    if node.embedded and node.sandbox_fault:
        return f"workers run without a sandbox: {node.sandbox_fault}"
    return ""


def max_workers(node: Node, grant: Grant) -> int:
    """Workers of this session that may be alive at once."""
    return min(grant.group.max_workers, int(node.config["limits.max_workers"]))


def plan_worker(node: Node, grant: Grant, start: Start, *, private: str, temporary: str, door: str, alive: int, held: int) -> Plan:
    """The plan of a worker. `held` counts the alive, and those that have ended and whose output the client has not taken yet: they hold memory of the
    node's. Raises `Denied` with a sentence for the user."""
    if alive >= max_workers(node, grant):
        raise Denied(f"group {grant.group.name} may run {max_workers(node, grant)} workers in a session here, and {alive} are running")
    if held >= max_workers(node, grant) + MAX_UNTAKEN:
        raise Denied(f"{held - alive} workers have ended and their output was not taken: take it before you start more")
    if start.worker > MAX_WORKER or len(start.names) != len(start.values) or len(start.run) > MAX_RUN or not start.run.isprintable():
        raise Denied("the request to start a worker is not well formed")
    permitted = profiles(node, grant)
    profile = start.profile or default_profile(node, grant)
    if profile not in permitted:
        wanted = repr(start.profile) if start.profile else "of any kind"
        raise Denied(f"no sandbox profile {wanted} is permitted here; group {grant.group.name} has {', '.join(permitted) or 'none'}")
    if profile != "none" and node.sandbox_fault:
        raise Denied(node.sandbox_fault)
    if start.inputs and profile != "strict":
        raise Denied("named inputs go with the sandbox profile strict; the others see the file system")
    if len(start.inputs) > MAX_INPUTS or any(not path.startswith("/") for path in start.inputs):
        raise Denied(f"inputs are absolute paths, at most {MAX_INPUTS}")
    granted = {
        "AE_GROUP": grant.group.name,
        "AE_SESSION": grant.session,
        "AE_RUN": start.run,
        "AE_WORKER": str(start.worker),
        "AE_WORKERS": str(start.workers),
        "AE_NODE": node.name,
        "AE_CHANNEL": door,
        "AE_SESSION_DIR": private,
    }
    argv, shell = start.argv, start.shell if not start.argv else None
    forced = grant.restrictions.command or grant.group.start_program
    if grant.restrictions.command is not None:
        granted["AE_ORIGINAL_COMMAND"] = (b" ".join(argv) if argv else start.shell).decode(errors="replace")
        argv, shell = (), grant.restrictions.command.encode()
    elif not argv and not shell:
        if forced is None:
            raise Denied("no command was given, and interactive sessions are not built yet: give one after --")
        argv, shell = (), forced.encode()
    try:
        return Plan(
            account=grant.account,
            argv=argv,
            shell_command=shell,
            profile=profile,
            session_directory=private,
            temporary=temporary,
            writable=tuple(node.config["sandbox.writable"]),
            inputs=start.inputs,
            run_allowed=tuple(node.config["sandbox.run_allowed"]),
            environment=build_environment(
                grant.account,
                granted=granted,
                offered=dict(zip(start.names, start.values, strict=True)),
                allow=node.config["sandbox.environment"],
                own=dict(grant.restrictions.environment),
            ),
            rlimits=rlimits(node.config),
            seccomp=None if (name := FOR_PROFILE[profile]) is None else node.filters[name],
            unprivileged=not node.user,
        )
    except LocalError as error:
        raise Denied(str(error)) from None


def rlimits(config: Config) -> tuple[tuple[int, int, int], ...]:
    """The configured limits; 0 leaves the daemon's own."""
    wanted = (
        (resource.RLIMIT_NOFILE, config["sandbox.open_files"]),
        (resource.RLIMIT_NPROC, config["sandbox.processes"]),
        (resource.RLIMIT_CORE, config["sandbox.core_size"]),
        (resource.RLIMIT_AS, config["sandbox.memory"]),
    )
    return tuple((which, value, value) for which, value in wanted if value)
