"""The worker's environment, built from nothing.

Lives here: which variables a worker gets, and which ones nobody outside the node may set. Must not live here: reading `os.environ`, which is the
daemon's and never the worker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from aed.errors import LocalError
from aed.model import Account

PATH = "/usr/local/bin:/usr/bin:/bin"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OURS = frozenset(("HOME", "USER", "LOGNAME", "SHELL", "PATH"))
_NEVER = (
    # The loader and the C library read these before the program's first line.
    *("LD_*", "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "LOCPATH", "NLSPATH", "MALLOC_*", "LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES"),
    # Interpreters and shells run or import what these name, also when a forced command is what they were started for.
    *("PYTHON*", "PERL*", "RUBY*", "NODE_*", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "BASH_*", "BASHOPTS", "SHELLOPTS", "ENV", "IFS", "PS4", "ZDOTDIR"),
    # Credentials and trust are what aed delegates, not what a client claims.
    *("KRB5*", "GSS*", "OPENSSL_*", "SSL_*", "X509_*", "SSH_*"),
    # aed's own word to the worker.
    "AE_*",
)
"""Refused from the client even where the site's allow-list says `*`."""


def build_environment(
    account: Account, *, granted: Mapping[str, str], offered: Mapping[str, str], allow: Sequence[str], own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The account's five variables, of what the client offered the names that `allow` (patterns) permits, and what aed itself grants.

    `own` is what the account's own files set (authorized_keys): any name but those that nobody outside the node may set, for the sandbox's program
    runs with this environment as the account before there is a sandbox, and the account must not choose what that program loads.

    A name or value that cannot stand in an environment is left out when offered, and a bug when granted.
    """
    result = {name: value for name, value in offered.items() if _acceptable(name, value) and _permitted(name, allow)}
    result |= {name: value for name, value in (own or {}).items() if _acceptable(name, value) and _permitted(name, ("*",))}
    for name, value in granted.items():
        if not _acceptable(name, value):
            raise LocalError(f"cannot be an environment variable: {name!r}")
        result[name] = value
    result |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell or "/bin/sh", "PATH": PATH}
    return result


def _permitted(name: str, allow: Sequence[str]) -> bool:
    if name in _OURS or any(fnmatchcase(name, pattern) for pattern in _NEVER):
        return False
    return any(fnmatchcase(name, pattern) for pattern in allow)


def _acceptable(name: str, value: str) -> bool:
    if not _NAME.fullmatch(name) or "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
