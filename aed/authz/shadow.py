"""One entry of the shadow database, through libc and so through every source of the name service.

Lives here: `getspnam`. Must not live here: what follows from an entry (accounts). The standard library's spwd is gone from Python 3.13.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """What matters of an entry. Days are since the epoch; -1 means "not set". `repr` never shows the hash."""

    password: str
    last_change: int
    maximum: int
    expire: int

    def __repr__(self) -> str:
        return f"Shadow(last_change={self.last_change}, maximum={self.maximum}, expire={self.expire})"


class _Spwd(ctypes.Structure):
    """struct spwd of shadow.h; glibc and musl have the same."""

    _fields_ = (
        ("sp_namp", ctypes.c_char_p),
        ("sp_pwdp", ctypes.c_char_p),
        ("sp_lstchg", ctypes.c_long),
        ("sp_min", ctypes.c_long),
        ("sp_max", ctypes.c_long),
        ("sp_warn", ctypes.c_long),
        ("sp_inact", ctypes.c_long),
        ("sp_expire", ctypes.c_long),
        ("sp_flag", ctypes.c_ulong),
    )


_libc = ctypes.CDLL(None)
_libc.getspnam.argtypes = (ctypes.c_char_p,)
_libc.getspnam.restype = ctypes.POINTER(_Spwd)


def getspnam(name: str) -> Shadow | None:
    """The entry of an account, by its checked name; None where there is none or this process may not see it."""
    found = _libc.getspnam(name.encode())
    if not found:
        return None
    entry = found.contents
    return Shadow(password=(entry.sp_pwdp or b"").decode(errors="replace"), last_change=entry.sp_lstchg, maximum=entry.sp_max, expire=entry.sp_expire)
