"""A session's life: login, then the loop over its link and its workers, then the end of all that is below it.

Lives here: the loop and the order of the end. Must not live here: decisions (`login`, `authorize`, `policy`), one worker's events (`workers`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from aed import link as records
from aed import privilege
from aed.errors import AedError, RemoteError, Unavailable
from aed.link import Link, Rings
from aed.model import Grant
from aed.sandbox.signals import end_descendants
from aed.session.context import Node, Peer
from aed.session.door import open_door, remove_door
from aed.session.login import Login, Over
from aed.session.loop import READ, WRITE, Loop
from aed.session.monitor import GRANTED, Monitor
from aed.session.policy import default_profile, max_workers, notice, plan_worker
from aed.session.workers import Worker, exit_word
from aed.wire.messages import Accept, Exited, Fault, Goodbye, Message, Notice, NotStarted, Signal, Start, Started, clip

HANGUP_TIME = 2.0
"""Seconds between SIGHUP and SIGKILL when the connection is gone."""
KILL_TIME = 3.0
"""Seconds between SIGKILL, sent with the account's rights, and the end of whatever is left, by root."""
SIGNALS = {name: signal.Signals[f"SIG{name}"] for name in ["HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "ALRM", "CONT", "STOP"]}
RECORDED_REFUSALS = 100
"""Refused Starts of a session that are recorded one by one: they cost the client nothing, and the record's disk is everybody's."""
SETTLED = 60.0
MAX_BACKLOG = 4096
"""Records that net has not taken: it always reads, so one that does not is not ours any more."""


class Session:
    """One granted session. `directory` is its own place in the runtime directory, root's. `private` below it and `temporary` in the scratch
    directory are the account's; only the first is shown to workers by its name."""

    def __init__(self, node: Node, link: Link, monitor: Monitor, grant: Grant, directory: str) -> None:
        self.node = node
        self.link = link
        self.monitor = monitor
        self.grant = grant
        self.audit = node.audit.for_session(grant.session)
        self.directory = directory
        self.private = os.path.join(directory, "private")
        self.temporary = os.path.join(node.scratch, grant.session)
        self.loop = Loop()
        self.workers: dict[int, Worker] = {}
        self.alive = 0
        self.refused = 0
        self.highest = -1
        self.ended_by: str | None = None
        self.kill_at: float | None = None
        self.killed = False
        self.waiting = False
        size = node.config["streams.ring_size"]
        self.rings = Rings(stdin=size, stdout=size, stderr=size, to_worker=size, from_worker=size)

    def worker_ended(self, worker: Worker, report: Exited) -> None:
        self.alive -= 1
        remove_door(self._door(worker.number), self.grant.account)
        self.send(report)
        self.record("worker_exited", **exit_word(report))

    def _door(self, number: int) -> str:
        return os.path.join(self.private, f"w{number}")

    def notice(self, text: str) -> None:
        """Tell the person."""
        self.send(Notice(text=clip(text)))

    def worker_finished(self, worker: Worker) -> None:
        self.workers.pop(worker.number, None)

    # The loop.

    def send(self, message: Message) -> None:
        """To the client, by way of net; that net is gone is noticed by reading."""
        with contextlib.suppress(OSError):
            self.link.send(records.message(message.code, 0, message.encode()))

    def record(self, event: str, **facts: Any) -> None:
        """A record after the login; the work goes on without it, but says so in the daemon's log."""
        try:
            self.audit.record(event, account=self.grant.account.name, group=self.grant.group.name, **facts)
        except Unavailable as error:
            print(f"aed-session {self.grant.session}: {event} not recorded: {error}", file=sys.stderr)

    def run(self) -> None:
        """Until the connection ends and no worker is left."""
        wake = self._take_signals()
        self.loop.watch(wake, READ, lambda _: self._on_signal(os.read(wake, 4096)))
        self.loop.watch(self.link.fileno(), READ, self._on_link)
        while self.ended_by is None or self.alive:
            self.loop.turn(None if self.kill_at is None else max(0.0, self.kill_at - time.monotonic()))
            self._flush()
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                if self.killed:
                    return  # what an account may not kill (a setuid program that became root), `end_descendants` may
                self.killed = True
                self.kill_at = time.monotonic() + KILL_TIME
                for worker in self.workers.values():
                    worker.kill()

    def _take_signals(self) -> int:
        """The descriptor that tells of signals."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        return wake_read

    def _on_signal(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self.send(Goodbye(fault=Fault.LOCAL, reason="stopped", text="the node is being stopped, and has ended the workers"))
            self.hang_up("the node is being stopped")
        by_pid = {worker.pid: worker for worker in self.workers.values() if not worker.exited}
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].on_exit(status, usage)  # any other is an orphan that came to us as the subreaper

    def _flush(self) -> None:
        """All that this turn brought goes to net at once."""
        if self.ended_by is not None:
            return
        with contextlib.suppress(OSError):
            waiting = not self.link.flush()
            if self.link.backlog > MAX_BACKLOG:
                self.hang_up("net does not read")
                return
            if waiting != self.waiting:
                self.waiting = waiting
                self.loop.watch(self.link.fileno(), READ | WRITE * waiting, self._on_link)

    def _on_link(self, _: int) -> None:
        """One record a turn: epoll comes back for the next, which costs less than asking in vain."""
        try:
            received = self.link.receive()
            if received is not None:
                record, descriptors = received
                for descriptor in descriptors:
                    os.close(descriptor)
                self._on_record(record)
        except (EOFError, OSError):
            self.hang_up("connection lost")
        except RemoteError as error:
            self.send(Goodbye(fault=Fault.REMOTE, reason="protocol", text=clip(str(error))))
            self.hang_up(f"protocol: {error}")

    def _on_record(self, record: bytes) -> None:
        kind = record[0]
        if kind in records.POSITIONS:
            for position in records.parse_positions(record):
                self._on_position(*position)
        elif kind == records.MESSAGE:
            self._on_message(self.monitor.admit(*records.parse_message(record)))
        elif kind == records.LOST:
            self.hang_up(record[1:].decode(errors="replace"))
        else:
            raise RemoteError(f"net sent record {kind:#x} after the login")

    def _on_position(self, kind: int, channel: int, offset: int) -> None:
        worker = self.workers.get(channel // 4)
        if worker is None or worker.released:
            if channel // 4 > self.highest:
                raise RemoteError(f"net speaks of channel {channel}, which never was")
            return  # a late word about a worker that has ended
        action = worker.actions.get(kind)
        if action is None:
            raise RemoteError(f"net sent position {kind:#x}, which is the session's to send")
        action(channel, offset)

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Signal):
            worker = self.workers.get(message.worker)
            if message.name not in SIGNALS:
                raise RemoteError(f"there is no signal {message.name!r} to send")
            if worker is not None:
                worker.signal(SIGNALS[message.name])
        elif isinstance(message, Goodbye):
            self.hang_up(f"goodbye: {message.reason}")

    def _start(self, start: Start) -> None:
        if start.worker <= self.highest:
            raise RemoteError(f"worker {start.worker} was started before")
        self.highest = start.worker
        path = self._door(start.worker)
        door = None
        try:
            plan = plan_worker(
                self.node, self.grant, start, private=self.private, temporary=self.temporary, door=path, alive=self.alive, held=len(self.workers)
            )
            door = open_door(path, self.grant.account)
            worker = Worker(self, start.worker, plan, rings=self.rings, window=start.window, stdin=start.stdin, door=door)
        except (AedError, OSError) as error:
            if door is not None:
                door.close()
                remove_door(path, self.grant.account)
            text = str(error) if isinstance(error, AedError) else f"the node could not start it: {error}"
            self.refused += 1
            if self.refused <= RECORDED_REFUSALS:
                self.record("worker_refused", worker=start.worker, reason=text)
            self.send(NotStarted(worker=start.worker, text=clip(text)))
            return
        self.workers[start.worker] = worker
        self.alive += 1
        self.send(Started(worker=start.worker, window=self.rings.stdin))
        command = [word.decode(errors="replace") for word in plan.argv] if plan.argv else (plan.shell_command or b"").decode(errors="replace")
        self.record("worker_started", worker=start.worker, run=start.run, pid=worker.pid, profile=plan.profile, command=command)

    # The end.

    def hang_up(self, why: str) -> None:
        """The connection is gone, or ends: nobody waits for the workers any more."""
        if self.ended_by is not None:
            return
        self.ended_by = why
        self.loop.forget(self.link.fileno())
        for worker in list(self.workers.values()):
            worker.signal(signal.SIGHUP)
            for channel in list(worker.outgoing):
                worker.on_reset(channel, 0)
        self.kill_at = time.monotonic() + HANGUP_TIME


def is_dead(directory: str) -> bool:
    """Whether no living session holds `directory`, nor is one just about to: a new directory is locked a moment after it is made."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if time.time() - os.fstat(descriptor).st_mtime < SETTLED:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def grant_session(node: Node, link: Link, login: Login, grant: Grant, runtime: str) -> Session:
    """Make the session's directory and tell the client. Raises OSError where the directory cannot be made."""
    directory = os.path.join(runtime, "sessions", grant.session)
    os.mkdir(directory, 0o711)
    fcntl.flock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_EX)  # held until this process ends
    session = Session(node, link, login.monitor, grant, directory)
    for path in (session.private, session.temporary):
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, grant.account.uid, grant.account.gid)
    login.monitor.phase = GRANTED
    login.send(
        Accept(
            session=grant.session,
            identity=str(grant.identity),
            account=grant.account.name,
            group=grant.group.name,
            groups=grant.groups,
            denied=grant.denied,
            profile=default_profile(node, grant),
            max_workers=max_workers(node, grant),
            notice=notice(node),
        )
    )
    return session


def main(node: Node, peer: Peer, link: Link, session_id: str, authenticated: Callable[[], None]) -> None:
    """The whole life of one session process, from the fork to its last line. `authenticated` frees the start-up slot and what only a login needs."""
    privilege.set_name("aed-session")
    privilege.set_undumpable()
    privilege.become_subreaper()
    keepalive = {"keepalive_interval": node.config["keepalive.interval"].total_seconds(), "keepalive_count": node.config["keepalive.count"]}
    setup = json.dumps({"chain": node.leaf.chain, "key": node.leaf.key, **keepalive}).encode()
    link.send(bytes([records.SETUP, records.VERSION]) + setup)
    login = Login(node, peer, link, Monitor(), session_id)
    session: Session | None = None
    try:
        grant = login.run()
        session = grant_session(node, link, login, grant, node.config["runtime_directory"])
    except Over as over:
        end_without_login(node, peer, login, over.reason, over.text, over.fault)
    except RemoteError as error:
        end_without_login(node, peer, login, f"protocol: {error}", str(error), Fault.REMOTE)
    except (AedError, OSError) as error:
        end_without_login(node, peer, login, str(error), "the node could not make the session: its log says why", Fault.LOCAL)
    finally:
        login.close()
    if session is None:
        return
    authenticated()
    started = time.monotonic()
    session.run()
    end_descendants()
    refused = {"workers_refused": session.refused} if session.refused else {}
    session.record("session_ended", reason=session.ended_by, seconds=round(time.monotonic() - started, 3), **refused)
    with contextlib.suppress(OSError):
        link.send(bytes([records.CLOSE]))


def end_without_login(node: Node, peer: Peer, login: Login, reason: str, text: str, fault: int) -> None:
    """Say why, where there is somebody to say it to, and record it."""
    with contextlib.suppress(AedError, OSError):
        if text:
            login.send(Goodbye(fault=fault, reason=clip(reason.split(":")[0]), text=clip(text)))
        login.link.send(bytes([records.CLOSE]))
    try:
        login.audit.record("no_login", peer=peer.address, reason=reason)
    except Unavailable as error:
        print(f"aed-session {login.session}: not recorded: {error}", file=sys.stderr)
