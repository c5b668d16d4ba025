"""The worker process: identify, then one job after another until the sentinel is gone.

An aborted job is answered with a receipt of code `job.aborted` and no files: it says that the guests are reaped and the stage is
removed. A message that is not in the protocol is answered with ERR, and the process ends with 1. SIGINT is ignored (a terminal's
ctrl-C reaches the whole group); SIGTERM kills the guests and ends the process with 0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

import casparian
from casparian import log
from casparian.errors import ProtocolError
from casparian.paths import Home
from casparian.protocol.frame import PAYLOAD_BYTES_MAX, Opcode
from casparian.protocol.worker import (
    Conclude,
    Dispatch,
    EnvironmentReady,
    Identify,
    SourceProgress,
    WorkerError,
    decode,
    encode,
)
from casparian.worker import parser_files
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.channel import Channel, Job, Preparation, not_done
from casparian.worker.executor import ReportProgress, Services, execute
from casparian.worker.faults import JobFault
from casparian.worker.heartbeat import Heartbeats, Preparations

_log = logging.getLogger(__name__)


class Worker:
    """Serves one sentinel."""

    def __init__(self, home: Home, channel_fd: int, worker_id: str) -> None:
        self._worker_id = worker_id
        self._services = Services(home)
        self._channel = Channel(channel_fd, self._sentinel_gone)
        self._stopping = threading.Event()

    def serve(self) -> int:
        """Run until the sentinel or a signal ends it; the process's exit code."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._terminate)
        try:
            self._services.guests.start()
        except JobFault:  # each job will say so with its own code, where an operator looks
            _log.exception("no guest can be made yet")
        self._channel.start()
        identify = Identify(
            worker_id=self._worker_id, pid=os.getpid(), version=casparian.__version__
        )
        self._channel.send(Opcode.IDENTIFY, identify)
        try:
            while not self._stopping.is_set():
                job = self._channel.next_job()
                if job is None:
                    break
                if isinstance(job, Preparation):
                    self._prepare(job)
                else:
                    self._run(job)
        except ProtocolError as error:
            _log.exception("the sentinel broke the protocol")
            self._complain(error.code, error.message)
            return 1
        except Exception as error:  # noqa: BLE001 - the border of the process: recorded and reported
            _log.exception("a fault of the worker itself")
            self._complain("worker.bug", f"{type(error).__name__}: {error}")
            return 1
        finally:
            self._services.close()
        return 0

    def _run(self, job: Job) -> None:
        dispatch = job.dispatch
        fields = {"job_id": dispatch.job_id, "epoch": dispatch.epoch}
        _log.info("job begins", extra={"fields": {**fields, "sources": len(dispatch.sources)}})
        try:
            with Heartbeats(self._channel, dispatch) as beats:
                receipt = execute(dispatch, self._services, beats.report, job.cancellation)
        except Cancelled:
            receipt = not_done()
        finally:
            self._channel.done(job)
        _log.info("job ends", extra={"fields": {**fields, "code": receipt.code}})
        if self._stopping.is_set() or self._channel.broken:
            return
        conclude = Conclude(epoch=dispatch.epoch, job_id=dispatch.job_id, receipt=receipt)
        self._channel.send(Opcode.CONCLUDE, conclude, job_id=dispatch.job_id)

    def _prepare(self, asked: Preparation) -> None:
        """Have an environment ready, and say every second that it is under way."""
        env_hash = asked.request.env_hash
        answer: EnvironmentReady | None = None
        with Preparations(self._channel, env_hash) as said:
            try:
                found = self._services.environments.prepare(
                    env_hash, asked.request.requirements, asked.cancellation, said.report
                )
                answer = EnvironmentReady(
                    env_hash=env_hash, state="ready", size_bytes=found.record.size_bytes
                )
            except Cancelled:
                return
            except JobFault as fault:
                answer = EnvironmentReady(
                    env_hash=env_hash, state="failed", code=fault.code, message=fault.message
                )
            finally:
                self._channel.done(asked)
        if not (self._stopping.is_set() or self._channel.broken):
            self._channel.send(Opcode.ENV_READY, answer)

    def _complain(self, code: str, message: str) -> None:
        error = WorkerError(epoch=0, job_id=0, code=code, message=message)
        self._channel.send(Opcode.ERR, error)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping.set()
        self._channel.stop()

    def _sentinel_gone(self) -> NoReturn:
        # The zygote and its guests die with this process; killing them first makes it sooner.
        self._channel.cancel_current()
        os._exit(0)


def serve(home: Home, channel_fd: int, worker_id: str) -> int:
    """Run a worker on a stream socket; returns the exit code."""
    log.configure(home, f"worker-{worker_id}")
    return Worker(home, channel_fd, worker_id).serve()


def once(home: Home, progress_fd: int | None = None) -> int:
    """One Dispatch (MessagePack) from stdin, one Conclude (MessagePack) to stdout; files stay staged.

    `progress_fd` is a pipe that takes the bytes of sources that are done, a decimal number in each line; no guest has it.
    """
    log.configure(home, "worker-once")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dispatch = decode(sys.stdin.buffer.read(PAYLOAD_BYTES_MAX), Dispatch)
    cancellation = Cancellation()
    signal.signal(signal.SIGTERM, lambda *_: cancellation.set())
    services = Services(home, parser_files.as_the_caller_says(home))
    try:
        receipt = execute(dispatch, services, _teller(progress_fd), cancellation)
    except Cancelled:
        receipt = not_done()
    finally:
        services.close()
    conclude = Conclude(epoch=dispatch.epoch, job_id=dispatch.job_id, receipt=receipt)
    sys.stdout.buffer.write(encode(conclude))
    sys.stdout.buffer.flush()
    return 0


def _teller(progress_fd: int | None) -> ReportProgress:
    """Says each number that is new, or nothing where nobody asks."""
    said = -1

    def tell(progress: SourceProgress) -> None:
        nonlocal said
        if progress_fd is None or progress.bytes_done <= said:
            return
        said = progress.bytes_done
        with contextlib.suppress(OSError):  # whoever asked is gone; the answer matters more
            os.write(progress_fd, b"%d\n" % said)

    if progress_fd is not None:
        os.set_inheritable(progress_fd, False)
    return tell
