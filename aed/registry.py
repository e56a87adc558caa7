"""Finds mechanisms by name: `aed.auth.NAME`, else the entry point NAME of group `aed.auth`.

Lives here: look-up and import of a mechanism's `server`, `client` and `check`. Must not live here: any mechanism's name.
Entry points are asked only for what is no built-in: importlib.metadata costs a one-shot client 67 ms.
"""

from __future__ import annotations

import os
import sys

import aed.auth
from aed.errors import Misconfigured, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, cast

    from aed.interfaces import ClientModule, ServerModule

    class CheckModule(Protocol):
        """A mechanism's `check` module."""

        def check(self, question: dict[str, Any]) -> dict[str, Any]: ...
else:

    def cast(_: object, value: object) -> object:
        return value


GROUP = "aed.auth"
MAX_NAME = 64


def server(name: str) -> ServerModule:
    """The module that runs in the session. Raises `Misconfigured`, or `Unavailable` where a package that it needs is missing."""
    return cast("ServerModule", _find(name, "server", "serve"))


def client(name: str) -> ClientModule:
    """The module that runs in aeclient. Raises as `server` does."""
    return cast("ClientModule", _find(name, "client", "credentials"))


def check(name: str) -> CheckModule:
    """The module that runs in the checker. Raises as `server` does."""
    return cast("CheckModule", _find(name, "check", "check"))


def _find(name: str, side: str, entry: str) -> object:
    _validate(name)
    package = f"{aed.auth.__name__}.{name.replace('-', '_')}"
    module = _import(package, side, name)
    if module is None:
        target = _entry_point(name)
        module = _import(target, side, name) if target else None
    if module is None:
        raise Misconfigured(f"unknown authentication mechanism {name}; known are {', '.join(_known())}")
    if not callable(getattr(module, entry, None)):
        raise Misconfigured(f"mechanism {name}: {module.__name__} has no function {entry}")
    return module


def _validate(name: str) -> None:
    """Before the name becomes a module's: `[a-z][a-z0-9]*(-[a-z0-9]+)*`, without the cost of re."""
    words = name.split("-")
    if len(name) > MAX_NAME or not name.isascii() or not name[:1].isalpha() or name != name.lower() or not all(map(str.isalnum, words)):
        raise Misconfigured(f"{name[:MAX_NAME]!a} is no name of an authentication mechanism: lower-case letters, digits and single hyphens")


def _import(package: str, side: str, name: str) -> Any:
    """The module `package.side`, or None where there is no such package."""
    wanted = f"{package}.{side}"
    try:
        __import__(wanted)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == package or package.startswith(f"{missing}."):
            return None
        if missing == wanted:
            raise Misconfigured(f"mechanism {name} has no {side} side: there is no module {wanted}") from None
        raise Unavailable(f"mechanism {name} needs the Python package {missing.partition('.')[0]}, which is not installed here") from None
    return sys.modules[wanted]


def _entry_point(name: str) -> str | None:
    from importlib.metadata import entry_points

    found = {point.module for point in entry_points(group=GROUP, name=name)}
    if len(found) > 1:
        raise Misconfigured(f"mechanism {name} is provided more than once: {', '.join(sorted(found))}")
    return found.pop() if found else None


def _known() -> list[str]:
    from importlib.metadata import entry_points

    built_in = {
        entry.name.replace("_", "-")
        for path in aed.auth.__path__
        for entry in os.scandir(path)
        if entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py"))
    }
    return sorted(built_in | {point.name for point in entry_points(group=GROUP)})
