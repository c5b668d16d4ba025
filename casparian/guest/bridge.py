"""The guest's end of the bridge: frames in, frames out, descriptors received.

The socket blocks: its buffer is the only queue, so a slow host holds the guest back and memory stays bounded.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import msgspec

from casparian.guest import descriptors as descriptors_of
from casparian.protocol import frame
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import BATCH_ROWS_MAX, DESCRIPTORS_MAX, GROUP_SOURCES_MAX

if TYPE_CHECKING:
    import pyarrow as pa

_TARGET_BYTES_MAX: Final = 32 * 1024 * 1024  # half the frame's cap; a bigger batch is sliced
_DESCRIPTORS_PER_FRAME_MAX: Final = max(DESCRIPTORS_MAX, GROUP_SOURCES_MAX)


class HostGone(BaseException):
    """The host closed the bridge: there is nobody to work for. Not an `Exception`, so that no parser swallows it."""


class Bridge:
    """Frames over one stream socket; the number in each header is the job's epoch, taken from the first frame."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._epoch = 0

    def receive(self) -> tuple[Opcode, bytes, list[int]]:
        """Next frame of the host: opcode, payload, descriptors (close-on-exec, to be closed by the caller).

        Raises:
            HostGone: the channel is closed.
        """
        head, descriptors = descriptors_of.receive(
            self._channel, frame.HEADER_BYTES, _DESCRIPTORS_PER_FRAME_MAX
        )
        head += self._exactly(frame.HEADER_BYTES - len(head)) if head else b""
        if not head:
            raise HostGone
        opcode, _, number, length = frame.decode_header(head)
        self._epoch = number
        return opcode, self._exactly(length), descriptors

    def _exactly(self, length: int) -> bytes:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            count = self._channel.recv_into(view)
            if count == 0:
                raise HostGone
            view = view[count:]
        return bytes(buffer)

    def send(self, opcode: Opcode, message: msgspec.Struct | bytes) -> None:
        """Send one control frame."""
        payload = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
        self._put(opcode, 0, payload)

    def send_batch(self, flags: int, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Send rows in order, in as many frames as the caps ask for; single rows that fit no frame are returned."""
        from pyarrow import ipc  # a guest that sends no rows is without Arrow

        too_large = []
        pending = [batch]
        while pending:
            part = pending.pop()
            size = ipc.get_record_batch_size(part)
            if part.num_rows > 1 and (part.num_rows > BATCH_ROWS_MAX or size > _TARGET_BYTES_MAX):
                middle = part.num_rows // 2
                pending += [part.slice(middle), part.slice(0, middle)]
            elif size > frame.PAYLOAD_BYTES_MAX:
                too_large.append(part)
            else:
                self._put(Opcode.BRIDGE_BATCH, flags, part.serialize())
        return too_large

    def _put(self, opcode: Opcode, flags: int, payload: bytes | pa.Buffer) -> None:
        view = memoryview(payload).cast("B")
        head = frame.encode_header(opcode, len(view), number=self._epoch, flags=flags)
        try:
            # Not `sendmsg`, which could pass descriptors and is denied to guests.
            sent = os.writev(self._channel.fileno(), [head, view])
            if sent < len(head):
                self._channel.sendall(head[sent:])
                sent = len(head)
            self._channel.sendall(view[sent - len(head) :])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise HostGone from error
