"""The machine says whether it can make a sandbox, and what to do if not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aed.errors import Unavailable
from aed.model import Account
from aed.sandbox import bubblewrap
from aed.sandbox.plan import PROFILES
from aed.sandbox.probe import probe

pytestmark = pytest.mark.root


@pytest.mark.parametrize("profile", PROFILES)
def test_this_machine_can(person: Account, profile: str) -> None:
    probe(profile, person)


def test_missing_bubblewrap_is_named(person: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "_PLACES", ("/nowhere/bwrap",))
    with pytest.raises(Unavailable, match=r"bubblewrap is not installed \(looked for /nowhere/bwrap\): apt install bubblewrap"):
        probe("default", person)
    probe("none", person)


PROGRAM = """
from aed.model import Account
from aed.sandbox.probe import probe
from aed.errors import Unavailable
import os
me = Account(name="me", uid=os.getuid(), gid=os.getgid(), groups=(os.getgid(),), home="/", shell="/bin/sh")
try:
    probe("default", me, unprivileged=True)
except Unavailable as error:
    print(error)
"""


def test_user_namespaces_turned_off_are_named_with_the_sysctl() -> None:
    """Inside a user namespace that forbids another one: the limit is its own, not the machine's."""
    script = f"echo 0 > /proc/sys/user/max_user_namespaces && exec {sys.executable} -c '{PROGRAM}'"
    done = subprocess.run(["unshare", "--user", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert "the sandbox profile default cannot be enforced for me: user namespaces are off (user.max_user_namespaces = 0)" in done.stdout
    assert "sysctl user.max_user_namespaces=15000" in done.stdout


def test_masked_proc_is_named() -> None:
    """As a container has it: a part of /proc is covered, so that the kernel lets no user namespace mount a whole one."""
    script = f"mount -t tmpfs none /proc/irq && exec {sys.executable} -c '{PROGRAM}'"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, timeout=50, check=True
    )
    assert "/proc cannot be mounted, as in a container that masks parts of it" in done.stdout


def test_a_probe_leaves_nothing(person: Account) -> None:
    before = set(os.listdir("/tmp"))
    probe("strict", person)
    assert not {name for name in set(os.listdir("/tmp")) - before if name.startswith("aed-probe-")}
