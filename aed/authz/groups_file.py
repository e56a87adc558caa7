"""groups.toml: the static groups, and which of them a login enters.

Lives here: `load_groups`, `decide`, `any_label`. Must not live here: accounts, identities' proofs, a database.

    [groups.higgs]
    members = ["alice", "x509:/DC=ch/CN=Bob"]    # accounts, or mechanism:identity
    managers = ["carol"]                         # members too
    [users]
    alice = "higgs"                              # her group if she asks for none
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aed.config import ACCOUNT_NAME, PROFILES
from aed.config.lines import Path, read
from aed.config.option import Fault
from aed.errors import Denied, Misconfigured
from aed.model import Account, Group, Identity

GROUP_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_MAX_REQUESTED = 64
_KEYS = ("members", "managers", "max_workers", "profiles", "start_program")


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All groups in the order of the file, and each user's default."""

    groups: tuple[Group, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)

    def of(self, account_name: str, identity: Identity) -> tuple[str, ...]:
        """The names of the groups that the account or the identity is a member or manager of."""
        return tuple(group.name for group in self.groups if _why(group, account_name, identity) is not None)

    def get(self, name: str) -> Group | None:
        """The group called `name`."""
        return next((group for group in self.groups if group.name == name), None)


@dataclass(frozen=True, kw_only=True)
class GroupDecision:
    """The group that a login enters, the rule that gave it, all groups of the user, and what was asked for in vain."""

    group: Group
    rule: str
    all_groups: tuple[str, ...]
    denied: tuple[str, ...]


def decide(groups: Groups, account_name: str, identity: Identity, requested: tuple[str, ...] = ()) -> GroupDecision:
    """The first of `requested` that is permitted; where none is requested the user's default, else the first group that is permitted.

    Raises `Denied` naming the groups that the user has. An unknown group and another's are told apart to nobody.
    """
    mine = groups.of(account_name, identity)
    _check_requested(requested)
    if not mine:
        raise Denied(f"account {account_name} is in no group of this node; ask a group's manager or the administrator")
    denied = tuple(dict.fromkeys(name for name in requested if name not in mine))
    if requested:
        name = next((name for name in requested if name in mine), None)
        if name is None:
            raise Denied(f"not permitted in {', '.join(denied)}; your groups are {', '.join(mine)}")
    else:
        defaults = (groups.defaults.get(key) for key in (account_name, str(identity)))
        name = next((default for default in defaults if default in mine), mine[0])
    group = next(group for group in groups.groups if group.name == name)
    return GroupDecision(group=group, rule=f"groups.{name}.{_why(group, account_name, identity)}", all_groups=mine, denied=denied)


def any_label(account: Account, requested: tuple[str, ...] = ()) -> GroupDecision:
    """The embedded node has no groups: any valid name is a label, `default` if none is asked for."""
    _check_requested(requested)
    name = requested[0] if requested else "default"
    group = Group(name=name, members=frozenset({account.name}), profiles=("default", "strict", "none"))
    return GroupDecision(group=group, rule="label", all_groups=(name,), denied=())


def load_groups(path: str) -> Groups:
    """The groups in `path`. Raises `Misconfigured` with every fault, one a line."""
    groups, faults = parse(path)
    if faults:
        raise Misconfigured("\n".join(map(str, faults)))
    return groups


def parse(path: str) -> tuple[Groups, list[Fault]]:
    """The groups in `path`, and what is wrong there."""
    document = read(path)
    if isinstance(document, Fault):
        return Groups(), [document]
    wrong = list(_faults(document.data))
    if wrong:
        return Groups(), sorted((document.fault(place, what) for place, what in wrong), key=lambda fault: fault.line)
    groups = tuple(_group(name, table) for name, table in document.data.get("groups", {}).items())
    return Groups(groups=groups, defaults=dict(document.data.get("users", {}))), []


def _check_requested(requested: tuple[str, ...]) -> None:
    if len(requested) > _MAX_REQUESTED:
        raise Denied(f"{len(requested)} groups were asked for; ask for at most {_MAX_REQUESTED}")
    for name in requested:
        if not GROUP_NAME.fullmatch(name):
            raise Denied(f"{name[:80]!a} is not a group's name; names are a small letter, then up to 63 of a-z 0-9 _ . -")


def _why(group: Group, account_name: str, identity: Identity) -> str | None:
    """Which entry makes the user a member."""
    # An account's name has no colon and an identity has one, so neither can pose as the other.
    for who in (account_name, str(identity)):
        if who in group.managers:
            return f"managers {who}"
        if who in group.members:
            return f"members {who}"
    return None


def _group(name: str, table: dict[str, Any]) -> Group:
    given: dict[str, Any] = {key: table[key] for key in ("max_workers", "start_program") if key in table}
    given |= {key: frozenset(table[key]) for key in ("members", "managers") if key in table}
    if "profiles" in table:
        given["profiles"] = tuple(table["profiles"])
    return Group(name=name, **given)


def _faults(data: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in data:
        if key not in ("groups", "users"):
            yield (key,), "is unknown; this file has [groups.NAME] tables and [users]"
    for section in ("groups", "users"):
        if not isinstance(data.get(section, {}), dict):
            yield (section,), f"is not a table; write [{'groups.NAME' if section == 'groups' else 'users'}]"
            return
    for name, table in data.get("groups", {}).items():
        if not GROUP_NAME.fullmatch(name):
            yield ("groups", name), "is not a group's name; write a small letter, then up to 63 of a-z 0-9 _ . -"
        if not isinstance(table, dict):
            yield ("groups", name), f"is not a table; write [groups.{name}]"
            continue
        for key, value in table.items():
            complaint = _value_fault(key, value)
            if complaint:
                yield ("groups", name, key), complaint
    for user, default in data.get("users", {}).items():
        if not _is_member(user):
            yield ("users", user), 'is neither an account nor mechanism:identity; write alice = "higgs"'
        if not isinstance(default, str) or default not in data.get("groups", {}):
            yield ("users", user), "does not name a group of this file; write one"


def _value_fault(key: str, value: object) -> str | None:
    if key in ("members", "managers"):
        if not isinstance(value, list):
            return 'is not a list; write accounts or identities, as ["alice", "x509:/DC=ch/CN=Bob"]'
        wrong = next((item for item in value if not _is_member(item)), None)
        return None if wrong is None else f'{wrong!a} is neither an account nor mechanism:identity; write "alice" or "x509:/DC=ch/CN=Bob"'
    if key == "max_workers":
        right = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100_000
        return None if right else "is not a number of workers; write a whole number from 1 to 100000"
    if key == "profiles":
        right = isinstance(value, list) and bool(value) and all(item in PROFILES for item in value)
        return None if right else 'is not a list of sandbox profiles; write some of "none", "default", "strict", the default first'
    if key == "start_program":
        right = isinstance(value, str) and value.startswith("/") and value.isprintable()
        return None if right else "is not a program; write its absolute path"
    return f"is unknown; a group has {', '.join(_KEYS)}"


def _is_member(item: object) -> bool:
    if not isinstance(item, str):
        return False
    mechanism, colon, name = item.partition(":")
    if not colon:
        return bool(ACCOUNT_NAME.fullmatch(item))
    return bool(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", mechanism)) and bool(name) and name.isprintable()
