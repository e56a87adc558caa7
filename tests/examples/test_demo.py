"""What `make demo` runs: the example through aeclient, an embedded node, two sandboxed workers and a master program.

The clone may lie anywhere, below /tmp as well.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dimuon.py"


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "2304 pairs, peak bin [90, 91) GeV holding 311"),
        (["--hzz"], "3668 pairs, peak bin [90, 91) GeV holding 504"),
    ],
)
def test_the_demo_finds_the_peak(tmp_path: Path, words: list[str], expected: str) -> None:
    """The same numbers as a single process gives (test_dimuon.py), and the picture."""
    out = tmp_path / "out"
    out.mkdir()
    master = " ".join([sys.executable, str(EXAMPLE), "--master", *words])
    client = [sys.executable, "-m", "aeclient.cli", "--group", "higgs", "--workers", "2", "--master", master]
    done = subprocess.run(
        [*client, "--", sys.executable, str(EXAMPLE), *words], cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert (out / "dimuon.png").read_bytes().startswith(b"\x89PNG")
