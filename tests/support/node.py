"""A real node: the root daemon from an installed prefix on a loopback port, and real clients as real accounts.

Lives here: starting, asking, stopping a node, and the proof that nothing of it stays. Must not live here: pytest (the benchmark uses this too).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import box, machine, toml, wait
from tests.support.machine import TestAccount
from tests.support.prefix import Prefix

GROUP = "higgs"
"""The group that every account of a node is in unless a test says otherwise."""

_LISTENING = re.compile(r"^aed: listening on (?P<address>\S+):(?P<port>\d+)$", re.M)
_READY = re.compile(r"^aed: ready, identity (?P<identity>SHA256:\S+)", re.M)


class Node:
    """A running node. `config` is merged into the test configuration, table by table; `groups`, if given, replaces the whole groups.toml."""

    def __init__(
        self, prefix: Prefix, accounts: Sequence[TestAccount], *, config: Mapping[str, Any] | None = None, groups: Mapping[str, Any] | None = None
    ) -> None:
        self.prefix = prefix
        self.directory = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.runtime_directory = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir="/run"))
        self.runtime_directory.chmod(0o755)
        self.scratch_directory = self.directory / "state-scratch"
        self.config_file = self.directory / "aed.toml"
        self.groups_file = self.directory / "groups.toml"
        self.audit_file = self.directory / "audit.jsonl"
        self.stderr_file = self.directory / "stderr"
        own = {
            "listen": ["127.0.0.1:0"],
            "state_directory": str(self.directory / "state"),
            "runtime_directory": str(self.runtime_directory),
            "groups": str(self.groups_file),
            "audit": {"destination": f"file:{self.audit_file}"},
        }
        self.config_file.write_text(toml.dumps(_merged(own, config or {})))
        self.groups_file.write_text(toml.dumps(groups if groups is not None else default_groups(accounts)))
        self._pinned: set[str] = set()
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        self.box = box.Box()
        self.address = "127.0.0.1"
        self.port = 0
        self.identity = ""

    def start(self) -> Node:
        """Starts the daemon and returns once it says that it is ready."""
        command = self.box.enter(self.prefix.bin("aed"), "-c", self.config_file)
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        with self.stderr_file.open("ab") as stderr:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=environment, cwd="/")
        wait.until(self._has_said_ready, "aed is ready", 20)
        return self

    def _has_said_ready(self) -> bool:
        assert self._process is not None
        said = self.stderr()
        if self._process.poll() is not None:
            raise AssertionError(f"aed ended with {self._process.returncode} before it was ready:\n{said}")
        ready = _READY.search(said)
        if ready is None:
            return False
        self.identity = ready["identity"]
        listening = _LISTENING.search(said)
        if listening:
            self.address, self.port = listening["address"], int(listening["port"])
        return True

    @property
    def pid(self) -> int:
        """The listener's."""
        assert self._process is not None
        return self._process.pid

    @property
    def name(self) -> str:
        """What a client calls it."""
        return f"{self.address}:{self.port}"

    def stderr(self) -> str:
        return self.stderr_file.read_text(errors="replace")

    def audit(self) -> list[dict[str, Any]]:
        """The audit records so far. A line that is being written is left for the next time."""
        if not self.audit_file.exists():
            return []
        return [json.loads(line) for line in self.audit_file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_audit(self, wanted: Callable[[dict[str, Any]], bool], what: str, seconds: float = 10) -> dict[str, Any]:
        """The first audit record that `wanted` accepts, once it is there."""
        found = wait.until(lambda: [record for record in self.audit() if wanted(record)], f"audit record: {what}", seconds)
        return found[0]

    def arguments(self, account: TestAccount) -> list[str]:
        """`aeclient --node …` for this account. Its first use trusts the node unasked; from then on the pinned identity must match."""
        command = [str(self.prefix.bin("aeclient")), "--node", self.name]
        if account.name not in self._pinned:
            self._pinned.add(account.name)
            _forget_port(account, self.port)
            command.append("--accept-new")
        return command

    def client(
        self, account: TestAccount, *words: str, input: bytes = b"", seconds: float = 30, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `aeclient --node THIS words…` as `account` to its end."""
        return account.run(*self.arguments(account), *words, input=input, seconds=seconds, env=env)

    def start_client(self, account: TestAccount, *words: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Starts `aeclient --node THIS words…` as `account`, its streams on pipes unless told otherwise. Use it in a `with`."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return account.popen(*self.arguments(account), *words, env=env, **(pipes | options))

    def processes(self) -> dict[str, list[int]]:
        """The node's processes by role, from /proc: listener, zygote, net, checker, session, worker (all below a session), and other."""
        roles: dict[str, list[int]] = {role: [] for role in ("listener", "zygote", "net", "checker", "session", "worker", "other")}
        for pid in self.box.pids():
            roles[self._role(pid)].append(pid)
        return roles

    def _role(self, pid: int) -> str:
        if pid == self.pid:
            return "listener"
        name, above = box.name(pid), box.parent(pid)
        if above == self.pid and "-m aed.zygote" in box.command_line(pid):
            return "zygote"
        if above == self.pid and name == "aed":  # forked a moment ago, and not yet renamed
            return "session"
        role = name.removeprefix("aed-")
        if name != role and role in ("zygote", "net", "checker", "session"):
            return role
        while above > 1:
            if box.name(above) == "aed-session":
                return "worker"
            above = box.parent(above)
        return "other"

    def wait_idle(self, seconds: float = 10) -> None:
        """Returns once only the listener and the zygote are left."""
        wait.until(lambda: {role for role, pids in self.processes().items() if pids} <= {"listener", "zygote"}, "no session is left", seconds)

    def signal(self, number: int) -> None:
        """Sends a signal to the listener."""
        os.kill(self.pid, number)

    def end(self) -> list[str]:
        """Stops the daemon whatever its state, removes all that was made for it, and gives what was found that should not be."""
        faults: list[str] = []
        if self._ended:
            return faults
        self._ended = True
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                faults.append("the listener did not end within 10 s of SIGTERM")
                self._process.kill()
                self._process.wait()
            try:
                wait.until(lambda: not self.box.pids(), "")
            except wait.DeadlinePassed:
                faults += [f"still there 10 s after the listener ended: {line}" for line in self.box.kill()]
            if "Traceback" in self.stderr():
                faults.append(f"a traceback on stderr:\n{self.stderr()}")
            # The empty directory of sessions is kept, as a service's RuntimeDirectory is.
            left = [path for path in sorted(self.runtime_directory.rglob("*")) if path != self.runtime_directory / "sessions"]
            faults += [f"left in the runtime directory: {path}" for path in left]
            faults += [f"left in the scratch directory: {path}" for path in self.scratch_directory.glob("*")]
        self.box.close()
        shutil.rmtree(self.directory)
        shutil.rmtree(self.runtime_directory)
        return faults

    def stop(self) -> None:
        """Ends the node, and fails if anything of it stays: a process, a file below /run, a traceback on stderr."""
        faults = self.end()
        if faults:
            raise AssertionError("the node did not end cleanly:\n" + "\n".join(faults))


def default_groups(accounts: Sequence[TestAccount], group: str = GROUP, **limits: Any) -> dict[str, Any]:
    """A groups.toml with one group that has all of `accounts` as members."""
    return {"groups": {group: {"members": [account.name for account in accounts], **limits}}}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _forget_port(account: TestAccount, port: int) -> None:
    """The kernel may hand out a port that an earlier node of this run had; what the account knows of that one must not count against this one."""
    file = account.home / ".config" / "aed" / "known_nodes"
    if file.exists():
        kept = [line for line in file.read_text().splitlines(keepends=True) if f":{port}" not in line]
        file.write_text("".join(kept))
