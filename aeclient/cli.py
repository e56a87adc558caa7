"""The command `aeclient`: from the command line to a run.

Lives here: putting options, configuration and nodes together; the words of failure. Must not live here: the protocol, the loop.
Imports come late where a part of them is not always needed: a one-shot client is mostly imports.
"""

from __future__ import annotations

import contextlib
import os
import sys

from aeclient.options import Parsed, parse, usage
from aed.errors import AedError, Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from aeclient.login import Session
    from aeclient.master import MasterLink
    from aeclient.order import Order
    from aeclient.target import Target

OWN_FAILURE = 255
PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MESSAGES", "TZ", "TERM")
"""Variables that are offered to the node without being asked for; it takes what it permits."""


def main() -> NoReturn:
    """Entry of the command. Leaves without the interpreter's tidying up, which takes longer than a TLS handshake and has nothing left to do."""
    fill_standard_streams()
    status = command()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def fill_standard_streams() -> None:
    """What is closed becomes /dev/null, or the next descriptor that is opened would be taken for it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  open as long as we are


def command() -> int:
    """The exit status as ssh gives it."""
    try:
        parsed = parse(sys.argv[1:])
        if "help" in parsed.flags:
            print(usage())
            return 0
        if "version" in parsed.flags:
            import aed

            print(f"aeclient {aed.__version__}")
            return 0
        return run(parsed)
    except AedError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("interrupted")
    except BrokenPipeError:
        say("nobody reads our output")
    return OWN_FAILURE


def say(text: str) -> None:
    """One line for the user, or a few of ours. What a node says is in it: it must not drive the terminal."""
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    sys.stderr.write(f"aeclient: {text}\n")
    sys.stderr.flush()


def run(parsed: Parsed) -> int:
    """Connect to every node, run, give the status."""
    order_of = order(parsed)
    verbose = "verbose" in parsed.flags
    trace: Callable[[str], None] = say if verbose else _silent
    targets = find_nodes(parsed)
    counts = spread(parsed, len(targets))
    from aeclient import ssh_config, transport

    targets = tuple(target if target is None else ssh_config.complete(target) for target in targets)
    streams = [transport.begin(target) if count else None for target, count in zip(targets, counts, strict=True)]
    # Only now: the nodes' processes start while we import.
    from aeclient import login
    from aeclient.run import Run

    trust = login.Trust(accept_new="accept-new" in parsed.flags, batch="batch" in parsed.flags, ca=parsed.get("ca"))
    sessions: list[Session] = []
    used: list[int] = []
    for target, stream, count in zip(targets, streams, counts, strict=True):
        if stream is not None:
            sessions.append(login.login(target, stream, groups(parsed, target), trust, trace))
            used.append(count)
            if sessions[-1].accept.notice:
                say(f"{sessions[-1].target.name}: {sessions[-1].accept.notice}")
            for name in sessions[-1].accept.denied:
                say(f"{sessions[-1].target.name}: not permitted in group {name}; entered {sessions[-1].accept.group}")
    return Run(sessions, used, order_of(sessions), _master(parsed), say).go()


def find_nodes(parsed: Parsed) -> tuple[Target | None, ...]:
    """The targets; one None for the embedded node."""
    from aeclient.config import resolve
    from aeclient.target import Options

    options = Options(
        user=parsed.get("login"),
        group=parsed.get("group"),
        identities=tuple(os.path.expanduser(path) for path in parsed.all("identity")),
        via=parsed.get("via"),
    )
    return resolve(",".join(parsed.all("node")), options) or (None,)


def groups(parsed: Parsed, target: Target | None) -> tuple[str, ...]:
    """The groups to ask for, in order."""
    text = parsed.get("group") or (target.group if target is not None else None)
    return tuple(name for name in text.split(",") if name) if text else ()


def spread(parsed: Parsed, nodes: int) -> list[int]:
    """How many workers each node gets."""
    if parsed.get("per-node") is not None:
        if parsed.get("workers") is not None:
            raise Misconfigured("--workers is the total, --per-node the number on each node: give one of them")
        return [number(parsed, "per-node")] * nodes
    if parsed.get("workers") is None:
        return [1] * nodes
    total = number(parsed, "workers")
    return [total // nodes + (at < total % nodes) for at in range(nodes)]


def number(parsed: Parsed, name: str) -> int:
    """A positive number."""
    text = parsed.get(name) or ""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise Misconfigured(f"--{name} {text!r}: give a number from 1 to 100000")
    return int(text)


def order(parsed: Parsed) -> Callable[[list[Session]], Order]:
    """What to run; complete once the sessions are known. Raises `Misconfigured` before anything is connected."""
    command = parsed.get("command")
    if command is not None and parsed.words:
        raise Misconfigured("give either -c STRING or words after --, not both")
    if command is None and not parsed.words:
        raise Misconfigured("no command: write it after --, as in: aeclient --group higgs -- hostname (aeclient --help has more)")
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    for item in parsed.all("env"):
        name, equals, value = item.partition("=")
        if not name or (not equals and name not in os.environ):
            raise Misconfigured(f"--env {item}: write NAME=VALUE, or the NAME of a variable that is set here")
        environment[name] = value if equals else os.environ[name]

    def complete(sessions: list[Session]) -> Order:
        from aeclient.order import Order

        return Order(
            argv=tuple(os.fsencode(word) for word in parsed.words),
            shell=os.fsencode(command or ""),
            run=sessions[0].accept.session,
            profile=parsed.get("profile") or "",
            inputs=tuple(parsed.all("input")),
            environment=environment,
            kill_on_failure="kill-on-failure" in parsed.flags,
            progress=os.isatty(2) and not os.isatty(1) and (parsed.get("workers") or parsed.get("per-node")) is not None,
            stdin="no-input" not in parsed.flags,
        )

    return complete


def _master(parsed: Parsed) -> MasterLink | None:
    program, descriptor = parsed.get("master"), parsed.get("master-fd")
    if program is None and descriptor is None:
        return None
    from aeclient import master

    if program is not None:
        return master.start(program)
    return master.inherited(number(parsed, "master-fd"))


def _silent(text: str) -> None:
    """Without -v there is no trace."""


if __name__ == "__main__":
    main()
