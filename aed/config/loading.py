"""From a file to a checked, frozen `Config`.

Lives here: `Config`, `load`, `faults`. Must not live here: looks at the machine (aed.checks), any option (they stand in aed.config.table).
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aed.config import identity_rules
from aed.config.identity_rules import MapRule
from aed.config.lines import Document, Path, read
from aed.config.option import BadValue, Fault, Option
from aed.config.table import OPTIONS
from aed.errors import Misconfigured

DEFAULT_DIRECTORY = "/etc/aed"
"""Relative paths are taken from the directory of the file, or from here where there is none."""

_TABLES = frozenset(option.key.partition(".")[0] for option in OPTIONS if "." in option.key)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option with its value and where it came from. Never changed: a reload makes a new one."""

    file: str | None
    options: Mapping[str, Option]
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    identity_map: tuple[MapRule, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def source(self, key: str) -> str:
        """`default`, `file:line`, or what `load` was told of its overrides."""
        return self.sources[key]

    def mechanism_options(self, name: str) -> Mapping[str, Any]:
        """The section [name] of a mechanism, keys without the section."""
        start = f"{name}."
        return MappingProxyType({key[len(start) :]: value for key, value in self.values.items() if key.startswith(start)})


def load(
    path: str | None,
    extra_options: Mapping[str, Sequence[Option]] = MappingProxyType({}),
    overrides: Mapping[str, object] = MappingProxyType({}),
    overrides_from: str = "command line",
) -> Config:
    """The configuration in `path`, or all defaults if that is None. `extra_options` are the mechanisms' own, by section; `overrides` are values
    by full key, written as in the file, which win over it. Raises `Misconfigured` with every fault, one a line."""
    config, wrong = _load(path, extra_options, overrides, overrides_from)
    if wrong:
        raise Misconfigured("\n".join(map(str, wrong)))
    return config


def faults(path: str | None, extra_options: Mapping[str, Sequence[Option]] = MappingProxyType({})) -> list[Fault]:
    """All that `load` would complain of."""
    return _load(path, extra_options, {}, "")[1]


def mechanisms_named(path: str | None) -> tuple[str, ...]:
    """The mechanisms that `authentication` names, to find their OPTIONS before `load`. Complains of nothing: `load` will."""
    option = next(option for option in OPTIONS if option.key == "authentication")
    document = read(path) if path else None
    raw = document.data.get("authentication", option.default) if isinstance(document, Document) else option.default
    try:
        names: tuple[str, ...] = option.value(raw, "/")
    except BadValue:
        names = option.value(option.default, "/")
    return names


def line_of(path: str | None, key: str) -> int:
    """The line of `path` that sets a key of the first level; 0 where none does."""
    document = read(path) if path else None
    return document.line((key,)) if isinstance(document, Document) and key in document.data else 0


def _load(
    path: str | None, extra_options: Mapping[str, Sequence[Option]], overrides: Mapping[str, object], overrides_from: str
) -> tuple[Config, list[Fault]]:
    declared = {option.key: option for option in OPTIONS}
    declared |= {f"{name}.{option.key}": option for name, section in extra_options.items() for option in section}
    base = os.path.dirname(os.path.abspath(path)) if path else DEFAULT_DIRECTORY
    values = {key: option.value(option.default, base) for key, option in declared.items()}
    sources = dict.fromkeys(declared, "default")
    wrong: list[Fault] = []
    document = read(path) if path else Document(file="", data={}, lines={})
    if isinstance(document, Fault):
        wrong.append(document)
        document = Document(file=document.file, data={}, lines={})
    for place, key, raw in _leaves(document.data, _TABLES | set(extra_options)):
        if key not in declared:
            wrong.append(document.fault(place, _unknown(key, raw, declared)))
            continue
        try:
            values[key] = declared[key].value(raw, base)
            sources[key] = f"{document.file}:{document.line(place)}"
        except BadValue as error:
            wrong.append(document.fault(place, str(error)))
    for key, raw in overrides.items():
        try:
            if key not in declared:
                raise BadValue(_unknown(key, raw, declared))
            values[key] = declared[key].value(raw, os.getcwd())
            sources[key] = overrides_from
        except BadValue as error:
            wrong.append(Fault(file=overrides_from, line=0, key=key, what=str(error)))
    rules, rule_faults = identity_rules.parse(document)
    wrong += rule_faults
    wrong += [document.fault(tuple(key.split(".")), what) for key, what in _together(values)]
    wrong.sort(key=lambda fault: fault.line)
    # What stands for something else is resolved here, once, so that nobody reads the raw value by mistake.
    values["local_socket"] = values["local_socket"] or os.path.join(values["runtime_directory"], "local.sock")
    values["node_name"] = values["node_name"] or socket.gethostname()
    config = Config(
        file=path, options=MappingProxyType(declared), values=MappingProxyType(values), sources=MappingProxyType(sources), identity_map=rules
    )
    return config, wrong


def _leaves(data: Mapping[str, Any], tables: Iterable[str]) -> Iterator[tuple[Path, str, object]]:
    """Each value of the file with its path and full key; a table that no section is known for counts as one value."""
    known = set(tables)
    for name, raw in data.items():
        if name == "identity_map":
            continue
        if name in known and isinstance(raw, dict):
            for inner, value in raw.items():
                yield (name, inner), f"{name}.{inner}", value
        else:
            yield (name,), name, raw


def _unknown(key: str, raw: object, declared: Mapping[str, Option]) -> str:
    sections = {known.partition(".")[0] for known in declared if "." in known}
    if key in sections:
        return f"is a section, not an option; write [{key}] on a line of its own"
    if isinstance(raw, dict):
        near = difflib.get_close_matches(key, [*sections, "identity_map"], n=1)
        hint = f"did you mean [{near[0]}]?" if near else "a mechanism's section is known only while `authentication` names it"
        return f"is an unknown section; {hint}"
    # The right name in the wrong section is nearer than a wrong name that looks like it.
    name = key.rpartition(".")[2]
    near = [known for known in declared if known.rpartition(".")[2] == name] or difflib.get_close_matches(key, declared, n=1)
    return f"is an unknown option; did you mean {near[0]}?" if near else "is an unknown option; `aed --print-config` lists all"


def _together(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with values that are right one by one."""
    for here, other in (("tls.certificate", "tls.key"), ("tls.key", "tls.certificate")):
        if values[here] and not values[other]:
            yield here, f"needs {other} as well; set both or none"
    if values["accounts.minimum_uid"] > values["accounts.maximum_uid"]:
        yield "accounts.minimum_uid", "is above accounts.maximum_uid; write the smaller number here"
