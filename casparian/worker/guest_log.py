"""What a guest prints: read from a pipe by a thread, capped, kept as text for the receipt.

The first part and the last part are kept, what lies between is counted. A guest that floods the pipe is
ended: reading it for ever would cost a core. The text is evidence-like: it is shown only through
`display.show`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
TAIL_BYTES_MAX: Final = 16 * 1024
_READ_BYTES: Final = 64 * 1024
_JOIN_SECONDS: Final = 2.0


class GuestLog:
    """Reads one pipe to its end.

    Args:
        descriptor: reading end; owned from here on.
        bytes_max: of head and tail together.
    """

    def __init__(self, descriptor: int, bytes_max: int = HEAD_BYTES_MAX + TAIL_BYTES_MAX) -> None:
        self._descriptor = descriptor
        self._head_max = min(HEAD_BYTES_MAX, bytes_max)
        self._tail_max = max(0, min(TAIL_BYTES_MAX, bytes_max - self._head_max))
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._total = 0
        self._allowed: int | None = None
        self._end: Callable[[], None] = _nothing
        self.flooded = False
        self._thread = threading.Thread(target=self._read, name="guest-log", daemon=True)
        self._thread.start()

    def limit(self, bytes_max: int, end: Callable[[], None]) -> None:
        """From here on, more than so many bytes call `end`, once, on the reading thread.

        Called again, the count begins anew: each source has its own.
        """
        self._end = end
        self._allowed = self._total + bytes_max

    def _read(self) -> None:
        try:
            while data := os.read(self._descriptor, _READ_BYTES):
                self._total += len(data)
                self._keep(data)
                allowed = self._allowed
                if allowed is not None and self._total > allowed and not self.flooded:
                    self.flooded = True
                    self._end()
        finally:
            os.close(self._descriptor)

    def _keep(self, data: bytes) -> None:
        room = self._head_max - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        excess = len(self._tail) - self._tail_max
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        """All that was kept; waits for the end of the pipe, which comes with the end of the guest."""
        self._thread.join(_JOIN_SECONDS)
        gap = f"\n… {self._dropped} bytes left out …\n".encode() if self._dropped else b""
        return bytes(self._head + gap + self._tail).decode("utf-8", "backslashreplace")


def _nothing() -> None:
    """Nobody set a limit yet."""
