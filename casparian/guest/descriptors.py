"""Receive descriptors over a local socket, close-on-exec from the start.

`socket.recv_fds` of CPython 3.11 takes flags and ignores them, so a descriptor would be inherited
by a program that is started in between.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable


def receive(channel: socket.socket, size: int, maximum: int) -> tuple[bytes, list[int]]:
    """One `recvmsg`: up to `size` bytes and at most `maximum` descriptors.

    The kernel closes descriptors that do not fit.
    """
    numbers = array.array("i")
    space = socket.CMSG_SPACE(maximum * numbers.itemsize)
    data, ancillary, _, _ = channel.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers)


def close_all(descriptors: Iterable[int]) -> None:
    """Close what was received."""
    for descriptor in descriptors:
        os.close(descriptor)
