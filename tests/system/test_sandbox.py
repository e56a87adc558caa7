"""What a worker can see and do, asked of workers of a real daemon."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root

HELPERS = """
import ctypes, fcntl, json, os, socket, termios
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        return action()
    except OSError as error:
        return error.strerror
def status():
    return dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
"""


def ask(node: Node, account: TestAccount, script: str, *options: str) -> Any:
    """What a Python worker says: the JSON of `script`'s variable `said`."""
    done = node.client(account, *options, "--", str(node.prefix.python), "-c", f"{HELPERS}\n{script}\nprint(json.dumps(said))")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_worker_has_no_privilege_and_gets_none(running: Node, account: TestAccount, profile: str) -> None:
    said = ask(running, account, "said = status()", "--profile", profile)
    assert said["NoNewPrivs"] == "1"
    assert said["Seccomp"] == "2"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(said[name], 16) == 0, name
    assert said["Uid"].split() == [str(account.uid)] * 4
    assert said["Gid"].split() == [str(account.gid)] * 4


def test_profile_none_is_the_account_and_no_more(running: Node, account: TestAccount) -> None:
    said = ask(running, account, "said = {**status(), 'groups': os.getgroups()}", "--group", "plain")
    assert said["Uid"].split() == [str(account.uid)] * 4
    assert said["groups"] == [account.gid]
    assert int(said["CapEff"], 16) == 0


def test_a_worker_sees_no_process_but_its_own(running: Node, account: TestAccount) -> None:
    said = ask(running, account, "said = [open(f'/proc/{n}/comm').read().strip() for n in os.listdir('/proc') if n.isdigit()]")
    assert set(said) <= {"bwrap", "python3", "python"}, said


def test_without_a_sandbox_the_daemons_processes_are_closed(running: Node, account: TestAccount) -> None:
    """Profile none sees them in /proc, and no more than that."""
    script = """
said = []
for number in os.listdir("/proc"):
    if number.isdigit():
        name = attempt(lambda: open(f"/proc/{number}/comm").read().strip())
        if name in ("aed", "aed-zygote", "aed-net", "aed-session"):
            looks = [attempt(lambda: open(f"/proc/{number}/{what}", "rb").read(1)) for what in ("environ", "mem", "maps")]
            looks += [attempt(lambda: os.listdir(f"/proc/{number}/fd")), attempt(lambda: os.kill(int(number), 0))]
            traced = libc.ptrace(16, int(number), 0, 0), os.strerror(ctypes.get_errno())
            said.append([name, int(number), [str(look) for look in looks], *traced])
"""
    said = ask(running, account, script, "--group", "plain")
    ours = {pid for pids in running.processes().values() for pid in pids}
    assert {name for name, *_ in said} == {"aed", "aed-zygote", "aed-net", "aed-session"}
    assert {pid for _, pid, *_ in said} & ours, "this node's are among them"
    for name, _, looks, traced, why in said:
        if "b''" in looks:
            continue  # it is ending: it has no memory any more, and may have been another test's
        assert set(looks) <= {"Permission denied", "Operation not permitted"}, (name, looks)
        assert (traced, why) == (-1, "Operation not permitted")


def test_the_daemons_sockets_are_out_of_sight(running: Node, account: TestAccount) -> None:
    local = f"{running.runtime_directory}/local.sock"
    assert os.path.exists(local)
    script = f"""
said = [attempt(lambda: os.listdir("/run")), attempt(lambda: os.stat({local!r}).st_mode),
        attempt(lambda: socket.socket(socket.AF_UNIX).connect({local!r}))]
"""
    seen, status, connected = ask(running, account, script)
    assert set(seen) <= {running.runtime_directory.name, "systemd", "nscd", "resolvconf", "NetworkManager"}
    assert status == connected == "No such file or directory"


def test_tmp_is_the_sessions_own_and_goes_with_it(running: Node, account: TestAccount) -> None:
    script = 'echo "$AE_WORKER" > /tmp/aedt-mine-$AE_WORKER && touch /var/tmp/aedt-mine && ls -d /tmp/* && echo "$AE_SESSION_DIR" && cat'
    with running.start_client(account, "--", "sh", "-c", script) as client:
        assert client.stdout is not None
        said = wait.read_until(client.stdout.fileno(), b"/private\n", "the worker has written").decode().splitlines()
        assert said[:-1] == ["/tmp/aedt-mine-0"]
        directory = said[-1]
        scratch = running.scratch_directory / os.path.basename(os.path.dirname(directory))
        assert (scratch / "tmp" / "aedt-mine-0").exists()
        assert os.stat(directory).st_mode & 0o777 == 0o700
        assert os.stat(directory).st_uid == account.uid
        client.communicate(b"")
    for path in ("/tmp/aedt-mine-0", "/var/tmp/aedt-mine"):  # noqa: S108
        assert not os.path.exists(path)
    wait.until(lambda: not os.path.exists(os.path.dirname(directory)), "the session's directory is gone")
    wait.until(lambda: not scratch.exists(), "its scratch directory is gone")


def test_sessions_of_two_accounts_do_not_reach_each_other(running: Node, account: TestAccount, other: TestAccount) -> None:
    with running.start_client(account, "--", "sh", "-c", "echo secret > /tmp/secret; echo $AE_SESSION_DIR $AE_CHANNEL; cat") as client:
        assert client.stdout is not None
        directory, door = wait.read_until(client.stdout.fileno(), b"\n", "the first worker").decode().split()
        sessions, name = os.path.split(os.path.dirname(directory))
        script = f"""
said = [attempt(lambda: os.listdir({directory!r})), attempt(lambda: open({directory + "/tmp/secret"!r}).read()),
        attempt(lambda: socket.socket(socket.AF_UNIX).connect({door!r})), {name!r} in os.listdir({sessions!r})]
"""
        assert ask(running, other, script) == ["No such file or directory"] * 3 + [False]
        denied = other.run("cat", f"{directory}/tmp/secret")
        assert b"Permission denied" in denied.stderr
        listed = other.run("ls", str(running.runtime_directory / "sessions"))
        assert b"Permission denied" in listed.stderr
        with socket.socket(socket.AF_UNIX) as tried, pytest.raises(OSError):
            _as(other, lambda: tried.connect(door))
        client.communicate(b"")


def _as(account: TestAccount, action: Callable[[], object]) -> None:
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        action()
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_the_home_is_writable_and_the_system_is_not(running: Node, account: TestAccount) -> None:
    script = """
said = [attempt(lambda: open(path, "w").close()) for path in (os.environ["HOME"] + "/written", "/usr/aedt", "/etc/aedt", "/aedt", "/run/aedt")]
said.append(attempt(lambda: os.chmod("/etc/passwd", 0o777)))
"""
    said = ask(running, account, script)
    assert (account.home / "written").exists()
    (account.home / "written").unlink()
    assert said[0] is None
    assert set(said[1:4]) <= {"Read-only file system", "Permission denied"}
    assert isinstance(said[5], str)
    assert not os.path.exists("/run/aedt")


def test_strict_has_no_network_no_home_and_its_inputs(running: Node, account: TestAccount, other: TestAccount) -> None:
    (account.home / "input").write_text("given")
    (account.home / "hidden").write_text("not given")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        script = f"""
home = {str(account.home)!r}
said = {{
    "input": attempt(lambda: open(home + "/input").read()),
    "hidden": attempt(lambda: open(home + "/hidden").read()),
    "write": attempt(lambda: open(home + "/input", "w").close()),
    "other": attempt(lambda: os.listdir({str(other.home)!r})),
    "HOME": os.environ["HOME"] == os.environ["AE_SESSION_DIR"] == os.getcwd(),
    "session": attempt(lambda: open("here", "w").close()),
    "tcp": attempt(lambda: socket.create_connection(("127.0.0.1", {port}), 5).close()),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "user namespace": (libc.unshare(0x10000000), os.strerror(ctypes.get_errno())),
    "var": attempt(lambda: os.listdir("/var/log")),
}}
"""
        said = ask(running, account, script, "--profile", "strict", "--input", f"{account.home}/input")
    assert said["input"] == "given"
    assert said["hidden"] == "No such file or directory"
    assert said["write"] == "Read-only file system"
    assert said["other"] == said["var"] == "No such file or directory"
    assert said["HOME"] is True
    assert said["session"] is None
    assert isinstance(said["tcp"], str)
    assert said["interfaces"] == ["lo"]
    assert said["user namespace"] == [-1, "Operation not permitted"]


def test_default_reaches_the_network(running: Node, account: TestAccount) -> None:
    """Or the refusal in strict would prove nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert ask(running, account, f"said = attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 5).close())") is None


def test_strict_refuses_an_input_that_is_not_there(running: Node, account: TestAccount) -> None:
    done = running.client(account, "--profile", "strict", "--input", "/nonexistent/x", "--", "true")
    assert done.returncode == 255
    assert b"the input /nonexistent/x does not exist" in done.stderr
    misplaced = running.client(account, "--input", "/etc/passwd", "--", "true")
    assert misplaced.returncode == 255
    assert b"named inputs go with the sandbox profile strict" in misplaced.stderr


def test_a_profile_that_is_not_permitted_is_refused(running: Node, account: TestAccount) -> None:
    for options, sentence in {
        ("--group", "few", "--profile", "strict"): b"no sandbox profile 'strict' is permitted here; group few has default",
        ("--profile", "none"): b"no sandbox profile 'none' is permitted here; group higgs has default, strict",
        ("--profile", "nosuch"): b"no sandbox profile 'nosuch' is permitted here",
    }.items():
        done = running.client(account, *options, "--", "touch", "never")
        assert done.returncode == 255
        assert sentence in done.stderr
    assert not (account.home / "never").exists()


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_nothing_is_typed_into_a_terminal(running: Node, account: TestAccount, profile: str) -> None:
    """TIOCSTI, also with a high bit that the kernel does not look at, and TIOCLINUX: on a pty that the worker itself made."""
    script = """
ours, theirs = os.openpty()
def call(request):
    libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
    return libc.ioctl(theirs, request, b"x"), os.strerror(ctypes.get_errno())
said = [call(request) for request in (0x5412, 0x5412 | 1 << 32, 0x541C)]
"""
    said = ask(running, account, script, "--profile", profile)
    assert said == [[-1, "Operation not permitted"]] * 3


def test_a_worker_has_no_terminal_and_a_session_of_its_own(running: Node, account: TestAccount) -> None:
    said = ask(running, account, "said = [attempt(lambda: open('/dev/tty').close()), os.getsid(0) != 0, os.getpgrp() == os.getsid(0)]")
    assert said[0] == "No such device or address"


def test_what_a_worker_leaves_behind_ends_with_it(running: Node, account: TestAccount) -> None:
    """Detached by every trick, in the sandbox's own pid namespace."""
    marker = f"aedt-left-{os.getpid()}"
    script = f"(setsid nohup sh -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 </dev/null &) ; exit 0"
    done = running.client(account, "-c", script)
    assert done.returncode == 0
    running.wait_idle()


def test_without_a_sandbox_what_is_left_behind_ends_with_the_session(running: Node, account: TestAccount) -> None:
    done = running.client(account, "--group", "plain", "-c", "(setsid nohup sleep 1000 >/dev/null 2>&1 </dev/null &) ; exit 0")
    assert done.returncode == 0
    running.wait_idle()
