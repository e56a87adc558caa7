"""groups.toml: what it may hold, and which group a login enters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aed.authz.groups_file import Groups, any_label, decide, load_groups
from aed.errors import Denied, Misconfigured
from aed.model import Account, Identity

ALICE = Account(name="alice", uid=1000, gid=1000, groups=(1000,), home="/home/alice", shell="/bin/sh")
KEY = Identity(mechanism="publickey", name="SHA256:abc")
BOB = Identity(mechanism="x509", name="/DC=ch/CN=Bob")
TEXT = """
[groups.zeta]
members = ["alice", "carol"]
[groups.higgs]
members = ["alice", "x509:/DC=ch/CN=Bob"]
managers = ["dave"]
max_workers = 8
profiles = ["strict"]
start_program = "/opt/start"
[groups.alpha]
members = ["alice"]
[groups.empty]
[users]
alice = "higgs"
carol = "higgs"
"x509:/DC=ch/CN=Bob" = "higgs"
"""


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return written(tmp_path, TEXT)


def written(tmp_path: Path, text: str) -> Groups:
    path = tmp_path / "groups.toml"
    path.write_text(text)
    return load_groups(str(path))


def test_a_group_has_what_the_file_says_and_else_the_defaults(groups: Groups) -> None:
    higgs, empty = groups.get("higgs"), groups.get("empty")
    assert higgs is not None and empty is not None
    assert (higgs.max_workers, higgs.profiles, higgs.start_program, higgs.managers) == (8, ("strict",), "/opt/start", frozenset({"dave"}))
    assert (empty.max_workers, empty.profiles, empty.start_program, empty.members) == (64, ("default", "strict"), None, frozenset())
    assert groups.get("nothing") is None


def test_groups_of_a_user_are_in_the_order_of_the_file(groups: Groups) -> None:
    assert groups.of("alice", KEY) == ("zeta", "higgs", "alpha")
    assert groups.of("nobody", BOB) == ("higgs",)
    assert groups.of("dave", KEY) == ("higgs",)
    assert groups.of("eve", KEY) == ()


def test_the_first_permitted_of_those_asked_for(groups: Groups) -> None:
    decision = decide(groups, "alice", KEY, ("empty", "nonesuch", "alpha", "higgs", "empty"))
    assert decision.group.name == "alpha"
    assert decision.rule == "groups.alpha.members alice"
    assert decision.all_groups == ("zeta", "higgs", "alpha")
    assert decision.denied == ("empty", "nonesuch")


def test_the_default_where_none_is_asked_for(groups: Groups) -> None:
    assert decide(groups, "alice", KEY).group.name == "higgs"
    # carol's default is a group that she is not in: it must not let her in.
    assert decide(groups, "carol", KEY).group.name == "zeta"
    assert decide(groups, "nobody", BOB).rule == "groups.higgs.members x509:/DC=ch/CN=Bob"
    assert decide(groups, "dave", KEY).rule == "groups.higgs.managers dave"


def test_refusals_name_the_groups_that_the_user_has(groups: Groups) -> None:
    with pytest.raises(Denied, match=r"^not permitted in empty, nonesuch; your groups are zeta, higgs, alpha$"):
        decide(groups, "alice", KEY, ("empty", "nonesuch"))
    with pytest.raises(Denied, match=r"^account eve is in no group of this node; ask a group's manager or the administrator$"):
        decide(groups, "eve", KEY)


def test_an_identity_does_not_pose_as_an_account(groups: Groups) -> None:
    assert groups.of("eve", Identity(mechanism="", name="alice")) == ()
    assert groups.of("x509", Identity(mechanism="publickey", name="/DC=ch/CN=Bob")) == ()


BAD_NAMES = ["", "Higgs", "1a", "../x", "%u", "-x", "$(id)", "a b", "a\n", "a\0", "\udc80", "a" * 65, "a" * 65536, "hïggs"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_none_is_refused_cleanly(groups: Groups, name: str) -> None:
    asks: list[Callable[[], object]] = [lambda: decide(groups, "alice", KEY, ("alpha", name)), lambda: any_label(ALICE, (name,))]
    for ask in asks:
        with pytest.raises(Denied, match="is not a group's name") as caught:
            ask()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_too_many_groups_are_refused(groups: Groups) -> None:
    with pytest.raises(Denied, match="ask for at most 64"):
        decide(groups, "alice", KEY, ("alpha",) * 65)


def test_any_label_on_the_embedded_node() -> None:
    assert any_label(ALICE).group.name == "default"
    decision = any_label(ALICE, ("higgs", "susy"))
    assert (decision.group.name, decision.rule, decision.denied) == ("higgs", "label", ())
    assert decision.group.members == {"alice"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "1: x: is unknown; this file has [groups.NAME] tables and [users]"),
        ("groups = 1", "1: groups: is not a table; write [groups.NAME]"),
        ("\n[groups.Higgs]", "2: groups.Higgs: is not a group's name; write a small letter, then up to 63 of a-z 0-9 _ . -"),
        ("[groups]\nhiggs = 3", "2: groups.higgs: is not a table; write [groups.higgs]"),
        ("[groups.a]\nmembrs = []", "2: groups.a.membrs: is unknown; a group has members, managers, max_workers, profiles, start_program"),
        ("[groups.a]\nmembers = 'x'", '2: groups.a.members: is not a list; write accounts or identities, as ["alice", "x509:/DC=ch/CN=Bob"]'),
        (
            "[groups.a]\nmembers = ['-x']",
            '2: groups.a.members: \'-x\' is neither an account nor mechanism:identity; write "alice" or "x509:/DC=ch/CN=Bob"',
        ),
        ("[groups.a]\nmanagers = [3]", '2: groups.a.managers: 3 is neither an account nor mechanism:identity; write "alice" or "x509:/DC=ch/CN=Bob"'),
        ("[groups.a]\nmax_workers = true", "2: groups.a.max_workers: is not a number of workers; write a whole number from 1 to 100000"),
        (
            "[groups.a]\nprofiles = ['x']",
            '2: groups.a.profiles: is not a list of sandbox profiles; write some of "none", "default", "strict", the default first',
        ),
        ("[groups.a]\nstart_program = 'x'", "2: groups.a.start_program: is not a program; write its absolute path"),
        ("[groups.a]\n[users]\nalice = 'b'", "3: users.alice: does not name a group of this file; write one"),
        ("[groups.a]\n[users]\n'a b' = 'a'", "3: users.'a b': is neither an account nor mechanism:identity; write alice = \"higgs\""),
        ("[groups", "1: file: is not TOML: Expected ']' at the end of a table declaration; correct this line"),
    ],
)
def test_each_fault_says_where_what_and_the_cure(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        written(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/groups.toml:{said}"


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        written(tmp_path, "[groups.a]\nmax_workers = 0\nprofiles = []\n[users]\nbob = 'q'\n")
    assert len(str(caught.value).splitlines()) == 3


def test_the_example_is_good() -> None:
    assert load_groups(str(Path(__file__).parents[3] / "conf" / "groups.toml")).of("alice", KEY) == ("higgs", "susy")
