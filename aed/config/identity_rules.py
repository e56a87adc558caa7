"""The [[identity_map]] tables as rules.

Lives here: `MapRule` and its parser. Must not live here: applying the rules (aed.authz.identity_map).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aed.config.lines import Document, Path
from aed.config.option import Fault
from aed.config.table import ACCOUNT_NAME

_KINDS: tuple[Literal["exact", "prefix", "regex"], ...] = ("exact", "prefix", "regex")
_KEYS = (*_KINDS, "account", "accounts")
GROUP_REFERENCE = re.compile(r"\\([1-9])")
"""A group of a regex rule in an account's name. Only these nine: less to get wrong than all that `re` would expand."""


@dataclass(frozen=True, kw_only=True)
class MapRule:
    """An identity that `pattern` matches may enter `accounts`, the first if it asks for none. `name` goes into the audit record."""

    name: str
    kind: Literal["exact", "prefix", "regex"]
    pattern: str
    accounts: tuple[str, ...]


def parse(document: Document) -> tuple[tuple[MapRule, ...], list[Fault]]:
    """The rules in the order of the file, and what is wrong with them."""
    tables = document.data.get("identity_map", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return (), [document.fault(("identity_map",), "is not a list of tables; write each rule below a line [[identity_map]]")]
    rules, faults = [], []
    for index, table in enumerate(tables):
        wrong = list(_faults(table))
        faults += [document.fault(("identity_map", index, *path), what) for path, what in wrong]
        if not wrong:
            rules.append(_rule(index, table))
    return tuple(rules), faults


def _rule(index: int, table: dict[str, Any]) -> MapRule:
    kind = next(kind for kind in _KINDS if kind in table)
    accounts = (table["account"],) if "account" in table else tuple(table["accounts"])
    return MapRule(name=f"identity_map[{index + 1}] {kind} {table[kind]}", kind=kind, pattern=table[kind], accounts=accounts)


def _faults(table: dict[str, Any]) -> Sequence[tuple[Path, str]]:
    faults: list[tuple[Path, str]] = [
        ((key,), f"is unknown; a rule has one of {', '.join(_KINDS)} and account or accounts") for key in table if key not in _KEYS
    ]
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        faults.append(((), f"has {len(kinds)} patterns; write exactly one of exact, prefix, regex"))
    if ("account" in table) == ("accounts" in table):
        faults.append(((), 'must have either account = "name" or accounts = ["name", …]'))
    groups = 0
    for kind in kinds:
        complaint, groups = _pattern_fault(kind, table[kind])
        if complaint:
            faults.append(((kind,), complaint))
    accounts = [table["account"]] if "account" in table else table.get("accounts", [])
    key = "account" if "account" in table else "accounts"
    if not isinstance(accounts, list) or ("accounts" in table and not accounts):
        return [*faults, ((key,), 'is not a list of accounts; write one or more, as ["alice"]')]
    faults += [((key,), complaint) for account in accounts if (complaint := _account_fault(account, groups))]
    return faults


def _pattern_fault(kind: str, pattern: object) -> tuple[str | None, int]:
    if not isinstance(pattern, str) or ":" not in pattern or not pattern.isprintable():
        return 'is not a pattern for an identity; write mechanism:name, as "x509:/DC=ch/CN=Bob"', 0
    if kind != "regex":
        return None, 0
    try:
        return None, re.compile(pattern).groups
    except re.error as error:
        return f"is not a regular expression ({error}); correct it, or use exact or prefix", 0


def _account_fault(account: object, groups: int) -> str | None:
    if not isinstance(account, str) or not account:
        return "is not an account's name; write a string"
    if account == "root":
        return "is root, and nobody may log in as root; name another account"
    if any(int(number) > groups for number in GROUP_REFERENCE.findall(account)):
        return f"{account!r} uses a group that the pattern has not; it has {groups}"
    # A group may stand anywhere, so the rest is tried with a plain letter in its place.
    if not ACCOUNT_NAME.fullmatch(GROUP_REFERENCE.sub("a", account)):
        return f"{account!r} cannot be an account; write a name, as \"alice\", or with groups of a regex, as '\\1'"
    return None
