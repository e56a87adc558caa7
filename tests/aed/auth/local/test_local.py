"""local: the uid that the kernel vouches for, and nothing else."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from aed import registry
from aed.auth.local import check, client, server
from aed.errors import Declined, RemoteError
from tests.aed.auth.driver import Node, attempt, context, login


def node(peer_uid: int | None, user: str = "") -> Node:
    return Node(server.serve, check.check, attempt("local", account=None, peer="unix", peer_uid=peer_uid, user=user))


@pytest.mark.parametrize("user", ["", "somebody-else"])
def test_uid_becomes_its_user_whoever_was_asked_for(tmp_path: Path, user: str) -> None:
    result = login(node(os.getuid(), user), client, context(str(tmp_path), [], "local", local=True))
    assert result.evidence
    me = pwd.getpwuid(os.getuid()).pw_name
    assert str(result.evidence.identity) == f"local:{me}"
    assert result.evidence.own_account == me
    assert result.evidence.facts == (("uid", str(os.getuid())),)


def test_unnamed_uid_owns_no_account() -> None:
    evidence = node(3_999_999_999).run(b"", lambda _: b"")
    assert str(evidence.identity) == "local:uid-3999999999"
    assert evidence.own_account is None


@pytest.mark.parametrize("entry", [("uid-4", 3), ("", 3), ("other", 7)])
def test_name_service_that_lies_gives_no_name(monkeypatch: pytest.MonkeyPatch, entry: tuple[str, int]) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((entry[0], "x", entry[1], 3, "", "/", "/bin/sh")))
    evidence = node(3).run(b"", lambda _: b"")
    assert evidence.identity.name == "uid-3"
    assert evidence.own_account is None


def test_no_unix_socket_no_identity() -> None:
    with pytest.raises(Declined, match="not on a Unix socket"):
        node(None).run(b"", lambda _: b"")


def test_data_ends_the_connection() -> None:
    with pytest.raises(RemoteError):
        node(0).run(b"root", lambda _: b"")


def test_client_says_why_it_does_not_try(tmp_path: Path) -> None:
    trace: list[str] = []
    assert login(node(0), client, context(str(tmp_path), trace, "local")).tried == []
    assert any("Unix socket" in line for line in trace)


def test_check_accepts_nothing() -> None:
    with pytest.raises(Declined):
        registry.check("local").check({})
