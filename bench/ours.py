"""Ours: a real aed from a root-owned prefix, the same node that the tests start.

Lives here: its configuration for the benchmark, the words that start its client. Must not live here: measuring.
"""

from __future__ import annotations

from tests.support.machine import TestAccount
from tests.support.node import GROUP, Node, default_groups
from tests.support.prefix import Prefix


class Aed:
    """A running aed: publickey only, `default` sandbox, limits raised as sshd's are; rings and acknowledgements as always."""

    label = "aed"

    def __init__(self, prefix: Prefix, account: TestAccount) -> None:
        config = {
            "authentication": ["publickey"],
            "limits": {"max_unauthenticated": 1000, "max_sessions": 1000, "max_workers": 1000},
            "sandbox": {"profiles": ["default"]},
        }
        self._node = Node(prefix, [account], config=config, groups=default_groups([account], max_workers=1000)).start()
        self.box = self._node.box
        # Pins the node's identity, as ssh's known_hosts is written for it.
        done = self._node.client(account, "--group", GROUP, "--", "true")
        if done.returncode:
            self._node.end()
            raise AssertionError(f"the first session fails with {done.returncode}: {done.stderr.decode(errors='replace')}")

    def client(self, account: TestAccount, *command: str) -> list[str]:
        """`aeclient` for this account, strict about the node's identity."""
        return [*self._node.arguments(account), "--group", GROUP, "--", *command]

    def client_with_workers(self, account: TestAccount, workers: int, *command: str) -> list[str]:
        """The same with this many workers in the one session."""
        return [*self._node.arguments(account), "--group", GROUP, "--workers", str(workers), "--", *command]

    def close(self) -> None:
        self._node.stop()
