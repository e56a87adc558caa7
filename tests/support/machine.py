"""What tests make on the machine outside their own directories, and how it is found again when a run was killed before it could clean up.

Lives here: names of leftovers, the lock that says whether another run is going on, accounts. Must not live here: aed itself.

Every name carries the pid of the run that made it: several runs may share a machine, and only what belongs to a dead one is a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import wait

MARK = "aedt"
PREFIX_PARENT = Path("/usr/local/lib")
"""Root-owned, readable by all, and part of the system that the default sandbox shows."""
CHANGING, IN_USE = Path("/run/lock/aedt-changing"), Path("/run/lock/aedt-in-use")
"""Locks: the first is held while a run sets up or clears what runs share, the second (shared) for as long as a run lasts."""
DAEMON_USER = "aed"


@dataclass(frozen=True, kw_only=True)
class TestAccount:
    """A throwaway Unix account with an ed25519 key that its own authorized_keys accepts."""

    __test__ = False
    name: str
    uid: int
    gid: int
    home: Path

    @property
    def key(self) -> Path:
        return self.home / ".ssh" / "id_ed25519"

    @property
    def authorized_keys(self) -> Path:
        return self.home / ".ssh" / "authorized_keys"

    def environment(self) -> dict[str, str]:
        """What a login would set, and nothing of ours."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/bash",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }

    def popen(self, *command: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a command as this account: its uid, gid and groups only, its home, its environment."""
        settings: dict[str, Any] = {"cwd": self.home, "user": self.uid, "group": self.gid, "extra_groups": [self.gid]}
        settings["env"] = self.environment() | dict(env or {})
        process: subprocess.Popen[bytes] = subprocess.Popen([str(word) for word in command], **(settings | options))
        return process

    def run(
        self, *command: str | Path, input: bytes = b"", seconds: float = 30, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command as this account to its end and gives what it wrote."""
        with self.popen(*command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(input, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise wait.DeadlinePassed(f"{command}: not done within {seconds:g} s; it wrote {out[-2000:]!r} and {err[-2000:]!r}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Accounts:
    """Makes throwaway accounts, and takes them away with `close`."""

    def __init__(self) -> None:
        self._made: list[TestAccount] = []

    def new(self) -> TestAccount:
        name = f"{MARK}{os.getpid()}x{len(self._made)}"
        _change_accounts("useradd", "-m", "-p", "*", "-s", "/bin/bash", name)
        entry = pwd.getpwnam(name)
        account = TestAccount(name=name, uid=entry.pw_uid, gid=entry.pw_gid, home=Path(entry.pw_dir))
        self._made.append(account)
        make_key = 'umask 077 && mkdir .ssh && ssh-keygen -q -t ed25519 -N "" -C "" -f .ssh/id_ed25519'
        done = account.run("sh", "-c", f"{make_key} && cp .ssh/id_ed25519.pub .ssh/authorized_keys")
        if done.returncode:
            raise AssertionError(f"no key for {name}: {done.stderr!r}")
        return account

    def change(self, account: TestAccount, *options: str) -> None:
        """usermod of a throwaway account; who changes one that others use puts it back."""
        _change_accounts("usermod", *options, account.name)

    def close(self) -> None:
        while self._made:
            _remove_account(self._made.pop().name)


@contextlib.contextmanager
def run_on_this_machine() -> Iterator[None]:
    """Around a whole run: clears what dead runs left, sees that the user `aed` exists, and takes it away again if no other run needs it."""
    with IN_USE.open("w") as in_use:
        with _changing():
            remove_leftovers()
            _add_daemon_user()
            fcntl.flock(in_use, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with _changing(), contextlib.suppress(BlockingIOError):
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                user = pwd.getpwnam(DAEMON_USER)
                if user.pw_gecos == f"made by {MARK}" and not pids_of_uid(user.pw_uid):  # somebody's own daemon may use it as well
                    _change_accounts("userdel", DAEMON_USER)


@contextlib.contextmanager
def _changing() -> Iterator[None]:
    with CHANGING.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _add_daemon_user() -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(DAEMON_USER)
        return
    options = ["--system", "--user-group", "--no-create-home", "-d", "/nonexistent", "-s", "/usr/sbin/nologin", "-c", f"made by {MARK}"]
    _change_accounts("useradd", *options, DAEMON_USER)


def remove_leftovers() -> None:
    """Takes away accounts and directories of runs that are no longer there."""
    for entry in pwd.getpwall():
        match = re.fullmatch(rf"{MARK}(\d+)x\d+", entry.pw_name)
        if match and not _alive(int(match[1])):
            print(f"removing account {entry.pw_name}, left by a run that was killed", file=sys.stderr)
            _remove_account(entry.pw_name)
    for parent in (PREFIX_PARENT, Path("/var/tmp"), Path("/run")):
        for path in parent.glob(f"{MARK}-*-*"):
            pid = path.name.split("-")[1]
            if pid.isdigit() and not _alive(int(pid)):
                print(f"removing {path}, left by a run that was killed", file=sys.stderr)
                subprocess.run(["umount", "-lq", str(path)], capture_output=True, check=False)  # a test's full disk, most often not one
                subprocess.run(["rm", "-rf", "--", str(path)], check=False)  # a tree may be deeper than rmtree can follow


def pids_of_uid(uid: int) -> list[int]:
    """All processes whose real uid this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if re.search(rf"^Uid:\s+{uid}\b", (entry / "status").read_text(errors="replace"), re.M):
                    found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _remove_account(name: str) -> None:
    for pid in pids_of_uid(pwd.getpwnam(name).pw_uid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait.gone(pid, f"process of {name}")
    _change_accounts("userdel", "-r", "-f", name)


def _change_accounts(*command: str) -> None:
    """useradd or userdel; another one may hold the lock on /etc/passwd (exit 1), and a removed account may have no mail spool (exit 12)."""

    def done() -> bool:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode in (0, 12):
            return True
        if result.returncode in (1, 10) and "lock" in result.stderr:
            return False
        raise AssertionError(f"{' '.join(command)}: {result.stderr.strip()}")

    wait.until(done, " ".join(command), 20)
