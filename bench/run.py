"""`make bench`: measures aed against OpenSSH, interleaved, and prints the table. Root, because both daemons must be real.

Lives here: the command line, the order of samples, medians, table and JSON. Must not live here: a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.measures import ROWS, Row, Side
from bench.ours import Aed
from bench.peer import Sshd
from tests.support import machine, prefix
from tests.support.machine import TestAccount


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    if os.geteuid() != 0:
        print("make bench runs two real daemons and throwaway accounts: run it as root (sudo make bench)", file=sys.stderr)
        return 1
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    load = os.getloadavg()[0]
    if load > 0.5 * (os.cpu_count() or 1):
        print(f"warning: the machine is busy (load {load:.1f}); the numbers will be worse and wider than they are", file=sys.stderr)
    with ExitStack() as stack:
        stack.enter_context(machine.run_on_this_machine())
        accounts = machine.Accounts()
        stack.callback(accounts.close)
        account = accounts.new()
        sides: dict[str, Side] = {}
        if options.side in ("both", "ours"):
            ours = Aed(stack.enter_context(prefix.installed()), account)
            stack.callback(ours.close)
            sides["ours"] = ours
        if options.side in ("both", "peer"):
            peer = Sshd()
            stack.callback(peer.close)
            sides["peer"] = peer
        samples = {row.name: _measure(row, sides, account, options.pairs) for row in chosen}
        # Before the daemons stop: should one of them complain then, the numbers are out.
        _print_table(chosen, samples)
        _write(chosen, samples, Path(options.out))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="aed against OpenSSH on loopback, interleaved.")
    parser.add_argument("--only", type=lambda text: text.split(","), help="rows, with commas: " + ", ".join(row.name for row in ROWS))
    parser.add_argument("--pairs", type=int, default=9, help="samples of each side (default 9)")
    parser.add_argument("--side", choices=("both", "ours", "peer"), default="both", help="measure one side alone")
    parser.add_argument("--out", default="out/bench.json")
    return parser


def _measure(row: Row, sides: dict[str, Side], account: TestAccount, pairs: int) -> dict[str, list[float]]:
    """Samples of each side that has this row. The side that goes first changes with each pair, so that a drift of the machine hits both."""
    taken = {name: side for name, side in sides.items() if row.peer or name == "ours"}
    found: dict[str, list[float]] = {name: [] for name in taken}
    for number in range(pairs * row.repeat):
        for name in sorted(taken, reverse=bool(number % 2)):
            found[name].append(row.sample(taken[name], account))
        _progress(f"{row.name}: {number + 1} of {pairs * row.repeat}")
    _progress("")
    return found


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _median(samples: dict[str, list[float]], side: str) -> float | None:
    return statistics.median(samples[side]) if samples.get(side) else None


def _ratio(samples: dict[str, list[float]]) -> float | None:
    ours, peer = _median(samples, "ours"), _median(samples, "peer")
    return ours / peer if ours is not None and peer else None


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(samples: dict[str, list[float]], side: str) -> str:
    middle = _median(samples, side)
    return "-" if middle is None else f"{_shown(middle)} ({_shown(min(samples[side]))}–{_shown(max(samples[side]))})"


def _verdict(row: Row, samples: dict[str, list[float]]) -> str:
    measured = _ratio(samples) if row.peer else _median(samples, "ours")
    if measured is None:
        return "-"
    met = measured >= row.target if row.more else measured <= row.target
    return "yes" if met else "NO"


def _print_table(rows: Sequence[Row], samples: dict[str, dict[str, list[float]]]) -> None:
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.split(",")[0].strip()
    print(f"{ssh}, Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores; medians (min–max)\n")
    lines = [("", "unit", "aed", "OpenSSH", "ratio", "target", "met")]
    for row in rows:
        found = samples[row.name]
        ratio = _ratio(found)
        target = ("≥ " if row.more else "≤ ") + f"{row.target:g}"
        shown = "-" if ratio is None else f"{ratio:.2f}"
        lines.append((row.name, row.unit, _cell(found, "ours"), _cell(found, "peer"), shown, target, _verdict(row, found)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _write(rows: Sequence[Row], samples: dict[str, dict[str, list[float]]], out: Path) -> None:
    """The rows of this run and no others, since numbers of two runs do not belong in one table; beside it every sample."""
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {}
    for row in rows:
        found = samples[row.name]
        result[row.name] = {"ours": _median(found, "ours"), "peer": _median(found, "peer"), "unit": row.unit, "ratio": _ratio(found)}
    out.write_text(json.dumps(result, indent=2) + "\n")
    out.with_name(out.stem + "-samples.json").write_text(json.dumps(samples, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
