"""From a proved identity to the account that it may enter.

Lives here: `map_identity`. Must not live here: parsing of rules (aed.config.identity_rules), whether the account may log in at all (accounts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aed.authz.accounts import lookup
from aed.config import MapRule
from aed.config.identity_rules import GROUP_REFERENCE
from aed.errors import Denied
from aed.model import Account, Evidence

_IDENTITY_LIMIT = 4096
"""Longer identities match nothing: a regular expression's time must not be in the hands of who chose the name."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The account that was decided on, and the rule that gave it, as the audit record names it."""

    account_name: str
    account: Account
    rule: str


def map_identity(
    rules: Sequence[MapRule], evidence: Evidence, requested: str = "", *, allow_caller_root: bool = False, known: Account | None = None
) -> Decision:
    """The account for `evidence`: the first rule that matches decides, and permits `requested` (or "" for its first account) or nothing.

    Where no rule matches, `evidence.own_account` is permitted, and only that. `allow_caller_root` is for the portless node of root itself.
    `known` is an account that was looked up in this login already: the name service may be slow.
    Raises `Denied` with a sentence for the proved identity.
    """
    identity = str(evidence.identity)
    if len(identity) > _IDENTITY_LIMIT or not identity.isprintable():
        raise Denied("this identity's name is too long or holds unprintable characters; no rule is tried on it")
    for rule in rules:
        permitted = _permitted(rule, identity)
        if permitted is not None:
            return _decide(identity, permitted, requested, rule.name, root=False, known=known)
    if evidence.own_account is not None:
        return _decide(identity, (evidence.own_account,), requested, "own_account", root=allow_caller_root, known=known)
    raise Denied(f"no rule of this node's identity map matches {identity}; ask its administrator for one")


def _permitted(rule: MapRule, identity: str) -> tuple[str, ...] | None:
    """The accounts that `rule` gives `identity`, or None if it does not match."""
    if rule.kind == "exact":
        return rule.accounts if identity == rule.pattern else None
    if rule.kind == "prefix":
        return rule.accounts if identity.startswith(rule.pattern) else None
    match = re.fullmatch(rule.pattern, identity)
    if match is None:
        return None
    groups = (None, *match.groups())
    # A group that took no part gives "", and with it most often a name that is no account: a refusal, as it should be.
    return tuple(GROUP_REFERENCE.sub(lambda found: groups[int(found[1])] or "", account) for account in rule.accounts)


def _decide(identity: str, permitted: tuple[str, ...], requested: str, rule: str, *, root: bool, known: Account | None) -> Decision:
    name = requested or permitted[0]
    if name not in permitted:
        raise Denied(f"{identity} may not use account {requested!a}, only {', '.join(map(ascii, permitted))}")
    account = known if known is not None and known.name == name else lookup(name)
    if account is None:
        raise Denied(f"{identity} is mapped to {name!a}, which is no account of this node")
    if account.name == "root" or account.uid == 0:
        if root:
            return Decision(account_name=account.name, account=account, rule=rule)
        raise Denied(f"{identity} is mapped to root, and nobody may log in as root")
    if account.uid == 0xFFFFFFFF:
        raise Denied(f"{identity} is mapped to {account.name}, whose uid is impossible")
    return Decision(account_name=account.name, account=account, rule=rule)
