"""The demo's worker and master as the processes they are, joined by the two real sockets that aed gives them; only aeclient is left out."""

from __future__ import annotations

import importlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aeclient.api import Master

EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = [sys.executable, str(EXAMPLES / "dimuon.py")]

for needed in ("uproot", "awkward", "hist", "matplotlib", "skhep_testdata"):
    pytest.importorskip(needed, reason="the demo's packages are not installed: pip install 'aed[demo]'")


@pytest.fixture(scope="module")
def dimuon() -> ModuleType:
    # as `python examples/dimuon.py` does: its own directory comes first
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("dimuon")
    finally:
        sys.path.remove(str(EXAMPLES))


class Relay:
    """Workers on one side, the master's socket on the other: each message becomes a record, each end of a worker too."""

    def __init__(self, directory: Path, workers: int, words: list[str]) -> None:
        self.directory, self.workers, self.words = directory, workers, words
        self.masters_end, self.stream = socket.socketpair()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run)

    def put(self, kind: int, worker: int, payload: bytes = b"") -> None:
        with self.lock:
            self.stream.sendall(struct.pack(">IBI", 5 + len(payload), kind, worker) + payload)

    def run(self) -> None:
        statuses = [0] * self.workers
        threads = [threading.Thread(target=self.one, args=(number, statuses)) for number in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.put(3, 0, struct.pack(">i", next((status for status in statuses if status), 0)))
        self.stream.close()

    def one(self, number: int, statuses: list[int]) -> None:
        path = str(self.directory / f"channel{number}")
        environment = {**os.environ, "AE_CHANNEL": path, "AE_WORKER": str(number), "AE_WORKERS": str(self.workers)}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(30)
            child = subprocess.Popen([*DEMO, *self.words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603
            self.put(1, number)
            with listener.accept()[0] as channel, channel.makefile("rb") as file:
                while head := file.read(4):
                    self.put(0, number, file.read(int.from_bytes(head, "big")))
        said = child.communicate()[0]
        statuses[number] = child.returncode
        self.put(2, number, struct.pack(">i", child.returncode) + said)

    def __enter__(self) -> Relay:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()
        self.masters_end.close()


class Seen:
    """Takes the place of the progress bar."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self.total = 0

    def advance(self, events: int, total: int, who: str) -> None:
        self.events.append(events)
        self.total = total


@pytest.mark.parametrize(
    ("workers", "words", "events", "pairs", "peak"),
    [(2, [], 2304, 2304, 311), (3, ["--hzz"], 2304 + 2421, 2304 + 1364, 504)],
    ids=["Zmumu", "with HZZ"],
)
def test_sum_of_the_workers_is_the_single_process(
    tmp_path: Path, dimuon: ModuleType, workers: int, words: list[str], events: int, pairs: int, peak: int
) -> None:
    seen = Seen()
    with Relay(tmp_path, workers, words) as relay, Master(relay.masters_end) as master:
        spectrum: Any = dimuon.collect(master, seen)
        assert {number: (each.status, each.text) for number, each in master.exits.items()} == dict.fromkeys(range(workers), (0, ""))
        assert master.status == 0
    single: Any = dimuon.alone(["Zmumu", "HZZ"] if words else ["Zmumu"], Seen())
    assert spectrum.values(flow=True).tolist() == single.values(flow=True).tolist()
    assert (sum(seen.events), seen.total) == (events, events)
    # every worker's progress is more than one step
    assert len(seen.events) >= 10 * workers
    counts = spectrum.values()
    assert len(counts) == 60
    assert (int(spectrum.sum(flow=True)), int(counts.argmax()), int(counts.max())) == (pairs, 30, peak)


def test_masses_agree_with_those_in_the_file(dimuon: ModuleType) -> None:
    # the sample carries the mass that its authors computed
    import numpy
    import skhep_testdata
    import uproot

    tree = uproot.open(skhep_testdata.data_path("uproot-Zmumu.root"))["events"]
    ours = dimuon.pairs_of_zmumu(tree.arrays(filter_name=dimuon.COLUMNS["Zmumu"]))
    assert numpy.allclose(ours, tree["M"].array(library="np"), rtol=1e-5)


def test_more_workers_than_events_still_add_up(dimuon: ModuleType) -> None:
    parts = [list(dimuon.analyse(["Zmumu"], part, 5000)) for part in range(5000 - 40, 5000)]
    assert sum(events for part in parts for events, _, _ in part) == 2304 - 2304 * (5000 - 40) // 5000


def test_master_program_draws_and_tells_the_peak(tmp_path: Path) -> None:
    with Relay(tmp_path, 2, []) as relay:
        number = relay.masters_end.fileno()
        environment = {**os.environ, "AE_MASTER_FD": str(number)}
        words = [*DEMO, "--master", "--out", str(tmp_path / "out" / "dimuon.png")]
        done = subprocess.run(words, env=environment, pass_fds=(number,), capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("2304 pairs, peak bin [90, 91) GeV holding 311")
    assert [line.split()[0] for line in lines[:4]][-1] == "100%"
    assert "2 workers" in lines[3]
    assert any("m(μμ) [GeV]" in line for line in lines)
    # the highest column is over the bin that the axis says, next to the Z
    top = next(line for line in lines if "311" in line)
    mark = next(line for line in lines if "▲ Z" in line)
    assert top.index("█") == mark.index("▲") - 1
    assert (tmp_path / "out" / "dimuon.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "\033" not in done.stdout


def test_master_program_does_not_pass_off_a_part_as_the_whole(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "AE_MASTER_FD": str(theirs.fileno())}
    with ours, theirs:
        text = b"killed by signal 9"
        ours.sendall(struct.pack(">IBIi", 9 + len(text), 2, 1, 137) + text + struct.pack(">IBIi", 9, 3, 0, 137))
        words = [*DEMO, "--master", "--out", str(tmp_path / "no.png")]
        done = subprocess.run(words, env=environment, pass_fds=(theirs.fileno(),), capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 137
    assert done.stderr == "the spectrum is not complete: worker 1: status 137 killed by signal 9\n"
    assert not (tmp_path / "no.png").exists()


def test_by_hand_it_does_all_itself(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AE_")}
    words = [*DEMO, "--hzz", "--out", str(tmp_path / "hzz.png")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.splitlines()[-1].startswith("3668 pairs, peak bin [90, 91) GeV holding 504")
