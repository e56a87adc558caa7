"""The commands themselves: `aed --check`, `--print-config`, a start that is refused, `--inetd`, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


def aed(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the daemon's command as root, to its end."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    command = [str(node.prefix.bin("aed")), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd="/", env=environment, stdin=subprocess.DEVNULL)


def test_a_good_file_has_no_fault(running: Node) -> None:
    done = aed(running, "-c", str(running.config_file), "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_fault_is_named_with_its_line(running: Node) -> None:
    bad = running.directory / "bad.toml"
    rest = [line for line in running.config_file.read_text().splitlines() if not line.startswith('"listen"')]
    bad.write_text("\n".join(['listen = ["nowhere"]', "lisen = []", "user = 5", *rest]))
    try:
        done = aed(running, "-c", str(bad), "--check")
    finally:
        bad.unlink()
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[f"{bad}:1", "listen"], [f"{bad}:2", "lisen"], [f"{bad}:3", "user"]]
    assert "did you mean" in lines[1]
    assert "Traceback" not in done.stderr


def test_what_is_no_toml_and_what_is_not_there(running: Node) -> None:
    bad = running.directory / "bad.toml"
    bad.write_text("[audit\n")
    try:
        for words in (("--check",), ()):
            done = aed(running, "-c", str(bad), *words)
            assert done.returncode == 1
            assert f"{bad}:1" in done.stderr
            assert "Traceback" not in done.stderr
    finally:
        bad.unlink()
    done = aed(running, "-c", "/nonexistent/aed.toml", "--check")
    assert done.returncode == 1
    assert "/nonexistent/aed.toml" in done.stderr


def test_the_machine_is_looked_at_too(running: Node) -> None:
    groups = running.groups_file.read_text()
    try:
        running.groups_file.write_text("[groups.Higgs]\nmembers = 5\n")
        done = aed(running, "-c", str(running.config_file), "--check")
        assert done.returncode == 1
        assert f"{running.groups_file}:" in done.stderr
    finally:
        running.groups_file.write_text(groups)
    done = aed(running, "-c", str(running.config_file), "-o", "user=aedt-nobody", "--check")
    assert done.returncode == 1
    assert "there is no account aedt-nobody; make it: useradd" in done.stderr
    mode = running.config_file.stat().st_mode
    running.config_file.chmod(0o666)
    try:
        done = aed(running, "-c", str(running.config_file), "--check")
        assert done.returncode == 1
        assert "can be changed by others than root" in done.stderr
    finally:
        running.config_file.chmod(mode)


@pytest.mark.parametrize("pattern", ["*", "LD_*", "L*", "LD_PRELOAD", "PYTHONPATH", "BASH_ENV", "ENV", "AE_*", "PATH"])
def test_no_node_lets_clients_set_what_would_take_a_program_over(running: Node, pattern: str) -> None:
    for words in (("--check",), ()):
        done = aed(running, "-c", str(running.config_file), "-o", f'sandbox.environment=["{pattern}"]', *words)
        assert done.returncode == 1
        assert f"sandbox.environment: '{pattern}'" in done.stderr


def test_every_option_is_printed_with_its_source(running: Node) -> None:
    done = aed(running, "-c", str(running.config_file), "-o", "node_name=printed", "--print-config")
    assert done.returncode == 0
    assert "printed" in done.stdout
    assert str(running.config_file) in done.stdout
    assert "default" in done.stdout
    for key in ("listen", "grace_time", "ring_size", "authentication"):
        assert key in done.stdout


def test_a_key_that_others_can_read_is_refused_at_start(running: Node) -> None:
    key = running.directory / "state" / "identity.pem"
    key.chmod(0o644)
    try:
        done = aed(running, "-c", str(running.config_file), "-o", 'listen=["127.0.0.1:0"]', "-o", f"local_socket={running.directory}/x.sock")
    finally:
        key.chmod(0o600)
    assert done.returncode == 1
    assert f"{key} is a private key that others can read (mode 0644); chmod 600 {key}" in done.stderr


def test_a_port_that_is_taken_is_named(running: Node) -> None:
    done = aed(running, "-c", str(running.config_file), "-o", f'listen=["{running.name}"]', "-o", f"local_socket={running.directory}/x.sock")
    assert done.returncode == 1
    assert f"cannot listen on {running.name}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_and_its_sessions(node: Callable[..., Node], account: TestAccount, number: signal.Signals) -> None:
    running = node()
    with running.start_client(account, "--", "sh", "-c", "trap '' HUP TERM; echo ready; sleep 1000; sleep 1000") as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker")
        running.signal(number)
        _, err = client.communicate(timeout=20)
        assert client.returncode == 255
        assert err.strip()
        assert b"Traceback" not in err
    wait.gone(running.pid, "the listener")
    running.stop()


# Without a port.


def via(running: Node) -> str:
    return f"{running.prefix.bin('aed')} --inetd -c {running.config_file} -o local_socket={running.directory}/none.sock"


def test_inetd_serves_one_connection(running: Node, account: TestAccount, tmp_path: Path) -> None:
    """As inetd starts it: by root, on the connection itself. The client is root here, and logs in with the account's key."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "USER": "root"}
    command = [str(running.prefix.bin("aeclient")), "--via", via(running), "--accept-new", "-l", account.name, "-i", str(account.key)]
    for words, status, out in ((("id", "-un"), 0, f"{account.name}\n"), (("sh", "-c", "cat; exit 7"), 7, "input")):
        done = subprocess.run(
            [*command, "--", *words], input="input", capture_output=True, text=True, check=False, timeout=30, cwd="/", env=environment
        )
        assert (done.returncode, done.stdout) == (status, out), done.stderr
    assert (home / ".config" / "aed" / "known_nodes").read_text().startswith("via:")


def test_inetd_through_pipes_moves_bulk(running: Node, account: TestAccount, tmp_path: Path) -> None:
    """A command whose ends are pipes, as ssh's are."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "USER": "root"}
    command = [str(running.prefix.bin("aeclient")), "--via", f"cat | {via(running)} | cat", "--accept-new", "-l", account.name]
    data = os.urandom(8 << 20)
    done = subprocess.run(
        [*command, "-i", str(account.key), "--", "cat"], input=data, capture_output=True, check=False, timeout=30, cwd="/", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == data
