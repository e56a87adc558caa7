"""The command line of aeclient: a table of options, its parser, its help (ADR 0003: argparse costs a one-shot client more than its TLS handshake).

Lives here: the table and `parse`. Must not live here: what an option does.
"""

from __future__ import annotations

from aed.errors import Misconfigured

FLAG, VALUE, LIST = "flag", "value", "list"

TABLE: tuple[tuple[str, str, str, str, str], ...] = (
    ("--group", "-g", VALUE, "G[,H]", "the analysis group; the first of several that is permitted. Without it: your default"),
    ("--node", "-n", LIST, "NODE[,...]", "user@host:port, an alias or a set of client.toml; repeats. Without it: an embedded node on this machine"),
    ("--workers", "-w", VALUE, "N", "workers in all, spread over the nodes in turn (default: one on each node)"),
    ("--per-node", "", VALUE, "N", "workers on each node"),
    ("--login", "-l", VALUE, "USER", "the account on the node"),
    ("--identity", "-i", LIST, "FILE", "a private key, or a certificate, to prove who you are; repeats"),
    ("--command", "-c", VALUE, "STRING", "a command line for the account's login shell, instead of words after --"),
    ("--profile", "-p", VALUE, "NAME", "the sandbox: none, default or strict"),
    ("--input", "", LIST, "PATH", "a path on the node that a strict worker may read; repeats"),
    ("--env", "-e", LIST, "NAME[=VALUE]", "an environment variable for the workers, as far as the node permits; repeats"),
    ("--master", "-m", VALUE, "PROGRAM", "a local program (with words, as in a shell) that receives the workers' messages"),
    ("--master-fd", "", VALUE, "FD", "as --master, for a program that starts aeclient: a socket that it left open"),
    ("--kill-on-failure", "-k", FLAG, "", "when one worker fails, kill the others"),
    ("--no-input", "", FLAG, "", "worker 0 gets no standard input"),
    ("--via", "", VALUE, "COMMAND", "reach the node by the standard input and output of a command (%h host, %p port, %r user)"),
    ("--ca", "", VALUE, "PATH", "a site's CA, file or directory: nodes with a certificate of it need not be pinned"),
    ("--accept-new", "", FLAG, "", "trust a node that is not known yet without asking, and remember it"),
    ("--batch", "", FLAG, "", "never ask anything"),
    ("--verbose", "-v", FLAG, "", "trace each step, and each credential that is tried"),
    ("--version", "-V", FLAG, "", "print the version"),
    ("--help", "-h", FLAG, "", "print this"),
)


class Parsed:
    """Values by option name without dashes; `words` is what follows."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.flags: set[str] = set()
        self.words: list[str] = []

    def get(self, name: str) -> str | None:
        return self.values.get(name)

    def all(self, name: str) -> list[str]:
        return self.lists.get(name, [])


def parse(arguments: list[str]) -> Parsed:
    """Options end at `--` or at the first word that is none. Raises `Misconfigured` with what is wrong."""
    known = {long: row for row in TABLE for long in row[:2] if long}
    parsed = Parsed()
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--" or not word.startswith("-") or word == "-":
            break
        at += 1
        name, equals, value = word.partition("=")
        row = known.get(name)
        if row is None and not word.startswith("--") and word[:2] in known and len(word) > 2:
            row = known[word[:2]]
            if row[2] == FLAG:
                arguments[at:at] = [f"-{word[2:]}"]
                value, equals = "", ""
            else:
                value, equals = word[2:], "="
        if row is None:
            raise Misconfigured(f"unknown option {word}{_nearest(name)}; aeclient --help lists them")
        long = row[0][2:]
        if row[2] == FLAG:
            if equals:
                raise Misconfigured(f"{row[0]} takes no value")
            parsed.flags.add(long)
            continue
        if not equals:
            if at == len(arguments) or arguments[at] == "--":
                raise Misconfigured(f"{word} needs a value, {row[3]}")
            value = arguments[at]
            at += 1
        if row[2] == VALUE:
            parsed.values[long] = value
        else:
            parsed.lists.setdefault(long, []).append(value)
    parsed.words = arguments[at + 1 :] if arguments[at : at + 1] == ["--"] else arguments[at:]
    return parsed


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [row[0] for row in TABLE], 1)
    return f"; did you mean {near[0]}?" if near else ""


def usage() -> str:
    """The help text, from the table."""
    lines = ["usage: aeclient [OPTION]... [--] COMMAND [WORD]...", "       aeclient [OPTION]... -c STRING", ""]
    for long, short, _, value, text in TABLE:
        names = f"{short}, {long}" if short else f"    {long}"
        lines.append(f"  {names} {value}".rstrip())
        lines.append(f"        {text}")
    lines += ["", "Exit status: the first failed worker's, 128+n if signal n ended it, 255 for a failure of aeclient or the node."]
    return "\n".join(lines)
