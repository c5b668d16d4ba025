"""Worker processes: start, talk, kill, reap.

A worker is ours, and reads bytes of guests that are not: so what it says is checked like a stranger's words. It identifies
itself first and once, with the name it was given; it speaks only of jobs that it was sent, under the epoch it was sent, and
of each until it has concluded it. Anything else ends that worker; the job that it had goes back to the queue. Nothing that a
worker sends may raise out of here.
"""

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

import casparian
from casparian import processes
from casparian.display import show
from casparian.errors import ProtocolError
from casparian.paths import Home
from casparian.protocol import worker as messages
from casparian.protocol.frame import TO_SENTINEL, Frame, FrameDecoder, Opcode, encode
from casparian.sentinel.events import (
    Event,
    WorkerBeat,
    WorkerConcluded,
    WorkerGone,
    WorkerIdentified,
    WorkerPrepared,
)

_READ_BYTES: Final = 256 * 1024
_TEXT_CHARACTERS_MAX: Final = 4_096
_LOG = logging.getLogger(__name__)


class _Worker:
    def __init__(
        self, worker_id: str, process: subprocess.Popen[bytes], channel: socket.socket
    ) -> None:
        self.worker_id = worker_id
        self.process = process
        self.channel = channel
        self.pidfd = os.pidfd_open(process.pid)
        self.decoder = FrameDecoder(TO_SENTINEL)
        self.outgoing: deque[memoryview] = deque()
        self.identified = False
        self.jobs: set[tuple[int, int]] = (
            set()
        )  # (job, epoch) that it was sent and has not concluded
        self.environments: set[str] = set()  # that it was asked for and has not settled
        self.fault: str | None = None  # how it broke the protocol


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

    def send(
        self,
        worker_id: str,
        message: messages.Dispatch | messages.Abort | messages.PrepareEnvironment,
    ) -> None:
        """Queue a message; a worker that is gone is noticed by its end."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        match message:
            case messages.Dispatch():
                opcode, number = Opcode.DISPATCH, message.job_id
                worker.jobs.add((message.job_id, message.epoch))
            case messages.Abort():
                opcode, number = Opcode.ABORT, message.job_id
            case messages.PrepareEnvironment():
                opcode, number = Opcode.PREPARE_ENV, 0
                worker.environments.add(message.env_hash)
        frame = encode(opcode, messages.encode(message), number=number)
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
        if mask & selectors.EVENT_WRITE and worker.channel.fileno() >= 0:
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
            self._deaf(worker)  # a worker without a channel is of no use
            return []
        return self._hear(worker, data)

    def _hear(self, worker: _Worker, data: bytes) -> list[Event]:
        """Events of what a worker sent; those before a fault still count."""
        events: list[Event] = []
        try:
            for frame in worker.decoder.feed(data):
                event = _event(worker, frame)
                if event is not None:
                    events.append(event)
        except ProtocolError as error:
            worker.fault = error.message
        except Exception as error:  # noqa: BLE001 - it costs one worker its life, never the loop
            worker.fault = f"{type(error).__name__}: {error}"
        if worker.fault is not None:
            _LOG.error(
                "a worker broke the protocol: %s",
                show(worker.fault[:_TEXT_CHARACTERS_MAX]),
                extra={"fields": {"worker": worker.worker_id}},
            )
            self._deaf(worker)
        return events

    def _deaf(self, worker: _Worker) -> None:
        """Listen no more, and kill: its end is the next that is heard of it."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel)
        worker.outgoing.clear()
        self.kill(worker.worker_id)

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
        if worker.fault is not None:
            reason = f"it broke the protocol: {show(worker.fault[:_TEXT_CHARACTERS_MAX])}"
        return [*events, WorkerGone(worker_id=worker.worker_id, reason=reason)]

    def _drain(self, worker: _Worker) -> list[Event]:
        """What a worker said before it ended still counts, unless it broke the protocol."""
        events: list[Event] = []
        while worker.fault is None:
            try:
                data = worker.channel.recv(_READ_BYTES)
            except OSError:
                return events
            if not data:
                return events
            events += self._hear(worker, data)
        return events

    def _forget(self, worker: _Worker) -> None:
        self._workers.pop(worker.worker_id, None)
        for descriptor in (worker.channel, worker.pidfd):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
        worker.channel.close()
        os.close(worker.pidfd)


def _event(worker: _Worker, frame: Frame) -> Event | None:
    """What a frame means, if it may come now.

    Raises:
        ProtocolError: it is malformed, or about something that this worker was not asked.
    """
    match frame.opcode:
        case Opcode.IDENTIFY:
            _identify(worker, messages.decode(frame.payload, messages.Identify))
            return WorkerIdentified(worker_id=worker.worker_id)
        case Opcode.HEARTBEAT:
            beat = messages.decode(frame.payload, messages.Heartbeat)
            _check_job(worker, frame, beat)
            return WorkerBeat(worker_id=worker.worker_id, beat=beat)
        case Opcode.CONCLUDE:
            conclude = messages.decode(frame.payload, messages.Conclude)
            _check_job(worker, frame, conclude)
            worker.jobs.discard((conclude.job_id, conclude.epoch))
            return WorkerConcluded(worker_id=worker.worker_id, conclude=conclude)
        case Opcode.ENV_READY:
            ready = messages.decode(frame.payload, messages.EnvironmentReady)
            if frame.number or not worker.identified or ready.env_hash not in worker.environments:
                raise ProtocolError(
                    "ENV_READY of an environment that it was not asked for", code="protocol.job"
                )
            if ready.state != "building":
                worker.environments.discard(ready.env_hash)
            return WorkerPrepared(worker_id=worker.worker_id, ready=ready)
        case Opcode.ERR:
            error = messages.decode(frame.payload, messages.WorkerError)
            _LOG.error(
                "worker: %s",
                show(error.message[:_TEXT_CHARACTERS_MAX]),
                extra={"fields": {"worker": worker.worker_id, "code": show(error.code[:64])}},
            )
            return None
        case _:
            raise ProtocolError(f"a worker sent {frame.opcode.name}", code="protocol.opcode")


def _identify(worker: _Worker, identify: messages.Identify) -> None:
    if worker.identified:
        raise ProtocolError("it identified itself twice", code="protocol.order")
    if identify.worker_id != worker.worker_id:
        raise ProtocolError(
            f"it calls itself `{identify.worker_id[:64]}`, it was started as `{worker.worker_id}`",
            code="protocol.identity",
        )
    if identify.version != casparian.__version__:
        raise ProtocolError(
            f"it is of version {identify.version[:64]}, the sentinel of {casparian.__version__}",
            code="protocol.version",
        )
    worker.identified = True


def _check_job(
    worker: _Worker, frame: Frame, message: messages.Heartbeat | messages.Conclude
) -> None:
    if frame.number != message.job_id:
        raise ProtocolError(
            f"a header of job {frame.number} over a message about job {message.job_id}",
            code="protocol.number",
        )
    if not worker.identified or (message.job_id, message.epoch) not in worker.jobs:
        raise ProtocolError(
            f"{frame.opcode.name} of job {message.job_id}, epoch {message.epoch}: it has no such job",
            code="protocol.job",
        )
