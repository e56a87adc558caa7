"""What a worker starts with and what it does not, and what is said when it cannot start. Real processes of a throwaway account."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aed.errors import LocalError
from aed.model import Account
from aed.sandbox import processes
from aed.sandbox.launch import launch
from aed.sandbox.plan import PROFILES, Plan
from tests.aed.sandbox.conftest import living, run
from tests.support import wait

pytestmark = pytest.mark.root
Plans = Callable[..., Plan]
each_profile = pytest.mark.parametrize("profile", PROFILES)


@each_profile
def test_descriptors_are_three_also_with_fifty_at_once(plan: Plans, profile: str) -> None:
    extra = [os.open("/etc/shadow", os.O_RDONLY) for _ in range(30)]
    for fd in extra:
        os.set_inheritable(fd, True)
    null = os.open(os.devnull, os.O_RDONLY)
    wanted = plan(profile, "sh", "-c", "ls /proc/$$/fd")
    workers = []
    for _ in range(50):
        reading, writing = os.pipe()
        workers.append((launch(wanted, null, writing, writing), reading))
        os.close(writing)
    for pid, reading in workers:
        with open(reading) as file:
            assert file.read().split() == ["0", "1", "2"]
        assert os.waitpid(pid, 0)[1] == 0
    for fd in (*extra, null):
        os.close(fd)


@each_profile
def test_streams_may_be_any_descriptors(plan: Plans, profile: str, tmp_path: Path) -> None:
    """Also 0, 1 and 2 themselves, crossed."""
    program = "import os, sys; os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 0); os.dup2(os.open(sys.argv[2], os.O_RDWR | os.O_CREAT), 1)"
    done = _as_session(plan(profile, "sh", "-c", "echo out; echo err >&2"), program, str(tmp_path / "a"), str(tmp_path / "b"), streams=(2, 0, 1))
    assert (tmp_path / "a").read_text() == "out\n"
    assert (tmp_path / "b").read_text() == "err\n"
    assert done.returncode == 0


@each_profile
def test_environment_is_from_nothing(plan: Plans, person: Account, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "PYTHONPATH", "KRB5CCNAME", "BASH_ENV", "SECRET"):
        monkeypatch.setenv(name, "/nowhere")
    wanted = plan(profile, "env")
    home = wanted.session_directory if profile == "strict" else person.home
    expected = {
        f"HOME={home}",
        f"USER={person.name}",
        f"LOGNAME={person.name}",
        "SHELL=/bin/bash",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "AE_GROUP=higgs",
    }
    got = set(run(wanted).out.splitlines())
    assert {line for line in got if not line.startswith("PWD=")} == expected  # bubblewrap sets PWD


@each_profile
def test_signals_are_reset(plan: Plans, profile: str) -> None:
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1)}
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        lines = run(plan(profile, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")).out.split()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM}, "the caller's own mask is as before"
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        for number, handler in old.items():
            signal.signal(number, handler)
    blocked, ignored = (int(mask, 16) for mask in lines[1::2])
    own = 1 << 31 | 1 << 32  # the C library's, for threads: it lets nobody else set them, and make may have left them ignored
    assert (blocked, ignored & ~own) == (0, 0)


@each_profile
def test_identity_is_the_accounts_and_only_that(plan: Plans, person: Account, profile: str) -> None:
    before = os.getgroups()
    os.setgroups([0, 4, 27])
    try:
        done = run(plan(profile, "sh", "-c", "id -u; id -g; id -G; grep -E 'CapEff|CapPrm|CapInh|CapAmb' /proc/self/status | cut -f2"))
    finally:
        os.setgroups(before)
    assert done.out.split() == [str(person.uid), str(person.gid), str(person.gid), *["0" * 16] * 4]


@each_profile
def test_limits_umask_directory_and_oom_score(plan: Plans, person: Account, profile: str) -> None:
    limits = ((resource.RLIMIT_NOFILE, 100, 200), (resource.RLIMIT_CORE, 0, 0))
    words = ("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c; umask; pwd; cat /proc/self/oom_score_adj")
    wanted = plan(profile, *words, rlimits=limits)
    with contextlib.suppress(PermissionError):  # a root without CAP_SYS_RESOURCE cannot protect itself, and then there is nothing to take back
        Path("/proc/self/oom_score_adj").write_text("-500")
    try:
        done = run(wanted)
    finally:
        Path("/proc/self/oom_score_adj").write_text("0")
    assert done.out.split() == ["100", "200", "0", "0022", wanted.session_directory if profile == "strict" else person.home, "0"]


@each_profile
def test_worker_leads_a_session_of_its_own(plan: Plans, profile: str) -> None:
    out = run(plan(profile, "sh", "-c", "ps -o sid= -p $$; readlink /proc/self/ns/pid")).out.split()
    assert int(out[0]) != os.getsid(0)
    assert (out[1] == os.readlink("/proc/self/ns/pid")) == (profile == "none")


def note(path: Path) -> None:
    path.write_text(str(os.getuid()))


def test_hook_runs_as_root_before_the_drop(plan: Plans, tmp_path: Path) -> None:
    seen = tmp_path / "uid"
    assert run(plan("default", "true"), hook=lambda: note(seen)).status == 0
    assert seen.read_text() == "0"


def test_failure_in_the_child_stays_there(plan: Plans) -> None:
    def hook() -> None:
        raise KeyboardInterrupt("no cgroup")

    before = os.getpid()
    done = run(plan("default", "true"), hook=hook)
    assert os.getpid() == before
    assert (done.status, done.err) == (255, "aed: cannot start the worker: KeyboardInterrupt: no cgroup\n")


@each_profile
def test_words_meet_no_shell_and_a_string_does(plan: Plans, profile: str) -> None:
    assert run(plan(profile, "echo", "$HOME", "*", "; id", "")).out == "$HOME * ; id \n"
    assert run(plan(profile, shell_command=b"echo $((1+1)) \xff")).out == "2 \N{REPLACEMENT CHARACTER}\n"


@each_profile
def test_exit_status_is_the_commands(plan: Plans, profile: str) -> None:
    assert run(plan(profile, "sh", "-c", "exit 77")).status == 77


def test_missing_home_is_said_and_the_worker_starts_in_the_root(plan: Plans, person: Account) -> None:
    done = run(plan("default", "pwd", account=replace(person, home="/nowhere/at/all")))
    assert (done.status, done.out) == (0, "/\n")
    assert done.err == "aed: could not change to home directory /nowhere/at/all: No such file or directory\n"


def _script(person: Account, name: str, text: str, mode: int = 0o755) -> str:
    path = Path(person.home) / name
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, person.uid, person.gid)
    return str(path)


@pytest.mark.parametrize("profile", ["none", "default"])
def test_what_cannot_run_is_explained(plan: Plans, person: Account, profile: str) -> None:
    plain = _script(person, "plain", "#!/bin/sh\n", 0o644)
    lost = _script(person, "lost", "#!/opt/none/python3 -u\n")
    by_env = _script(person, "by-env", "#!/usr/bin/env nosuch\n")
    chained = _script(person, "chained", f"#!{lost}\n")
    secret = Path("/root/aedt-interpreter")
    hidden = _script(person, "hidden", f"#!{secret}\n")
    cases = {
        "nosuch": (127, "nosuch: command not found"),
        "/nosuch": (127, "/nosuch: no such file"),
        "no\x1bsuch": (127, "no\\x1bsuch: command not found"),
        "": (127, "the command is an empty word"),
        "/etc": (126, "/etc: not a file"),
        plain: (126, f"{plain}: permission denied (not executable for this account)"),
        lost: (126, f"{lost}: its interpreter cannot run: /opt/none/python3: no such file"),
        by_env: (126, f"{by_env}: its interpreter cannot run: nosuch: command not found"),
        chained: (126, f"{lost}: its interpreter cannot run: /opt/none/python3: no such file"),
        hidden: (126, f"{hidden}: its interpreter cannot run: {secret}: Permission denied"),
    }
    for word, (status, sentence) in cases.items():
        done = run(plan(profile, word))
        assert (done.status, done.err) == (status, f"aed: {sentence}\n"), word
    assert run(plan(profile, shell_command=b"x", account=replace(person, shell="/bin/nosuch"))).status == 127


@pytest.mark.parametrize("profile", ["none", "default"])
def test_a_script_without_a_first_line_runs_in_sh(plan: Plans, person: Account, profile: str) -> None:
    assert run(plan(profile, _script(person, "bare", "echo bare $1\n"), "word")).out == "bare word\n"


def test_unprivileged_daemon_has_one_account(plan: Plans) -> None:
    done = run(plan("default", "true", unprivileged=True))
    assert done.status == 255
    assert "an unprivileged daemon of uid 0 cannot start workers of" in done.err


def test_uid_zero_runs_as_itself_when_the_daemon_is_its_own(plan: Plans, person: Account) -> None:
    """A container: no drop, but still no capability."""
    root = replace(person, name="root", uid=0, gid=0, groups=(0,), home="/root")
    wanted = plan("default", "sh", "-c", "id -u; grep CapEff /proc/self/status | cut -f2; touch /usr/x", account=root, unprivileged=True)
    os.chown(wanted.session_directory, 0, 0)
    done = run(wanted)
    assert done.out.split() == ["0", "0" * 16]
    assert done.status != 0


def test_root_is_no_account(plan: Plans, person: Account) -> None:
    done = run(plan("none", "id", account=replace(person, uid=0)))
    assert (done.status, done.out) == (255, "")
    assert "uid 0 is root" in done.err


def test_a_plan_is_whole(plan: Plans) -> None:
    for bad in (
        {"profile": "loose"},
        {"shell_command": b"both"},
        {"argv": ()},
        {"argv": (b"a\0b",)},
        {"inputs": ("relative",)},
        {"profile": "strict", "seccomp": None},
    ):
        with pytest.raises(LocalError):
            replace(plan("default", "true"), **bad)


def _as_session(plan: Plan, program: str, *words: str, streams: tuple[int, int, int] = (0, 1, 2)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_session(plan, program, *words, streams=streams), text=True, timeout=30, check=False)


def _session(plan: Plan, program: str, *words: str, streams: tuple[int, int, int] = (0, 1, 2)) -> list[str]:
    """A process of its own that runs `program`, launches the worker, says its pid on the worker's stderr and waits for it."""
    fields = {"account": plan.account, "argv": plan.argv, "profile": plan.profile, "session_directory": plan.session_directory}
    fields |= {"environment": dict(plan.environment), "seccomp": plan.seccomp}
    start = f"{program}\nfrom aed.model import Account\nfrom aed.sandbox.plan import Plan\nfrom aed.sandbox.launch import launch\nimport os, sys\n"
    start += f"pid = launch(Plan(**{fields!r}), *{streams!r})\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    return [sys.executable, "-c", start, *words]


@each_profile
def test_nothing_is_left_of_a_session_that_is_killed(plan: Plans, person: Account, profile: str) -> None:
    script = (
        "trap '' HUP INT TERM; echo here; while :; do sleep 1000; done" if profile != "none" else "trap '' HUP INT TERM; echo here; exec sleep 1000"
    )
    with subprocess.Popen(_session(plan(profile, "sh", "-c", script), ""), stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        wait.readable(session.stdout.fileno(), "the worker's greeting")
        assert living(person.uid)
        session.kill()
    wait.until(lambda: not living(person.uid), "the end of every process of the account")


@each_profile
def test_no_zombie_stays(plan: Plans, profile: str) -> None:
    before = processes.children(os.getpid())
    for _ in range(30):
        assert run(plan(profile, "true")).status == 0
    assert processes.children(os.getpid()) == before


def test_background_processes_end_with_the_command(plan: Plans, person: Account) -> None:
    assert run(plan("default", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 0")).status == 0
    wait.until(lambda: not living(person.uid), "the end of the worker's background process")


def test_the_environment_is_not_on_a_command_line(plan: Plans) -> None:
    """Others may read /proc/PID/cmdline, also that of bubblewrap."""
    environment = json.loads(json.dumps(dict(plan("default", "true").environment) | {"AE_TOKEN": "hush-hush"}))
    script = "tr '\\0' '\\n' < /proc/1/cmdline"
    assert "hush-hush" not in run(plan("default", "sh", "-c", script, environment=environment)).out
