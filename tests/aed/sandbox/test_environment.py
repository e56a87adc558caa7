"""The worker's environment: what may come from a client, and what never."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.errors import LocalError
from aed.model import Account
from aed.sandbox.environment import PATH, build_environment

ANNA = Account(name="anna", uid=1000, gid=1000, groups=(1000,), home="/home/anna", shell="/bin/zsh")
OWN = {"HOME": "/home/anna", "USER": "anna", "LOGNAME": "anna", "SHELL": "/bin/zsh", "PATH": PATH}


def test_nothing_of_the_daemons() -> None:
    os.environ["AEDT_SECRET"] = "x"
    try:
        assert build_environment(ANNA, granted={}, offered={}, allow=("*",)) == OWN
    finally:
        del os.environ["AEDT_SECRET"]


def test_the_allow_list_decides() -> None:
    offered = {"LC_ALL": "C", "LC_TIME": "de", "LANG": "C", "LCX": "1", "lc_all": "1"}
    assert build_environment(ANNA, granted={}, offered=offered, allow=("LC_*", "LANG")) == OWN | {"LC_ALL": "C", "LC_TIME": "de", "LANG": "C"}
    assert build_environment(ANNA, granted={}, offered=offered, allow=()) == OWN


@pytest.mark.parametrize(
    "name",
    """LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT GLIBC_TUNABLES GCONV_PATH PYTHONPATH PYTHONSTARTUP KRB5CCNAME KRB5_CONFIG GSSAPI_MECH GSS_USE_PROXY
    OPENSSL_CONF BASH_ENV BASH_FUNC_ls ENV IFS PERL5OPT AE_GROUP AE_CHANNEL HOME USER LOGNAME SHELL PATH SSH_AUTH_SOCK SHELLOPTS""".split(),  # noqa: SIM905
)
def test_some_names_never_come_from_a_client(name: str) -> None:
    assert build_environment(ANNA, granted={}, offered={name: "/evil"}, allow=("*", name)) == OWN


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\n", "BASH_FUNC_x%%", "É", "A-B", "A\0"])
def test_names_that_are_none(name: str) -> None:
    assert build_environment(ANNA, granted={}, offered={name: "x"}, allow=("*",)) == OWN
    with pytest.raises(LocalError):
        build_environment(ANNA, granted={name: "x"}, offered={}, allow=())


def test_what_aed_grants_wins() -> None:
    got = build_environment(ANNA, granted={"AE_GROUP": "higgs", "TERM": "dumb"}, offered={"AE_GROUP": "root", "TERM": "xterm"}, allow=("*",))
    assert got == OWN | {"AE_GROUP": "higgs", "TERM": "dumb"}


def test_an_account_without_a_shell_has_the_standard_one() -> None:
    nobody = Account(name="n", uid=1, gid=1, groups=(1,), home="/", shell="")
    assert build_environment(nobody, granted={}, offered={}, allow=())["SHELL"] == "/bin/sh"


@given(st.dictionaries(st.text(), st.text()))
def test_whatever_is_offered_can_be_execed(offered: dict[str, str]) -> None:
    got = build_environment(ANNA, granted={}, offered=offered, allow=("*",))
    for name, value in got.items():
        assert b"\0" not in os.fsencode(name) + os.fsencode(value)
        assert b"=" not in os.fsencode(name)
    assert OWN.items() <= got.items()
