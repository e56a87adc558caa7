"""The rules of conftest.py that nothing else would notice: what CI does with a skip, and what ends a test that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).parents[1]


def run_pytest(directory: Path, text: str, **environment: str) -> tuple[int, str]:
    (directory / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)]
    settings = {name: value for name, value in os.environ.items() if name != "AED_NO_SKIPS"} | environment | {"PYTHONPATH": str(TREE)}
    done = subprocess.run(command, cwd=directory, env=settings, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


SKIPS = """
import pytest

@pytest.fixture
def absent(): pytest.skip("no peer: fixture")

def test_inside(): pytest.skip("no peer: inside")

@pytest.mark.skip(reason="no peer: mark")
def test_mark(): pass

@pytest.mark.xfail(reason="no peer: xfail")
def test_xfail(): assert False

@pytest.mark.xfail(reason="no peer: xpass")
def test_xpass(): pass

def test_fixture(absent): pass

def test_good(): pass
"""


def test_a_skip_is_no_failure_outside_ci(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, SKIPS)
    assert code == 0, out


def test_ci_fails_on_a_skip_and_names_it(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, SKIPS, AED_NO_SKIPS="1")
    assert code == 1, out
    assert "3 failed, 1 passed, 2 errors" in out, out
    for name in ("inside", "mark", "xfail", "xpass", "fixture"):
        assert f"test_{name} was skipped or expected to fail, and CI permits neither" in out, out
        assert f"no peer: {name}" in out, out


def test_ci_fails_on_a_module_that_skips_itself(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, "import pytest\npytest.skip('no peer here', allow_module_level=True)\n", AED_NO_SKIPS="1")
    assert code not in (0, 5), out
    assert "test_it.py was skipped as a whole" in out and "no peer here" in out, out


def test_a_test_that_hangs_is_ended(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, "import pytest, signal\n@pytest.mark.deadline(0.2)\ndef test_a(): signal.pause()\n")
    assert code == 1, out
    assert "call of test_it.py::test_a took longer than 0.2 s" in out, out
