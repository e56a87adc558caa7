"""The session believes no word of the checker that it can check itself."""

from __future__ import annotations

from typing import Any

import pytest

from aed.auth.publickey import server
from aed.auth.publickey.messages import Offer, Proof, encode
from aed.errors import Declined
from aed.model import Account
from tests.aed.auth.driver import ME, Node, attempt

GOOD: dict[str, Any] = {
    "fingerprint": "SHA256:" + "a" * 43,
    "algorithm": "ssh-ed25519",
    "source": ".ssh/authorized_keys",
    "line": 1,
    "command": None,
    "environment": [["A", "1"]],
    "pty": True,
    "forwarding": True,
}
LIES: list[dict[str, Any]] = [
    {"fingerprint": None},
    {"fingerprint": "SHA256:" + "a" * 42},
    {"fingerprint": "SHA256:" + "a" * 43 + "\n"},
    {"algorithm": "x\n"},
    {"source": "/etc/passwd"},
    {"source": [".ssh/authorized_keys"]},
    {"line": True},
    {"line": 0},
    {"command": 7},
    {"command": "a\nb"},
    {"command": "x" * 8193},
    {"environment": None},
    {"environment": [["A"]]},
    {"environment": [["A=B", "1"]]},
    {"environment": [["A", "1\n"]]},
    {"environment": [[1, "1"]]},
    {"pty": 1},
    {"forwarding": None},
]


def node(answer: Any, account: Account | None = ME) -> Node:
    return Node(server.serve, lambda _: answer, attempt("publickey", account), files={".ssh/authorized_keys": b""})


def proof(_: bytes = b"") -> bytes:
    return encode(Proof(sshsig=b"x"))


def test_good_answer() -> None:
    evidence = node(GOOD).run(proof(), proof)
    assert evidence.restrictions.environment == (("A", "1"),)


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_lies(lie: dict[str, Any]) -> None:
    with pytest.raises(Declined, match="the checker"):
        node({**GOOD, **lie}).run(proof(), proof)


@pytest.mark.parametrize("answer", [None, [], {}, "x"])
def test_no_answer(answer: Any) -> None:
    with pytest.raises(Declined, match="the checker"):
        node(answer).run(proof(), proof)


@pytest.mark.parametrize("index", [-1, 1, True, None, "0", 0.0])
def test_index_of_no_offered_key(index: Any) -> None:
    with pytest.raises(Declined, match="chose no offered key"):
        node({"index": index}).run(encode(Offer(keys=(b"k",))), proof)


def test_absent_account_whatever_the_checker_says() -> None:
    with pytest.raises(Declined, match="no such account"):
        node(GOOD, None).run(proof(), proof)


def test_account_name_that_would_leave_the_directory() -> None:
    odd = Account(name="../root", uid=1, gid=1, groups=(1,), home="/", shell="/bin/sh")
    asked = node(GOOD, odd)
    with pytest.raises(Declined):
        asked.run(proof(), proof)
    assert not asked.read


@pytest.mark.parametrize("paths", [(), ("",), ("a\nb",), ("keys/%h",), ("keys/%",)])
def test_paths_that_the_configuration_refuses(paths: tuple[str, ...]) -> None:
    check = server.OPTIONS[0].check
    assert check is not None
    assert check(paths)
    assert check(("keys/%u", "100%%")) is None
