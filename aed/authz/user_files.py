"""Files of a user (authorized_keys), read as that user by a child that can be killed: StrictModes.

Lives here: `read`, the child, and the walk that trusts no name twice. Must not live here: what the files mean.

Every name on the real path is opened from the descriptor of the directory before it, never following a link, and what is checked is the
descriptor itself. So what was checked is what is read, whatever is renamed meanwhile. As the account, so that a root-squashed home can be read
and a link leads nowhere that its owner could not go.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import time
from typing import NoReturn

from aed.errors import LocalError
from aed.interfaces import ReadUserFiles
from aed.privilege import close_all_fds, drop_to, reset_signals, set_parent_death_signal, set_undumpable

_REAP_SECONDS = 2.0
"""How long a killed child may take to go. One that hangs in the kernel (a dead NFS server) is left to init when the session ends."""


class _UnsafeError(Exception):
    """The file must not be read; the text says why."""


def read(request: ReadUserFiles) -> tuple[list[bytes], list[str]]:
    """The contents of each file of `request` that is there and safe, and the reasons why others that are there were left out.

    Forks, so the caller must be single-threaded, and its handler of SIGCHLD, if any, must leave this child alone. Takes at most
    `request.timeout` seconds and a moment. A fork that fails raises OSError.
    """
    if request.account.uid == 0:
        return [], ["files of root are never read: nobody may log in as root"]
    deadline = time.monotonic() + request.timeout
    parent = os.getpid()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.fork()
        if child == 0:
            _child(request, writer, parent)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        answer = _receive(reader, deadline, _answer_limit(request))
    finally:
        os.close(reader)
        _end(child)
    if answer is None:
        return [], [f"files of {request.account.name} were not read in {request.timeout:g} s"]
    return _decode(answer, request)


def _answer_limit(request: ReadUserFiles) -> int:
    return (2 * request.limit + 8192) * len(request.paths) + 8192


def _receive(reader: int, deadline: float, limit: int) -> bytes | None:
    """All that the child says, or None if it takes too long or says too much."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    answer = bytearray()
    while len(answer) <= limit:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(reader, 1 << 16)
        if not piece:
            return bytes(answer)
        answer += piece
    return None


def _end(child: int) -> None:
    """Kill the child, whatever it does, and reap it. It is ours and not yet reaped, so the number cannot be another's."""
    os.kill(child, signal.SIGKILL)
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if poll.poll(_REAP_SECONDS * 1000):
            os.waitpid(child, 0)
    finally:
        os.close(pidfd)


def _decode(answer: bytes, request: ReadUserFiles) -> tuple[list[bytes], list[str]]:
    """The child ran as the account, so what it says is only believed in form."""
    try:
        message = json.loads(answer)
        contents = [bytes.fromhex(text) for text in message["contents"]]
        reasons = [str(reason)[:1024] for reason in message["reasons"]]
    except (ValueError, KeyError, TypeError):
        return [], [f"the reader of {request.account.name}'s files died"]
    if len(contents) > len(request.paths) or any(len(content) > request.limit for content in contents):
        return [], [f"the reader of {request.account.name}'s files said more than it was asked"]
    return contents, reasons


def _child(request: ReadUserFiles, writer: int, parent: int) -> NoReturn:
    """Never returns into the parent's code: what stands further up the stack belongs to root."""
    try:
        reset_signals()
        close_all_fds((0, 1, 2, writer))
        drop_to(request.account)
        set_undumpable()
        set_parent_death_signal(parent)
        contents, reasons = _read_all(request)
        answer = json.dumps({"contents": [content.hex() for content in contents], "reasons": reasons}).encode()
        while answer:
            answer = answer[os.write(writer, answer) :]
    except LocalError as error:
        os.write(writer, json.dumps({"contents": [], "reasons": [str(error)]}).encode())
    finally:
        os._exit(0)  # whatever was raised: the parent sees an answer that is not whole


def _read_all(request: ReadUserFiles) -> tuple[list[bytes], list[str]]:
    contents, reasons = [], []
    home = request.account.home
    for path in request.paths:
        try:
            contents.append(_read_one(os.path.join(home, path), home, request))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except _UnsafeError as error:
            reasons.append(f"{path!a}: {error}")
        except (OSError, ValueError) as error:
            reasons.append(f"{path!a}: {error.strerror if isinstance(error, OSError) else 'is no path'}")
    return contents, reasons


def _read_one(path: str, home: str, request: ReadUserFiles) -> bytes:
    real = os.path.realpath(path, strict=True)
    trusted = _checked_from(real, home)
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *names, last = [name for name in real.split("/") if name] or [""]
        place = "/"
        _check_directory(directory, place, trusted, request)
        for name in names:
            inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory, place = inner, os.path.join(place, name)
            _check_directory(directory, place, trusted, request)
        # Non-blocking: a FIFO must not hold us, nor a device be waited for. NOCTTY: nor a terminal become ours.
        file = os.open(last, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return _checked_content(file, request)
        finally:
            os.close(file)
    finally:
        os.close(directory)


def _checked_from(real: str, home: str) -> str:
    """The uppermost directory whose owner and mode matter: the real home if the file is below it, else the root, as OpenSSH has it."""
    try:
        real_home = os.path.realpath(home, strict=True)
    except OSError:
        return "/"
    return real_home if real.startswith(real_home.rstrip("/") + "/") else "/"


def _check_directory(directory: int, place: str, trusted: str, request: ReadUserFiles) -> None:
    if request.strict and (place == trusted or place.startswith(trusted.rstrip("/") + "/")):
        _check_owner_and_mode(os.fstat(directory), f"directory {place!a}", request)


def _check_owner_and_mode(status: os.stat_result, what: str, request: ReadUserFiles) -> None:
    if status.st_uid not in (0, request.account.uid):
        raise _UnsafeError(f"{what} belongs to uid {status.st_uid}, neither to {request.account.name} nor to root")
    if status.st_mode & 0o022:
        raise _UnsafeError(f"{what} is writable by its group or by others (mode {stat.S_IMODE(status.st_mode):04o}); chmod go-w")


def _checked_content(file: int, request: ReadUserFiles) -> bytes:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise _UnsafeError("is not a regular file")
    if request.strict:
        _check_owner_and_mode(status, "the file", request)
    content = bytearray()
    while len(content) <= request.limit:
        piece = os.read(file, request.limit + 1 - len(content))
        if not piece:
            return bytes(content)
        content += piece
    # A part of it could mean something else than the whole.
    raise _UnsafeError(f"is larger than {request.limit} bytes")
