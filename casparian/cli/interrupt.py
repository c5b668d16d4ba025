"""What ctrl-C means while a run works: once stops it in order, twice leaves it to the sentinel.

The handler only counts. The cancellation is sent from the client's tick, over a connection of its
own, so that no frame is broken in two; the run then ends with its own reply, which says what was
kept.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final, Self

from casparian import ids
from casparian.cli.progress import RunProgress
from casparian.control.client import Client, post
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control

_STOPPING: Final = (
    "stopping: what is being committed is finished, the rest is cancelled (again: leave at once)"
)

_LEFT: Final = (
    "left: the sentinel finishes the cancellation; `casparian jobs` shows what became of each job"
)


class Interruption:
    """Catches SIGINT and SIGTERM during one run; use as a context manager.

    Args:
        home: whose sentinel is asked.
        progress: says what happens.
        run_id: the run's id, which is its request's.
    """

    def __init__(self, home: Home, progress: RunProgress, run_id: str) -> None:
        self._home = home
        self._progress = progress
        self._run_id = run_id
        self._cancelled = False
        self._request = self._new_request()
        self._before: dict[int, object] = {}
        self._told = False
        self.pressed = 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.left()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal.signal` gave

    def tick(self) -> None:
        """Send the cancellation that was asked for, once."""
        if not self.pressed:
            return
        if not self._told:
            self._told = True
            self._progress.note(_STOPPING)
        if self._cancelled:
            return
        self._cancelled = True
        try:
            with Client.connect(self._home) as client:
                client.request(self._request)
        except CasparianError as error:
            self._progress.note(f"the run could not be cancelled: {error.message}")

    def reconnected(self, message: str) -> None:
        """The run was asked for again after a lost connection: a cancellation is sent to the new sentinel too."""
        self._progress.note(message)
        self._cancelled = False
        self._request = self._new_request()

    def left(self) -> None:
        """Ctrl-C was pressed again: make sure that the cancellation is on its way, and wait for nothing.

        It is the same request that may be on its way already, so that it acts once.
        """
        try:
            post(self._home, self._request)
        except CasparianError as error:
            self._progress.note(f"the run could not be cancelled: {error.message}")
        else:
            self._progress.note(_LEFT)

    def _new_request(self) -> control.CancelJob:
        return control.CancelJob(request_id=ids.new_request_id(), run_id=self._run_id)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        self.pressed += 1
        if self.pressed > 1:
            raise KeyboardInterrupt
