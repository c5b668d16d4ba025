"""Events from other threads, with a descriptor that the loop can wait for."""

from __future__ import annotations

import os
from collections import deque

from casparian.sentinel.events import Event


class Mailbox:
    """Many threads post, the loop collects."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable when something was posted."""
        return self._wake

    def post(self, event: Event) -> None:
        """Add an event; any thread may call this."""
        self._events.append(event)
        os.eventfd_write(self._wake, 1)

    def collect(self) -> list[Event]:
        """Everything that was posted, in order."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return []
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._wake)
