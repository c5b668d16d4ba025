"""A whole log: file header, then chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from casparian.demo.evtx_writer.chunk import CHUNK_BYTES, Chunk
from casparian.demo.evtx_writer.tree import Event

FILE_MAGIC: Final = b"ElfFile\0"
FILE_HEADER_BYTES: Final = 4096
FLAG_DIRTY: Final = 1
FLAG_FULL: Final = 2


@dataclass(frozen=True, slots=True)
class PlacedRecord:
    """Where a record landed: its chunk's index, offset in the file and size, both in bytes."""

    event: Event
    chunk: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class BuiltLog:
    """The bytes of a log and where each event lies in them, in order."""

    data: bytes = field(repr=False)
    records: tuple[PlacedRecord, ...] = field(repr=False)

    @property
    def chunk_count(self) -> int:
        """Chunks behind the file header."""
        return (len(self.data) - FILE_HEADER_BYTES) // CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class EventLog:
    """Events in the order in which they were written.

    Attributes:
        events: what the log holds; an empty log is a header and no chunk.
        dirty: the log was not closed, as when it is copied off a running machine.
        full: the log reached its size limit.
        version: major and minor; Windows writes 3.1, and 3.2 since late Windows 10.
    """

    events: tuple[Event, ...]
    dirty: bool = False
    full: bool = False
    version: tuple[int, int] = (3, 1)

    def build(
        self, *, chunk_capacity: int = CHUNK_BYTES, records_per_chunk: int | None = None
    ) -> BuiltLog:
        """Lay the events out in chunks and say where each one is.

        Args:
            chunk_capacity: bytes used of each chunk, header included.
            records_per_chunk: also start a new chunk after so many records.

        Raises:
            ValueError: an event does not fit into an empty chunk of this capacity.
        """
        chunks: list[Chunk] = []
        records: list[PlacedRecord] = []
        for number, event in enumerate(self.events, start=1):
            full = bool(chunks) and len(chunks[-1].records) == records_per_chunk
            if full or not chunks or not chunks[-1].add(event):
                chunks.append(Chunk(number, chunk_capacity))
                if not chunks[-1].add(event):
                    raise ValueError(f"event {number} does not fit into {chunk_capacity} bytes")
            placed, index = chunks[-1].records[-1], len(chunks) - 1
            base = FILE_HEADER_BYTES + index * CHUNK_BYTES
            records.append(PlacedRecord(event, index, base + placed.offset, placed.size))
        data = b"".join((self._header(len(chunks)), *(chunk.to_bytes() for chunk in chunks)))
        return BuiltLog(data, tuple(records))

    def to_bytes(
        self, *, chunk_capacity: int = CHUNK_BYTES, records_per_chunk: int | None = None
    ) -> bytes:
        """The bytes of `build`."""
        return self.build(chunk_capacity=chunk_capacity, records_per_chunk=records_per_chunk).data

    def _header(self, chunk_count: int) -> bytes:
        major, minor = self.version
        header = bytearray(FILE_HEADER_BYTES)
        struct.pack_into(
            "<8sQQQIHHHH",
            header,
            0,
            FILE_MAGIC,
            0,
            max(chunk_count - 1, 0),
            max((event.record_id for event in self.events), default=0) + 1 & (1 << 64) - 1,
            128,  # bytes of the header that are in use
            minor,
            major,
            FILE_HEADER_BYTES,
            chunk_count & 0xFFFF,  # the field wraps in logs over 4 GiB
        )
        flags = (FLAG_DIRTY if self.dirty else 0) | (FLAG_FULL if self.full else 0)
        struct.pack_into("<I", header, 120, flags)
        seal_file_header(header)
        return bytes(header)


def event_log(events: Iterable[Event], *, dirty: bool = False, full: bool = False) -> EventLog:
    """Shorthand for a log of any iterable of events."""
    return EventLog(tuple(events), dirty=dirty, full=full)


def seal_file_header(header: bytearray) -> None:
    """Recompute the checksum over the first 120 bytes, in place."""
    struct.pack_into("<I", header, 124, zlib.crc32(header[:120]))
