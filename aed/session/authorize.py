"""From evidence to grant: identity → account → group, each with the rule that decided.

Lives here: the order of the questions. Must not live here: their answers (`aed.authz`), the proof before, the workers after.
"""

from __future__ import annotations

import os

from aed.authz.accounts import check_account
from aed.authz.groups_file import any_label, decide
from aed.authz.identity_map import map_identity
from aed.model import Account, Evidence, Grant
from aed.session.context import Node

SECONDS_PER_DAY = 86_400


def authorize(
    node: Node, evidence: Evidence, requested_account: str, requested_groups: tuple[str, ...], session: str, known: Account | None
) -> Grant:
    """The grant. `known` is the account that the attempt was made for, if there is one. Raises `Denied`; a proved identity may read why."""
    as_caller = node.embedded and os.geteuid() == 0
    mapped = map_identity(node.config.identity_map, evidence, requested_account, allow_caller_root=as_caller, known=known)
    check_account(mapped.account, node.config, today=int(node.clock.wall() // SECONDS_PER_DAY), allow_caller_root=as_caller)
    if node.groups is None:
        decided = any_label(mapped.account, requested_groups)
    else:
        decided = decide(node.groups, mapped.account_name, evidence.identity, requested_groups)
    return Grant(
        session=session,
        identity=evidence.identity,
        account=mapped.account,
        group=decided.group,
        groups=decided.all_groups,
        denied=decided.denied,
        account_rule=mapped.rule,
        group_rule=decided.rule,
        restrictions=evidence.restrictions,
    )
