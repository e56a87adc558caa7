"""The import floors of ARCHITECTURE.md: imports run downward only, and each ban has its reason.

Imports are read from the source, those inside functions too. What a one-shot client really loads is asked of a real interpreter, at the end.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]

EMPTY = {"aed", "aed.auth"}
"""Packages that hold others and nothing themselves: below every floor."""

FLOORS: dict[str, int] = {
    "aed.errors": 1,
    "aed.model": 1,
    "aed.wire": 2,
    "aed.interfaces": 3,
    "aed.config": 3,
    "aed.registry": 3,
    "aed.ring": 3,
    "aed.link": 3,
    "aed.privilege": 3,
    "aed.spawn": 3,
    "aed.auth": 4,
    "aed.authz": 4,
    "aed.delegation": 4,
    "aed.sandbox": 4,
    "aed.audit": 4,
    "aed.session": 5,
    "aed.net": 5,
    "aed.checker": 5,
    "aed.zygote": 5,
    "aed.issuer": 5,
    "aed.node": 6,
    "aed.checks": 6,
    "aed.stdio": 6,
    "aed.listener": 6,
    "aed.cli": 7,
}
"""Each module of `aed`, or the package around it, and its floor. A new one needs a line here, and in ARCHITECTURE.md."""

APART = 4
"""On this floor packages do not import each other: a mechanism, a sandbox, a mapper can be replaced alone."""

HEAVY = {"twisted", "OpenSSL", "cryptography"}


@dataclass(frozen=True)
class Ban:
    """Modules whose name begins with `importer` (and ends with `last`, if given) may not import `banned`, except those in `but`."""

    importer: str
    banned: AbstractSet[str]
    why: str
    last: str = ""
    but: tuple[str, ...] = ()
    inside_functions: bool = False
    """Whether a function may import it all the same, when it is called and not before."""

    def holds_for(self, module: str) -> bool:
        return within(module, self.importer) and module.endswith(self.last) and not any(within(module, name) for name in self.but)


BANS = (
    Ban("aed", {"aeclient", "aegroup"}, "the node is installed without the client; what both need lives in aed"),
    Ban("aegroup", {"aeclient"}, "the two commands share the protocol, not each other"),
    Ban(
        "aed.wire",
        {"typing", "dataclasses", "argparse", "json", "subprocess", "logging", "asyncio", "socket", "ssl", "time", "random", "os"} | HEAVY,
        "bytes in, events out, no I/O and no clock; and a one-shot client pays for each import with its start",
    ),
    Ban("aed.errors", {"typing", "logging", "json"} | HEAVY, "imported by everyone, the one-shot client too"),
    Ban(
        "aed",
        {"twisted"},
        "Twisted runs in the user aed's processes only: a session that holds it is no longer small",
        but=("aed.net", "aed.zygote", "aed.testing", "aed.metrics"),
    ),
    Ban(
        "aed",
        {"OpenSSL", "cryptography"},
        "root parses nothing that a stranger sends: TLS is net's, keys and certificates the checker's, the identity key the issuer's",
        but=("aed.net", "aed.zygote", "aed.issuer", "aed.auth", "aed.testing"),
    ),
    Ban("aed.auth", {"twisted", "OpenSSL", "cryptography"}, "runs in the session, as root; parsing is check.py's", last=".server"),
    Ban("aed.auth.publickey", HEAVY, "a one-shot client signs by an agent or ssh-keygen; these cost it 70 to 300 ms", last=".client"),
    Ban("aed.auth", HEAVY, "a client that does not use this mechanism would pay 70 to 300 ms for it", last=".client", inside_functions=True),
    Ban("aed", {"pickle", "marshal", "shelve"}, "reading them runs what the sender wrote"),
    Ban("aeclient", {"twisted"}, "its import takes longer than a whole ssh"),
)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def modules() -> dict[str, Path]:
    """All modules of the tree by name."""
    found = {}
    for package in ("aed", "aeclient", "aegroup"):
        for path in sorted((TREE / package).rglob("*.py")):
            parts = path.relative_to(TREE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def floor(module: str) -> int | None:
    """The floor of the longest name in FLOORS that holds `module`."""
    names = [name for name in FLOORS if within(module, name)]
    return 0 if module in EMPTY else FLOORS[max(names, key=len)] if names else None


@dataclass(frozen=True)
class Import:
    """An import, where it stands, and whether in a function."""

    name: str
    line: int
    in_function: bool


def imports(module: str) -> Iterator[Import]:
    """What `module` imports at run time: at the top, in functions, under conditions; not under TYPE_CHECKING."""
    path = MODULES[module]
    yield from _imports(ast.parse(path.read_text(), path), module if path.name == "__init__.py" else module.rpartition(".")[0], False)


def _imports(node: ast.AST, package: str, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
            base = ".".join([*above, *([child.module] if child.module else [])])
            # `from aed import net` imports the module aed.net; `from aed.net import Net` does not import aed.net.Net.
            full = [f"{base}.{alias.name}" for alias in child.names]
            names = dict.fromkeys(name if name in MODULES else base for name in full)
            yield from (Import(name, child.lineno, inside) for name in names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "False"):
            yield from _imports(ast.Module(child.orelse, []), package, inside)
        else:
            yield from _imports(child, package, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


OWN = sorted(module for module in MODULES if within(module, "aed"))


def test_every_module_has_a_floor() -> None:
    lost = [module for module in OWN if floor(module) is None]
    assert not lost, f"put {', '.join(lost)} on a floor, in FLOORS here and in ARCHITECTURE.md"


@pytest.mark.parametrize("module", OWN)
def test_imports_run_downward(module: str) -> None:
    own = floor(module)
    wrong = []
    for found in imports(module):
        other = floor(found.name) if within(found.name, "aed") else None
        if own is None or other is None:
            continue
        where = f"{MODULES[module].relative_to(TREE)}:{found.line}: {module} (floor {own}) imports {found.name}"
        if other > own:
            wrong.append(f"{where}, from floor {other} above it")
        elif other == own == APART and apart(module) != apart(found.name):
            wrong.append(f"{where}, but packages of floor {APART} do not know each other")
    assert not wrong, "\n".join(wrong)


def apart(module: str) -> str:
    """The part of floor 4 that `module` belongs to: one mechanism, or one of the other packages."""
    parts = module.split(".")
    return ".".join(parts[:3] if parts[1] == "auth" else parts[:2])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_banned_import(module: str) -> None:
    wrong = [
        f"{MODULES[module].relative_to(TREE)}:{found.line}: {module} must not import {found.name}: {ban.why}"
        for ban in BANS
        if ban.holds_for(module)
        for found in imports(module)
        if any(within(found.name, name) for name in ban.banned) and not (found.in_function and ban.inside_functions)
    ]
    assert not wrong, "\n".join(wrong)


COSTLY = ("typing", "dataclasses", "argparse", "json", "subprocess", "logging", "inspect", "asyncio", "email", "importlib.metadata", *sorted(HEAVY))
"""What a one-shot client cannot afford: together they take longer than its whole session should."""

FAST = ["aed.errors", "aed.wire", "aed.auth.publickey.client", "aeclient.cli"]
"""What a one-shot client imports. A package stands for all its modules."""


@pytest.mark.parametrize("name", FAST)
def test_a_one_shot_client_loads_nothing_costly(name: str) -> None:
    chosen = [module for module in MODULES if within(module, name)]
    if name in MODULES and not chosen:
        pytest.fail(f"{name} is gone; correct FAST")
    # -S: neither an editable install nor another .pth file of this machine may add imports of its own.
    program = f"import sys; sys.path.insert(0, {str(TREE)!r})\n" + "".join(f"import {module}\n" for module in chosen)
    program += f"print(*(name for name in {COSTLY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), f"importing {name} loads {done.stdout.strip()}; find out by whom with python -I -S -X importtime"


MACHINE_PATHS = ("/wo" + "rk/", "/root/.py" + "env", "py" + "pi.org", "python" + "hosted.org", "deb.deb" + "ian.org")
"""Written in two halves, or this file would be its own first find."""


def test_no_file_speaks_of_one_machine() -> None:
    """What is under version control must work on any machine: no path of a workplace, no host of a package registry."""
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=TREE, capture_output=True, check=True).stdout
    wrong = []
    for name in listed.decode().split("\0"):
        path = TREE / name
        if not name or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        wrong += [f"{name}: {found}" for found in MACHINE_PATHS if found in text]
    assert not wrong, "\n".join(wrong)
