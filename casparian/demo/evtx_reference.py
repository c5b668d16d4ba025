"""What is in an event log, counted the plain way.

A slow reading of the format's record framing, without any BinXML: it says which records are whole,
where damage lies and what slack still holds, so that damage can be described exactly and a faster
reader can be checked against it.

Slots of 65,536 bytes follow the 4,096-byte file header, to the end of the file whatever the header
says. Rules, slot by slot:

  * A slot of zeros is no chunk.
  * A chunk is trusted when its magic, header checksum and free space offset are good, or its data
    checksum is. Its live area then ends at free space, otherwise at the end of the slot.
  * A record starts with `2a 2a 00 00`, holds at least 28 bytes, and ends with its own size again.
  * What lies between whole records of the live area is one damaged region each. In an untrusted
    chunk a region ends behind its last byte that is not zero.
  * Whole records behind free space are slack: copies, never counted as present.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 65536
CHUNK_HEADER_BYTES: Final = 512
FILE_HEADER_BYTES: Final = 4096
RECORD_MAGIC: Final = b"\x2a\x2a\0\0"
RECORD_BYTES_MIN: Final = 28


@dataclass(frozen=True, slots=True)
class Unit:
    """One record or one damaged region: offset in the file and length, both in bytes."""

    offset: int
    length: int
    chunk: int
    damaged: bool = False
    slack: bool = False
    recovered: bool = False
    record_id: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkReading:
    """One chunk: its verdicts and its units, live ones first."""

    index: int
    available_bytes: int
    magic_ok: bool
    header_checksum_ok: bool
    data_checksum_ok: bool
    trusted: bool
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class LogReading:
    """A whole log.

    Attributes:
        present: units of the live areas: whole records and damaged regions.
        damaged: the damaged regions among them.
        slack: whole records behind free space, outside `present`.
        declared: records that trustworthy chunk headers claim; `None` without any.
    """

    chunks: tuple[ChunkReading, ...]
    declared: int | None

    @property
    def live(self) -> tuple[Unit, ...]:
        """Units of the live areas, in file order."""
        return tuple(u for chunk in self.chunks for u in chunk.units if not u.slack)

    @property
    def present(self) -> int:
        """How many units the live areas hold."""
        return len(self.live)

    @property
    def damaged(self) -> int:
        """How many of them are damaged regions."""
        return sum(unit.damaged for unit in self.live)

    @property
    def slack(self) -> int:
        """Whole records behind free space."""
        return sum(unit.slack for chunk in self.chunks for unit in chunk.units)


def read_log(data: bytes) -> LogReading:
    """Read a log's framing, whatever state it is in. Never raises on bad bytes."""
    chunks, claims = [], []
    bases = range(FILE_HEADER_BYTES, len(data), CHUNK_BYTES)
    for index, base in enumerate(bases):
        slot = data[base : base + CHUNK_BYTES]
        if not any(slot):
            continue
        chunk = _read_chunk(slot, index, base)
        chunks.append(chunk)
        if chunk.magic_ok and chunk.header_checksum_ok:
            first, last = struct.unpack_from("<QQ", slot, 8)
            claims.append(0 if first > last or first == 2**64 - 1 else last - first + 1)
    return LogReading(tuple(chunks), sum(claims) if claims else None)


def _read_chunk(slot: bytes, index: int, base: int) -> ChunkReading:
    available = len(slot)
    magic_ok = slot[:8] == b"ElfChnk\0"
    whole_header = available >= CHUNK_HEADER_BYTES
    header_ok = whole_header and _word(slot, 124) == zlib.crc32(
        slot[128:512], zlib.crc32(slot[:120])
    )
    free_space = _word(slot, 48) if whole_header else 0
    data_ok = CHUNK_HEADER_BYTES <= free_space <= available and zlib.crc32(
        slot[CHUNK_HEADER_BYTES:free_space]
    ) == _word(slot, 52)
    trusted = (magic_ok and header_ok and CHUNK_HEADER_BYTES <= free_space <= CHUNK_BYTES) or (
        data_ok and free_space > CHUNK_HEADER_BYTES
    )
    limit = min(free_space, available) if trusted else available
    units = [
        *_live_units(slot, index, base, limit, trusted=trusted),
        *(_slack_units(slot, index, base, limit) if trusted else ()),
    ]
    return ChunkReading(index, available, magic_ok, header_ok, data_ok, trusted, tuple(units))


def _live_units(slot: bytes, index: int, base: int, limit: int, *, trusted: bool) -> Iterator[Unit]:
    at, recovered = CHUNK_HEADER_BYTES, not trusted or len(slot) < CHUNK_BYTES
    while at < limit:
        size = record_size(slot, at, limit)
        if size:
            record_id = struct.unpack_from("<Q", slot, at + 8)[0]
            yield Unit(base + at, size, index, recovered=recovered, record_id=record_id)
            at += size
            continue
        end = _next_record(slot, at, limit)
        if end is None:
            end = limit if trusted else at + len(slot[at:limit].rstrip(b"\0"))
            if end <= at:
                return
        yield Unit(base + at, end - at, index, damaged=True)
        at, recovered = end, True


def _slack_units(slot: bytes, index: int, base: int, limit: int) -> Iterator[Unit]:
    at: int | None = limit
    while at is not None and (at := _next_record(slot, at, len(slot), inclusive=True)) is not None:
        size = record_size(slot, at, len(slot))
        record_id = struct.unpack_from("<Q", slot, at + 8)[0]
        yield Unit(base + at, size, index, slack=True, recovered=True, record_id=record_id)
        at += size


def record_size(slot: bytes, at: int, limit: int) -> int:
    """Size in bytes of the whole record at `at`, or 0 when there is none."""
    if limit - at < RECORD_BYTES_MIN or slot[at : at + 4] != RECORD_MAGIC:
        return 0
    size = _word(slot, at + 4)
    if not RECORD_BYTES_MIN <= size <= limit - at or _word(slot, at + size - 4) != size:
        return 0
    return size


def _next_record(slot: bytes, at: int, limit: int, *, inclusive: bool = False) -> int | None:
    found = slot.find(RECORD_MAGIC, at if inclusive else at + 1)
    while found >= 0:
        if record_size(slot, found, limit):
            return found
        found = slot.find(RECORD_MAGIC, found + 1)
    return None


def _word(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value
