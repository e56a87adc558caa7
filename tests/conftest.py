"""Markers, the deadline of each test, the rule that CI skips nothing, and the fixtures of whole-system tests.

Lives here: what pytest needs. Must not live here: how accounts, prefixes and nodes are made (tests/support), since the benchmark makes them too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any

import pytest

from tests.support import machine, prefix
from tests.support.node import Node

DEADLINES = {"setup": 300.0, "call": 60.0, "teardown": 120.0}
"""Seconds for each phase of a test; `@pytest.mark.deadline(seconds)` sets that of the call."""
NO_SKIPS = os.environ.get("AED_NO_SKIPS") == "1"


class TestTookTooLong(BaseException):
    """Not an Exception: no `except Exception` of what is tested, and no shrinking by hypothesis, may hold it up."""

    __test__ = False


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs root: real accounts, a real privileged daemon")
    config.addinivalue_line("markers", "site: needs a whole site (KDC, VOMS, systemd tree) or long faults; run by `make test-site`")
    config.addinivalue_line("markers", "deadline(seconds): how long the test may take, if not 60 s")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root: run `sudo make test`"))


def _deadline(item: pytest.Item, phase: str) -> Generator[None, object, object]:
    marker = item.get_closest_marker("deadline") if phase == "call" else None
    seconds = float(marker.args[0]) if marker else DEADLINES[phase]

    def passed(number: int, frame: FrameType | None) -> None:
        raise TestTookTooLong(f"{phase} of {item.nodeid} took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, passed)
    # Again and again, should something swallow the first. No watchdog thread: tests fork, and a fork should have one thread.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _deadline(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _deadline(item, "call"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _deadline(item, "teardown"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure, and so is an expected failure: what a test needs is installed, and what fails is mended or taken out."""
    report = yield
    if NO_SKIPS and (report.skipped or hasattr(report, "wasxfail")):
        why = getattr(report, "wasxfail", None) or _reason(report)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped or expected to fail, and CI permits neither: {why}"
        if hasattr(report, "wasxfail"):
            del report.wasxfail
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped as a whole, and CI does not permit it: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture(scope="session")
def test_machine() -> Iterator[None]:
    """The machine, cleared of what killed runs left, with the user `aed`."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run `sudo make test`")
    with machine.run_on_this_machine():
        yield


@pytest.fixture(scope="session", name="prefix")
def prefix_fixture(test_machine: None) -> Iterator[prefix.Prefix]:
    """This tree's wheel, installed as an administrator would: root-owned, readable by all, with the daemon extra."""
    with prefix.installed() as made:
        yield made


@pytest.fixture(scope="session")
def accounts(test_machine: None) -> Iterator[machine.Accounts]:
    """`accounts.new()` makes a throwaway account of the test's own. They go when the run ends."""
    made = machine.Accounts()
    yield made
    made.close()


@pytest.fixture(scope="session")
def account(accounts: machine.Accounts) -> machine.TestAccount:
    """One account for all tests that do not change its home."""
    return accounts.new()


@pytest.fixture
def node(prefix: prefix.Prefix, account: machine.TestAccount) -> Iterator[Callable[..., Node]]:
    """`node(config={…}, groups={…}, accounts=[…])` starts a real root daemon and returns once it is ready; `account` is a member of group higgs
    unless `accounts` or `groups` say otherwise. When the test ends each must have gone without a trace."""
    running: list[Node] = []

    def start(*, accounts: list[machine.TestAccount] | None = None, **options: Any) -> Node:
        made = Node(prefix, accounts or [account], **options)
        running.append(made)
        return made.start()

    yield start
    faults = [fault for made in reversed(running) for fault in made.end()]
    if faults:
        pytest.fail("a node did not end cleanly:\n" + "\n".join(faults), pytrace=False)
