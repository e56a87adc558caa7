"""The Python interface of a master: the program that workers talk to.

Lives here: `Master`, `Run`, `run`. Must not live here: the client itself; a run is always made by an `aeclient` process, which is at the other end
of one stream socket (`records.py` has the format).

Started by `aeclient --master PROGRAM … -- COMMAND`:          Starting the run itself:

    with Master.from_environment() as master:                     with run(["python", "analyse.py"], group="higgs", workers=8) as master:
        for message in master:                                        for message in master:
            print(message.worker, message.payload)                        print(message.worker, message.payload)
    sys.exit(master.status)                                        print(master.exits)
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Self

from aeclient import records
from aed.errors import LocalError, RemoteError, Unavailable

VARIABLE = "AE_MASTER_FD"
"""The environment variable with the number of the inherited socket."""


@dataclass(frozen=True)
class Message:
    """What a worker sent."""

    worker: int
    payload: bytes


@dataclass(frozen=True)
class Exit:
    """How a worker ended: the status as ssh gives it, and a sentence where there is something to say."""

    worker: int
    status: int
    text: str


class Master:
    """One run, seen by its master. Context manager; iterating gives the workers' messages until all have ended. For one thread at a time.

    Leaving the context lets go of the run: what workers send from then on is lost.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._decoder = records.RecordDecoder()
        self._arrived: deque[Message] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)
        self.started: set[int] = set()
        """The workers that have started so far, ended ones too."""
        self.exits: dict[int, Exit] = {}
        """How each worker ended, of those that have."""
        self.status: int | None = None
        """The run's final status, once all have ended: the first failure's, else 0."""

    @classmethod
    def from_environment(cls) -> Self:
        """The master of the run that started this program (`aeclient --master PROGRAM`)."""
        number = os.environ.pop(VARIABLE, "")
        if not number.isdecimal():
            raise Unavailable(f"{VARIABLE} is not set: this program is no master; start it by: aeclient --master PROGRAM ... -- COMMAND")
        try:
            stream = socket.socket(fileno=int(number))
        except OSError as error:
            raise Unavailable(f"{VARIABLE}={number} is no open socket ({error.strerror}); whatever started this program must leave it open") from None
        # children of the master are not masters
        stream.set_inheritable(False)
        return cls(stream)

    def __iter__(self) -> Iterator[Message]:
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            if self.status is not None:
                return
            self._selector.select()
            self._receive()

    def send(self, worker: int, payload: bytes) -> None:
        """Send a message to one worker. Waits while the worker is behind; messages that arrive meanwhile are kept for iteration.

        A message to a worker that has ended goes nowhere: that it ends may cross it on the way.
        """
        if not 0 <= worker < records.ALL_WORKERS:
            raise LocalError(f"{worker} is no number of a worker")
        self._send(worker, payload)

    def broadcast(self, payload: bytes) -> None:
        """Send a message to every worker."""
        self._send(records.ALL_WORKERS, payload)

    def close(self) -> None:
        """Let go of the run."""
        self._selector.close()
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, worker: int, payload: bytes) -> None:
        rest = memoryview(records.pack_record(records.MESSAGE, worker, payload))
        self._selector.modify(self._stream, selectors.EVENT_READ | selectors.EVENT_WRITE)
        try:
            # reading while writing: two ends that only write would wait for each other for ever
            while rest and self.status is None:
                for _, ready in self._selector.select():
                    if ready & selectors.EVENT_READ:
                        self._receive()
                    if ready & selectors.EVENT_WRITE and self.status is None:
                        with contextlib.suppress(BlockingIOError):
                            rest = rest[self._stream.send(rest) :]
        except (BrokenPipeError, ConnectionResetError):
            # the other end is gone: what it said last is still there to read, and decides whether that is a fault
            return
        finally:
            self._selector.modify(self._stream, selectors.EVENT_READ)

    def _receive(self) -> None:
        try:
            data = self._stream.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            raise RemoteError("aeclient ended before it said how the run ended; its own messages say why")
        for kind, worker, payload in self._decoder.feed(data):
            self._take(kind, worker, payload)

    def _take(self, kind: int, worker: int, payload: bytes) -> None:
        match kind:
            case records.MESSAGE:
                self._arrived.append(Message(worker, payload))
            case records.STARTED:
                self.started.add(worker)
            case records.EXITED:
                self.exits[worker] = Exit(worker, *records.unpack_status(payload))
            case records.ENDED:
                self.status = records.unpack_status(payload)[0]
            case _:
                raise RemoteError(f"aeclient sent a record of kind {kind}, which this version does not know; use the aeclient of the same version")


class Run(Master):
    """A run that this program started. Leaving the context waits for its aeclient, and ends the run first if it has not ended."""

    def __init__(self, stream: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(stream)
        self.process = process

    def close(self) -> None:
        super().close()
        if self.status is None:
            self.process.terminate()
        self.process.wait()


def run(
    command: Sequence[str],
    *,
    group: str | None = None,
    nodes: Sequence[str] | None = None,
    workers: int | None = 1,
    per_node: int | None = None,
    options: Sequence[str] = (),
    client: Sequence[str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Run:
    """Start `command` on `workers` workers (or `per_node` on each node) and be their master.

    `options` are further options of aeclient, as words; `client` is the aeclient to use, as words; the streams are as for `subprocess.Popen`.
    """
    words = list(client or (sys.executable, "-P", "-c", "import sys; from aeclient.cli import main; sys.exit(main())"))
    ours, theirs = socket.socketpair()
    with theirs:
        words += ["--master-fd", str(theirs.fileno())]
        if group is not None:
            words += ["--group", group]
        for node in nodes or ():
            words += ["--node", node]
        if per_node is not None:
            words += ["--per-node", str(per_node)]
        elif workers is not None:
            words += ["--workers", str(workers)]
        words += [*options, "--", *command]
        try:
            process = subprocess.Popen(words, pass_fds=(theirs.fileno(),), stdin=stdin, stdout=stdout, stderr=stderr)  # noqa: S603
        except OSError as error:
            ours.close()
            raise Unavailable(f"{words[0]} cannot be started: {error.strerror}") from None
    return Run(ours, process)
