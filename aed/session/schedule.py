"""When a failed authentication is answered: at least 40 ms plus a part that belongs to the user, whatever the reason (SECURITY 12).

The scheme is OpenSSH's ensure_minimum_time_since (auth2.c): the delay doubles until it is past the time already spent, so an attempt that took
a little longer is answered at the same moment. Must not live here: sleeping, clocks.
"""

from __future__ import annotations

import hashlib
import hmac

MINIMUM = 0.040
"""More than an attempt usually takes, so that what was done for an account that exists does not show. OpenSSH has 5 ms, and does less."""
USER_PART = 0.0042


def failure_delay(user: str, key: bytes, elapsed: float) -> float:
    """Seconds from the start of an attempt by `user` until its failure is told, given that `elapsed` have passed. `key` is the node's, secret."""
    digest = hmac.digest(key, user.encode(errors="surrogatepass"), hashlib.sha256)
    delay = MINIMUM + USER_PART * int.from_bytes(digest[:4], "big") / 0xFFFFFFFF
    while delay < elapsed:
        delay *= 2
    return delay
