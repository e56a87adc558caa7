"""`aegroup list`: what it prints, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aegroup.cli import LATER, main

GROUPS = """\
[groups.higgs]
members = ["bob", "alice", "x509:/DC=ch/DC=example/CN=Bob"]
managers = ["carol"]
max_workers = 32
[groups.susy]
members = ["dave"]
profiles = ["strict"]
[groups.empty]
[users]
alice = "higgs"
"""
TABLE = """\
GROUP  MANAGERS  MEMBERS                                    MAX WORKERS  PROFILES         DEFAULT OF
higgs  carol     alice, bob, x509:/DC=ch/DC=example/CN=Bob  32           default, strict  alice
susy   -         dave                                       64           strict           -
empty  -         -                                          64           default, strict  -
"""


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    path = tmp_path / "groups.toml"
    path.write_text(GROUPS)
    return path


def test_a_table(groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--groups", str(groups)]) == 0
    assert capsys.readouterr().out == TABLE


def test_the_daemons_configuration_names_the_file(groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = groups.with_name("aed.toml")
    configuration.write_text(f'groups = "{groups.name}"\nauthentication = ["x509"]\n[x509]\ncrl = "off"\n')
    assert main(["list", "-c", str(configuration)]) == 0
    assert capsys.readouterr().out == TABLE


def test_json(groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--groups", str(groups), "--json"]) == 0
    first, *_, last = json.loads(capsys.readouterr().out)
    assert first == {
        "group": "higgs",
        "managers": ["carol"],
        "members": ["alice", "bob", "x509:/DC=ch/DC=example/CN=Bob"],
        "max_workers": 32,
        "profiles": ["default", "strict"],
        "default_of": ["alice"],
    }
    assert last["group"] == "empty"


def test_no_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "groups.toml"
    path.touch()
    assert main(["list", "--groups", str(path)]) == 0
    assert capsys.readouterr().out == "no groups\n"


def test_faults_are_told_with_their_place(groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups.write_text("[groups.higgs]\nmember = []\n")
    assert main(["list", "--groups", str(groups)]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(f"aegroup: {groups}:2: groups.higgs.member: is unknown")


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "-c", str(tmp_path / "aed.toml")]) == 1
    assert "--groups" in capsys.readouterr().err


@pytest.mark.parametrize("command", LATER)
def test_what_comes_later_is_said(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "higgs"])
    assert end.value.code == 2
    assert f"{command} is not built yet" in capsys.readouterr().err


def test_other_words_are_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["lst"])
    assert end.value.code == 2
    assert "usage: aegroup" in capsys.readouterr().err
