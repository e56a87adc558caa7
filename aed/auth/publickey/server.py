"""Session side of `publickey`: reads the account's authorized_keys, has proofs checked, re-validates what the checker says.

Lives here: the exchange and its order. Must not live here: parsing of keys, signatures or authorized_keys: the checker does that, as user aed.
"""

from __future__ import annotations

import re
from typing import Any

from aed.auth.publickey.messages import Chosen, Offer, Proof, decode, encode
from aed.config.option import Option
from aed.errors import Declined, RemoteError
from aed.interfaces import Attempt, Challenge, Check, ReadUserFiles, Steps
from aed.model import Evidence, Identity, Restrictions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
ALGORITHM = re.compile(r"[a-z0-9-]{1,64}")
MAX_TEXT = 8192


def _paths_complaint(paths: tuple[str, ...]) -> str | None:
    for path in paths:
        if not path or not path.isprintable() or "%" in re.sub(r"%[u%]", "", path):
            return f"{path!r} is no path; relative ones start at the home, %u is the account's name and %% a percent sign"
    return None if paths else "name at least one file"


OPTIONS: tuple[Option, ...] = (
    Option(
        key="authorized_keys",
        kind="list",
        default=(".ssh/authorized_keys",),
        doc="Files of the keys that may log in to an account, in sshd's format; relative to its home. %u is the account's name.",
        check=_paths_complaint,
    ),
    Option(
        key="strict_modes",
        kind="bool",
        default=True,
        doc="Leave out files that others than the account or root could have written.",
    ),
)


def serve(attempt: Attempt, data: bytes) -> Steps:
    """`Offer`, then `Proof` of the chosen key; or `Proof` at once."""
    message = decode(data)
    files = yield from _files(attempt)
    expected: bytes | None = None
    if isinstance(message, Offer):
        index = _index((yield _ask(attempt, files, step="offer", keys=[key.hex() for key in message.keys])), len(message.keys))
        expected = message.keys[index]
        message = decode((yield Challenge(data=encode(Chosen(index=index)))))
    if not isinstance(message, Proof):
        raise RemoteError(f"publickey: {type(message).__name__} where a proof belongs")
    answer = yield _ask(
        attempt,
        files,
        step="proof",
        sshsig=message.sshsig.hex(),
        binding=attempt.binding.encode().hex(),
        expected=None if expected is None else expected.hex(),
    )
    if attempt.account is None:
        raise Declined("no such account, though the checker found a key in no file")
    return _evidence(attempt.account.name, answer, [source for source, _ in files])


def _files(attempt: Attempt) -> Generator[Any, Any, list[tuple[str, str]]]:
    """Name and hex text of each file. One step a file, as the answer names none. An absent account has none, and the same checks follow."""
    found: list[tuple[str, str]] = []
    account = attempt.account
    if account is None or "/" in account.name:
        return found
    for pattern in attempt.options.get("authorized_keys", OPTIONS[0].default):
        path = re.sub(r"%[u%]", lambda match: account.name if match[0] == "%u" else "%", pattern)
        texts = yield ReadUserFiles(account=account, paths=(path,), strict=attempt.options.get("strict_modes", True))
        found += [(path, text.hex()) for text in texts]
    return found


def _ask(attempt: Attempt, files: list[tuple[str, str]], **question: Any) -> Check:
    return Check(question={**question, "files": [list(file) for file in files], "peer": attempt.peer, "now": attempt.now})


def _index(answer: Any, count: int) -> int:
    index = answer.get("index") if isinstance(answer, dict) else None
    if type(index) is not int or not 0 <= index < count:
        raise Declined("the checker chose no offered key")
    return index


def _evidence(account: str, answer: Any, sources: list[str]) -> Evidence:
    """The checker parsed hostile bytes, so its answer is taken field by field."""
    if not isinstance(answer, dict):
        raise Declined("the checker gave no answer")
    fingerprint, algorithm, source, line = (answer.get(name) for name in ("fingerprint", "algorithm", "source", "line"))
    if not isinstance(fingerprint, str) or not FINGERPRINT.fullmatch(fingerprint):
        raise Declined("the checker gave no fingerprint")
    if not isinstance(algorithm, str) or not ALGORITHM.fullmatch(algorithm) or source not in sources or type(line) is not int or line < 1:
        raise Declined("the checker did not name the line that permits the key")
    return Evidence(
        identity=Identity(mechanism="publickey", name=fingerprint),
        own_account=account,
        restrictions=_restrictions(answer),
        facts=(("algorithm", algorithm), ("authorized_by", f"{source}:{line}")),
    )


def _restrictions(answer: dict[str, Any]) -> Restrictions:
    command, environment, pty, forwarding = (answer.get(name) for name in ("command", "environment", "pty", "forwarding"))
    if not (command is None or _is_text(command)) or not isinstance(pty, bool) or not isinstance(forwarding, bool):
        raise Declined("the checker gave malformed restrictions")
    pairs = []
    for pair in environment if isinstance(environment, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_text, pair)) or not NAME.fullmatch(pair[0]):
            raise Declined("the checker gave a malformed environment")
        pairs.append((pair[0], pair[1]))
    return Restrictions(command=command, environment=tuple(pairs), pty=pty, forwarding=forwarding)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
