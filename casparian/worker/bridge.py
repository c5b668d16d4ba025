"""The host's end of the bridge: frames of a guest that may be hostile, and the descriptors given to it.

Nothing is believed: version, opcode, epoch and length are checked before a byte of the payload is
read; a payload goes into memory of its own. The clock of a guest runs only while the host waits for
it; a slow sink never counts against it. Descriptors that a guest tries to send are dropped by the
kernel. Cancellation wakes every wait.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa

from casparian import clock
from casparian.errors import ProtocolError
from casparian.protocol import frame
from casparian.protocol.frame import HEADER_BYTES, Opcode
from casparian.worker.cancel import Cancellation
from casparian.worker.faults import GuestFault

CONTROL_BYTES_MAX: Final = 1024 * 1024  # of a frame that is no batch, no account and no code
SEND_BUFFER_BYTES: Final = 1024 * 1024  # how far a guest may run ahead
_LARGE: Final = frozenset({Opcode.BRIDGE_BATCH, Opcode.BRIDGE_ACCOUNT, Opcode.BRIDGE_COMPILED})
_GONE: Final = (BrokenPipeError, ConnectionResetError)


class GuestClosed(GuestFault):
    """The guest closed its end: why, is asked of the kernel."""

    def __init__(self) -> None:
        super().__init__(
            "bridge.truncated", "the guest closed the bridge in the middle of a source"
        )


class Received(NamedTuple):
    """One frame of a guest."""

    opcode: Opcode
    flags: int
    payload: pa.Buffer


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Host's and guest's end."""
    host, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return host, guest


class HostBridge:
    """Frames of one job over one stream socket.

    Args:
        channel: the host's end; it becomes non-blocking.
        epoch: number that every frame must carry.
        cancellation: wakes and ends every wait.
    """

    def __init__(self, channel: socket.socket, epoch: int, cancellation: Cancellation) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._epoch = epoch
        self._cancellation = cancellation
        self._header = memoryview(bytearray(HEADER_BYTES))
        self.received_bytes = 0
        self._waited_ns = 0
        self._wait_max_ns: int | None = None

    def begin_source(self, wall_seconds: int) -> None:
        """Count bytes and waiting time anew.

        Args:
            wall_seconds: how long the host waits for the guest in all, until the next call. What the host
                does between two frames does not count.
        """
        self.received_bytes = 0
        self._waited_ns = 0
        self._wait_max_ns = wall_seconds * 1_000_000_000

    def send(
        self,
        opcode: Opcode,
        message: msgspec.Struct | None = None,
        *,
        idle_seconds: float,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Send one frame, with descriptors on its first byte if there are any.

        Raises:
            GuestFault: the guest is gone (`GuestClosed`) or does not read (`limit.idle`, `limit.wall`).
            Cancelled: the job was cancelled.
        """
        payload = b"" if message is None else msgspec.msgpack.encode(message)
        data = memoryview(frame.encode(opcode, payload, number=self._epoch))
        deadline = _deadline(idle_seconds)
        while data:
            self._cancellation.check()
            try:
                if descriptors:
                    sent = socket.send_fds(self._channel, [data], list(descriptors))
                    descriptors = ()
                else:
                    sent = self._channel.send(data)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, idle_seconds)
                continue
            except _GONE:
                raise GuestClosed from None
            data = data[sent:]

    def receive(self, idle_seconds: float) -> Received:
        """Next frame, checked and whole.

        Args:
            idle_seconds: for the first byte to come, and again for the rest of the frame.

        Raises:
            GuestFault: `bridge.protocol`, `bridge.truncated` (`GuestClosed`), `limit.idle` or `limit.wall`.
            Cancelled: the job was cancelled.
        """
        self._fill(self._header, idle_seconds)
        try:
            opcode, flags, number, length = frame.decode_header(self._header)
        except ProtocolError as error:
            raise GuestFault(
                "bridge.protocol", f"the guest sent a bad frame: {error.message}"
            ) from error
        if number != self._epoch:
            raise GuestFault("bridge.protocol", f"the guest sent a frame of epoch {number}")
        if opcode not in _LARGE and length > CONTROL_BYTES_MAX:
            raise GuestFault("bridge.protocol", f"the guest sent {length} bytes of {opcode.name}")
        payload = pa.allocate_buffer(length)
        self._fill(memoryview(payload).cast("B"), idle_seconds)
        self.received_bytes += HEADER_BYTES + length
        return Received(opcode, flags, payload)

    def check_quiet(self) -> None:
        """Nothing may come between the end of one source and the next.

        Raises:
            GuestFault: `bridge.protocol`; what came would have counted for the next source.
        """
        try:
            early = self._channel.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, *_GONE):
            return
        if early:  # a closed end is noticed when the next answer is due
            raise GuestFault("bridge.protocol", "the guest sent data after the end of a source")

    def _fill(self, view: memoryview, idle_seconds: float) -> None:
        deadline = _deadline(idle_seconds)
        while view:
            self._cancellation.check()
            try:
                count = self._channel.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, idle_seconds)
                continue
            except _GONE:
                raise GuestClosed from None
            if count == 0:
                raise GuestClosed
            view = view[count:]

    def _wait(self, event: int, deadline: int, idle_seconds: float) -> None:
        began = clock.monotonic_ns()
        remaining = deadline - began
        if remaining <= 0:
            raise GuestFault("limit.idle", f"nothing from the guest for {idle_seconds:g} seconds")
        if self._wait_max_ns is not None:
            left = self._wait_max_ns - self._waited_ns
            if left <= 0:
                seconds = self._wait_max_ns // 1_000_000_000
                raise GuestFault("limit.wall", f"the source is not done after {seconds} seconds")
            remaining = min(remaining, left)
        poll = select.poll()
        poll.register(self._channel, event)
        poll.register(self._cancellation, select.POLLIN)
        poll.poll(remaining / 1e6 + 1)
        self._waited_ns += clock.monotonic_ns() - began


def _deadline(seconds: float) -> int:
    return clock.monotonic_ns() + int(seconds * 1e9)
