"""Tell a service manager how far we are, as `sd_notify(3)` describes it: one datagram to the socket that it named.

Nothing is said where nobody asked; a message that does not get through is not worth a fault.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"


class ServiceManager:
    """Whoever started us and wants to know."""

    def __init__(self) -> None:
        # Taken away at once: no process of ours may speak in our name.
        self._address = os.environ.pop(_VARIABLE, "")

    def ready(self) -> None:
        """The home is taken, recovery is done, clients are served."""
        self._say("READY=1\nSTATUS=serving")

    def stopping(self) -> None:
        """The end has begun."""
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if self._address[:1] not in ("/", "@"):
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.sendto(text.encode(), address)
