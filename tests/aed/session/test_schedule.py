"""When a failure is answered and what it says (SECURITY 10, 12): the same for every reason, under a clock moved by hand."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.errors import RemoteError
from aed.session.login import Over
from aed.session.schedule import MINIMUM, USER_PART, failure_delay
from aed.wire.messages import AuthAbort, AuthChallenge, AuthFailed, AuthRequest, AuthResponse, Message, Welcome
from aed.wire.states import AUTHENTICATE
from tests.aed.session.exchange import HELLO, Stage, replay

KEY = b"k" * 32
USERS = st.text(max_size=20)
LEAST = 0.005


@given(USERS, st.floats(0, 10))
def test_never_before_the_minimum_nor_before_now(user: str, elapsed: float) -> None:
    delay = failure_delay(user, KEY, elapsed)
    assert delay >= max(LEAST, MINIMUM, elapsed)
    assert delay < max(2 * elapsed, MINIMUM + USER_PART + 1e-9)


@given(USERS, st.lists(st.floats(0, MINIMUM), max_size=5))
def test_how_long_the_work_took_does_not_show(user: str, elapsed: list[float]) -> None:
    assert len({failure_delay(user, KEY, spent) for spent in [0.0, *elapsed]}) == 1


@given(USERS, st.floats(0, 10))
def test_slow_work_is_answered_at_one_of_few_moments(user: str, elapsed: float) -> None:
    steps = failure_delay(user, KEY, elapsed) / failure_delay(user, KEY, 0)
    assert steps in {2.0**power for power in range(20)}


@pytest.mark.parametrize("user", ["", "alice", "é" * 300, "\ud800", "a\0b", "x" * 65536])
def test_any_name_has_its_delay(user: str) -> None:
    assert failure_delay(user, KEY, 0) == failure_delay(user, KEY, 0) >= LEAST


def test_the_users_part_is_the_users_and_the_keys() -> None:
    delays = {failure_delay(f"user{number}", key, 0) for number, key in itertools.product(range(50), (KEY, b"other" * 8))}
    assert len(delays) == 100
    assert max(delays) - min(delays) > USER_PART / 2
    assert max(delays) <= MINIMUM + USER_PART


# The login itself.


Make = Callable[..., Stage]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(tries: int = 6) -> Stage:
            made = Stage(tmp_path, tries=tries)
            stack.callback(made.close)
            return made

        yield make


def request(mechanism: str, user: str) -> AuthRequest:
    return AuthRequest(user=user, named=True, groups=(), mechanism=mechanism, data=b"data")


REASONS: dict[str, tuple[str, list[Message]]] = {
    "a mechanism that is not configured": ("password", []),
    "declined at once": ("declines", []),
    "declined after an answer": ("asks", [AuthResponse(data=b"x" * 60_000)]),
    "given up": ("asks", [AuthAbort()]),
}
ACCOUNTS = {"present": "root", "absent": "nobody-has-this-name", "impossible": "../x", "empty": ""}


def fail(stage: Make, mechanism: str, then: list[Message], user: str, takes: float = 0.0) -> tuple[float, list[Message]]:
    """Seconds from the attempt to its answer, and the answers after Welcome."""
    one = stage()
    one.mechanisms.takes = takes
    said = [HELLO, request(mechanism, user), *then]
    one.say(*said)
    before = one.hands.now
    error = one.run()
    assert isinstance(error, Over), error
    heard = one.heard()
    assert replay(said, heard) == AUTHENTICATE
    assert isinstance(heard[0], Welcome)
    spent = one.hands.now - before
    return spent, [message for message in heard[1:] if not isinstance(message, AuthChallenge)]


@pytest.mark.parametrize("user", ACCOUNTS.values(), ids=list(ACCOUNTS))
@pytest.mark.parametrize("takes", [0.0, 0.0001, MINIMUM / 2, MINIMUM])
def test_every_reason_is_answered_alike_and_at_the_same_moment(stage: Make, user: str, takes: float) -> None:
    wanted = failure_delay(user, KEY, 0)
    for mechanism, then in REASONS.values():
        spent, heard = fail(stage, mechanism, list(then), user, takes)
        assert spent == pytest.approx(wanted, abs=1e-9)
        assert heard == [AuthFailed(mechanisms=("declines", "asks", "proves"), text="")]


def test_work_that_took_longer_is_answered_on_the_doubled_moment(stage: Make) -> None:
    wanted = failure_delay("alice", KEY, 0)
    spent, _ = fail(stage, "declines", [], "alice", wanted * 1.5)
    assert spent == pytest.approx(2 * wanted, abs=1e-9)


def test_a_proved_identity_is_told_and_waits_as_long(stage: Make) -> None:
    spent, heard = fail(stage, "proves", [], "nobody-has-this-name")
    assert spent == pytest.approx(failure_delay("nobody-has-this-name", KEY, 0), abs=1e-9)
    (failed,) = heard
    assert isinstance(failed, AuthFailed)
    assert failed.text


@pytest.mark.parametrize("reason", REASONS.values(), ids=list(REASONS))
@pytest.mark.parametrize("tries", [1, 3, 6])
def test_every_try_counts_given_up_ones_too(stage: Make, reason: tuple[str, list[Message]], tries: int) -> None:
    mechanism, then = reason
    one = stage(tries=tries)
    one.say(HELLO)
    for _ in range(tries + 3):
        one.say(request(mechanism, "alice"), *then)
    over = one.run()
    assert isinstance(over, Over)
    assert over.reason == "too many tries"
    assert sum(isinstance(message, AuthFailed) for message in one.heard()) == tries - 1
    assert len(one.hands.slept) == tries, "the last one waits as well"


@pytest.mark.parametrize("change", [{"user": "bob"}, {"groups": ("top",)}, {"named": False}], ids=str)
def test_who_and_for_what_may_not_change(stage: Make, change: dict[str, object]) -> None:
    """SECURITY 7."""
    one = stage()
    first = request("declines", "alice")
    one.say(HELLO, first, AuthRequest(**{**first.__dict__, **change}))
    error = one.run()
    assert isinstance(error, RemoteError)
    assert "changed during the exchange" in str(error)
