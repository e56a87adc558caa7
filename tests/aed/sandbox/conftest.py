"""Real workers for the tests of the sandbox: an account, a session's directory, filters, and a way to run a plan to its end.

Lives here: fixtures. Must not live here: assertions about the sandbox.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aed.model import Account
from aed.sandbox import filters
from aed.sandbox.environment import build_environment
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from tests.support.machine import TestAccount, pids_of_uid

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def person(account: TestAccount) -> Account:
    """The throwaway account, as aed knows accounts."""
    return Account(name=account.name, uid=account.uid, gid=account.gid, groups=(account.gid,), home=str(account.home), shell="/bin/bash")


@pytest.fixture(scope="session")
def compiled() -> dict[str, bytes]:
    return filters.compile_all()


@pytest.fixture
def session_directory(person: Account) -> Iterator[str]:
    path = Path(f"/run/aedt-{os.getpid()}-{next(_numbers)}")
    path.mkdir(mode=0o700)
    os.chown(path, person.uid, person.gid)
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture
def plan(person: Account, compiled: dict[str, bytes], session_directory: str) -> Callable[..., Plan]:
    """`plan(profile, *words, **fields)`: a plan with everything that the test does not name."""

    def make(profile: str, *words: str, **fields: Any) -> Plan:
        name = filters.FOR_PROFILE[profile]
        settings: dict[str, Any] = {
            "account": person,
            "profile": profile,
            "argv": tuple(word.encode() for word in words),
            "session_directory": session_directory,
            "seccomp": compiled[name] if name else None,
        }
        settings |= fields
        settings.setdefault("environment", build_environment(settings["account"], granted={"AE_GROUP": "higgs"}, offered={}, allow=()))
        return Plan(**settings)

    return make


def run(plan: Plan, *, hook: Callable[[], None] | None = None) -> Outcome:
    """Launch, read both outputs to their ends, reap."""
    null = os.open(os.devnull, os.O_RDONLY)
    (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
    try:
        pid = launch(plan, null, out_write, err_write, hook)
    finally:
        for fd in (null, out_write, err_write):
            os.close(fd)
    texts: dict[int, str] = {}

    def read(fd: int) -> None:
        with open(fd, errors="replace") as file:
            texts[fd] = file.read()

    reader = threading.Thread(target=read, args=(err_read,))
    reader.start()
    read(out_read)
    reader.join()
    return Outcome(status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out=texts[out_read], err=texts[err_read])


def living(uid: int) -> list[int]:
    """The account's processes that have not ended. An orphan that has is a matter between the kernel and process 1."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids_of_uid(uid) if alive(pid)]
