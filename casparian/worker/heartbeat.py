"""Signs of life from a thread of its own: a long write, or a long installation, must not look like a dead worker."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from casparian.protocol.frame import Opcode
from casparian.protocol.worker import Dispatch, EnvironmentReady, Heartbeat, SourceProgress
from casparian.worker.channel import Channel

INTERVAL_SECONDS: Final = 0.5


class _Signs:
    """Sends one at once, then two a second until the block ends."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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
        raise NotImplementedError


class Heartbeats(_Signs):
    """Of a job; the first one accepts the dispatch."""

    def __init__(self, channel: Channel, dispatch: Dispatch) -> None:
        super().__init__("heartbeat")
        self._channel = channel
        self._dispatch = dispatch
        self._progress = SourceProgress()

    def report(self, progress: SourceProgress) -> None:
        """What the next heartbeat says."""
        self._progress = progress

    def _send(self) -> None:
        job_id = self._dispatch.job_id
        beat = Heartbeat(epoch=self._dispatch.epoch, job_id=job_id, progress=self._progress)
        self._channel.send(Opcode.HEARTBEAT, beat, job_id=job_id)


class Preparations(_Signs):
    """Of an environment that is made."""

    def __init__(self, channel: Channel, env_hash: str) -> None:
        super().__init__("preparation")
        self._channel = channel
        self._env_hash = env_hash
        self._message = "looking for the environment"

    def report(self, message: str) -> None:
        """What the next sign says."""
        self._message = message

    def _send(self) -> None:
        ready = EnvironmentReady(env_hash=self._env_hash, state="building", message=self._message)
        self._channel.send(Opcode.ENV_READY, ready)
