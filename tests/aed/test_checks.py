"""What `aed --check` finds on a machine, and the cure that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aed.checks import check
from aed.config import load

pytestmark = pytest.mark.root

KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a configuration in which nothing is wrong, but for the user, whom not every machine has."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "groups.toml").write_text("[groups.higgs]\nmembers = ['alice']\n")
    configure(tmp_path, "")
    return tmp_path


def configure(site: Path, more: str, *, user: str = "daemon") -> None:
    state, run, log = site / "state", site / "run", site / "audit.jsonl"
    (site / "aed.toml").write_text(
        f"user = '{user}'\nstate_directory = '{state}'\nruntime_directory = '{run}'\naudit.destination = 'file:{log}'\n{more}"
    )


def found(site: Path) -> list[str]:
    return [str(fault).replace(f"{site}/", "") for fault in check(load(str(site / "aed.toml")))]


@pytest.fixture(autouse=True)
def private_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_good_machine_has_no_fault_and_is_left_as_it_was(site: Path) -> None:
    before = sorted(site.iterdir())
    assert found(site) == []
    assert sorted(site.iterdir()) == before


def test_the_missing_user_is_named_with_the_command_that_makes_it(site: Path) -> None:
    configure(site, "", user="aedtnobody")
    assert found(site) == [
        "aed.toml:1: user: there is no account aedtnobody; make it: useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin aedtnobody"
    ]


def test_a_user_that_is_root_by_another_name(site: Path, toor: str) -> None:
    configure(site, "", user=toor)
    assert found(site) == [f"aed.toml:1: user: account {toor} is root; name an unprivileged one"]


def test_groups(site: Path) -> None:
    (site / "groups.toml").write_text("\n[groups.Higgs]\n")
    assert found(site) == ["groups.toml:2: groups.Higgs: is not a group's name; write a small letter, then up to 63 of a-z 0-9 _ . -"]
    (site / "groups.toml").unlink()
    assert found(site) == ["aed.toml: groups: there is no file groups.toml, so nobody could enter a group; make it, as conf/groups.toml shows"]


def test_directories(site: Path) -> None:
    (site / "state").rmdir()
    (site / "run").write_text("")
    assert found(site) == ["aed.toml:3: runtime_directory: run is not a directory; remove it or name another"]
    (site / "run").unlink()
    (site / "aed.toml").write_text((site / "aed.toml").read_text().replace(str(site / "run"), str(site / "a/b")))
    assert found(site) == []  # made at the start, with what is above it
    (site / "a").write_text("")
    assert found(site) == ["aed.toml:3: runtime_directory: a/b is not there and cannot be made; make it: mkdir -p a/b"]


def test_audit_destination(site: Path) -> None:
    os.mkfifo(site / "audit.jsonl")
    assert found(site) == [
        "aed.toml:4: audit.destination: audit.jsonl is not a file that can be written; remove it or name another; "
        "without an audit record nobody may log in"
    ]


def test_private_keys_that_others_can_read(site: Path) -> None:
    (site / "host.pem").write_text("")
    (site / "host.key").write_text(KEY)
    (site / "host.key").chmod(0o640)
    (site / "state" / "identity").write_text(KEY)
    (site / "state" / "identity").chmod(0o604)
    (site / "state" / "other").write_text("no key")
    configure(site, "[tls]\ncertificate = 'host.pem'\nkey = 'host.key'\n")
    cure = "and think of it as stolen"
    warning = "aed.toml:7: tls.key: warning: the network process of each connection holds this host key"
    assert [line.partition(";")[0] if "warning" in line else line for line in found(site)] == [
        f"aed.toml:7: tls.key: host.key is a private key that others can read (mode 0640); chmod 600 host.key, {cure}",
        f"aed.toml:2: state_directory: state/identity is a private key that others can read (mode 0604); chmod 600 state/identity, {cure}",
        warning,
    ]
    (site / "host.key").chmod(0o600)
    (site / "state" / "identity").chmod(0o600)
    assert [line.partition(";")[0] for line in found(site)] == [warning]
    os.chown(site / "host.key", 1, 1)
    assert "is a private key of uid 1; chown it to uid 0" in found(site)[0]


def test_what_others_could_change(site: Path) -> None:
    (site / "aed.toml").chmod(0o664)
    os.chown(site / "groups.toml", 1, 0)
    assert found(site) == [
        "aed.toml: file: aed.toml can be changed by others than root; chown root aed.toml and chmod go-w aed.toml",
        "aed.toml: groups: groups.toml can be changed by others than root; chown root groups.toml and chmod go-w groups.toml",
    ]
    (site / "aed.toml").chmod(0o644)
    os.chown(site / "groups.toml", 0, 0)
    site.chmod(0o777)
    assert len(found(site)) == 3  # the file, the groups, the directory of state
    site.chmod(0o755)
    assert found(site) == []


def test_a_group_in_deny_that_is_not_there_denies_nobody_and_is_told(site: Path) -> None:
    configure(site, "[accounts]\ndeny = ['@aedtnogroup', '@daemon']\n")
    assert found(site) == ["aed.toml:6: accounts.deny: there is no Unix group aedtnogroup; correct or remove @aedtnogroup"]
