"""What a one-shot client really loads, asked of a real one: its start is most of its time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.machine import TestAccount
from tests.support.node import GROUP, Node
from tests.test_floors import COSTLY

pytestmark = pytest.mark.root


def test_a_whole_one_shot_session_loads_nothing_costly(node: Callable[..., Node], account: TestAccount) -> None:
    running = node()
    first = running.client(account, "--group", GROUP, "--", "true")
    assert first.returncode == 0, first.stderr
    script, *options = running.arguments(account)
    done = account.run(running.prefix.python, "-X", "importtime", script, *options, "--group", GROUP, "--", "true")
    assert done.returncode == 0, done.stderr
    # import time:      self [us] | cumulative | imported package
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines() if line.startswith("import time:")}
    assert "aeclient.cli" in loaded
    assert not loaded & set(COSTLY)
