"""What a worker of each profile sees and may do. Real processes of a throwaway account."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aed.model import Account
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from tests.aed.sandbox.conftest import run
from tests.support import wait
from tests.support.machine import TestAccount

pytestmark = pytest.mark.root
Plans = Callable[..., Plan]
confined = pytest.mark.parametrize("profile", ["default", "strict"])

TYPE_INTO_TERMINAL = """
import ctypes, fcntl, os, pty, sys, termios
os.setsid() if os.getpid() != os.getsid(0) else None
master, slave = pty.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for name, request in (("TIOCSTI", termios.TIOCSTI), ("TIOCSTI with a high bit", termios.TIOCSTI | 1 << 40), ("TIOCLINUX", 0x541C)):
        ctypes.set_errno(0)
        done = ctypes.CDLL(None, use_errno=True).ioctl(slave, ctypes.c_ulong(request), ctypes.byref(ctypes.c_char(b"x")))
        print(name, done, ctypes.get_errno(), flush=True)
    os._exit(0)
os.wait()
"""
PYTHON = "/usr/bin/python3"


@confined
def test_run_is_empty_but_for_what_is_allowed(plan: Plans, profile: str, tmp_path: Path) -> None:
    resolver = os.path.realpath("/etc/resolv.conf")
    own = {resolver.split("/")[2]} if resolver.startswith("/run/") else set()
    wanted = plan(profile, "ls", "-A", "/run")
    own.add(wanted.session_directory.split("/")[2])
    assert set(run(wanted).out.split()) - own == set()
    allowed = Path(f"/run/aedt-{os.getpid()}-allowed")
    allowed.write_text("shown")
    try:
        done = run(plan(profile, "sh", "-c", f"cat {allowed}; echo more > {allowed}", run_allowed=(str(allowed),)))
        assert done.out == "shown"
        assert allowed.read_text() == "shown"
    finally:
        allowed.unlink()


@confined
def test_tmp_is_the_sessions_own(plan: Plans, profile: str) -> None:
    with Path("/tmp/aedt-outside").open("w"):
        done = run(plan(profile, "sh", "-c", "ls -A /tmp /var/tmp; stat -c %a /tmp /var/tmp; echo a > /tmp/a; echo b > /var/tmp/b"))
    Path("/tmp/aedt-outside").unlink()
    assert done.out.split() == ["/tmp:", "/var/tmp:", "1777", "1777"]
    assert not Path("/tmp/a").exists()
    assert run(plan(profile, "cat", "/tmp/a", "/var/tmp/b")).out == "a\nb\n", "the workers of a session share it"


@confined
def test_system_is_read_only(plan: Plans, profile: str) -> None:
    for path in ("/usr/x", "/etc/x", "/x", "/usr/lib/x"):
        done = run(plan(profile, "touch", path))
        assert done.status != 0
        assert "Read-only" in done.err
    assert not Path("/x").exists()


@confined
def test_namespaces_are_its_own(plan: Plans, profile: str) -> None:
    names = ("pid", "ipc", "uts", "mnt", "user")
    seen = run(plan(profile, "readlink", *(f"/proc/self/ns/{name}" for name in names))).out.split()
    assert len(seen) == len(names)
    assert not set(seen) & {os.readlink(f"/proc/self/ns/{name}") for name in names}
    pids = run(plan(profile, "sh", "-c", "ls /proc | grep -c '^[0-9]'")).out
    assert int(pids) <= 5


@confined
def test_privileges_cannot_grow(plan: Plans, profile: str) -> None:
    out = run(plan(profile, "grep", "-E", "NoNewPrivs|CapBnd|Seccomp:", "/proc/self/status")).out.split()
    assert out == ["CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_none_is_what_ssh_gives(plan: Plans) -> None:
    out = run(plan("none", "grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status")).out.split()
    assert out == ["NoNewPrivs:", "0", "Seccomp:", "0"]


def test_terminal_cannot_be_typed_into(plan: Plans) -> None:
    open_to_all = run(plan("none", PYTHON, "-c", TYPE_INTO_TERMINAL)).out.splitlines()
    if Path("/proc/sys/dev/tty/legacy_tiocsti").read_text().strip() == "1":
        assert open_to_all[0] == "TIOCSTI 0 0", "the attack works where nothing forbids it"
    for profile in ("default", "strict"):
        out = run(plan(profile, PYTHON, "-c", TYPE_INTO_TERMINAL)).out.splitlines()
        assert out == ["TIOCSTI -1 1", "TIOCSTI with a high bit -1 1", "TIOCLINUX -1 1"]


def test_default_writes_to_home_and_configured_paths(plan: Plans, person: Account) -> None:
    place = Path(f"/var/tmp/aedt-{os.getpid()}-data")
    place.mkdir()
    os.chown(place, person.uid, person.gid)
    try:
        done = run(plan("default", "sh", "-c", f"echo h > ~/written; echo d > {place}/written"))
        assert "nonexistent" in done.err, "/var/tmp is private"
        done = run(plan("default", "sh", "-c", f"echo h > ~/written; echo d > {place}/written", writable=(str(place), "/not/there")))
        assert (done.status, done.err) == (0, "")
        assert (place / "written").read_text() == "d\n"
        assert Path(person.home, "written").read_text() == "h\n"
    finally:
        shutil.rmtree(place)


def test_home_may_be_a_link(plan: Plans, person: Account, tmp_path: Path) -> None:
    link = Path(f"/usr/local/lib/aedt-{os.getpid()}-home")
    link.symlink_to(person.home)
    try:
        done = run(plan("default", "sh", "-c", 'echo l > "$HOME/by-link"; pwd -P', account=replace(person, home=str(link))))
    finally:
        link.unlink()
    assert (done.status, done.out, done.err) == (0, f"{person.home}\n", "")
    assert Path(person.home, "by-link").read_text() == "l\n"


def test_default_may_use_the_network_and_strict_not(plan: Plans) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert run(plan("default", PYTHON, "-c", connect)).status == 0
        assert "Connection refused" in run(plan("strict", PYTHON, "-c", connect)).err
    vsock = run(plan("strict", PYTHON, "-c", "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)"))
    assert "PermissionError" in vsock.err, "which no network namespace holds"


@pytest.fixture
def shared(person: Account) -> Iterator[Path]:
    """A directory whose mounts propagate, as the root directory's do under systemd."""
    path = Path(f"/usr/local/lib/aedt-{os.getpid()}-auto")
    (path / "fs").mkdir(parents=True)
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    yield path
    subprocess.run(["umount", "-R", path], check=True)
    shutil.rmtree(path)


def test_default_sees_what_is_automounted_later(plan: Plans, shared: Path) -> None:
    wanted = plan("default", "sh", "-c", f"echo ready; read go; cat {shared}/fs/file")
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    pid = launch(wanted, in_read, out_write, out_write)
    os.close(in_read)
    os.close(out_write)
    wait.read_until(out_read, b"ready\n", "the worker")
    subprocess.run(["mount", "-t", "tmpfs", "aedt", shared / "fs"], check=True)
    (shared / "fs" / "file").write_text("mounted later\n")
    os.write(in_write, b"go\n")
    os.close(in_write)
    try:
        assert wait.read_until(out_read, b"\n", "the file") == b"mounted later\n"
    finally:
        os.close(out_read)
        os.waitpid(pid, 0)


def test_strict_has_no_home_and_only_named_inputs(plan: Plans, person: Account, accounts: object, account: TestAccount) -> None:
    data = Path(person.home, "events.root")
    data.write_text("events\n")
    wanted = plan("strict", "sh", "-c", f"pwd; echo $HOME; ls -A /home /root /var/lib /srv {person.home}; cat {data}")
    done = run(wanted)
    assert done.out.split() == [wanted.session_directory] * 2
    assert "events" not in done.out
    done = run(plan("strict", "sh", "-c", f"cat {data}; ls -A {person.home}; echo x >> {data}; echo x > result", inputs=(str(data),)))
    assert done.out == "events\nevents.root\n"
    assert data.read_text() == "events\n"
    assert Path(wanted.session_directory, "result").read_text() == "x\n"


def test_strict_names_what_it_does_not_show(plan: Plans, person: Account) -> None:
    program = Path(person.home, "program")
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    done = run(plan("strict", str(program)))
    assert (done.status, done.err) == (127, f"aed: {program}: not visible in this sandbox profile; name it as an input\n")
    assert run(plan("strict", str(program), inputs=(str(program),))).out == "ran\n"
    done = run(plan("strict", "true", inputs=("/nowhere",)))
    assert (done.status, done.err) == (255, "aed: the input /nowhere does not exist, or this account cannot reach it\n")


def test_strict_makes_no_namespaces_and_still_forks(plan: Plans) -> None:
    assert run(plan("default", "unshare", "-U", "true")).status == 0, "apptainer needs them"
    assert "Operation not permitted" in run(plan("strict", "unshare", "-U", "true")).err
    assert run(plan("strict", PYTHON, "-c", "import threading; t = threading.Thread(target=print, args=['ran']); t.start(); t.join()")).out == "ran\n"


@confined
def test_debuggers_work_and_the_kernels_administration_does_not(plan: Plans, profile: str) -> None:
    """PTRACE_TRACEME is permitted; add_key, bpf, io_uring_setup, userfaultfd and perf_event_open are refused before the kernel looks at them."""
    script = "import ctypes; l = ctypes.CDLL(None, use_errno=True)\n"
    script += "for n in (101, 248, 321, 425, 323, 298): ctypes.set_errno(0); print(n, l.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno())"
    out = run(plan(profile, PYTHON, "-c", script)).out.splitlines()
    assert out == ["101 0 0", *(f"{number} -1 1" for number in (248, 321, 425, 323, 298))]


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_a_named_device_is_shown(plan: Plans, profile: str) -> None:
    assert run(plan(profile, "test", "-e", "/dev/mem")).status == 1
    assert run(plan(profile, "test", "-e", "/dev/kmsg", devices=("/dev/kmsg",))).status == 0
