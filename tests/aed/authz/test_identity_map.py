"""The identity map against the accounts of this machine."""

from __future__ import annotations

import os
import pwd

import pytest

from aed.authz.identity_map import map_identity
from aed.config import MapRule
from aed.errors import Denied
from aed.model import Evidence, Identity

# Accounts that every Unix has; map_identity asks only whether they exist, check_account whether they may log in.
ONE, OTHER = "daemon", "nobody"


def rule(kind: str, pattern: str, *accounts: str, number: int = 1) -> MapRule:
    return MapRule(name=f"identity_map[{number}] {kind} {pattern}", kind=kind, pattern=pattern, accounts=accounts)  # type: ignore[arg-type]


def x509(name: str, own: str | None = None) -> Evidence:
    return Evidence(identity=Identity(mechanism="x509", name=name), own_account=own)


def mapped(rules: list[MapRule], evidence: Evidence, requested: str = "") -> tuple[str, str]:
    decision = map_identity(rules, evidence, requested)
    assert decision.account.name == decision.account_name
    assert decision.account.uid == pwd.getpwnam(decision.account_name).pw_uid
    return decision.account_name, decision.rule


def test_the_first_rule_that_matches_decides() -> None:
    rules = [rule("exact", "x509:/CN=Bob", ONE), rule("prefix", "x509:/CN=B", OTHER, number=2), rule("prefix", "x509:", ONE, number=3)]
    assert mapped(rules, x509("/CN=Bob")) == (ONE, "identity_map[1] exact x509:/CN=Bob")
    assert mapped(rules, x509("/CN=Bobby")) == (OTHER, "identity_map[2] prefix x509:/CN=B")
    assert mapped(rules, x509("/CN=Carl")) == (ONE, "identity_map[3] prefix x509:")


def test_a_later_rule_gives_nothing_that_the_first_refuses() -> None:
    rules = [rule("exact", "x509:/CN=Bob", ONE), rule("prefix", "x509:", OTHER, number=2)]
    with pytest.raises(Denied, match=f"may not use account '{OTHER}', only '{ONE}'"):
        map_identity(rules, x509("/CN=Bob", own=OTHER), OTHER)


def test_the_account_asked_for_must_be_permitted_by_the_rule() -> None:
    rules = [rule("exact", "x509:/CN=Bob", ONE, OTHER)]
    assert mapped(rules, x509("/CN=Bob"))[0] == ONE
    assert mapped(rules, x509("/CN=Bob"), OTHER)[0] == OTHER
    with pytest.raises(Denied, match="may not use account 'root'"):
        map_identity(rules, x509("/CN=Bob"), "root")


def test_groups_of_a_regex_make_the_account() -> None:
    rules = [rule("regex", r"x509:/OU=([a-z]*)/CN=(x)?.*", r"\1")]
    assert mapped(rules, x509(f"/OU={ONE}/CN=")) == (ONE, rules[0].name)
    two = [rule("regex", r"x509:/A=(dae)/B=(mon)", r"\1\2")]
    assert mapped(two, x509("/A=dae/B=mon"))[0] == ONE


def test_a_regex_must_match_the_whole_identity() -> None:
    rules = [rule("regex", "x509:/CN=Bob", ONE)]
    for name in ("/CN=Bob/CN=Eve", "/CN=Bob\n", " /CN=Bob"):
        with pytest.raises(Denied):
            map_identity(rules, x509(name))


@pytest.mark.parametrize("name", ["", "root", "-1", "0", "4294967295", "-x", "../etc", "nosuchaccount", "%u", "$(id)", "a b", "é", "Root "])
def test_a_mapping_that_yields_no_account_is_a_refusal(name: str) -> None:
    with pytest.raises(Denied):
        map_identity([rule("regex", "x509:(.*)", r"\1")], x509(name))
    with pytest.raises(Denied):
        map_identity([], x509("/CN=Bob", own=name))


def test_a_group_that_took_no_part_is_a_refusal() -> None:
    with pytest.raises(Denied, match="which is no account"):
        map_identity([rule("regex", "x509:(a)?b", r"\1")], x509("b"))


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\udc80", "\u202e", "x" * 4096])
def test_an_identity_with_odd_characters_or_without_end_matches_nothing(name: str) -> None:
    with pytest.raises(Denied, match="no rule is tried"):
        map_identity([rule("prefix", "x509:", ONE)], x509(name))


def test_own_account_holds_only_where_no_rule_matches_and_only_itself() -> None:
    assert mapped([], x509("/CN=Bob", own=ONE)) == (ONE, "own_account")
    assert mapped([], x509("/CN=Bob", own=ONE), ONE) == (ONE, "own_account")
    assert mapped([rule("prefix", "x509:", OTHER)], x509("/CN=Bob", own=ONE))[0] == OTHER
    with pytest.raises(Denied, match="may not use account"):
        map_identity([], x509("/CN=Bob", own=ONE), OTHER)
    with pytest.raises(Denied, match="no rule of this node's identity map matches x509:/CN=Bob"):
        map_identity([], x509("/CN=Bob"))


def test_root_is_only_the_caller_of_the_portless_node_and_never_by_a_rule() -> None:
    assert map_identity([], x509("a", own="root"), allow_caller_root=True).account.uid == 0
    with pytest.raises(Denied, match="nobody may log in as root"):
        map_identity([], x509("a", own="root"))
    with pytest.raises(Denied, match="nobody may log in as root"):
        map_identity([rule("prefix", "x509:", "root")], x509("a"), allow_caller_root=True)


@pytest.mark.root
def test_root_by_another_name_is_root(toor: str) -> None:
    with pytest.raises(Denied, match="nobody may log in as root"):
        map_identity([rule("prefix", "x509:", toor)], x509("a"))
    assert os.getuid() == 0
