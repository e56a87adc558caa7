"""Workers' output on its way out: to our stdout and stderr, and the acknowledgements that follow it.

A byte is acknowledged when it has left this process, so what a slow reader leaves waiting is the node's to keep.
Lives here: channels to sinks, when to acknowledge. Must not live here: descriptors (`output`), messages to the master, the loop.
"""

from __future__ import annotations

from aeclient.output import Lines, Sink
from aed.wire.messages import Reset, stderr, stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from aeclient.node import Worker


class Delivery:
    """The output of `workers`. `swamped` says that the master takes no more messages now; `failed(text)` reports an output that cannot be written."""

    def __init__(self, workers: dict[int, Worker], swamped: Callable[[], bool], failed: Callable[[str], None]) -> None:
        self.out, self.err = Sink(1), Sink(2)
        self._workers = workers
        self._swamped = swamped
        self._failed = failed
        self._unacked: set[int] = set()
        self._sinks: dict[int, Sink] = {}
        self._lines: dict[int, Lines] = {}
        for number in workers:
            self._sinks |= {stdio(number): self.out, stderr(number): self.err}
            if len(workers) > 1:
                prefix = f"[{number}] ".encode()
                self._lines |= {stdio(number): Lines(prefix), stderr(number): Lines(prefix)}

    @property
    def pending(self) -> bool:
        """Something still waits to be written."""
        return self.out.pending or self.err.pending

    @property
    def unacked(self) -> bool:
        """Something was taken and not reported yet."""
        return bool(self._unacked)

    def put(self, channel: int, data: memoryview) -> None:
        """Bytes of a worker's output."""
        lines = self._lines.get(channel)
        self._write(self._sinks[channel], lines.feed(data) if lines is not None else data)

    def end(self, channel: int) -> None:
        """A worker's stream has ended: its last line may have had no newline."""
        if channel in self._lines:
            self._write(self._sinks[channel], self._lines[channel].end())

    def flush(self, sink: Sink) -> None:
        """The descriptor takes bytes again."""
        try:
            sink.flush()
        except OSError as error:
            self._cannot_write(sink, error)
        for channel, other in self._sinks.items():
            if other is sink:
                self.ack(channel)

    def started(self, worker: Worker) -> None:
        """A worker that starts late learns as well that nobody reads."""
        for sink in (self.out, self.err):
            if sink.closed:
                self._reset(worker, sink)

    def restore(self) -> None:
        """Leave our descriptors as they were."""
        for sink in (self.out, self.err):
            sink.restore()

    def _write(self, sink: Sink, data: memoryview | bytes) -> None:
        if sink.closed or not data:
            return
        try:
            sink.write(data)
        except OSError as error:
            self._cannot_write(sink, error)

    def _cannot_write(self, sink: Sink, error: OSError) -> None:
        """A closed pipe is the reader's own wish; anything else, as a full disk, is told. The workers' writes fail from now on."""
        sink.drop()
        if not isinstance(error, BrokenPipeError):
            self._failed(f"cannot write the {'output' if sink is self.out else 'errors'}: {error.strerror}")
        for worker in self._workers.values():
            self._reset(worker, sink)

    def _reset(self, worker: Worker, sink: Sink) -> None:
        channel = stdio(worker.number) if sink is self.out else stderr(worker.number)
        if worker.started and worker.incoming[channel].end is None:
            worker.node.send(Reset(), channel)

    # Acknowledgements.

    def ack(self, channel: int) -> None:
        """Report what has gone out, if it is much."""
        self._unacked.add(channel)
        self._report(channel, now=False)

    def ack_rest(self) -> None:
        """Report the rest."""
        for channel in tuple(self._unacked):
            self._report(channel, now=True)

    def _report(self, channel: int, *, now: bool) -> None:
        worker = self._workers[channel // 4]
        stream = worker.incoming[channel]
        sink = self._sinks.get(channel)
        if sink.pending if sink is not None else self._swamped():
            return
        ack = stream.due(stream.received, stream.received, now=now or stream.end is not None)
        if ack is not None:
            worker.node.send(ack, channel)
        if ack is not None or now:
            self._unacked.discard(channel)
