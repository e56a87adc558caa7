"""The words of aed as frozen values: identity, account, group, grant, worker request.

Lives here: immutable data that several floors share. Must not live here: lookups, parsing of files, I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What was proved: `mechanism` and a name unique within it. `str()` gives `mechanism:name`."""

    mechanism: str
    name: str

    def __str__(self) -> str:
        return f"{self.mechanism}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A Unix account as the name service gave it. `gid` and `groups` are numeric; `groups` includes `gid`."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


@dataclass(frozen=True, kw_only=True)
class Restrictions:
    """What a credential itself forbids or forces (authorized_keys options). Empty means nothing."""

    command: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    pty: bool = True
    forwarding: bool = True


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A mechanism's proof: the identity, what limits it, and facts for the audit record.

    `own_account` names an account whose own files vouched for this identity (authorized_keys, kernel uid): it permits that
    account, and only that one, when no rule of the identity map matches.
    """

    identity: Identity
    own_account: str | None = None
    restrictions: Restrictions = field(default_factory=Restrictions)
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """An analysis group. `members` and `managers` hold account names or `mechanism:identity` strings.

    `max_workers` limits one session's workers alive at once. `profiles` are the sandbox profiles that members may ask for; the first is the default.
    """

    name: str
    members: frozenset[str] = frozenset()
    managers: frozenset[str] = frozenset()
    max_workers: int = 64
    profiles: tuple[str, ...] = ("default", "strict")
    start_program: str | None = None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The outcome of a login, never changed: who, as whom, where, and which rule decided each."""

    session: str
    identity: Identity
    account: Account
    group: Group
    groups: tuple[str, ...]
    denied: tuple[str, ...]
    account_rule: str
    group_rule: str
    restrictions: Restrictions
