"""Client side of `publickey`: which keys there are, in which order they are tried, and the exchange.

Lives here: candidates and messages. Must not live here: formats (`keyfile.py`, `sshsig.py`) or signers (`agent.py`, `keygen.py`).
This is the one-shot client's fast path: with one candidate there is one signature and nothing else, and imports are standard library only.
"""

from __future__ import annotations

from aed.auth.publickey import agent, keyfile, keygen, sshsig, sshwire
from aed.auth.publickey.messages import MAX_OFFERED, Chosen, Offer, Proof, decode, encode
from aed.errors import RemoteError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from aed.interfaces import ClientContext, ClientSteps

DEFAULTS = ("id_ed25519", "id_ecdsa", "id_rsa")
PASSPHRASE_TRIES = 3


class Candidate:
    """A key to try: `name` for messages, the private key's file or None, whether a passphrase guards that, whether the agent may hold it."""

    __slots__ = ("agent", "encrypted", "name", "path", "public")

    def __init__(self, name: str, public: bytes, path: str | None = None, encrypted: bool = False, agent: bool = False) -> None:
        self.name = name
        self.public = public
        self.path = path
        self.encrypted = encrypted
        self.agent = agent


def credentials(context: ClientContext) -> Iterator[tuple[str, ClientSteps]]:
    """The keys named by the user and then the agent's others; with none named, the agent's and then the default files.

    Lazy: the agent is not asked for its list while a named key is being tried.
    """
    if context.identities:
        named = _named(context)
        yield from _attempts(context, named)
        seen = {candidate.public for candidate in named}
        yield from _attempts(context, [candidate for candidate in _agent_keys(context) if candidate.public not in seen])
    else:
        yield from _attempts(context, _unnamed(context))


def _named(context: ClientContext) -> list[Candidate]:
    return [found for path in context.identities if (found := _file(context, path, wanted=True)) is not None]


def _unnamed(context: ClientContext) -> list[Candidate]:
    candidates = _agent_keys(context)
    known = {candidate.public: candidate for candidate in candidates}
    for name in DEFAULTS:
        found = _file(context, f"{context.home}/.ssh/{name}", wanted=False)
        if found is None:
            continue
        if found.public in known:
            if not found.encrypted:  # The agent holds an encrypted one in order that nobody is asked.
                known[found.public].path = found.path
        else:
            found.agent = False
            candidates.append(found)
    if not candidates:
        context.trace(f"publickey: no key in the agent, none of {', '.join(DEFAULTS)} in {context.home}/.ssh; name one by --identity")
    return candidates


def _agent_keys(context: ClientContext) -> list[Candidate]:
    if not context.agent:
        return []
    try:
        held = agent.keys(context.agent)
    except Unavailable as error:
        context.trace(f"publickey: {error}")
        return []
    candidates = []
    for key, comment in held:
        name = f"agent key {comment}"
        reason = sshwire.why_not(key)
        if reason is None:
            candidates.append(Candidate(name, key, agent=True))
        else:
            context.trace(f"publickey: {name} {reason}")
    return candidates


def _file(context: ClientContext, path: str, wanted: bool) -> Candidate | None:
    try:
        found = keyfile.look(path)
        if found.public is None:
            raise Unavailable(f"does not show its public key; make it by: ssh-keygen -y -f {path} > {path}.pub")
        reason = sshwire.why_not(found.public)
        if reason is None:
            return Candidate(path, found.public, found.path, found.encrypted, agent=bool(context.agent))
    except FileNotFoundError:
        reason = "does not exist" if wanted else None
    except Unavailable as error:
        reason = str(error)
    if reason is not None:
        context.trace(f"publickey: {path} {reason}")
    return None


def _attempts(context: ClientContext, candidates: list[Candidate]) -> Iterator[tuple[str, ClientSteps]]:
    if len(candidates) == 1 and not candidates[0].encrypted:
        proof = _sign(context, candidates[0])
        if proof is not None:
            yield candidates[0].name, _send(proof)
        return
    while candidates:
        offered = candidates[:MAX_OFFERED]
        failed: list[Candidate] = []
        yield ", ".join(candidate.name for candidate in offered), _offer(context, offered, failed)
        # A chosen key that could not be proved leaves the others worth trying; a declined offer leaves none of its own.
        candidates = [candidate for candidate in offered if failed and candidate not in failed] + candidates[MAX_OFFERED:]


def _send(proof: bytes) -> ClientSteps:
    yield proof


def _offer(context: ClientContext, offered: list[Candidate], failed: list[Candidate]) -> ClientSteps:
    context.trace(f"publickey: offering {', '.join(candidate.name for candidate in offered)}")
    answer = decode((yield encode(Offer(keys=tuple(candidate.public for candidate in offered)))))
    if not isinstance(answer, Chosen) or answer.index >= len(offered):
        raise RemoteError("publickey: the node chose no offered key")
    chosen = offered[answer.index]
    context.trace(f"publickey: the node would accept {chosen.name}")
    failed.append(chosen)
    proof = _sign(context, chosen)
    if proof is not None:  # Else this ends without an answer, and the attempt is given up.
        yield proof


def _sign(context: ClientContext, candidate: Candidate) -> bytes | None:
    """The encoded proof, or None with the reasons traced."""
    if candidate.agent and context.agent:
        try:
            signature = agent.sign(context.agent, candidate.public, sshsig.signed_data(context.binding))
            context.trace(f"publickey: {candidate.name} signed by the ssh-agent")
            return encode(Proof(sshsig=sshsig.envelope(candidate.public, signature)))
        except Unavailable as error:
            context.trace(f"publickey: {candidate.name} not signed by the agent: {error}")
    if candidate.path is None:
        context.trace(f"publickey: {candidate.name} has no private key here")
        return None
    if candidate.encrypted and context.batch:
        context.trace(f"publickey: {candidate.name} needs a passphrase, which batch mode does not ask; load it into ssh-agent")
        return None
    for _ in range(PASSPHRASE_TRIES if candidate.encrypted else 1):
        try:
            blob = keygen.sign(candidate.path, context.binding)
            context.trace(f"publickey: {candidate.name} signed by ssh-keygen")
            return encode(Proof(sshsig=blob))
        except Unavailable as error:
            context.trace(f"publickey: {candidate.name} cannot sign: {error}")
            if "incorrect passphrase" not in str(error):
                break
    return None
