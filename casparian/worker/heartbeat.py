"""Heartbeats of a running job, from a thread of its own: a long write must not look like a dead worker."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from casparian.protocol.frame import Opcode
from casparian.protocol.worker import Dispatch, Heartbeat, SourceProgress
from casparian.worker.channel import Channel

INTERVAL_SECONDS: Final = 0.5


class Heartbeats:
    """Sends one at once (it accepts the dispatch), then two a second until the block ends."""

    def __init__(self, channel: Channel, dispatch: Dispatch) -> None:
        self._channel = channel
        self._dispatch = dispatch
        self._progress = SourceProgress()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def report(self, progress: SourceProgress) -> None:
        """What the next heartbeat says."""
        self._progress = progress

    def __enter__(self) -> Self:
        self._send()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            self._send()

    def _send(self) -> None:
        job_id = self._dispatch.job_id
        beat = Heartbeat(epoch=self._dispatch.epoch, job_id=job_id, progress=self._progress)
        self._channel.send(Opcode.HEARTBEAT, beat, job_id=job_id)
