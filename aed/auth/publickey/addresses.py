"""`from=` patterns of authorized_keys against the peer's address, as OpenSSH matches them with `UseDNS no`.

Lives here: CIDR blocks, wildcards, negation. Must not live here: name lookups; aed knows its peer by address only.
"""

from __future__ import annotations

import ipaddress
import re

_CHARACTERS = re.compile(r"[0-9a-f.:?]*\*[0-9a-f.:?*]*|[0-9a-f.:]*\?[0-9a-f.:?*]*", re.IGNORECASE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def permits(patterns: str, peer: str) -> str | None:
    """Why `from="patterns"` does not permit `peer` (an address, or `unix`), or None where it does."""
    address = _address(peer)
    if address is None:
        return f"from= needs an address, and the peer is {ascii(peer)[:60]}"
    text = str(address)
    matched = False
    for pattern in patterns.split(","):
        negated = pattern.startswith("!")
        bare = pattern[negated:]
        if not bare or bare != bare.strip():
            return f"from= has an empty or padded pattern: {ascii(patterns)[:80]}"
        try:
            hit = _matches(bare, address, text)
        except ValueError:
            return f"from= has an address block that is not in CIDR form: {ascii(bare)[:60]}"
        if hit is None and negated:
            return f"from= excludes {ascii(bare)[:60]}, and aed knows its peers by address only"
        if hit and negated:
            return f"from= excludes {text}"
        matched = matched or bool(hit)
    return None if matched else f"from= does not list {text}"


def _address(peer: str) -> Address | None:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _matches(pattern: str, address: Address, text: str) -> bool | None:
    """Whether `address` matches; None where `pattern` is a name, which cannot be judged."""
    host, slash, mask = pattern.partition("/")
    if _address(host) is not None:
        if slash and not (mask.isascii() and mask.isdigit()):
            raise ValueError
        network = ipaddress.ip_network(pattern)
        return address.version == network.version and address in network
    if not _CHARACTERS.fullmatch(pattern) and pattern.strip("*"):
        return None
    wild = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in re.sub(r"\*+", "*", pattern.lower()))
    return re.fullmatch(wild, text) is not None
