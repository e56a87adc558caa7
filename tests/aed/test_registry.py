"""The registry: built-ins by name at no cost, entry points for other names, clear words for the rest."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import aed
from aed import registry
from aed.errors import Misconfigured, Unavailable

ROOT = str(Path(aed.__file__).parents[1])


@pytest.mark.parametrize("name", ["publickey", "x509", "local"])
def test_built_ins_have_three_sides(name: str) -> None:
    assert callable(registry.server(name).serve)
    assert callable(registry.client(name).credentials)
    assert callable(registry.check(name).check)


@pytest.mark.parametrize(
    "name", ["", "../x", "os.path", "Publickey", "a b", "-a", "a-", "a--b", "a_b", "1a", "é", "a" * 65, "x\0", "publickey.client"]
)
def test_names_are_validated_before_import(name: str) -> None:
    with pytest.raises(Misconfigured, match="is no name"):
        registry.server(name)


def test_unknown_mechanism_names_the_known() -> None:
    with pytest.raises(Misconfigured, match=r"unknown authentication mechanism nosuch; known are .*local, .*publickey.*, x509"):
        registry.server("nosuch")


def _plug_in(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, points: str, files: dict[str, str]) -> None:
    package = directory / name
    package.mkdir()
    for file, text in {"__init__.py": "", **files}.items():
        (package / file).write_text(text)
    metadata = directory / f"{name}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[aed.auth]\n{points}")
    if str(directory) not in sys.path:
        monkeypatch.syspath_prepend(str(directory))


def test_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(tmp_path, monkeypatch, "aed_test_pigeon", "carrier-pigeon = aed_test_pigeon\n", {"server.py": "def serve(attempt, data): ...\n"})
    assert entry_points(group=registry.GROUP, name="carrier-pigeon")
    assert callable(registry.server("carrier-pigeon").serve)
    with pytest.raises(Misconfigured, match="has no client side"):
        registry.client("carrier-pigeon")
    with pytest.raises(Misconfigured, match="carrier-pigeon"):
        registry.server("nosuch")


def test_entry_point_cannot_replace_a_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(tmp_path, monkeypatch, "aed_test_evil", "local = aed_test_evil\n", {"server.py": "def serve(attempt, data): ...\n"})
    assert registry.server("local").__name__ == "aed.auth.local.server"  # type: ignore[attr-defined]


def test_two_entry_points_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aed_test_one", "aed_test_two"):
        _plug_in(tmp_path, monkeypatch, name, f"twice = {name}\n", {})
    with pytest.raises(Misconfigured, match="more than once: aed_test_one, aed_test_two"):
        registry.server("twice")


def test_what_a_plug_in_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"server.py": "import surely_absent.deep\n", "check.py": ""}
    _plug_in(tmp_path, monkeypatch, "aed_test_needy", "needy = aed_test_needy\n", files)
    with pytest.raises(Unavailable, match="needs the Python package surely_absent"):
        registry.server("needy")
    with pytest.raises(Misconfigured, match="has no function check"):
        registry.check("needy")


@pytest.mark.parametrize("mechanism", ["publickey", "local", "x509"])
def test_client_side_stays_cheap(mechanism: str) -> None:
    """Floors of a one-shot client: no typing, dataclasses, argparse, json, re, subprocess, entry points."""
    program = f"import sys; sys.path.insert(0, {ROOT!r}); from aed import registry; registry.client({mechanism!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True).stdout.split()
    dear = {"typing", "dataclasses", "argparse", "json", "re", "subprocess", "importlib.metadata", "cryptography", "OpenSSL", "base64", "asyncio"}
    assert dear.isdisjoint(loaded)
    assert f"aed.auth.{mechanism}.client" in loaded
