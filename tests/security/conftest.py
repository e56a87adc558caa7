"""One node for the attacks of a module, with every profile, so that each can be tried from each.

Lives here: `running`. Must not live here: how a node is made (tests/support/node.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machine import Accounts, TestAccount
from tests.support.node import GROUP, Node
from tests.support.prefix import Prefix


@pytest.fixture(scope="session")
def attacker(accounts: Accounts) -> TestAccount:
    """An account whose authorized_keys the attacks change."""
    return accounts.new()


@pytest.fixture(scope="module")
def running(prefix: Prefix, account: TestAccount, attacker: TestAccount) -> Iterator[Node]:
    """Both accounts are in higgs (default, strict) and in plain (none)."""
    names = [account.name, attacker.name]
    groups = {"groups": {GROUP: {"members": names}, "plain": {"members": names, "profiles": ["none"]}}, "users": dict.fromkeys(names, GROUP)}
    made = Node(prefix, [account, attacker], groups=groups, config={"sandbox": {"profiles": ["default", "strict", "none"]}})
    try:
        yield made.start()
    finally:
        faults = made.end()
    assert not faults, "\n".join(faults)
