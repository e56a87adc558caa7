"""A run: workers on one or more nodes, their output here, our input to worker 0, messages to and from the master, one exit status.

Lives here: the client's loop and what each message means to the user. Must not live here: login, TLS, the command line.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from aeclient import records
from aeclient.delivery import Delivery
from aeclient.login import one_line
from aeclient.loop import READ, WRITE, Loop
from aeclient.node import WINDOW, Node, Worker
from aed.errors import RemoteError
from aed.wire.frames import Frame, Piece
from aed.wire.messages import (
    Ack,
    End,
    Exited,
    Fault,
    Goodbye,
    Message,
    Notice,
    NotStarted,
    Ping,
    Pong,
    Reset,
    Signal,
    Start,
    Started,
    messages,
    stdio,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from aeclient.login import Session
    from aeclient.master import MasterLink
    from aeclient.order import Order
    from aeclient.output import Sink

OWN_FAILURE = 255
READ_SIZE = 1 << 18
KEEPALIVE = 15.0
KEEPALIVE_COUNT = 4
ACK_DELAY = 0.02
FORWARDED = {signal.Signals[f"SIG{name}"]: name for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2")}


class Run:
    """`counts[i]` workers on `sessions[i]`, numbered round-robin. `say` prints one line for the user on standard error."""

    def __init__(self, sessions: list[Session], counts: list[int], order: Order, master: MasterLink | None, say: Callable[[str], None]) -> None:
        self.order = order
        self.master = master
        self.say = say
        self.loop = Loop()
        self.nodes = [Node(session) for session in sessions]
        self.workers = self._spread(counts)
        self.unfinished = list(self.workers.values())
        self.many = len(self.workers) > 1
        self.delivery = Delivery(self.workers, self._swamped, self._output_failed)
        # Made once: the loop is asked at every turn, and a byte there and back is two.
        self.node_callbacks = [(node, self._node_callback(node)) for node in self.nodes]
        self.sink_callbacks = [(sink, self._sink_callback(sink)) for sink in (self.delivery.out, self.delivery.err) if not sink.plain]
        self.decoders: dict[int, records.MessageDecoder] = {}
        self.down: dict[int, bytearray] = {}
        self.first_failure: int | None = None
        self.input_open = False
        self.input = memoryview(bytearray(READ_SIZE))
        self.interrupts = 0
        for worker in self.workers.values():
            self.decoders[worker.number] = records.MessageDecoder()
            self.down[worker.number] = bytearray()

    def _spread(self, counts: list[int]) -> dict[int, Worker]:
        """Round-robin over the nodes, until each has its count."""
        left = list(counts)
        workers: dict[int, Worker] = {}
        while any(left):
            for at, node in enumerate(self.nodes):
                if left[at]:
                    left[at] -= 1
                    number = len(workers)
                    workers[number] = Worker(number, node, stdin=number == 0 and self.order.stdin)
        return workers

    # The loop.

    def go(self) -> int:
        """Start everything, loop until all has ended, give the exit status."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        self.loop.want(wake_read, READ, lambda _: self._on_signals(os.read(wake_read, 4096)))
        try:
            self._loop()
        finally:
            signal.set_wakeup_fd(-1)
            self.delivery.restore()
        for node in self.nodes:
            node.send(Goodbye(fault=Fault.NONE, reason="done", text=""))
            node.close()
        status = self.first_failure or 0
        if self.master is not None:
            ended = self.master.finish(status)
            status = status or ended
        return status

    def _loop(self) -> None:
        for worker in self.workers.values():
            worker.node.send(self._start(worker))
        for node in self.nodes:
            for frame in node.session.early:
                self._on_frame(node, frame)
        next_keepalive = time.monotonic() + KEEPALIVE
        while not self._over():
            self._set_events()
            wait = next_keepalive - time.monotonic()
            if not self.loop.turn(min(wait, ACK_DELAY) if self.delivery.unacked else wait):
                self.delivery.ack_rest()
            if time.monotonic() >= next_keepalive:
                next_keepalive = time.monotonic() + KEEPALIVE
                self._keepalive()

    def _start(self, worker: Worker) -> Start:
        names = tuple(self.order.environment)
        return Start(
            worker=worker.number,
            workers=len(self.workers),
            run=self.order.run,
            argv=self.order.argv,
            shell=self.order.shell,
            names=names,
            values=tuple(self.order.environment[name] for name in names),
            profile=self.order.profile,
            inputs=self.order.inputs,
            stdin=worker.wants_stdin,
            window=WINDOW,
        )

    def _over(self) -> bool:
        while self.unfinished and self.unfinished[-1].finished:
            self.unfinished.pop()
        return not self.unfinished and not self.delivery.pending

    def _set_events(self) -> None:
        """What each descriptor is watched for now. Output that waits, and a slow master, stop us from acknowledging, not from reading."""
        for node, on_node in self.node_callbacks:
            if node.gone is None:
                self.loop.want(node.fd, READ | (WRITE if node.pending else 0), on_node)
        for sink, on_sink in self.sink_callbacks:
            self.loop.want(sink.fd, WRITE if sink.pending else 0, on_sink)
        if self.master is not None and not self.master.closed:
            self.loop.want(self.master.sock.fileno(), READ | (WRITE if self.master.pending else 0), self._on_master)
        if self.input_open:
            worker = self.workers[0]
            self.loop.want(0, READ if worker.stdin.room > 0 and not worker.node.pending else 0, self._on_input)

    def _node_callback(self, node: Node) -> Callable[[int], None]:
        return lambda events: self._on_node(node, events)

    def _sink_callback(self, sink: Sink) -> Callable[[int], None]:
        return lambda _: self.delivery.flush(sink)

    # The nodes' side.

    def _on_node(self, node: Node, events: int) -> None:
        if events & WRITE:
            node.flush()
        if events & READ:
            for item in node.receive():
                try:
                    if isinstance(item, Piece):
                        self._on_piece(node, item)
                    else:
                        self._on_frame(node, item)
                except RemoteError as error:
                    node.lose(f"the node broke the protocol: {error}")
                    break
        if node.gone is not None:
            self._lost(node, node.gone)

    def _lost(self, node: Node, why: str) -> None:
        self.loop.want(node.fd, 0, self._node_callback(node))
        waiting = [worker for worker in self.workers.values() if worker.node is node and not worker.finished]
        if waiting:
            self.say(f"{node.name}: {why}; {len(waiting)} of its workers had not ended, and the node ends them")
        for worker in waiting:
            self._ended(worker, OWN_FAILURE, "")
            for stream in worker.incoming.values():
                stream.end = stream.received
            self._end_input(worker)

    def _on_piece(self, node: Node, piece: Piece) -> None:
        worker = self._worker(node, piece.channel // 4)
        stream = worker.incoming.get(piece.channel)
        if stream is None:
            raise RemoteError(f"bytes on channel {piece.channel}")
        stream.on_data(piece.offset, len(piece.data))
        if piece.channel == messages(worker.number):
            self._take_messages(worker, piece.data)
        else:
            self.delivery.put(piece.channel, piece.data)
        self.delivery.ack(piece.channel)

    def _worker(self, node: Node, number: int) -> Worker:
        worker = self.workers.get(number)
        if worker is None or worker.node is not node:
            raise RemoteError(f"word of worker {number}, which is not there")
        return worker

    def _on_frame(self, node: Node, frame: Frame) -> None:
        message = frame.decode()
        if isinstance(message, Ack):
            worker = self._worker(node, frame.channel // 4)
            (worker.stdin if frame.channel == stdio(worker.number) else worker.to_worker).on_ack(message)
            self._send_down(worker)
        elif isinstance(message, End):
            worker = self._worker(node, frame.channel // 4)
            self._on_end(worker, frame.channel, message)
        elif isinstance(message, Reset):
            worker = self._worker(node, frame.channel // 4)
            if frame.channel == stdio(worker.number):
                worker.wants_stdin = False
                self._close_input(worker)
        else:
            self._on_control(node, message)

    def _on_control(self, node: Node, message: Message) -> None:
        if isinstance(message, Started):
            worker = self._worker(node, message.worker)
            worker.started = True
            worker.stdin.limit = worker.to_worker.limit = message.window
            for stream in worker.incoming.values():
                stream.step = min(WINDOW, message.window) // 4
            self._tell_master(records.STARTED, worker)
            self.delivery.started(worker)
            if worker.wants_stdin:
                self.input_open = True
            self._send_down(worker)
            self._progress()
        elif isinstance(message, NotStarted):
            worker = self._worker(node, message.worker)
            self.say(f"{node.name}: worker {worker.number} was not started: {one_line(message.text)}")
            self._ended(worker, OWN_FAILURE, message.text)
        elif isinstance(message, Exited):
            worker = self._worker(node, message.worker)
            if message.text:
                self.say(f"{node.name}: worker {worker.number}: {one_line(message.text)}")
            self._end_input(worker)
            self._ended(worker, 128 + message.signal if message.signal else message.status, message.text)
        elif isinstance(message, Ping):
            node.send(Pong(cookie=message.cookie))
        elif isinstance(message, Notice):
            self.say(f"{node.name}: {one_line(message.text)}")
        elif isinstance(message, Goodbye):
            node.lose(one_line(message.text or message.reason))

    def _on_end(self, worker: Worker, channel: int, end: End) -> None:
        stream = worker.incoming.get(channel)
        if stream is None:
            raise RemoteError(f"the end of channel {channel}")
        stream.on_end(end.offset)
        self.delivery.end(channel)
        self.delivery.ack(channel)

    def _ended(self, worker: Worker, status: int, text: str) -> None:
        if worker.status is not None:
            return
        worker.status = status
        self._tell_master(records.EXITED, worker, records.pack_status(status, text))
        if status and self.first_failure is None:
            self.first_failure = status
            if self.many and not text:
                self.say(f"worker {worker.number} on {worker.node.name} ended with status {status}")
            if self.order.kill_on_failure:
                for other in self.workers.values():
                    self._signal(other, "KILL")
        self._progress()

    def _signal(self, worker: Worker, name: str) -> None:
        if worker.started and worker.status is None:
            worker.node.send(Signal(worker=worker.number, name=name))

    def _output_failed(self, text: str) -> None:
        self.first_failure = self.first_failure or OWN_FAILURE
        self.say(text)

    # Our input.

    def _on_input(self, _: int) -> None:
        worker = self.workers[0]
        try:
            # One buffer for all: nothing of the last read is waiting any more, or we would not be called.
            size = os.readv(0, [self.input[: worker.stdin.room]])
        except OSError:
            size = 0
        if size:
            worker.node.send_data(stdio(0), worker.stdin, self.input[:size])
        else:
            self._close_input(worker)

    def _close_input(self, worker: Worker) -> None:
        """Half-close: our end of the worker's standard input."""
        if self.input_open and worker.number == 0:
            self.input_open = False
            self.loop.want(0, 0, self._on_input)
        if worker.started and worker.status is None and not worker.stdin.ended and worker.number == 0:
            worker.stdin.ended = True
            worker.node.send(End(offset=worker.stdin.sent), stdio(worker.number))

    def _end_input(self, worker: Worker) -> None:
        """The worker is gone: what is still typed is not for it."""
        worker.stdin.ended = True
        if worker.number == 0 and self.input_open:
            self.input_open = False
            self.loop.want(0, 0, self._on_input)

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            name = FORWARDED.get(signal.Signals(number))
            if name is None:
                continue
            self.interrupts += number == signal.SIGINT
            if self.interrupts >= 3:
                self.say("interrupted three times: the workers are killed")
                name = "KILL"
            for worker in self.workers.values():
                self._signal(worker, name)

    # The master.

    def _take_messages(self, worker: Worker, data: memoryview) -> None:
        if self.master is None:
            return
        for payload in self.decoders[worker.number].feed(bytes(data)):
            self._tell_master(records.MESSAGE, worker, payload)

    def _swamped(self) -> bool:
        return self.master is not None and self.master.swamped

    def _tell_master(self, kind: int, worker: Worker, payload: bytes = b"") -> None:
        if self.master is not None:
            self.master.send(kind, worker.number, payload)

    def _on_master(self, events: int) -> None:
        assert self.master is not None
        fd = self.master.sock.fileno()
        if events & WRITE:
            self.master.flush()
            if not self.master.swamped:
                for worker in self.workers.values():
                    self.delivery.ack(messages(worker.number))
        if events & READ:
            for number, payload in self.master.receive():
                targets = list(self.workers.values()) if number == records.ALL_WORKERS else [self.workers[number]] if number in self.workers else []
                for worker in targets:
                    self.down[worker.number] += records.pack_message(payload)
                    self._send_down(worker)
        if self.master.closed:
            self.loop.want(fd, 0, self._on_master)
            for worker in self.workers.values():
                self.delivery.ack(messages(worker.number))

    def _send_down(self, worker: Worker) -> None:
        """Messages for a worker, as far as there is room; the rest goes with the next acknowledgement."""
        waiting = self.down[worker.number]
        if waiting and worker.started and worker.status is None and worker.to_worker.room > 0:
            size = min(len(waiting), worker.to_worker.room)
            worker.node.send_data(messages(worker.number), worker.to_worker, bytes(waiting[:size]))
            del waiting[:size]

    # Time.

    def _keepalive(self) -> None:
        for node in self.nodes:
            if node.gone is not None:
                continue
            node.silent = 0 if node.heard else node.silent + 1
            node.heard = False
            if node.silent > KEEPALIVE_COUNT:
                self._lost(node, f"no word from the node for {node.silent * KEEPALIVE:.0f} s")
            elif node.silent:
                node.send(Ping(cookie=node.silent))

    def _progress(self) -> None:
        if not self.order.progress:
            return
        started = sum(worker.started for worker in self.workers.values())
        ended = sum(worker.status is not None for worker in self.workers.values())
        end = "\n" if ended == len(self.workers) else ""
        sys.stderr.write(f"\r{len(self.workers)} workers: {started} started, {ended} ended\x1b[K{end}")
        sys.stderr.flush()
