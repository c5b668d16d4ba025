"""One 64 KiB chunk: header with both tables, records, checksums.

Layout from the libyal EVTX specification; every field was also read off real logs.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from casparian.demo.evtx_writer.binxml import Encoder
from casparian.demo.evtx_writer.tree import Event

CHUNK_BYTES: Final = 65536
CHUNK_HEADER_BYTES: Final = 512
CHUNK_MAGIC: Final = b"ElfChnk\0"
RECORD_MAGIC: Final = b"\x2a\x2a\0\0"
RECORD_HEADER_BYTES: Final = 24
RECORD_BYTES_MIN: Final = RECORD_HEADER_BYTES + 4
_CHUNK_FLAGS: Final = 1  # as Windows writes it since version 6.2; readers ignore it


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """Where a record landed: offset and size in bytes, from the start of its chunk."""

    event: Event
    offset: int
    size: int


class Chunk:
    """A chunk that takes records until one does not fit.

    Args:
        first_record_number: number of the first record, counted through the log; not an id.
        capacity: bytes after which the chunk is full, header included; smaller values make many
            small chunks out of few records.
    """

    def __init__(self, first_record_number: int, capacity: int = CHUNK_BYTES) -> None:
        if not CHUNK_HEADER_BYTES < capacity <= CHUNK_BYTES:
            raise ValueError(f"a chunk's capacity lies between 513 and 65536, not {capacity}")
        self.first_record_number = first_record_number
        self.capacity = capacity
        self.records: list[ChunkRecord] = []
        self._encoder = Encoder(bytearray(CHUNK_HEADER_BYTES))

    def add(self, event: Event) -> bool:
        """Append a record. False, and no change, when it does not fit any more."""
        encoder, mark = self._encoder, self._encoder.mark()
        data = encoder.data
        data += struct.pack("<4sIQQ", RECORD_MAGIC, 0, event.record_id, event.written)
        encoder.fragment(event.body)
        data += bytes(-(len(data) + 4) % 8) if event.padding is None else event.padding
        size = len(data) + 4 - mark.length
        data += struct.pack("<I", size)
        if len(data) > self.capacity:
            encoder.roll_back(mark)
            return False
        struct.pack_into("<I", data, mark.length + 4, size)
        self.records.append(ChunkRecord(event, mark.length, size))
        return True

    def to_bytes(self) -> bytes:
        """The whole chunk, 65,536 bytes, sealed with both checksums."""
        if not self.records:
            raise ValueError("a chunk holds at least one record")
        data = bytearray(CHUNK_BYTES)
        data[: len(self._encoder.data)] = self._encoder.data
        first, last = self.records[0], self.records[-1]
        struct.pack_into(
            "<8sQQQQIII",
            data,
            0,
            CHUNK_MAGIC,
            self.first_record_number,
            self.first_record_number + len(self.records) - 1,
            first.event.record_id,
            last.event.record_id,
            128,  # size of the fixed part of the header
            last.offset,
            len(self._encoder.data),
        )
        struct.pack_into("<I", data, 120, _CHUNK_FLAGS)
        struct.pack_into("<64I", data, 128, *self._encoder.string_heads)
        struct.pack_into("<32I", data, 384, *self._encoder.template_heads)
        seal(data)
        return bytes(data)


def seal(chunk: bytearray) -> None:
    """Recompute both checksums of a chunk, in place: the data up to free space, then the header."""
    free_space = struct.unpack_from("<I", chunk, 48)[0]
    struct.pack_into("<I", chunk, 52, zlib.crc32(chunk[CHUNK_HEADER_BYTES:free_space]))
    seal_header(chunk)


def seal_header(chunk: bytearray) -> None:
    """Recompute the header's checksum alone; it covers the stored checksum of the data."""
    struct.pack_into("<I", chunk, 124, zlib.crc32(chunk[128:512], zlib.crc32(chunk[:120])))
