"""What the documents say is there, is there: files, make targets, options, tests, floors; and the manual pages are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aeclient.config import load as load_client_configuration
from aeclient.options import TABLE
from aed.config import OPTIONS
from aed.registry import server
from tests.test_floors import FLOORS

TREE = Path(__file__).parents[1]
README = (TREE / "README.md").read_text()
DOCUMENTS = [
    path
    for path in sorted(TREE.glob("**/*.md"))
    if not any(part.startswith(".") or part in ("build", "dist", "out") for part in path.relative_to(TREE).parts)
]
MADE = ("out/dimuon.png", "out/bench.json")
"""What commands leave behind."""


def blocks(language: str = "") -> Iterator[str]:
    """The README's fenced blocks in a language."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if found[1] == language:
            yield found[2]


def commands(program: str) -> Iterator[str]:
    """Each command line of `program` that the README shows or names."""
    for block in blocks():
        yield from (line for line in block.splitlines() if re.match(rf"[$#] .*\b{program}\b", line))
    yield from (words for words in re.findall(r"`([^`\n]+)`", README) if words.split()[0] == program)


def test_manual_pages_are_the_codes() -> None:
    done = subprocess.run([sys.executable, "tools/make_man.py", "--check"], cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_manual_pages_have_every_option() -> None:
    configuration = (TREE / "docs/man/aed.toml.5").read_text()
    assert [option.key for option in OPTIONS if f"\\fB{option.key}\\fR" not in configuration] == []
    client = (TREE / "docs/man/aeclient.1").read_text().replace("\\-", "-")
    assert [row[0] for row in TABLE if row[0] not in client] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TREE)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", path.read_text()))
        assert not named - targets, path


def help_of(*words: str) -> set[str]:
    """The options that a command's help shows."""
    shown = subprocess.run([sys.executable, "-m", *words, "--help"], cwd=TREE, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown))


def test_options_of_the_readme_exist() -> None:
    known = {
        "aeclient": {name for row in TABLE for name in row[:2] if name},
        "aed": help_of("aed.cli"),
        "aegroup": help_of("aegroup.cli") | help_of("aegroup.cli", "list"),
    }
    for program, options in known.items():
        # What stands in quotes or after -- is another program's.
        lines = [re.sub(r"'[^']*'", "", line).partition(" -- ")[0] for line in commands(program)]
        used = {option for line in lines for option in re.findall(rf"(?<![/\w]){program}((?: [^&|#]*)?)", line) for option in option.split()}
        used = {word for word in used if word.startswith("-")}
        assert used, program
        assert not used - options, program
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert not named - set().union(*known.values())


def test_keys_of_the_readme_exist(tmp_path: Path) -> None:
    known = {option.key for option in OPTIONS}
    for name in ("publickey", "x509"):
        known |= {f"{name}.{option.key}" for option in getattr(server(name), "OPTIONS", ())}
    sections = {key.partition(".")[0] for key in known if "." in key}
    named = {word for word in re.findall(r"`([a-z0-9_]+\.[a-z_]+)`", README) if word.partition(".")[0] in sections}
    assert named
    assert not named - known
    shown = [tomllib.loads(block) for block in blocks("toml")]
    assert any("identity_map" in table for table in shown)
    (client,) = (block for block in blocks("toml") if "[sets]" in block)
    path = tmp_path / "client.toml"
    path.write_text(client)
    path.chmod(0o600)
    assert load_client_configuration(str(path)).sets == {"t3": ("one",)}


def test_python_of_the_readme_compiles() -> None:
    programs = list(blocks("python"))
    assert programs
    for program in programs:
        compile(program, "README.md", "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TREE)))
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:aed|aeclient|aegroup|conf|docs|examples|tests|tools|systemd|out)/[\w./-]*\w)`", path.read_text())
    assert [name for name in named if name not in MADE and find(name) is None] == []


def find(name: str) -> Path | None:
    """A file by its path in the tree, or below tests/, as THREATS.md has it."""
    return next((path for path in (TREE / name, TREE / "tests" / name) if path.exists()), None)


@pytest.mark.parametrize("path", [TREE / "THREATS.md", *sorted((TREE / "docs/adr").glob("*.md"))], ids=lambda path: str(path.name))
def test_tests_that_are_named_exist(path: Path) -> None:
    """`file.py::test`, or `::test` for another of the file that was named last."""
    wrong = []
    file: Path | None = None
    for name, test in re.findall(r"`([a-z0-9_/]+\.py)?(?:::(test_\w+))?`", path.read_text()):
        file = find(name) if name else file
        if (name or test) and (file is None or (test and not re.search(rf"^def {test}\(", file.read_text(), re.MULTILINE))):
            wrong.append(f"{name}::{test}")
    assert not wrong


def test_floors_are_those_that_are_enforced() -> None:
    text = (TREE / "ARCHITECTURE.md").read_text()
    part = text.partition("<!-- floors:")[2].partition("<!-- floors: end")[0]
    said = {
        name: int(line[0]) for line in part.splitlines() if line[:1].isdigit() for name in re.findall(r"`(aed\.\w+)`", line.partition(" (")[0])
    }
    assert said == FLOORS
