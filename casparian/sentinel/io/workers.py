"""Worker processes: start, talk, kill, reap."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
from collections import deque
from typing import Final

from casparian import processes
from casparian.errors import ProtocolError
from casparian.paths import Home
from casparian.protocol import worker as messages
from casparian.protocol.frame import Frame, FrameDecoder, Opcode, encode
from casparian.sentinel.events import (
    Event,
    WorkerBeat,
    WorkerConcluded,
    WorkerGone,
    WorkerIdentified,
)

_READ_BYTES: Final = 256 * 1024
_LOG = logging.getLogger(__name__)


class _Worker:
    def __init__(
        self, worker_id: str, process: subprocess.Popen[bytes], channel: socket.socket
    ) -> None:
        self.worker_id = worker_id
        self.process = process
        self.channel = channel
        self.pidfd = os.pidfd_open(process.pid)
        self.decoder = FrameDecoder()
        self.outgoing: deque[memoryview] = deque()


class Workers:
    """Each worker has one socketpair to the sentinel; its end is also the worker's sign that the sentinel died."""

    def __init__(self, home: Home, selector: selectors.BaseSelector) -> None:
        self._home = home
        self._selector = selector
        self._workers: dict[str, _Worker] = {}

    def start(self, worker_id: str) -> None:
        """Start a worker process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            arguments = ("--channel-fd", str(theirs.fileno()), "--worker-id", worker_id)
            self._home.logs.mkdir(parents=True, exist_ok=True)
            with (self._home.logs / "workers.stderr").open("ab") as errors:
                process = subprocess.Popen(
                    processes.command("worker", self._home, *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=processes.host_environment(),
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        ours.setblocking(False)
        worker = _Worker(worker_id, process, ours)
        self._workers[worker_id] = worker
        self._selector.register(ours, selectors.EVENT_READ, lambda mask: self._ready(worker, mask))
        self._selector.register(
            worker.pidfd, selectors.EVENT_READ, lambda _mask: self._ended(worker)
        )

    def send(self, worker_id: str, message: messages.Dispatch | messages.Abort) -> None:
        """Queue a message; a worker that is gone is noticed by its end."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        opcode = Opcode.DISPATCH if isinstance(message, messages.Dispatch) else Opcode.ABORT
        frame = encode(opcode, messages.encode(message), number=message.job_id)
        worker.outgoing.append(memoryview(frame))
        self._watch(worker)

    def kill(self, worker_id: str) -> None:
        """SIGKILL; its guests die with it."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Kill and reap everything."""
        for worker in list(self._workers.values()):
            self.kill(worker.worker_id)
            worker.process.wait()
            self._forget(worker)

    def _watch(self, worker: _Worker) -> None:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.outgoing else 0)
        with contextlib.suppress(KeyError):
            self._selector.modify(worker.channel, mask, lambda m: self._ready(worker, m))

    def _ready(self, worker: _Worker, mask: int) -> list[Event]:
        events: list[Event] = []
        if mask & selectors.EVENT_READ:
            events = self._read(worker)
        if mask & selectors.EVENT_WRITE:
            self._write(worker)
        return events

    def _read(self, worker: _Worker) -> list[Event]:
        try:
            data = worker.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.channel)
            self.kill(worker.worker_id)  # a worker without a channel is of no use
            return []
        events: list[Event] = []
        try:
            for frame in worker.decoder.feed(data):
                event = _event(worker.worker_id, frame)
                if event is not None:
                    events.append(event)
        except ProtocolError:
            _LOG.exception(
                "a worker broke the protocol", extra={"fields": {"worker": worker.worker_id}}
            )
            self.kill(worker.worker_id)
        return events

    def _write(self, worker: _Worker) -> None:
        try:
            while worker.outgoing:
                sent = worker.channel.send(worker.outgoing[0])
                if sent == len(worker.outgoing[0]):
                    worker.outgoing.popleft()
                else:
                    worker.outgoing[0] = worker.outgoing[0][sent:]
        except BlockingIOError:
            return
        except OSError:
            worker.outgoing.clear()
        self._watch(worker)

    def _ended(self, worker: _Worker) -> list[Event]:
        events = self._drain(worker)
        code = worker.process.wait()
        self._forget(worker)
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return [*events, WorkerGone(worker_id=worker.worker_id, reason=reason)]

    def _drain(self, worker: _Worker) -> list[Event]:
        """What a worker said before it ended still counts."""
        events: list[Event] = []
        while True:
            try:
                data = worker.channel.recv(_READ_BYTES)
            except OSError:
                return events
            if not data:
                return events
            with contextlib.suppress(ProtocolError):
                events += [
                    e for f in worker.decoder.feed(data) if (e := _event(worker.worker_id, f))
                ]

    def _forget(self, worker: _Worker) -> None:
        self._workers.pop(worker.worker_id, None)
        for descriptor in (worker.channel, worker.pidfd):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
        worker.channel.close()
        os.close(worker.pidfd)


def _event(worker_id: str, frame: Frame) -> Event | None:
    match frame.opcode:
        case Opcode.IDENTIFY:
            messages.decode(frame.payload, messages.Identify)
            return WorkerIdentified(worker_id=worker_id)
        case Opcode.HEARTBEAT:
            beat = messages.decode(frame.payload, messages.Heartbeat)
            return WorkerBeat(worker_id=worker_id, beat=beat)
        case Opcode.CONCLUDE:
            conclude = messages.decode(frame.payload, messages.Conclude)
            return WorkerConcluded(worker_id=worker_id, conclude=conclude)
        case Opcode.ERR:
            error = messages.decode(frame.payload, messages.WorkerError)
            _LOG.error(
                "worker: %s",
                error.message,
                extra={"fields": {"worker": worker_id, "code": error.code}},
            )
            return None
        case _:
            raise ProtocolError(f"a worker sent {frame.opcode.name}", code="protocol.opcode")
