"""Finding the program of a worker, as the account that will run it, and saying in one sentence why it cannot run.

Lives here: the search in PATH and the check of `#!` interpreters, by which 127 and 126 carry a reason. Must not live here: privilege, mounts, exec.
Nothing here decides anything: the kernel decides at exec; this only explains beforehand.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from aed.model import Account
from aed.sandbox.plan import Command

NOT_FOUND = 127
CANNOT_RUN = 126

_LEVELS = 5
"""The kernel follows four interpreters."""


class Unrunnable(Exception):
    """The command cannot run. `status` is what the worker exits with; the text is for the user."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def find(words: tuple[bytes, ...], path: bytes, visible: Callable[[str], bool]) -> Command:
    """The program that `words[0]` names, searched in `path` unless it holds a slash. `visible` says whether the sandbox shows a file."""
    program = _search(words[0], path, visible)
    _check_interpreter(program, path, visible)
    return Command(program=program, words=words)


def shell(account: Account, command: bytes, visible: Callable[[str], bool]) -> Command:
    """The account's login shell with -c, as ssh runs a command string."""
    program = os.fsencode(account.shell or "/bin/sh")
    _search(program, b"", visible)
    return Command(program=program, words=(os.path.basename(program), b"-c", command))


def _search(word: bytes, path: bytes, visible: Callable[[str], bool]) -> bytes:
    shown = _show(word)
    if not word:
        raise Unrunnable(NOT_FOUND, "the command is an empty word")
    candidates = [word] if b"/" in word else [os.path.join(directory, word) for directory in path.split(b":") if directory]
    refusal: Unrunnable | None = None
    for candidate in candidates:
        try:
            regular = stat.S_ISREG(os.stat(candidate).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refusal = refusal or Unrunnable(CANNOT_RUN, f"{_show(candidate)}: {error.strerror}")
            continue
        if not visible(os.fsdecode(candidate)):
            refusal = refusal or Unrunnable(NOT_FOUND, f"{_show(candidate)}: not visible in this sandbox profile; name it as an input")
        elif not regular:
            refusal = refusal or (Unrunnable(CANNOT_RUN, f"{_show(candidate)}: not a file") if b"/" in word else None)
        elif not os.access(candidate, os.X_OK):
            refusal = refusal or Unrunnable(CANNOT_RUN, f"{_show(candidate)}: permission denied (not executable for this account)")
        else:
            return candidate
    raise refusal or Unrunnable(NOT_FOUND, f"{shown}: command not found" if b"/" not in word else f"{shown}: no such file")


def _check_interpreter(script: bytes, path: bytes, visible: Callable[[str], bool]) -> None:
    """Follow `#!` lines; a missing or forbidden interpreter is named together with its script, which exec's own error never does."""
    for _ in range(_LEVELS):
        words = _shebang(script)
        if not words:
            return
        interpreter = words[0]
        if os.path.basename(interpreter) == b"env" and len(words) == 2 and not words[1].startswith(b"-") and b"=" not in words[1]:
            _explain(script, interpreter, b"", visible)
            interpreter = words[1]
        script = _explain(script, interpreter, path, visible)


def _explain(script: bytes, interpreter: bytes, path: bytes, visible: Callable[[str], bool]) -> bytes:
    try:
        return _search(interpreter, path, visible)
    except Unrunnable as error:
        raise Unrunnable(CANNOT_RUN, f"{_show(script)}: its interpreter cannot run: {error}") from None


def _shebang(script: bytes) -> list[bytes]:
    """The words of a `#!` line, as the kernel splits it: interpreter and at most one argument. Empty for anything else, also unreadable programs."""
    try:
        with open(script, "rb", buffering=0) as file:
            start = file.read(256)
    except OSError:
        return []
    return start[2:].split(b"\n", 1)[0].strip(b" \t").split(None, 1) if start.startswith(b"#!") else []


def _show(path: bytes) -> str:
    """As one line that cannot drive a terminal."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
