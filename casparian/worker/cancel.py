"""Cancelling a job from another thread: guests are killed at once, and whoever waits wakes up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Cancelled(Exception):
    """The job was cancelled; its guests are reaped and its stage is removed."""


class Cancellation:
    """One job's cancel event. `set` may be called from any thread and more than once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may interrupt the thread that holds it
        self._set = False
        self._kills: list[Callable[[], None]] = []
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """Kill what is registered, now, and wake who polls."""
        with self._lock:
            self._set = True
            kills = list(self._kills)
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)
        for kill in kills:
            kill()

    def is_set(self) -> bool:
        """Whether the job is cancelled."""
        return self._set

    def check(self) -> None:
        """Raise `Cancelled` when the job is cancelled."""
        if self._set:
            raise Cancelled

    def fileno(self) -> int:
        """Readable from the moment of cancellation on; for `poll`."""
        return self._descriptor

    def watch(self, kill: Callable[[], None]) -> None:
        """Call `kill` on cancellation; at once when that was before."""
        with self._lock:
            self._kills.append(kill)
            late = self._set
        if late:
            kill()

    def forget(self, kill: Callable[[], None]) -> None:
        """Do not call it any more."""
        with self._lock:
            if kill in self._kills:
                self._kills.remove(kill)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)
