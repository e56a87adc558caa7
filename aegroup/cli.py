"""The command `aegroup`: for now it lists the groups of a node's `groups.toml`.

Lives here: the command line and the table. Must not live here: the rules of that file (`aed.authz.groups_file`), changes of any kind: they will go
through an authenticated connection, never by touching files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import aed
from aed.authz.groups_file import Groups, load_groups
from aed.config import load, mechanisms_named
from aed.errors import AedError, Misconfigured
from aed.registry import server

DEFAULT_FILE = "/etc/aed/aed.toml"
LATER = ("show", "members", "ps", "add", "remove", "promote", "demote", "move", "share", "limit", "create", "delete", "log", "undo", "usage", "watch")
"""Commands that are planned: whoever types one is told so, instead of a riddle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 with a sentence for a file that is not right, 2 for a wrong command line."""
    options = command_line().parse_args(arguments)
    try:
        groups = load_groups(options.groups or groups_path(options.file))
    except AedError as error:
        for line in str(error).splitlines():
            print(f"aegroup: {line}", file=sys.stderr)
        return 1
    try:
        print(as_json(groups) if options.json else table(groups), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who reads has enough; the interpreter must not try again at its end
    return 0


class _Parser(argparse.ArgumentParser):
    """Answers a command that is planned and not built."""

    def error(self, message: str) -> NoReturn:
        later = next((name for name in LATER if f"invalid choice: '{name}'" in message), None)
        if later is not None:
            self.exit(2, f"aegroup: {later} is not built yet, nor is any other change: edit groups.toml and restart aed\n")
        super().error(message)


def command_line() -> argparse.ArgumentParser:
    """The options; the manual page comes from them."""
    parser = _Parser(prog="aegroup", description="Lists the groups of this node. Changes of members, shares and limits are not built yet.")
    parser.add_argument("--version", action="version", version=f"aegroup {aed.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser)
    listing = commands.add_parser("list", help="all groups with their members and managers")
    source = listing.add_mutually_exclusive_group()
    source.add_argument("-c", dest="file", metavar="FILE", default=DEFAULT_FILE, help=f"the daemon's configuration (default {DEFAULT_FILE})")
    source.add_argument("--groups", metavar="FILE", help="a groups.toml, whatever a configuration says")
    listing.add_argument("--json", action="store_true", help="for programs")
    return parser


def groups_path(file: str) -> str:
    """The groups' file that the configuration in `file` names. Raises `Misconfigured`."""
    try:
        extra = {name: getattr(server(name), "OPTIONS", ()) for name in mechanisms_named(file)}
        return str(load(file, extra)["groups"])
    except Misconfigured as error:
        raise Misconfigured(f"{error}\nname a groups file by --groups, or the daemon's configuration by -c") from None


def rows(groups: Groups) -> list[dict[str, Any]]:
    """One group each, in the order of the file."""
    return [
        {
            "group": group.name,
            "managers": sorted(group.managers),
            "members": sorted(group.members),
            "max_workers": group.max_workers,
            "profiles": list(group.profiles),
            "default_of": sorted(user for user, name in groups.defaults.items() if name == group.name),
        }
        for group in groups.groups
    ]


def as_json(groups: Groups) -> str:
    """The list for programs."""
    return json.dumps(rows(groups), indent=2, ensure_ascii=False)


def table(groups: Groups) -> str:
    """The list for people: one line for a group, or a sentence if there is none."""
    if not groups.groups:
        return "no groups"
    lines: list[tuple[str, ...]] = [("GROUP", "MANAGERS", "MEMBERS", "MAX WORKERS", "PROFILES", "DEFAULT OF")]
    for row in rows(groups):
        lines.append(tuple(", ".join(value) or "-" if isinstance(value, list) else str(value) for value in row.values()))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
