#!/usr/bin/env python3
"""The Z in muon pairs: an analysis on many workers, its progress and its spectrum on your terminal.

    aeclient --group higgs --workers 2 --master 'python examples/dimuon.py --master' -- python $PWD/examples/dimuon.py

One file, three roles. As a *worker* it reads its part of the events, fills a histogram and sends it, piece by piece, to the master. As the *master*
(`--master`) it adds the pieces up, shows the progress and draws. Started by hand, without aeclient, it does all of it in one process.
With `--hzz` (say it to both) the opposite-charge muon pairs of a second sample are added. `spectrum.py` beside this file draws.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator

import awkward as ak
import hist
import numpy as np
import skhep_testdata
import uproot
from spectrum import Progress, draw_in_terminal, draw_to_file, summary

from aeclient import worker
from aeclient.api import Master


# ---- physics ---------------------------------------------------------------------------------------------------------------------------------------
def mass(energy: ak.Array, px: ak.Array, py: ak.Array, pz: ak.Array) -> np.ndarray:
    """Invariant masses in GeV from sums of four-momenta."""
    return np.sqrt(ak.to_numpy(energy**2 - px**2 - py**2 - pz**2))


def pairs_of_zmumu(events: ak.Array) -> np.ndarray:
    """Each event of this sample is one pair of muons."""
    return mass(*(events[f"{of}1"] + events[f"{of}2"] for of in ("E", "px", "py", "pz")))


def pairs_of_hzz(events: ak.Array) -> np.ndarray:
    """Events of this sample have any number of muons: take those with exactly two, of opposite charges."""
    muons = ak.zip({of: ak.values_astype(events[f"Muon_{of}"], np.float64) for of in ("E", "Px", "Py", "Pz", "Charge")})
    muons = muons[ak.num(muons) == 2]
    first, second = muons[:, 0], muons[:, 1]
    opposite = first.Charge + second.Charge == 0
    return mass(*((first[of] + second[of])[opposite] for of in ("E", "Px", "Py", "Pz")))


SAMPLES: dict[str, Callable[[ak.Array], np.ndarray]] = {"Zmumu": pairs_of_zmumu, "HZZ": pairs_of_hzz}
COLUMNS = {"Zmumu": r"/(E|px|py|pz)[12]/", "HZZ": r"/Muon_(E|Px|Py|Pz|Charge)/"}


def empty() -> hist.Hist:
    """The spectrum before any event. Pairs outside the range are counted in its underflow and overflow bins."""
    return hist.Hist(hist.axis.Regular(60, 60, 120, name="mass", label="m(μμ) [GeV]"))


def analyse(samples: list[str], part: int, parts: int, pieces: int = 12) -> Iterator[tuple[int, int, hist.Hist]]:
    """This part of the events of all samples, in pieces: the events in the piece, the events in all, the piece's spectrum."""
    trees = {sample: uproot.open(skhep_testdata.data_path(f"uproot-{sample}.root"))["events"] for sample in samples}
    total = sum(tree.num_entries for tree in trees.values())
    for sample, tree in trees.items():
        start, stop = (tree.num_entries * edge // parts for edge in (part, part + 1))
        step = max(1, (stop - start) // pieces)
        for events in tree.iterate(filter_name=COLUMNS[sample], entry_start=start, entry_stop=stop, step_size=step):
            yield len(events), total, empty().fill(SAMPLES[sample](events))


# ---- the three roles -------------------------------------------------------------------------------------------------------------------------------
def work(samples: list[str]) -> None:
    """A worker: AE_WORKER says which of AE_WORKERS parts is ours. A message is a small JSON object, but any bytes would do."""
    with worker.channel() as master:
        for events, total, piece in analyse(samples, int(os.environ["AE_WORKER"]), int(os.environ["AE_WORKERS"])):
            counts = piece.values(flow=True).astype(int).tolist()
            master.send(json.dumps({"events": events, "of": total, "counts": counts}).encode())


def collect(master: Master, progress: Progress) -> hist.Hist:
    """The master: add up what the workers send, until all of them have ended."""
    spectrum = empty()
    for message in master:
        piece = json.loads(message.payload)
        spectrum.view(flow=True)[:] += piece["counts"]
        progress.advance(piece["events"], piece["of"], f"{len(master.started)} workers")
    return spectrum


def alone(samples: list[str], progress: Progress) -> hist.Hist:
    """All in this process: what the workers' sum must be equal to."""
    spectrum = empty()
    for events, total, piece in analyse(samples, 0, 1):
        spectrum += piece
        progress.advance(events, total, "this process")
    return spectrum


def main() -> int:
    parser = argparse.ArgumentParser(description="The dimuon mass spectrum on aed's workers.")
    parser.add_argument("--master", action="store_true", help="be the master of a run that aeclient --master started")
    parser.add_argument("--hzz", action="store_true", help="add the opposite-charge muon pairs of the HZZ sample")
    parser.add_argument("--out", default="out/dimuon.png", help="where the picture goes (default: %(default)s)")
    options = parser.parse_args()
    samples = ["Zmumu", "HZZ"] if options.hzz else ["Zmumu"]

    if options.master:
        with Master.from_environment() as master:
            spectrum = collect(master, Progress())
        if master.status:
            failed = ", ".join(f"worker {each.worker}: status {each.status} {each.text}" for each in master.exits.values() if each.status)
            print(f"the spectrum is not complete: {failed or f'the run ended with status {master.status}'}", file=sys.stderr)
            return master.status
    elif "AE_CHANNEL" in os.environ:
        work(samples)
        return 0
    else:
        spectrum = alone(samples, Progress())

    draw_in_terminal(spectrum)
    draw_to_file(spectrum, options.out, " + ".join(samples))
    print(f"{summary(spectrum)}; picture in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
