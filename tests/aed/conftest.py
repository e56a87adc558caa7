"""A second name of uid 0, which tests of authorization need.

Lives here: that fixture. Must not live here: how ordinary throwaway accounts are made (tests/support/machine.py).
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator

import pytest


@pytest.fixture
def toor(test_machine: None) -> Iterator[str]:
    """The name of an account with uid 0 that is not called root. Those that killed runs left go first: no machine should keep such a thing."""
    for entry in pwd.getpwall():
        left = re.fullmatch(r"aedt(\d+)toor", entry.pw_name)
        if left and not os.path.exists(f"/proc/{left[1]}"):
            subprocess.run(["userdel", "-f", entry.pw_name], check=True, capture_output=True)
    name = f"aedt{os.getpid()}toor"
    subprocess.run(
        ["useradd", "-o", "-u", "0", "-g", "0", "-M", "-d", "/nonexistent", "-p", "*", "-s", "/bin/sh", name], check=True, capture_output=True
    )
    yield name
    subprocess.run(["userdel", "-f", name], check=True, capture_output=True)
