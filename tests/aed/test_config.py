"""The configuration: what is accepted, what each fault says, and that a dump can be read back."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from aed.config import OPTIONS, Config, Option, dump, faults, load, mechanisms_named
from aed.errors import Misconfigured

EXTRA = {"publickey": (Option(key="authorized_keys", kind="list", default=(".ssh/authorized_keys",), doc="Files."),)}
EXAMPLES = Path(__file__).parents[2] / "conf"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "aed.toml"
    path.write_text(text)
    return str(path)


def complaints(tmp_path: Path, text: str) -> list[str]:
    """The faults without the directory of the test."""
    return [str(fault).removeprefix(f"{tmp_path}/") for fault in faults(written(tmp_path, text), EXTRA)]


def test_defaults_without_a_file() -> None:
    config = load(None)
    assert config["listen"] == ("0.0.0.0:7733",)
    assert config["limits.grace_time"] == timedelta(seconds=120)
    assert config["streams.ring_size"] == 1 << 20
    assert config["groups"] == "/etc/aed/groups.toml"
    assert config["local_socket"] == "/run/aed/local.sock"
    assert config["node_name"]
    assert config.source("listen") == "default"
    assert config.identity_map == ()


def test_values_are_converted_and_know_their_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """groups = "site/groups.toml"
runtime_directory = "/run/other"
[limits]
# a comment
grace_time = "1m30s"
[accounts]
deny = [
  "alice",   # ] = [
  "@physics",
]
[streams]
ring_size = "64KiB"
[publickey]
authorized_keys = ["keys"]
""",
    )
    config = load(path, EXTRA)
    assert config["groups"] == str(tmp_path / "site/groups.toml")
    assert config["local_socket"] == "/run/other/local.sock"
    assert config["limits.grace_time"] == timedelta(seconds=90)
    assert config["accounts.deny"] == ("alice", "@physics")
    assert config["streams.ring_size"] == 65536
    assert config.mechanism_options("publickey") == {"authorized_keys": ("keys",)}
    assert config.source("limits.grace_time") == f"{path}:5"
    assert config.source("accounts.deny") == f"{path}:7"
    assert config.source("streams.ring_size") == f"{path}:12"
    assert config.source("publickey.authorized_keys") == f"{path}:14"


def test_a_configuration_cannot_be_changed() -> None:
    config = load(None)
    with pytest.raises(TypeError):
        config.values["user"] = "root"  # type: ignore[index]
    with pytest.raises(AttributeError):
        config.file = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lisen = []", "aed.toml:1: lisen: is an unknown option; did you mean listen?"),
        ("\n[limits]\ngrace_tim = '1s'", "aed.toml:3: limits.grace_tim: is an unknown option; did you mean limits.grace_time?"),
        ("grace_time = '1s'", "aed.toml:1: grace_time: is an unknown option; did you mean limits.grace_time?"),
        ("zzzzzz = 1", "aed.toml:1: zzzzzz: is an unknown option; `aed --print-config` lists all"),
        ("[limts]\na = 1", "aed.toml:1: limts: is an unknown section; did you mean [limits]?"),
        ("[kerberos9]\na = 1", "aed.toml:1: kerberos9: is an unknown section; a mechanism's section is known only while `authentication` names it"),
        ("limits = 3", "aed.toml:1: limits: is a section, not an option; write [limits] on a line of its own"),
        ("[limits]\nmax_auth_tries = '6'", "aed.toml:2: limits.max_auth_tries: is a string; write a whole number without quotes"),
        ("[limits]\nmax_auth_tries = true", "aed.toml:2: limits.max_auth_tries: is true or false; write a whole number without quotes"),
        ("[limits]\nmax_auth_tries = 0", "aed.toml:2: limits.max_auth_tries: is 0; write a number from 1 to 100"),
        (
            "[limits]\ngrace_time = 120",
            "aed.toml:2: limits.grace_time: is not a duration; "
            'write a number with its unit in quotes, as "120s", "2m", "500ms" (units: ms, s, m, h, d)',
        ),
        ("[limits]\ngrace_time = '0s'", 'aed.toml:2: limits.grace_time: is too short; write "1s" or more'),
        (
            "[streams]\nring_size = '1MB'",
            "aed.toml:2: streams.ring_size: is not a size; "
            'write bytes as a number, or a string with its unit, as "1MiB" (units: B, KiB, MiB, GiB, TiB)',
        ),
        ("[streams]\nring_size = '96KiB'", 'aed.toml:2: streams.ring_size: is 98304 bytes; write a power of two from "64KiB" to "16MiB"'),
        ("[streams]\nring_size = '32MiB'", 'aed.toml:2: streams.ring_size: is 33554432 bytes; write a power of two from "64KiB" to "16MiB"'),
        ("listen = '0.0.0.0:1'", 'aed.toml:1: listen: is a string; write a list of strings, as ["a", "b"]'),
        ("listen = ['::1:99']", 'aed.toml:1: listen: \'::1:99\' is not an address; write host:port, as "0.0.0.0:7733" or "[::]:7733"'),
        ("listen = ['h:65536']", 'aed.toml:1: listen: \'h:65536\' is not an address; write host:port, as "0.0.0.0:7733" or "[::]:7733"'),
        ("user = 'root'", "aed.toml:1: user: 'root' cannot be it; write an unprivileged account, as \"aed\""),
        ('user = "a\\nb"', "aed.toml:1: user: holds a control character; write plain text"),
        ("authentication = []", 'aed.toml:1: authentication: is empty, so nobody could log in; name mechanisms, as ["publickey", "local"]'),
        ("authentication = ['local', 'local']", "aed.toml:1: authentication: names a mechanism twice; name each once"),
        ("authentication = ['../x']", 'aed.toml:1: authentication: \'../x\' is not a mechanism\'s name; write names as ["publickey", "local"]'),
        ("[tls]\nkey = 'k'", "aed.toml:2: tls.key: needs tls.certificate as well; set both or none"),
        (
            "[accounts]\nminimum_uid = 5\nmaximum_uid = 4",
            "aed.toml:2: accounts.minimum_uid: is above accounts.maximum_uid; write the smaller number here",
        ),
        (
            "[audit]\ndestination = 'file:x'",
            'aed.toml:2: audit.destination: \'file:x\' is no destination; write "file:/var/log/aed/audit.jsonl" or "journal"',
        ),
        (
            "[sandbox]\nprofiles = []",
            "aed.toml:2: sandbox.profiles: must name each permitted profile once; "
            'write some of "none", "default", "strict", the node\'s default first',
        ),
        ("[sandbox]\nwritable = ['a']", "aed.toml:2: sandbox.writable: 'a' is not an absolute path; write one, as \"/scratch\""),
        ("[sandbox]\nrun_allowed = ['/run/']", "aed.toml:2: sandbox.run_allowed: '/run/' is not below /run; write paths such as \"/run/nscd\""),
        ("a = 1\na = 2", "aed.toml:2: file: is not TOML: Cannot overwrite a value; correct this line"),
        ("[limits", "aed.toml:1: file: is not TOML: Expected ']' at the end of a table declaration; correct this line"),
        ("publickey = 1", "aed.toml:1: publickey: is a section, not an option; write [publickey] on a line of its own"),
        ("[publickey]\nfoo = 1", "aed.toml:2: publickey.foo: is an unknown option; `aed --print-config` lists all"),
    ],
)
def test_each_fault_says_where_what_and_the_cure(tmp_path: Path, text: str, said: str) -> None:
    assert complaints(tmp_path, text) == [said]


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_*", "L*", "*", "PYTHONPATH", "BASH_ENV", "IFS", "PATH", "KRB5CCNAME", "OPENSSL_CONF", "A B", "AE_GROUP"]
)
def test_no_configuration_lets_a_client_set_dangerous_variables(tmp_path: Path, name: str) -> None:
    assert len(complaints(tmp_path, f"[sandbox]\nenvironment = ['{name}']")) == 1


def test_every_fault_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "usr = 'x'\n[limits]\nmax_workers = 0\n[tls]\ncertificate = 'c'\n[[identity_map]]\nexact = 'x509:a'\naccount = 'root'\n")
    with pytest.raises(Misconfigured) as caught:
        load(path)
    assert [line.removeprefix(f"{path}:")[0] for line in str(caught.value).splitlines()] == ["1", "3", "5", "8"]


def test_unreadable_and_undecodable_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.toml")
    assert str(faults(missing)[0]) == f"{missing}: file: cannot be read (No such file or directory); name a readable TOML file"
    (tmp_path / "latin.toml").write_bytes(b"# one\nuser = 'a\xe9'\n")
    assert str(faults(str(tmp_path / "latin.toml"))[0]).endswith("latin.toml:2: file: is not UTF-8 here; save it as UTF-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("identity_map = 3", "identity_map: is not a list of tables; write each rule below a line [[identity_map]]"),
        ("[[identity_map]]\naccount = 'a'", "identity_map[1]: has 0 patterns; write exactly one of exact, prefix, regex"),
        (
            "[[identity_map]]\nexact = 'm:a'\nprefix = 'm:'\naccount = 'a'",
            "identity_map[1]: has 2 patterns; write exactly one of exact, prefix, regex",
        ),
        ("[[identity_map]]\nexact = 'm:a'", 'identity_map[1]: must have either account = "name" or accounts = ["name", …]'),
        ("[[identity_map]]\nexact = 'm:a'\naccounts = []", 'identity_map[1].accounts: is not a list of accounts; write one or more, as ["alice"]'),
        ("[[identity_map]]\nexact = 'm:a'\naccount = ''", "identity_map[1].account: is not an account's name; write a string"),
        (
            "[[identity_map]]\nexact = 'm:a'\naccount = 'root'",
            "identity_map[1].account: is root, and nobody may log in as root; name another account",
        ),
        ("[[identity_map]]\nexact = 'm:a'\naccount = '\\1'", "identity_map[1].account: '\\\\1' uses a group that the pattern has not; it has 0"),
        (
            "[[identity_map]]\nregex = 'm:('\naccount = 'a'",
            "identity_map[1].regex: is not a regular expression (missing ), unterminated subpattern at position 2); "
            "correct it, or use exact or prefix",
        ),
        (
            "[[identity_map]]\nexact = 'bob'\naccount = 'a'",
            'identity_map[1].exact: is not a pattern for an identity; write mechanism:name, as "x509:/DC=ch/CN=Bob"',
        ),
        (
            "[[identity_map]]\nexact = 'm:a'\naccount = 'a'\nfoo = 1",
            "identity_map[1].foo: is unknown; a rule has one of exact, prefix, regex and account or accounts",
        ),
    ],
)
def test_faults_of_the_identity_map(tmp_path: Path, text: str, said: str) -> None:
    found = complaints(tmp_path, text)
    assert [re.sub(r"^aed\.toml:\d+: ", "", line) for line in found] == [said]


def test_the_lines_of_each_rule_are_its_own(tmp_path: Path) -> None:
    rule = "[[identity_map]]\nexact = 'm:a'\naccount = 'root'\n"
    assert [line.split(":")[1] for line in complaints(tmp_path, rule * 3)] == ["3", "6", "9"]


def test_overrides_win_and_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path, "user = 'one'\n")
    config = load(path, overrides={"user": "two"}, overrides_from="embedded node")
    assert (config["user"], config.source("user")) == ("two", "embedded node")
    with pytest.raises(Misconfigured) as caught:
        load(path, overrides={"usr": "x"})
    assert str(caught.value) == "command line: usr: is an unknown option; did you mean user?"


def test_mechanisms_are_known_before_the_rest_is_checked(tmp_path: Path) -> None:
    assert mechanisms_named(written(tmp_path, "authentication = ['x509']\nnonsense = 1\n")) == ("x509",)
    assert mechanisms_named(written(tmp_path, "authentication = 3\n")) == ("publickey", "local")
    assert mechanisms_named(written(tmp_path, "not toml")) == ("publickey", "local")
    assert mechanisms_named(None) == ("publickey", "local")


def same(one: Config, other: Config) -> bool:
    return one.values == other.values and one.identity_map == other.identity_map


def test_a_dump_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        r"""
user = "other"
listen = ["[::1]:0", "node.example.org:7733"]
[limits]
grace_time = "1500ms"
[sandbox]
memory = 12345
writable = ["/scratch/a b\u00e9"]
[[identity_map]]
regex = 'x509:/CN="([a-z]+)\.(.*)"'
accounts = ['\1', 'prod']
""",
    )
    config = load(path, EXTRA)
    text = dump(config)
    assert f"# {path}:2" in text
    assert 'user = "other"' in text
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert same(load(str(again), EXTRA), config)


def test_the_dump_has_every_option_with_its_meaning() -> None:
    text = dump(load(None))
    for option in OPTIONS:
        assert f"# {option.doc}\n{option.key.rpartition('.')[2]} = " in text


def test_the_example_shows_every_option_with_its_true_default(tmp_path: Path) -> None:
    """conf/aed.toml, uncommented, is the default configuration: an example that has gone stale fails here."""
    text = (EXAMPLES / "aed.toml").read_text()
    path = tmp_path / "aed.toml"
    path.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = |\[\[)", "", text))
    config = load(str(path))
    defaults = load(None)
    assert {key for key in config.values if config.source(key) == "default"} == set()
    assert {key: value for key, value in config.values.items() if key != "groups"} == {
        key: value for key, value in defaults.values.items() if key != "groups"
    }
    assert len(config.identity_map) == 2
