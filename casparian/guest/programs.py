"""A guest that becomes a program: what the zygote and the guest say to each other until it has.

The filters of such a guest leave `execveat` to whoever holds their listener. The guest sends the listener first, then the
record of its lockdown, then makes the call; the zygote lets exactly that one pass and closes the listener, after which no
process of the guest can ever make another one. See `docs/adr/0008-executables.md`.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Final

import msgspec

from casparian import _native
from casparian.guest import descriptors

_SECONDS: Final = 30.0  # for steps that take milliseconds
_RECORD_BYTES_MAX: Final = 65_536
_SUPERVISOR_FD: Final = 4  # after the lockdown

_record = msgspec.msgpack.Decoder(dict[str, str])


class Launch:
    """One launch, made in the zygote before the fork; each side then has its own end.

    Args:
        program_fd: the sealed program; `None` for a guest that stays what it is, under the same filters.
    """

    def __init__(self, program_fd: int | None) -> None:
        self.program_fd = program_fd
        _native.prepare_programs()  # here, for all guests to come
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def supervisor_fd(self) -> int:
        """The guest's end."""
        return self._theirs.fileno()

    def go(self, isolation: dict[str, str]) -> None:
        """In the guest, locked down: become the program; returns when there is none.

        Raises:
            OSError: it is none that this machine can run.
        """
        os.write(_SUPERVISOR_FD, msgspec.msgpack.encode(isolation))
        if self.program_fd is not None:
            _native.run_program()
        os.close(_SUPERVISOR_FD)

    def supervise(self, pid: int, pidfd: int) -> dict[str, str]:
        """In the zygote: let the guest become the program; the record of its lockdown.

        A guest that ends before that is no error here: the worker sees its end as any other's.
        """
        self._theirs.close()
        with self._ours as channel:
            channel.settimeout(_SECONDS)
            listener = -1
            try:
                _, received = descriptors.receive(channel, 64, 1)
                if not received:
                    return {}
                listener = received[0]
                # Taken also where nobody asks for it: a guest that writes to a closed socket dies of it.
                packet = channel.recv(_RECORD_BYTES_MAX)
                if not packet or self.program_fd is None:
                    return {}
                record = _record.decode(packet)
                if _asks(listener, pidfd):
                    _native.allow_program(listener, pid)
            finally:
                if listener >= 0:
                    os.close(listener)
        return record


def _asks(listener: int, pidfd: int) -> bool:
    """Whether the guest has made its call; not when it is dead."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ready = dict(poll.poll(_SECONDS * 1000))
    return bool(ready.get(listener, 0) & select.POLLIN)
