"""Frames: 16-byte header `!BBHQI` (version, opcode, flags, number, payload length), then the payload.

The Q field is the job id on the worker channel and the Control API, and the epoch on the bridge. Decoding is incremental and
does no I/O: bytes in, whole frames out. A header that is not ours, or a length above the cap, raises before anything is
allocated for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

from casparian.errors import ProtocolError

VERSION: Final = 1
_HEADER: Final = struct.Struct("!BBHQI")
HEADER_BYTES: Final = _HEADER.size
PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024


class Opcode(IntEnum):
    """1–10 are the seed's; control requests have a range of their own; 48+ is the bridge."""

    IDENTIFY = 1
    DISPATCH = 2
    ABORT = 3
    HEARTBEAT = 4
    CONCLUDE = 5
    ERR = 6
    PREPARE_ENV = 8
    ENV_READY = 9
    DEPLOY = 10
    CONTROL_REQUEST = 32
    CONTROL_REPLY = 33
    CONTROL_EVENT = 34
    BRIDGE_JOB = 48  # host -> guest: what to run
    BRIDGE_SOURCE = 49  # host -> guest: one source; its descriptor travels beside the frame
    BRIDGE_BATCH = 50  # guest -> host: output number in `flags`, one Arrow record-batch message
    BRIDGE_LOG = 51
    BRIDGE_END = 52  # guest -> host: this source is done, with its counts
    BRIDGE_FAILED = 53  # guest -> host: this source failed, with a code
    BRIDGE_FINISH = 54  # host -> guest: no more sources
    BRIDGE_ACCOUNT = 55  # guest -> host: the accounting walk's result
    BRIDGE_READY = 56  # guest -> host: locked down and loaded
    BRIDGE_ATTACKED = 57  # guest -> host: what came of one self-attack
    BRIDGE_COMPILED = 58  # guest -> host: a parser's modules, compiled
    BRIDGE_SOURCES = (
        59  # host -> guest: several small sources; their descriptors travel beside the frame
    )


class Frame(msgspec.Struct, frozen=True):
    """One decoded frame."""

    opcode: Opcode
    flags: int
    number: int
    payload: bytes


def encode_header(opcode: Opcode, length: int, *, number: int = 0, flags: int = 0) -> bytes:
    """Header alone, for a payload that is sent from where it lies."""
    if length > PAYLOAD_BYTES_MAX:
        raise ProtocolError(
            f"payload of {length} bytes is over the cap of {PAYLOAD_BYTES_MAX}",
            code="protocol.oversized",
        )
    return _HEADER.pack(VERSION, opcode, flags, number, length)


def encode(opcode: Opcode, payload: bytes = b"", *, number: int = 0, flags: int = 0) -> bytes:
    """Header and payload as one bytes object."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ProtocolError(
            f"payload of {len(payload)} bytes is over the cap of {PAYLOAD_BYTES_MAX}",
            code="protocol.oversized",
        )
    return _HEADER.pack(VERSION, opcode, flags, number, len(payload)) + payload


def decode_header(raw: bytes | memoryview) -> tuple[Opcode, int, int, int]:
    """Opcode, flags, number and payload length of a header.

    Raises:
        ProtocolError: unknown version or opcode, or a length above the cap.
    """
    version, opcode, flags, number, length = _HEADER.unpack(raw)
    if version != VERSION:
        raise ProtocolError(
            f"peer speaks protocol version {version}, this is {VERSION}",
            code="protocol.version",
        )
    if length > PAYLOAD_BYTES_MAX:
        raise ProtocolError(f"frame of {length} bytes is over the cap", code="protocol.oversized")
    try:
        known = Opcode(opcode)
    except ValueError:
        raise ProtocolError(f"unknown opcode {opcode}", code="protocol.opcode") from None
    return known, flags, number, length


# What each end of a socket may hear. (The bridge has its own reader: `worker/bridge.py`.)
TO_SENTINEL: Final = frozenset(
    {Opcode.IDENTIFY, Opcode.HEARTBEAT, Opcode.CONCLUDE, Opcode.ERR, Opcode.ENV_READY}
)
TO_WORKER: Final = frozenset({Opcode.DISPATCH, Opcode.ABORT, Opcode.PREPARE_ENV})
REQUESTS: Final = frozenset({Opcode.CONTROL_REQUEST, Opcode.DEPLOY})
REPLIES: Final = frozenset({Opcode.CONTROL_REPLY, Opcode.CONTROL_EVENT})


class FrameDecoder:
    """Collects bytes until whole frames are there; holds at most one frame above what it was fed.

    After an error it stays broken: the same error comes again, whatever is fed. `flags` are for the bridge; here they are zero.

    Args:
        accepts: opcodes that this end may hear; any other is refused by its header. `None`: all.
        payload_bytes_max: cap on one payload; a longer one is refused by its header.
    """

    def __init__(
        self,
        accepts: frozenset[Opcode] | None = None,
        *,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._accepts = accepts
        self._payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()
        self._broken: ProtocolError | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Add bytes and yield every frame that is now complete.

        Raises:
            ProtocolError: a header that may not come here; nothing was allocated for its payload.
        """
        if self._broken is not None:
            raise self._broken
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            opcode, number, length = self._header()
            end = HEADER_BYTES + length
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[HEADER_BYTES:end])
            del self._buffer[:end]
            yield Frame(opcode, 0, number, payload)

    def _header(self) -> tuple[Opcode, int, int]:
        """Opcode, number and length of the frame at the front."""
        try:
            opcode, flags, number, length = decode_header(bytes(self._buffer[:HEADER_BYTES]))
            if self._accepts is not None and opcode not in self._accepts:
                raise ProtocolError(f"{opcode.name} does not belong here", code="protocol.opcode")
            if flags:
                raise ProtocolError(f"{opcode.name} with flags {flags}", code="protocol.flags")
            if length > self._payload_bytes_max:
                raise ProtocolError(
                    f"{opcode.name} of {length} bytes, the cap here is {self._payload_bytes_max}",
                    code="protocol.oversized",
                )
        except ProtocolError as error:
            self._broken = error
            self._buffer.clear()
            raise
        return opcode, number, length

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not arrived whole."""
        return len(self._buffer)

    @property
    def missing_bytes(self) -> int:
        """How many bytes the frame at the front still lacks (of its header, while that is not there)."""
        if len(self._buffer) < HEADER_BYTES:
            return HEADER_BYTES - len(self._buffer)
        return HEADER_BYTES + self._header()[2] - len(self._buffer)
