"""One worker: its process, its pipes, its rings, its door to the master.

Lives here: what happens on each event of one worker. Must not live here: the loop (`main`), who may start what (`policy`), the sandbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from aed import link as records
from aed import ring
from aed.errors import RemoteError
from aed.link import Link, Rings
from aed.sandbox.launch import launch
from aed.sandbox.plan import Plan
from aed.sandbox.signals import signal_worker
from aed.session.door import Framing
from aed.session.loop import READ, WRITE, Callback, Loop
from aed.session.streams import Incoming, Outgoing
from aed.wire.messages import Exited, messages, stderr, stdio

PIPE_SIZE = 256 * 1024


class Owner(Protocol):
    """What a worker needs of its session."""

    link: Link
    loop: Loop

    def notice(self, text: str) -> None: ...

    def worker_ended(self, worker: Worker, report: Exited) -> None: ...

    def worker_finished(self, worker: Worker) -> None: ...


class Pipe:
    """A descriptor of ours and what it is watched for."""

    def __init__(self, loop: Loop, fd: int, callback: Callback) -> None:
        self.loop = loop
        self.fd = fd
        self.events = 0
        self.callback = callback

    def want(self, events: int) -> None:
        """Be called for `events`, or not at all."""
        if self.fd < 0 or events == self.events:
            return
        self.loop.watch(self.fd, events, self.callback)
        self.events = events

    def close(self) -> None:
        if self.fd >= 0:
            self.want(0)
            os.close(self.fd)
            self.fd = -1


class Worker:
    """A started worker. Everything is released when it has ended and the client has all its output."""

    def __init__(self, owner: Owner, number: int, plan: Plan, *, rings: Rings, window: int, stdin: bool, door: socket.socket) -> None:
        """Raises `Unavailable` or OSError if it could not be started; nothing is left then but `door`, which stays the caller's."""
        self.owner = owner
        self.number = number
        self.account = plan.account
        self.profile = plan.profile
        self.door: socket.socket | None = None
        self.started = time.monotonic()
        self.exited = False
        self.released = False
        arena_fd, self.arena = ring.create(rings.sizes())
        try:
            self.pid = self._launch(plan, stdin=stdin)
        except BaseException:
            os.close(arena_fd)
            self.arena.close()
            raise
        self.door = door
        owner.link.send(records.opening(number, window, rings), (arena_fd,))
        os.close(arena_fd)
        self._connect_streams()

    def _launch(self, plan: Plan, *, stdin: bool) -> int:
        opened: list[int] = []

        def pipe(flags: int) -> tuple[int, int]:
            ends = os.pipe2(os.O_CLOEXEC | flags)
            opened.extend(ends)
            return ends

        try:
            out_ours, out_theirs = pipe(0)
            err_ours, err_theirs = pipe(0)
            if stdin:
                in_theirs, in_ours = pipe(0)
            else:
                in_theirs, in_ours = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
                opened.append(in_theirs)
            with contextlib.suppress(OSError):  # a smaller pipe works too
                _set_pipe_size(out_ours)
                if stdin:
                    _set_pipe_size(in_ours)
            pid = launch(plan, in_theirs, out_theirs, err_theirs)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        for fd in (in_theirs, out_theirs, err_theirs):
            os.close(fd)
        for fd in (in_ours, out_ours, err_ours):
            if fd >= 0:
                os.set_blocking(fd, False)
        self.in_fd, self.out_fd, self.err_fd = in_ours, out_ours, err_ours
        return pid

    def _connect_streams(self) -> None:
        loop = self.owner.loop
        stdin_ring, stdout_ring, stderr_ring, down_ring, up_ring = self.arena.rings
        io, err, msg = stdio(self.number), stderr(self.number), messages(self.number)
        self.stdin = Incoming(stdin_ring, self._teller(records.CONSUMED, io))
        self.stdout = Outgoing(stdout_ring, self._teller(records.PRODUCED, io), self._teller(records.ENDED, io))
        self.stderr = Outgoing(stderr_ring, self._teller(records.PRODUCED, err), self._teller(records.ENDED, err))
        self.down = Incoming(down_ring, self._teller(records.CONSUMED, msg))
        self.up = Outgoing(up_ring, self._teller(records.PRODUCED, msg), self._teller(records.ENDED, msg))
        self.up_framing, self.down_framing = Framing(), Framing()
        self.outgoing = {io: self.stdout, err: self.stderr, msg: self.up}
        self.incoming = {io: self.stdin, msg: self.down}
        self.actions = {records.ACKED: self.on_acked, records.FILLED: self.on_filled, records.ENDED: self.on_ended, records.RESET: self.on_reset}
        self.in_pipe = Pipe(loop, self.in_fd, lambda _: self._pump_stdin())
        self.out_pipe = Pipe(loop, self.out_fd, lambda _: self._pump(self.out_pipe, self.stdout))
        self.err_pipe = Pipe(loop, self.err_fd, lambda _: self._pump(self.err_pipe, self.stderr))
        self.talk = Pipe(loop, -1, self._on_talk)
        assert self.door is not None
        self.door_pipe = Pipe(loop, self.door.fileno(), lambda _: self._admit())
        for pipe in (self.out_pipe, self.err_pipe, self.door_pipe):
            pipe.want(READ)

    def _teller(self, kind: int, channel: int) -> Callable[[int], None]:
        note = self.owner.link.note
        return lambda offset: note(kind, channel, offset)

    # Output and input.

    def _pump(self, pipe: Pipe, stream: Outgoing) -> None:
        if pipe.fd < 0:
            return
        if stream.full:
            pipe.want(0)
            return
        if stream.read_from(pipe.fd) == 0:
            pipe.close()
            stream.finish()
            self._release_if_done()

    def _pump_stdin(self) -> None:
        if self.in_pipe.fd < 0:
            self.stdin.discard()
            return
        try:
            emptied = self.stdin.write_to(self.in_pipe.fd)
        except BrokenPipeError:
            self.in_pipe.close()
            self.stdin.discard()
            self.owner.link.note(records.RESET, stdio(self.number), 0)
            return
        if self.stdin.at_end:
            self.in_pipe.close()
        else:
            self.in_pipe.want(0 if emptied else WRITE)

    # Net's reports.

    def on_acked(self, channel: int, offset: int) -> None:
        stream = self.outgoing.get(channel)
        if stream is None:
            raise RemoteError(f"net acknowledged channel {channel}, which goes the other way")
        stream.on_acked(offset)
        self._resume(stream)
        self._release_if_done()

    def on_reset(self, channel: int, _: int) -> None:
        """The client reads this stream no more: the worker's next write fails, as with a broken pipe."""
        stream = self.outgoing.get(channel)
        if stream is None:
            return
        if stream is self.stdout:
            self.out_pipe.close()
        elif stream is self.stderr:
            self.err_pipe.close()
        stream.drop()
        if stream is self.up:
            self._end_talk()
        self._release_if_done()

    def _resume(self, stream: Outgoing) -> None:
        if stream.full or stream.finished:
            return
        if stream is self.stdout:
            self.out_pipe.want(READ)
        elif stream is self.stderr:
            self.err_pipe.want(READ)
        else:
            self._watch_talk()

    def on_filled(self, channel: int, offset: int) -> None:
        stream = self.incoming.get(channel)
        if stream is None:
            raise RemoteError(f"net filled channel {channel}, which goes the other way")
        stream.on_filled(offset)
        self._deliver(stream)

    def on_ended(self, channel: int, offset: int) -> None:
        stream = self.incoming.get(channel)
        if stream is None:
            raise RemoteError(f"net ended channel {channel}, which goes the other way")
        stream.on_ended(offset)
        self._deliver(stream)

    def _deliver(self, stream: Incoming) -> None:
        if stream is self.stdin:
            self._pump_stdin()
        else:
            self._pump_down()

    # The door to the master.

    def _admit(self) -> None:
        """Let the worker's program in: one connection at a time, the next when this one is gone."""
        if self.door is None or self.talk.fd >= 0 or self.up.finished:
            return
        try:
            connection, _ = self.door.accept()
        except OSError:
            return
        connection.setblocking(False)
        self.door_pipe.want(0)
        self.talk.fd = connection.detach()
        self._watch_talk()
        self._pump_down()

    def _watch_talk(self) -> None:
        wanted = (0 if self.up.full else READ) | (WRITE if self.down.waiting else 0)
        self.talk.want(wanted)

    def _on_talk(self, events: int) -> None:
        if events & ~WRITE:
            self._pump_up()
        if events & WRITE:
            self._pump_down()

    def _pump_up(self) -> None:
        if self.talk.fd < 0 or self.up.full:
            return
        try:
            size = self.up.read_from(self.talk.fd, check=self.up_framing.feed)
        except RemoteError as error:
            self.owner.notice(f"worker {self.number}: {error}: its channel is closed")
            size = 0
        if size == 0:
            self._close_talk()
        elif size:
            self._watch_talk()

    def _pump_down(self) -> None:
        if self.up.finished:
            self.down.discard()
            return
        if self.talk.fd < 0 or not self.down.waiting:
            return
        at = self.down.consumed
        gone = False
        try:
            self.down.write_to(self.talk.fd)
        except BrokenPipeError:
            gone = True
        try:
            while at < self.down.consumed:
                part = self.down.ring.span(at, self.down.consumed)
                self.down_framing.feed(part)
                at += len(part)
        except RemoteError:
            self._end_talk()  # a length over the cap: it ends this channel, not the session
            return
        if gone:
            self._close_talk()
        else:
            self._watch_talk()

    def _close_talk(self) -> None:
        self.talk.close()
        if self.exited or not (self.up_framing.whole and self.down_framing.whole):
            self._end_talk()  # what follows a torn message could not be told from it
        else:
            self.door_pipe.want(READ)

    def _end_talk(self) -> None:
        self.talk.close()
        if self.door is not None:
            self.door_pipe.want(0)
            self.door.close()
            self.door = None
        self.up.finish()
        self.down.discard()
        self._release_if_done()

    # The end.

    def signal(self, number: int) -> None:
        """Send a signal to the worker's process group, as its account."""
        if not self.exited:
            signal_worker(self.pid, number, self.account, profile=self.profile)

    def kill(self) -> None:
        """End it and all that is in its sandbox."""
        self.signal(signal.SIGKILL)

    def on_exit(self, status: int, usage: resource.struct_rusage) -> None:
        """Its process was reaped."""
        self.exited = True
        self.in_pipe.close()
        report = Exited(
            worker=self.number,
            status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            text="",
            cpu=int((usage.ru_utime + usage.ru_stime) * 1e6),
            wall=int((time.monotonic() - self.started) * 1e6),
            memory=usage.ru_maxrss,
        )
        self._admit()  # a program that connected, wrote and ended before we looked
        if self.talk.fd < 0:
            self._end_talk()
        self.owner.worker_ended(self, report)
        self._release_if_done()

    def _release_if_done(self) -> None:
        if self.exited and not self.released and self.stdout.delivered and self.stderr.delivered and self.up.delivered:
            self.release()
            self.owner.worker_finished(self)

    def release(self) -> None:
        """Let go of descriptors and memory."""
        self.released = True
        for pipe in (self.in_pipe, self.out_pipe, self.err_pipe, self.talk):
            pipe.close()
        if self.door is not None:
            self.door_pipe.want(0)
            self.door.close()
            self.door = None
        self.outgoing.clear()
        self.incoming.clear()
        for stream in (self.stdin, self.stdout, self.stderr, self.down, self.up):
            del stream.ring
        self.arena.close()


def _set_pipe_size(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


def exit_word(report: Exited) -> dict[str, Any]:
    """A worker's end for the audit record."""
    return {
        "worker": report.worker,
        "status": report.status,
        "signal": report.signal,
        "cpu_seconds": report.cpu / 1e6,
        "wall_seconds": report.wall / 1e6,
        "peak_memory_kib": report.memory,
    }
