"""The worker's end of its channel to the sentinel: a thread reads, several threads may send.

Jobs are done one after another, in the order in which they were given; a few may wait. The reader never
blocks on a job: an abort takes effect while one runs, and one that waits is concluded without having begun.
When the channel ends, the sentinel is dead: guests are killed and the process ends at once, leaving its
stage for recovery.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from casparian.errors import ProtocolError
from casparian.protocol import frame
from casparian.protocol.frame import TO_WORKER, Frame, FrameDecoder, Opcode
from casparian.protocol.worker import (
    HELD_MAX,
    NOT_DONE,
    Abort,
    Conclude,
    Dispatch,
    PrepareEnvironment,
    Receipt,
    decode,
    encode,
)
from casparian.worker.cancel import Cancellation

_READ_BYTES: Final = 1024 * 1024


class Job(NamedTuple):
    """A dispatch and the means to cancel it, together from the moment it arrived."""

    dispatch: Dispatch
    cancellation: Cancellation


class Preparation(NamedTuple):
    """An environment that is asked for, and the means to stop."""

    request: PrepareEnvironment
    cancellation: Cancellation


def not_done() -> Receipt:
    """The receipt of a job that was called off."""
    return Receipt(
        sources=(), files=(), isolation={}, code=NOT_DONE, message="the job was cancelled"
    )


class Channel:
    """Frames to and from the sentinel.

    Args:
        descriptor: stream socket; owned from here on.
        on_end: called on the reading thread when the sentinel is gone; must not return.
    """

    def __init__(self, descriptor: int, on_end: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._on_end = on_end
        self._sending = threading.Lock()
        self._current: Job | Preparation | None = None
        self._waiting: dict[tuple[int, int], Job] = {}  # by job and epoch, in order
        self._fault: ProtocolError | None = None
        self.broken = False  # the sentinel sent something that is not in the protocol
        self._state = threading.Lock()
        self._inbox: queue.SimpleQueue[Job | Preparation | ProtocolError | None] = (
            queue.SimpleQueue()
        )
        self._reader = threading.Thread(target=self._read, name="channel", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def send(self, opcode: Opcode, message: msgspec.Struct, *, job_id: int = 0) -> None:
        """Send one frame; ends the process when the sentinel is gone."""
        data = frame.encode(opcode, encode(message), number=job_id)
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            self._on_end()
            os._exit(0)

    def next_job(self) -> Job | Preparation | None:
        """Wait for work; `None` when the worker is to stop.

        Raises:
            ProtocolError: the sentinel sent something that is not in the protocol.
        """
        while (item := self._inbox.get()) is not None:
            if self._fault is not None:  # what came before it means nothing any more either
                raise self._fault
            assert not isinstance(item, ProtocolError)
            if isinstance(item, Preparation):
                self._current = item
                return item
            with self._state:
                # One that was called off while it waited is not there any more.
                if self._waiting.pop(_key(item.dispatch), None) is item:
                    self._current = item
                    return item
        return None

    def done(self, job: Job | Preparation) -> None:
        """It has ended: an abort that comes now is about nothing."""
        with self._state:
            self._current = None
        job.cancellation.close()

    def stop(self) -> None:
        """Cancel what runs and have `next_job` give `None`; from a signal handler or any thread."""
        current = self._current
        if current is not None:
            current.cancellation.set()
        self._inbox.put(None)

    def cancel_current(self) -> None:
        """Kill the guests of what runs."""
        current = self._current
        if current is not None:
            current.cancellation.set()

    def _read(self) -> None:
        decoder = FrameDecoder(TO_WORKER)
        try:
            while data := self._socket.recv(_READ_BYTES):
                for received in decoder.feed(data):
                    self._take(received)
        except ProtocolError as error:
            self._break(error)
            return
        except OSError:
            self.cancel_current()
        except Exception as error:  # noqa: BLE001 - a thread's border: nobody else would notice
            self._break(ProtocolError(f"{type(error).__name__}: {error}", code="protocol.payload"))
            return
        self._on_end()

    def _break(self, error: ProtocolError) -> None:
        """What the peer says means nothing any more: stop what it asked for, and have `next_job` say why."""
        self.broken = True
        self._fault = error
        self.cancel_current()
        self._inbox.put(error)

    def _take(self, received: Frame) -> None:
        if received.opcode is Opcode.DISPATCH:
            dispatch = decode(received.payload, Dispatch)
            if received.number != dispatch.job_id:
                raise ProtocolError(
                    "a dispatch whose header names another job", code="protocol.number"
                )
            with self._state:
                held = {*self._waiting, *_keys(self._current)}
                if len(held) >= HELD_MAX:
                    raise ProtocolError(f"more than {HELD_MAX} jobs", code="protocol.order")
                if _key(dispatch) in held:
                    raise ProtocolError("a dispatch of a job that is here", code="protocol.order")
                job = self._waiting[_key(dispatch)] = Job(dispatch, Cancellation())
            self._inbox.put(job)
        elif received.opcode is Opcode.ABORT:
            abort = decode(received.payload, Abort)
            if received.number != abort.job_id:
                raise ProtocolError(
                    "an abort whose header names another job", code="protocol.number"
                )
            key = (abort.job_id, abort.epoch)
            with self._state:
                called_off = self._waiting.pop(key, None)
                current = self._current
                if current is not None and key in _keys(current):
                    current.cancellation.set()
            if called_off is not None:
                called_off.cancellation.close()
                conclude = Conclude(epoch=abort.epoch, job_id=abort.job_id, receipt=not_done())
                self.send(Opcode.CONCLUDE, conclude, job_id=abort.job_id)
        elif received.opcode is Opcode.PREPARE_ENV:
            request = decode(received.payload, PrepareEnvironment)
            self._inbox.put(Preparation(request, Cancellation()))
        else:
            raise ProtocolError(f"{received.opcode.name} is not for a worker")


def _keys(current: Job | Preparation | None) -> tuple[tuple[int, int], ...]:
    return (_key(current.dispatch),) if isinstance(current, Job) else ()


def _key(dispatch: Dispatch) -> tuple[int, int]:
    return dispatch.job_id, dispatch.epoch
