"""`client.toml` and what `--node` means with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aeclient import config
from aeclient.target import Options, Target
from aed.errors import Misconfigured

GOOD = """\
[defaults]
group = "higgs,top"
identities = ["~/.ssh/grid"]
nodes = ["t3"]

[nodes.a]
host = "a.example.org"
port = 7000
user = "ann"

[nodes."b.far"]
host = "2001:db8::1"
group = "top"
identities = ["/keys/b"]
via = "ssh -W %h:%p gate"

[sets]
t3 = ["a", "b.far", "c.example.org:7001"]
all = ["t3", "ann@d", "a"]
"""


def write(directory: Path, text: str | bytes, mode: int = 0o600) -> str:
    file = directory / "client.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    file.chmod(mode)
    return str(file)


def test_absent_file_is_an_empty_configuration(tmp_path: Path) -> None:
    empty = config.load(str(tmp_path / "client.toml"))
    assert empty.resolve("", Options()) == ()
    assert empty.resolve("n1", Options()) == (Target("n1", "n1", 7733),)


def test_address_forms() -> None:
    empty = config.Config()
    assert empty.resolve("bob@n1:7000,[::1],u@[fe80::1%eth0]:1", Options()) == (
        Target("n1", "n1", 7000, user="bob"),
        Target("::1", "::1", 7733),
        Target("fe80::1%eth0", "fe80::1%eth0", 1, user="u"),
    )
    assert empty.resolve("u@/run/aed/a.sock", Options()) == (Target("/run/aed/a.sock", "/run/aed/a.sock", user="u"),)
    assert empty.resolve("bob@REALM.ORG@n1", Options())[0].user == "bob@REALM.ORG"


def test_aliases_sets_and_defaults(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    grid = (os.path.expanduser("~/.ssh/grid"),)
    a = Target("a", "a.example.org", 7000, user="ann", group="higgs,top", identities=grid)
    b = Target("b.far", "2001:db8::1", 7733, group="top", identities=("/keys/b",), via="ssh -W %h:%p gate")
    c = Target("c.example.org", "c.example.org", 7001, group="higgs,top", identities=grid)
    assert loaded.resolve("t3", Options()) == (a, b, c)
    assert loaded.resolve("", Options()) == (a, b, c)
    # a set in a set, and each node once
    assert [t.name for t in loaded.resolve("all", Options())] == ["a", "b.far", "c.example.org", "d"]


def test_what_is_said_nearest_wins(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    options = Options(user="opt", group="susy", identities=("k",))
    a = loaded.resolve("a", options)[0]
    assert (a.user, a.group, a.identities, a.port) == ("opt", "susy", ("k",), 7000)
    assert loaded.resolve("me@a:1", options)[0].user == "me"
    assert loaded.resolve("me@a:1", options)[0].port == 1
    assert {t.user for t in loaded.resolve("me@all", Options())} == {"me"}


def test_via_alone_needs_no_node_and_reaches_each_node_given(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, GOOD))
    alone = loaded.resolve("", Options(via="ssh gate aed --inetd"))
    assert [(t.host, t.command()) for t in alone] == [("", "ssh gate aed --inetd")]
    both = loaded.resolve("ann@x,[::1]:5", Options(via="ssh %h nc %r %p 100%%"))
    assert [t.command() for t in both] == ["ssh x nc ann 7733 100%", f"ssh ::1 nc {Target('', '', via='%r').command()} 5 100%"]
    with pytest.raises(Misconfigured, match="'%q'"):
        Target("x", "x", via="%q").command()


@pytest.mark.parametrize(
    "text",
    [
        *("-oProxyCommand=x", "a b", "a;b", "$(id)", "a\nb", "a\0", "`x`", "-l@a", "a@-b", "a'b", "ü.org", "", "a,,b", "a/../b", "a|b", "@a"),
        *("/", "/run/a b", "/run/a:1", "u;v@a", "a:", "a:0", "a:65536", "a:x", "a:٣", "::1", "[::1", "[::1]x", "[a;b]", "[::1]:", "[fe80::1%$(id)]"),
    ],
)
def test_hostile_or_wrong_names_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="--node"):
        config.Config().resolve(text or ",", Options())


def test_options_are_checked_too() -> None:
    for bad in ({"user": "-x"}, {"group": "a,;b"}, {"group": ""}):
        with pytest.raises(Misconfigured):
            Options(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[defaults]\ngroup = "a"\nuesr = "x"\n', 3, "defaults.uesr: is unknown; .*did you mean user"),
        ("[default]\n", 1, "default: is unknown; .*did you mean defaults"),
        ("defaults = 1\n", 1, "must be a table"),
        ("[nodes]\na = 1\n", 2, r"nodes.a: must be a table: \[nodes.a\]"),
        ("[nodes.a]\n\nport = 70000\n", 3, "nodes.a.port: 70000 is no port"),
        ("[nodes.a]\nport = true\n", 2, "is no port"),
        ('[nodes.a]\nport = "7733"\n', 2, "'7733'\" is no port"),
        ('[nodes.a]\nhost = "-x"\n', 2, "nodes.a.host: '-x' is no host name"),
        ('[nodes.a]\nhost = ""\n', 2, "must be text in quotes"),
        ('[nodes.a]\nvia = "a\\u001bb"\n', 2, "control characters"),
        ('[nodes."-a"]\n', 1, "no node name"),
        ('[nodes.a]\nuser = "a b"\n', 2, "no user name"),
        ('[nodes.a]\nnodes = ["x"]\n', 2, "is unknown"),
        ('[defaults]\nidentities = "x"\n', 2, "must be a list"),
        ('[defaults]\nidentities = ["id"]\n', 2, "depends on the directory"),
        ("[defaults]\nidentities = [1]\n", 2, "must be text"),
        ('[defaults]\nnode = "a;b"\n', 1, "is no host name"),
        ('[sets]\nx = ["a"]\ny = []\n', 3, "sets.y: .*must be a list"),
        ('[sets]\nx = ["y"]\ny = ["x"]\n', 2, "contains itself .x > y > x."),
        ('[sets]\nx = ["x"]\n', 2, "contains itself .x > x."),
        ('[nodes.x]\n[sets]\nx = ["a"]\n', 3, "is a node's name too"),
        ("[defaults]\ngroup =\n", 2, "is not TOML"),
        ('[defaults]\ngroup = """\n\n', 4, "is not TOML"),
        (b'[defaults]\ngroup = "\xff"\n', 2, "UTF-8"),
        ('nodes = { a = { host = "-" } }\n', 1, "no host name"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path: Path, text: str | bytes, line: int, says: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(Misconfigured, match=says) as fault:
        config.load(file)
    assert str(fault.value).startswith(f"{file}:{line}: ")


def test_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="chmod go-w"):
        config.load(write(tmp_path, GOOD, 0o620))


def test_xdg_config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "aed").mkdir()
    write(tmp_path / "aed", GOOD)
    assert config.resolve("a", Options())[0].host == "a.example.org"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config.directory() == os.path.expanduser("~/.config/aed")
