"""Drawing for `dimuon.py`: a progress bar, a spectrum in the terminal and as a picture. Nothing of aed is in here."""

from __future__ import annotations

import math
import os
import sys

import hist

Z_MASS = 91.1876  # GeV, Particle Data Group
BLOCKS = " ▁▂▃▄▅▆▇█"  # eighths upwards, for the spectrum
BLOCKS_LEFT = " ▏▎▍▌▋▊▉█"  # eighths rightwards, for the bar
ROWS = 14


class Progress:
    """A bar that is redrawn on a terminal; a line at each quarter elsewhere."""

    def __init__(self) -> None:
        self.done = 0
        self.quarter = 0

    def advance(self, events: int, total: int, who: str) -> None:
        self.done += events
        share = self.done / total
        text = f"{self.done:>5}/{total} events, {who}"
        if sys.stdout.isatty():
            eighths = round(share * 40 * 8)
            bar = "█" * (eighths // 8) + BLOCKS_LEFT[eighths % 8].strip()
            print(f"\r\033[32m{bar:░<40}\033[0m {share:4.0%} {text}", end="\n" if self.done == total else "", flush=True)
        elif int(share * 4) > self.quarter:
            self.quarter = int(share * 4)
            print(f"{share:4.0%} {text}", flush=True)


def summary(spectrum: hist.Hist) -> str:
    """The numbers in one line."""
    counts, edges = spectrum.values(), spectrum.axes[0].edges
    peak = int(counts.argmax())
    return f"{int(spectrum.sum(flow=True))} pairs, peak bin [{edges[peak]:.0f}, {edges[peak + 1]:.0f}) GeV holding {int(counts[peak])}"


def draw_in_terminal(spectrum: hist.Hist) -> None:
    """One column of eighths of a block for each bin, an axis in GeV, and the Z."""
    counts, edges = spectrum.values(), spectrum.axes[0].edges
    top = max(float(counts.max()), 1.0)
    z = next(i for i in range(len(counts)) if edges[i] <= Z_MASS < edges[i + 1])
    colour, plain = ("\033[36m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print("\n pairs / GeV")
    for row in reversed(range(ROWS)):
        # the part of this row that each column fills, in eighths, at least one where there is a pair at all
        cells = [min(8, max(math.ceil(count / top * ROWS * 8) - row * 8, 0)) for count in counts]
        label = f"{top * (row + 1) / ROWS:.0f}" if row in (ROWS - 1, ROWS // 2 - 1) else ""
        print(f"{label:>6} {'┤' if label else '│'}{colour}{''.join(BLOCKS[cell] for cell in cells)}{plain}")
    ticks = range(0, len(counts) + 1, 10)
    print("     0 └" + "".join("┴" if i % 10 == 0 else "─" for i in range(len(counts) + 1)))
    labels = [" "] * (len(counts) + 20)
    for tick in ticks:
        text = f"{edges[tick]:.0f}"
        labels[8 + tick - len(text) // 2 : 8 + tick - len(text) // 2 + len(text)] = text
    print("".join(labels).rstrip() + "  m(μμ) [GeV]")
    print(" " * (8 + z) + f"▲ Z, {Z_MASS:.2f} GeV\n")


def draw_to_file(spectrum: hist.Hist, path: str, samples: str) -> None:
    """The picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counts, edges, centres = spectrum.values(), spectrum.axes[0].edges, spectrum.axes[0].centers
    inside, pairs = int(counts.sum()), int(spectrum.sum(flow=True))
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.stairs(counts, edges, fill=True, color="#9ecae1", label="muon pairs")
    axes.stairs(counts, edges, color="#08519c", linewidth=1.2)
    some = counts > 0
    axes.errorbar(centres[some], counts[some], yerr=counts[some] ** 0.5, fmt="none", ecolor="#08519c", elinewidth=0.9, label="statistical error")
    axes.axvline(Z_MASS, color="#cb181d", linewidth=1.2, linestyle="--", label=f"Z, {Z_MASS:.2f} GeV")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(float(counts.max()), 1.0) * 1.18)
    axes.set_xlabel(spectrum.axes[0].label, loc="right", fontsize=12)
    axes.set_ylabel("pairs / GeV", loc="top", fontsize=12)
    axes.set_title("Dimuon mass spectrum", loc="left", fontsize=13, fontweight="bold")
    axes.set_title(samples, loc="right", fontsize=11, color="#555555")
    axes.minorticks_on()
    axes.tick_params(which="both", direction="in", top=True, right=True)
    axes.legend(loc="upper right", frameon=False, title=f"{pairs:,} pairs, {pairs - inside:,} outside the axis", alignment="left")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
