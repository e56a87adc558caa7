"""Account checks on real accounts of this machine."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aed.authz.accounts import check_account, lookup
from aed.authz.shadow import Shadow, getspnam
from aed.config import Config, load
from aed.errors import Denied
from aed.model import Account
from aed.privilege import drop_to
from tests.support import machine

TODAY = int(time.time() // 86400)
ODD = ["", "-1", "0", "-x", "../root", "%u", "$(id)", "a\nb", "root\n", "root\0", "\udc80", "ro ot", "röot", "a:b", "a/b", "x" * 65, "x" * 65536]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    def made(**overrides: object) -> Config:
        plain = {"accounts.nologin": str(tmp_path / "nologin")}
        return load(None, overrides={**plain, **{f"accounts.{key}": value for key, value in overrides.items()}})

    return made


def denied(account: Account | None, config: Config, *, today: int = TODAY, allow_caller_root: bool = False) -> str:
    """The sentence with which the account is refused, or ""."""
    assert account is not None
    try:
        check_account(account, config, today=today, allow_caller_root=allow_caller_root)
    except Denied as error:
        return str(error).replace(account.name, "NAME", 1)
    return ""


def usermod(name: str, *arguments: str) -> Account:
    subprocess.run(["usermod", *arguments, name], check=True, capture_output=True)
    account = lookup(name)
    assert account is not None
    return account


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_no_account_and_raises_nothing(name: str) -> None:
    assert lookup(name) is None


@pytest.mark.root
def test_an_odd_name_is_none_even_if_the_name_service_has_it() -> None:
    """A Samba machine account, say: what is odd to a shell or a path stays outside."""
    name = f"aedt{os.getpid()}$"
    subprocess.run(["useradd", "-M", "-p", "*", name], check=True, capture_output=True)
    try:
        assert pwd.getpwnam(name).pw_name == name
        assert lookup(name) is None
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


def test_an_account_is_as_the_name_service_gives_it() -> None:
    entry = pwd.getpwnam("daemon")
    account = lookup("daemon")
    assert account is not None
    assert (account.name, account.uid, account.gid, account.home) == ("daemon", entry.pw_uid, entry.pw_gid, entry.pw_dir)
    assert set(account.groups) == set(os.getgrouplist("daemon", entry.pw_gid)) >= {account.gid}
    assert lookup("nosuchaccount") is None


def test_no_repr_shows_a_hash() -> None:
    assert "secret" not in repr(Shadow(password="secret", last_change=1, maximum=2, expire=3))  # noqa: S106


@pytest.mark.root
def test_an_ordinary_account_may_log_in(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    """Its password is "*": no password opens it, and yet it is not locked."""
    entry = getspnam(account.name)
    assert entry is not None and entry.password == "*"
    assert denied(lookup(account.name), config()) == ""


@pytest.mark.root
def test_root_is_refused_by_any_name(config: Callable[..., Config], toor: str) -> None:
    said = "account NAME is root, and nobody may log in as root; name another account"
    assert denied(lookup("root"), config(minimum_uid=1)) == said
    assert denied(lookup(toor), config(minimum_uid=1)) == said
    assert denied(lookup("root"), config(), allow_caller_root=True) == ""
    assert denied(lookup("root"), config(deny=["root"]), allow_caller_root=True) != ""


@pytest.mark.root
def test_the_node_of_root_itself_serves_nobody_else_as_root(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    locked = usermod(account.name, "-e", "1")
    try:
        assert denied(locked, config(), allow_caller_root=True) == "account NAME has expired"
    finally:
        usermod(account.name, "-e", "")


@pytest.mark.root
def test_uid_range(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    found = lookup(account.name)
    for low, high, right in ((account.uid, account.uid, True), (account.uid + 1, 60000, False), (1, account.uid - 1, False)):
        assert (denied(found, config(minimum_uid=low, maximum_uid=high)) == "") is right
    assert "only 1000 to 60000 may log in here" in denied(lookup("daemon"), config())


@pytest.mark.root
@pytest.mark.parametrize("uid", [-1, 0xFFFFFFFF, 1 << 32])
def test_impossible_uids(account: machine.TestAccount, config: Callable[..., Config], uid: int) -> None:
    found = lookup(account.name)
    assert found is not None
    assert "impossible" in denied(dataclasses.replace(found, uid=uid), config())
    assert "impossible" in denied(dataclasses.replace(found, gid=uid), config())


@pytest.mark.root
def test_lists(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    found, own_group = lookup(account.name), f"@{account.name}"
    assert denied(found, config(deny=[account.name])) == "account NAME is denied on this node (accounts.deny)"
    assert denied(found, config(deny=[own_group])) != ""
    assert denied(found, config(allow=[account.name], deny=[account.name])) != ""
    assert denied(found, config(allow=["other"])) == "account NAME is not among those allowed on this node (accounts.allow)"
    assert denied(found, config(allow=["other", account.name])) == ""
    assert denied(found, config(allow=[own_group])) == ""
    assert denied(found, config(allow=["@nosuchgroup"])) != ""


@pytest.mark.root
def test_locked_and_not(accounts: machine.Accounts, config: Callable[..., Config]) -> None:
    name = accounts.new().name
    for password, said in (
        ("!", "account NAME is locked"),
        ("!!", "account NAME is locked"),
        ("!*", "account NAME is locked"),
        ("*LK*", "account NAME is locked"),
    ):
        assert denied(usermod(name, "-p", password), config()) == said
    for password in ("*", "x", "*NP*"):
        assert denied(usermod(name, "-p", password), config()) == ""


@pytest.mark.root
def test_expiry_of_the_account_and_of_its_password(accounts: machine.Accounts, config: Callable[..., Config]) -> None:
    name = accounts.new().name

    def chage(*arguments: str) -> Account | None:
        subprocess.run(["chage", *arguments, name], check=True, capture_output=True)
        return lookup(name)

    found = chage("-E", "20000")
    assert denied(found, config(), today=20000) == ""
    assert denied(found, config(), today=20001) == "account NAME has expired"
    found = chage("-E", "-1", "-d", "20000", "-M", "10")
    assert denied(found, config(), today=20010) == ""
    assert denied(found, config(), today=20011) == "the password of account NAME has expired"
    assert denied(chage("-M", "-1"), config(), today=90000) == ""
    assert denied(chage("-d", "0"), config()) == "the password of account NAME must be changed first"


@pytest.mark.root
def test_shells(accounts: machine.Accounts, config: Callable[..., Config], tmp_path: Path) -> None:
    name = accounts.new().name
    listed = tmp_path / "shells"
    listed.write_text("# comment\n/bin/bash # the usual\n\n/usr/sbin/nologin\n/bin/sh\n")
    for shell, right in (("/bin/bash", True), ("", True), ("/bin/zsh9", False), ("/usr/sbin/nologin", False), ("/bin/false", False)):
        assert (denied(usermod(name, "-s", shell), config(shells=str(listed))) == "") is right, shell
    found = usermod(name, "-s", "/bin/zsh9")
    assert denied(found, config(shells=str(listed))) == f"account NAME has the shell /bin/zsh9, which is not in {listed}"
    assert denied(found, config(shells="")) == ""
    assert denied(usermod(name, "-s", "/sbin/nologin"), config(shells="")) == "account NAME has the shell /sbin/nologin, which lets nobody log in"
    assert denied(usermod(name, "-s", "/bin/bash"), config(shells=str(tmp_path / "none"))) != ""
    assert denied(usermod(name, "-s", "/bin/sh"), config(shells=str(tmp_path / "none"))) == ""
    assert "cannot be read" in denied(found, config(shells=str(tmp_path)))


@pytest.mark.root
def test_the_nologin_file_stops_everybody(account: machine.TestAccount, config: Callable[..., Config], tmp_path: Path) -> None:
    nologin = tmp_path / "nologin"
    nologin.symlink_to("/nonexistent")
    assert denied(lookup(account.name), config()) == f"this node takes no logins now ({nologin} exists)"
    nologin.unlink()
    assert denied(lookup(account.name), config()) == ""


@pytest.mark.root
def test_a_home_that_is_no_path(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    found = lookup(account.name)
    assert found is not None
    assert denied(dataclasses.replace(found, home=""), config()) == "account NAME has no home directory"


def as_account(account: Account, ask: Callable[[], str]) -> str:
    """What `ask` returns in a child that has become `account` for ever."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            drop_to(account)
            os.write(writer, ask().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.root
def test_without_privilege_only_the_own_account(account: machine.TestAccount, config: Callable[..., Config]) -> None:
    own, other = lookup(account.name), lookup("daemon")
    assert own is not None and other is not None
    assert as_account(own, lambda: denied(own, config(minimum_uid=59999), today=99999) or "permitted") == "permitted"
    assert as_account(own, lambda: denied(own, config(deny=[account.name]))) == "account NAME is denied on this node (accounts.deny)"
    said = f"this node runs without privilege, as uid {own.uid}: it cannot become NAME"
    assert as_account(own, lambda: denied(other, config())) == said
    assert as_account(own, lambda: denied(lookup("root"), config())) == said
    assert as_account(own, lambda: denied(lookup("root"), config(), allow_caller_root=True)) == said
    assert as_account(own, lambda: repr(getspnam(account.name))) == "None"
