"""Seccomp filters: compiled once by a helper process, loaded with nothing but a prctl.

Lives here: the way from rules to a loaded filter. Must not live here: which system calls are in which filter (`filter_rules`).

`python -I -m aed.sandbox.filters` prints JSON {name: base64 of BPF}. Only that helper loads libseccomp; the root listener gets bytes, which every
process that it forks inherits.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import json
import subprocess
import sys

from aed import privilege
from aed.errors import LocalError, Unavailable

NAMES = ("net", "checker", "worker", "worker-strict")
FOR_PROFILE = {"none": None, "default": "worker", "strict": "worker-strict"}
"""Which filter a worker of a profile runs under."""

_TIMEOUT = 30.0
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION = 8
_MOST_INSTRUCTIONS = 4096


def compile_all() -> dict[str, bytes]:
    """All filters as BPF for this machine. Raises `Unavailable`, naming what is missing."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "aed.sandbox.filters"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the seccomp filters could not be compiled: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.decode(errors="backslashreplace").strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"the seccomp filters could not be compiled (pip install pyseccomp, and apt install libseccomp2): {last}")
    try:
        compiled = {name: base64.b64decode(text, validate=True) for name, text in json.loads(done.stdout).items()}
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise LocalError(f"the filter compiler printed something else than filters: {error}") from error
    if set(compiled) != set(NAMES):
        raise LocalError(f"the filter compiler printed {sorted(compiled)}")
    return compiled


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def load(bpf: bytes) -> None:
    """Put the calling process, and what it forks and execs, under the filter for ever. Sets no_new_privs, without which the kernel refuses."""
    count, rest = divmod(len(bpf), _INSTRUCTION)
    if rest or not 0 < count <= _MOST_INSTRUCTIONS:
        raise LocalError(f"{len(bpf)} bytes are no seccomp filter")
    privilege.no_new_privileges()
    program = _Program(count, bpf)
    privilege.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _main() -> int:
    try:
        from aed.sandbox.filter_rules import BUILDERS, export
    except (ImportError, RuntimeError) as error:  # pyseccomp raises RuntimeError where libseccomp is missing
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({name: base64.b64encode(export(BUILDERS[name]())).decode() for name in NAMES}))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
