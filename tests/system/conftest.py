"""One node for all tests of a module that need no configuration of their own.

Lives here: `running`, and its proof after each test that nothing of it stays. Must not live here: how a node is made (tests/support/node.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import wait
from tests.support.machine import Accounts, TestAccount
from tests.support.node import GROUP, Node
from tests.support.prefix import Prefix


@pytest.fixture(scope="session")
def other(accounts: Accounts) -> TestAccount:
    """A second account."""
    return accounts.new()


@pytest.fixture(scope="session")
def victim(accounts: Accounts) -> TestAccount:
    """A third, which tests lock and mistreat; each puts it back."""
    return accounts.new()


@pytest.fixture(scope="module")
def module_node(prefix: Prefix, account: TestAccount, other: TestAccount, victim: TestAccount) -> Iterator[Node]:
    """`account` is in higgs, its default, and in few (two workers, no strict profile) and plain (profile none); `other` is in higgs
    and in susy; `victim` in higgs."""
    groups = {
        "groups": {
            "few": {"members": [account.name], "max_workers": 2, "profiles": ["default"]},
            GROUP: {"members": [account.name, other.name, victim.name]},
            "susy": {"members": [other.name]},
            "plain": {"members": [account.name], "profiles": ["none"]},
        },
        "users": {account.name: GROUP},
    }
    made = Node(prefix, [account, other, victim], groups=groups, config={"sandbox": {"profiles": ["default", "strict", "none"]}})
    try:
        yield made.start()
    finally:
        faults = made.end()
    assert not faults, "\n".join(faults)


@pytest.fixture
def running(module_node: Node) -> Iterator[Node]:
    """The module's node. After the test no session may be left of it, no directory of one, and no traceback."""
    before = len(module_node.stderr())
    yield module_node
    module_node.wait_idle()
    said = module_node.stderr()[before:]
    assert "Traceback" not in said, said
    sessions = module_node.runtime_directory / "sessions"
    wait.until(lambda: not list(sessions.iterdir()), f"{sessions} is empty")
