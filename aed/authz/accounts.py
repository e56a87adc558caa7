"""Unix accounts: finding one by name, and whether it may log in. Every mechanism passes through `check_account`.

Lives here: `lookup`, `check_account`. Must not live here: who becomes which account (identity_map), files of the user (user_files).
"""

from __future__ import annotations

import grp
import os
import pwd

from aed.authz.shadow import Shadow, getspnam
from aed.config import ACCOUNT_NAME, Config
from aed.errors import Denied
from aed.model import Account

_NO_ID = 0xFFFFFFFF
_DEAD_SHELLS = frozenset({"nologin", "false"})
# What getusershell(3) takes where there is no /etc/shells.
_DEFAULT_SHELLS = frozenset({"/bin/sh", "/bin/csh"})


def lookup(name: str) -> Account | None:
    """The account called `name`, or None. Whatever the text, it raises nothing: an odd name is simply not an account's."""
    if not ACCOUNT_NAME.fullmatch(name):
        return None
    try:
        entry = pwd.getpwnam(name)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError, ValueError):
        return None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=tuple(groups), home=entry.pw_dir, shell=entry.pw_shell or "/bin/sh")


def check_account(account: Account, config: Config, *, today: int, allow_caller_root: bool = False) -> None:
    """Raise `Denied` with the reason if `account` may not log in. `today` is in days since the epoch, UTC.

    Unprivileged, only the account of this process itself may, and what it already is needs no further look. So too root, where `allow_caller_root`
    says that this is the portless node that root itself started.
    """
    if not 0 <= account.uid < _NO_ID or not 0 <= account.gid < _NO_ID:
        raise Denied(f"account {account.name} has an impossible uid or gid; correct it in the name service")
    _check_lists(account, config)
    if os.geteuid() != 0 or (allow_caller_root and account.uid == 0):
        if account.uid != os.geteuid():
            raise Denied(f"this node runs without privilege, as uid {os.geteuid()}: it cannot become {account.name}")
        return
    if account.uid == 0:
        raise Denied(f"account {account.name} is root, and nobody may log in as root; name another account")
    low, high = config["accounts.minimum_uid"], config["accounts.maximum_uid"]
    if not low <= account.uid <= high:
        raise Denied(
            f"account {account.name} has uid {account.uid}, and only {low} to {high} may log in here (accounts.minimum_uid, accounts.maximum_uid)"
        )
    if not account.home.startswith("/"):
        raise Denied(f"account {account.name} has no home directory")
    _check_shadow(account, today)
    _check_shell(account, config["accounts.shells"])
    _check_nologin(config["accounts.nologin"])


def _check_lists(account: Account, config: Config) -> None:
    if _listed(account, config["accounts.deny"]):
        raise Denied(f"account {account.name} is denied on this node (accounts.deny)")
    allow = config["accounts.allow"]
    if allow and not _listed(account, allow):
        raise Denied(f"account {account.name} is not among those allowed on this node (accounts.allow)")


def _listed(account: Account, entries: tuple[str, ...]) -> bool:
    if account.name in entries:
        return True
    wanted = [entry[1:] for entry in entries if entry.startswith("@")]
    return bool(wanted) and any(_gid(name) in account.groups for name in wanted)


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, OSError):
        return -1


def _check_shadow(account: Account, today: int) -> None:
    """The rules of OpenSSH's allowed_user and auth-shadow.c, held for every mechanism: an expired password closes the door too."""
    entry = getspnam(account.name)
    if entry is None:  # an account of a directory service often has no shadow entry; then passwd may still hold the mark
        entry = Shadow(password=_passwd_field(account.name), last_change=-1, maximum=-1, expire=-1)
    if entry.password.startswith(("!", "*LK*")):
        raise Denied(f"account {account.name} is locked")
    if entry.expire != -1 and today > entry.expire:
        raise Denied(f"account {account.name} has expired")
    if entry.last_change == 0:
        raise Denied(f"the password of account {account.name} must be changed first")
    if entry.maximum != -1 and entry.last_change != -1 and today > entry.last_change + entry.maximum:
        raise Denied(f"the password of account {account.name} has expired")


def _passwd_field(name: str) -> str:
    try:
        return pwd.getpwnam(name).pw_passwd
    except (KeyError, OSError):
        raise Denied(f"account {name} is gone") from None


def _check_shell(account: Account, shells: str) -> None:
    shell = account.shell or "/bin/sh"
    if os.path.basename(shell) in _DEAD_SHELLS:
        raise Denied(f"account {account.name} has the shell {shell}, which lets nobody log in")
    if shells and shell not in _login_shells(shells):
        raise Denied(f"account {account.name} has the shell {shell}, which is not in {shells}")


def _login_shells(path: str) -> frozenset[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = [line.partition("#")[0].strip() for line in stream]
    except FileNotFoundError:
        return _DEFAULT_SHELLS
    except OSError as error:
        raise Denied(f"the list of login shells {path} cannot be read ({error.strerror})") from error
    return frozenset(line for line in lines if line)


def _check_nologin(path: str) -> None:
    # lexists: a dangling link was put there by somebody who meant it.
    if path and os.path.lexists(path):
        raise Denied(f"this node takes no logins now ({path} exists)")
