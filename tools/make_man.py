"""Writes the manual pages: the lists of options from the code's own tables, the rest from the words below.

    python tools/make_man.py            writes docs/man/aed.8, aeclient.1, aegroup.1 and aed.toml.5
    python tools/make_man.py --check    exit 1 if one of them is not what it would write

The pages are roff, so that no tool is needed to install them. Must not live here: an option or a default (they stand in aed.config.table, in the
mechanisms' OPTIONS, in aeclient.options and in the parsers of aed.cli and aegroup.cli).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import aed
import aed.cli
import aegroup.cli
from aeclient import options as client
from aed import registry
from aed.config import OPTIONS, Option

PAGES = Path(__file__).parents[1] / "docs" / "man"
MECHANISMS = ("publickey", "x509", "local")


def escape(text: str) -> str:
    """Plain text as roff takes it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return "\\&" + text if text[:1] in (".", "'") else text


def title(name: str, section: int, what: str) -> list[str]:
    return [
        '.\\" Made by tools/make_man.py. Edit that, not this.',
        f'.TH {name.upper()} {section} "" "aed {aed.__version__}"',
        ".SH NAME",
        f"{name} \\- {escape(what)}",
    ]


def section(name: str, *paragraphs: str) -> list[str]:
    lines = [f".SH {name}"]
    for number, paragraph in enumerate(paragraphs):
        lines += ([".PP"] if number else []) + [escape(line) for line in paragraph.splitlines()]
    return lines


def example(*lines: str) -> list[str]:
    return [".PP", ".nf", ".RS", *map(escape, lines), ".RE", ".fi"]


def item(head: str, value: str, text: str) -> list[str]:
    return [".TP", f"\\fB{escape(head)}\\fR" + (f" \\fI{escape(value)}\\fR" if value else ""), escape(text)]


def parser_items(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of an argparse parser, those of its commands too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                shown = next(choice.help or "" for choice in action._choices_actions if choice.dest == name)
                yield from item(name, "", f"{shown}.")
                yield ".RS"
                yield from parser_items(inner)
                yield ".RE"
        elif action.help != argparse.SUPPRESS:
            value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
            yield from item(", ".join(action.option_strings), value, (action.help or "").rstrip(".") + ".")


def client_items() -> Iterator[str]:
    for long, short, _, value, text in client.TABLE:
        yield from item(f"{short}, {long}" if short else long, value, text.rstrip(".") + ".")


def option_items(options: tuple[Option, ...], prefix: str = "") -> Iterator[str]:
    for option in options:
        default = option.toml(option.value(option.default, "/etc/aed"))
        yield from item(prefix + option.key, f"{option.kind}", f"{option.doc} Default: {default}.")


def aed_8() -> list[str]:
    return [
        *title("aed", 8, "the node's daemon of an analysis cluster"),
        *section("SYNOPSIS", "aed [-c FILE] [-o KEY=VALUE]... [--check | --print-config | --inetd]"),
        *section(
            "DESCRIPTION",
            "aed authenticates who connects, maps the identity to an account and to an analysis group, and starts sandboxed workers under that "
            "account.",
            "As root it serves all permitted accounts. Without privilege it serves the account that runs it, and says at start what cannot be "
            "enforced.",
        ),
        ".SH OPTIONS",
        *parser_items(aed.cli.command_line()),
        *section(
            "FILES",
            "/etc/aed/aed.toml: the configuration, see aed.toml(5).",
            "/etc/aed/groups.toml: groups and their members.",
            "/var/lib/aed/identity.pem: the node's identity, made on first start. Clients pin it. Keep it.",
            "/var/log/aed/audit.jsonl: one JSON object a line: logins, refusals, workers. No record, no login.",
        ),
        *section("SIGNALS", "SIGTERM and SIGINT end the daemon and all its sessions. There is no reload yet: SIGHUP is ignored."),
        *section(
            "EXIT STATUS",
            "0 after an orderly end, or when a check found nothing but warnings; 1 with each fault on a line of standard error; 2 for a wrong "
            "command line.",
        ),
        *section("SEE ALSO", "aed.toml(5), aeclient(1), aegroup(1)"),
    ]


def aeclient_1() -> list[str]:
    return [
        *title("aeclient", 1, "run a command in an analysis group, here or on nodes of a cluster"),
        *section("SYNOPSIS", "aeclient [OPTION]... [--] COMMAND [WORD]...", "aeclient [OPTION]... -c STRING"),
        *section(
            "DESCRIPTION",
            "aeclient authenticates to each node, enters a group, starts workers and carries their streams. The first of several workers gets "
            "standard input; lines of output carry the worker's number in brackets when there are several. Without a node it starts one for this "
            "user alone.",
        ),
        ".SH OPTIONS",
        *client_items(),
        *section("EXAMPLES", "One command, then eight workers with a program that takes their messages:"),
        *example(
            "aeclient --group higgs --node node1.example.org -- hostname",
            "aeclient --group higgs --node t3 --workers 8 --master 'python collect.py' -- python analyse.py",
        ),
        *section(
            "ENVIRONMENT",
            "Workers have AE_GROUP, AE_SESSION, AE_RUN, AE_WORKER (from 0), AE_WORKERS, AE_NODE, AE_CHANNEL (the socket to the master) and "
            "AE_SESSION_DIR. The program of --master has AE_MASTER_FD. SSH_AUTH_SOCK, X509_USER_CERT and X509_USER_KEY name credentials.",
        ),
        *section(
            "FILES",
            "~/.config/aed/client.toml: defaults, nodes and sets of nodes.",
            "~/.config/aed/known_nodes: identities that you trust, one a line: NAME BASE64.",
            "ssh's configuration, as ssh -G tells it: HostName, User, IdentityFile, IdentityAgent, ProxyJump, ProxyCommand; never Port.",
        ),
        *section(
            "EXIT STATUS",
            "The status of the program of --master, if that is not 0; else the first failed worker's, where 128+n means that signal n ended it, 126 "
            "that the command cannot run, 127 that there is none; else 0. 255 is a failure of aeclient or of the node.",
        ),
        *section("SEE ALSO", "aed(8), ssh_config(5)"),
    ]


def aegroup_1() -> list[str]:
    return [
        *title("aegroup", 1, "list the groups of a node"),
        *section("SYNOPSIS", "aegroup list [-c FILE | --groups FILE] [--json]"),
        *section(
            "DESCRIPTION",
            "aegroup reads the groups that a node's configuration names. Changes are not built yet: edit groups.toml and restart aed.",
        ),
        ".SH COMMANDS AND OPTIONS",
        *parser_items(aegroup.cli.command_line()),
        *section("EXIT STATUS", "0; 1 for a file that is not right, with each fault; 2 for a wrong command line."),
        *section("SEE ALSO", "aed(8), aed.toml(5)"),
    ]


def aed_toml_5() -> list[str]:
    lines = [
        *title("aed.toml", 5, "configuration of aed"),
        *section(
            "DESCRIPTION",
            "TOML. Every option has a default, and an empty file is a good one. A dot in a name is a section: limits.grace_time is grace_time "
            "below [limits]. Relative paths start at the file's directory. Durations are text with a unit (ms, s, m, h, d), sizes a number of "
            "bytes or text with a unit (B, KiB, MiB, GiB, TiB). An unknown option is a fault.",
            "aed --check says what is wrong, aed --print-config prints what is in force and where it came from.",
        ),
        ".SH OPTIONS",
        *option_items(OPTIONS),
    ]
    for name in MECHANISMS:
        options: tuple[Option, ...] = getattr(registry.server(name), "OPTIONS", ())
        if options:
            lines += [f".SH MECHANISM {name.upper()}", escape(f"Known only while authentication names {name}."), *option_items(options, f"{name}.")]
    lines += section(
        "IDENTITY MAP",
        "Rules [[identity_map]] are tried in their order, and the first that matches decides. Each has one pattern, exact, prefix or regex (of the "
        "whole identity, mechanism:name), and account or accounts: the first unless another of them is asked for. \\1 to \\9 are groups of a "
        "regex. An identity that no rule matches may enter the account whose own files vouched for it (publickey) or that the kernel names "
        "(local), and no other.",
    )
    lines += example("[[identity_map]]", 'exact = "x509:/DC=ch/DC=example/CN=Alice"', 'account = "alice"')
    lines += section(
        "GROUPS",
        "The file that groups names has a table [groups.NAME] for each group, with members and managers (accounts, or mechanism:identity), "
        "max_workers, profiles (the first is the default) and start_program; and [users], which names the group of who asks for none.",
    )
    return lines + section("SEE ALSO", "aed(8)")


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    made = {"aed.8": aed_8(), "aeclient.1": aeclient_1(), "aegroup.1": aegroup_1(), "aed.toml.5": aed_toml_5()}
    return {name: "\n".join(lines) + "\n" for name, lines in made.items()}


def main() -> int:
    stale = [name for name, text in pages().items() if not (PAGES / name).exists() or (PAGES / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/man/{name} is stale: run python tools/make_man.py", file=sys.stderr)
        return 1 if stale else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (PAGES / name).write_text(pages()[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
