"""An installation as an administrator makes it: the tree's wheel in a root-owned prefix that every account can read.

Lives here: building the wheel, filling a venv without a network. Must not live here: running anything of it.

A clone in a private directory is neither readable by the user `aed` nor fit to run as root, so the privileged daemon is never tested from there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import machine

TREE = Path(__file__).parents[2]
SOURCES = ("aed", "aeclient", "aegroup", "conf", "systemd", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Prefix:
    """An installed aed. `bin("aed")` is the daemon."""

    path: Path

    def bin(self, name: str) -> Path:
        return self.path / "bin" / name

    @property
    def python(self) -> Path:
        return self.bin("python3")


@contextlib.contextmanager
def installed(extras: tuple[str, ...] = ("daemon",)) -> Iterator[Prefix]:
    """A fresh prefix with the tree's wheel and what these extras need, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir=machine.PREFIX_PARENT))
    try:
        path.chmod(0o755)
        prefix = Prefix(path)
        old_mask = os.umask(0o022)
        try:
            _fill(prefix, extras)
        finally:
            os.umask(old_mask)
        yield prefix
    finally:
        shutil.rmtree(path)


def _fill(prefix: Prefix, extras: tuple[str, ...]) -> None:
    interpreter = _run([str(TREE / "tools" / "find-python")]).strip()
    _run([interpreter, "-I", "-m", "venv", "--without-pip", str(prefix.path)])
    purelib = Path(_run([str(prefix.python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _wheel(Path(scratch))
        options = ["--no-deps", "--no-index", "--root-user-action", "ignore", "-q"]
        _run([sys.executable, "-I", "-m", "pip", "--python", str(prefix.python), "install", *options, str(wheel)])
    for distribution in _needed("aed", extras):
        _copy(distribution, purelib)


def _wheel(scratch: Path) -> Path:
    """Built from a copy: setuptools leaves a build directory beside its sources, and takes files that were deleted since from an old one."""
    tree = scratch / "tree"
    tree.mkdir()
    for name in SOURCES:
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, tree / name)
    _run([sys.executable, "-I", "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(scratch), str(tree)])
    return next(scratch.glob("aed-*.whl"))


def _needed(name: str, extras: tuple[str, ...]) -> Iterator[metadata.Distribution]:
    """The installed distributions that `name` with `extras` needs, each once, itself left out."""
    seen = set()
    queue: list[tuple[str, tuple[str, ...]]] = [(name, extras)]
    while queue:
        owner, wanted = queue.pop()
        for line in metadata.requires(owner) or ():
            requirement = Requirement(line)
            if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                continue
            key = canonicalize_name(requirement.name)
            if key not in seen:
                seen.add(key)
                queue.append((requirement.name, tuple(requirement.extras)))
                yield metadata.distribution(requirement.name)


def _copy(distribution: metadata.Distribution, target: Path) -> None:
    """Copies what pip recorded, compiled files too (they stay valid: times are kept), console scripts and other files outside left out."""
    for file in distribution.files or ():
        if ".." not in file.parts:
            source, copy = Path(str(file.locate())), target / file
            if source.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)


def _run(command: list[str]) -> str:
    """Runs to the end with nothing on stderr but in a failure's text."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=environment)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
