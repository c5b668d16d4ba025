"""Break an event log in one known way.

Every function takes the bytes of a log and returns new bytes; chunks and records count from 0, and
`IndexError` says that the log has no such chunk, record or sector.
Each docstring says what a reader must say of the result: *present* counts whole records and damaged
regions of the live areas, *damaged* the regions among them, and *recovered* marks rows that a
reader found without, or in spite of, the log's own bookkeeping. Finding codes are in backticks.
"""

from __future__ import annotations

import struct
from typing import Final

from casparian.demo.evtx_reference import record_size
from casparian.demo.evtx_writer import (
    CHUNK_BYTES,
    CHUNK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    seal,
    seal_file_header,
    seal_header,
)
from casparian.demo.evtx_writer.log import FLAG_DIRTY

SECTOR_BYTES: Final = 512


def flip_file_header_checksum(log: bytes) -> bytes:
    """Spoil the checksum of the file header.

    Finding `file.header_crc`. Every record is present and decodes; no row is marked.
    """
    return _flip_word(log, 124)


def break_file_magic(log: bytes) -> bytes:
    """Overwrite `ElfFile`, as when the start of a file is lost.

    Findings `file.magic` and, since the checksum covers the magic, `file.header_crc`. Every record
    is present and decodes; no row is marked.
    """
    return b"\xffXXXXXX\xff" + log[8:]


def flip_chunk_header_checksum(log: bytes, chunk: int = 0) -> bytes:
    """Spoil the checksum of a chunk's header.

    Finding `chunk.header_crc`. The data's checksum is still good, so the chunk stays trusted, its
    free space offset holds and no row is marked. The header no longer counts in `declared`.
    """
    return _flip_word(log, _base(log, chunk) + 124)


def flip_chunk_data_checksum(log: bytes, chunk: int = 0) -> bytes:
    """Spoil the stored checksum of a chunk's data, and seal the header again.

    Finding `chunk.data_crc`. All records are present; each row of the chunk is marked `crc_bad`.
    """
    base = _base(log, chunk)
    flipped = bytearray(_flip_word(log, base + 52)[base : base + CHUNK_BYTES])
    seal_header(flipped)
    return log[:base] + flipped + log[base + CHUNK_BYTES :]


def flip_both_chunk_checksums(log: bytes, chunk: int = 0) -> bytes:
    """Spoil both checksums of a chunk: nothing in its header can be believed.

    Findings `chunk.header_crc` and `chunk.data_crc`. The chunk is untrusted: it is searched to its
    end, all its rows are marked `recovered`, and records behind free space count as live.
    """
    return _flip_word(_flip_word(log, _base(log, chunk) + 52), _base(log, chunk) + 124)


def break_chunk_magic(log: bytes, chunk: int = 0) -> bytes:
    """Overwrite `ElfChnk`.

    Finding `chunk.magic` (and `chunk.header_crc`, which covers the magic). The data's checksum is
    still good, so the chunk stays trusted and every record is present. Not counted in `declared`.
    """
    at = _base(log, chunk)
    return log[:at] + b"XXXXXXX\0" + log[at + 8 :]


def zero_sectors(
    log: bytes, chunk: int, sector: int, *, count: int = 1, reseal: bool = False
) -> bytes:
    """Zero 512-byte sectors of a chunk, as a lost disk block does; sector 0 is the chunk's header.

    Finding `chunk.data_crc` unless `reseal`, and a `chunk.damaged` for each region between whole
    records. Each region is one damaged unit with its raw bytes; records behind it in the chunk are
    marked `recovered`, or quarantined when the template or name they need was in the sector.
    A sector wholly inside one record leaves the framing whole: only the checksum tells.
    With sector 0 the chunk is untrusted (also `chunk.magic`, `chunk.header_crc`): its 512 bytes of
    header are gone, its records are not.

    Args:
        log: the log's bytes.
        chunk: which chunk.
        sector: which sector of it, 0 to 127.
        count: how many sectors from there on.
        reseal: recompute the checksums, so that they vouch for the damage.
    """
    base = _base(log, chunk)
    at = base + sector * SECTOR_BYTES
    if not (0 <= sector < CHUNK_BYTES // SECTOR_BYTES and at < len(log)):
        raise IndexError(f"chunk {chunk} has no sector {sector}")
    end = min(at + count * SECTOR_BYTES, base + CHUNK_BYTES, len(log))
    return _finish(log[:at] + bytes(end - at) + log[end:], base, reseal=reseal)


def cut(log: bytes, *, keep_bytes_of_last_chunk: int) -> bytes:
    """End the file in the middle of its last chunk, as a broken copy does.

    Findings `chunk.cut` and `source.truncated`. Records that are whole before the cut are present
    and marked `recovered` and `cut`; the one that the cut went through is a damaged region.
    With under 512 bytes kept there is no header and no record: one chunk, no unit.
    """
    if not 0 < keep_bytes_of_last_chunk < CHUNK_BYTES:
        raise ValueError("keep between 1 and 65,535 bytes of the last chunk")
    return log[: _base(log, chunk_count(log) - 1) + keep_bytes_of_last_chunk]


def stale_header(log: bytes, *, chunks: int, dirty: bool = True) -> bytes:
    """Make the file header know of only `chunks` chunks, as in a log copied while in use.

    Finding `file.chunk_count`, explained by the dirty flag when it is set. A reader that trusts the
    count loses the rest without a word: all records are present and no row is marked.
    """
    data = bytearray(log)
    struct.pack_into("<Q", data, 16, max(chunks - 1, 0))
    struct.pack_into("<H", data, 42, chunks)
    flags = struct.unpack_from("<I", data, 120)[0] & ~FLAG_DIRTY
    struct.pack_into("<I", data, 120, flags | (FLAG_DIRTY if dirty else 0))
    header = data[:FILE_HEADER_BYTES]
    seal_file_header(header)
    data[:FILE_HEADER_BYTES] = header
    return bytes(data)


def leave_slack(log: bytes, chunk: int, *, keep_records: int) -> bytes:
    """Move a chunk's free space back, so that records stay behind it, as when a log wraps.

    No finding: the header is sealed and right. The first `keep_records` records are present; the
    rest come as rows marked `recovered` and `slack`, outside `present`. Names and templates
    that live records define before free space still serve the records in slack.
    """
    base = _base(log, chunk)
    offsets = record_offsets(log, chunk)
    if not 0 < keep_records < len(offsets):
        raise ValueError(f"the chunk holds {len(offsets)} records: keep at least 1, leave 1")
    last = offsets[keep_records - 1]
    data = bytearray(log)
    number = struct.unpack_from("<Q", data, base + 8)[0]
    struct.pack_into("<Q", data, base + 16, number + keep_records - 1)
    data[base + 32 : base + 40] = data[last + 8 : last + 16]
    struct.pack_into("<II", data, base + 44, last - base, offsets[keep_records] - base)
    return _finish(bytes(data), base, reseal=True)


def break_record_size(
    log: bytes, chunk: int, record: int, *, size: int = 0, reseal: bool = False
) -> bytes:
    """Write a wrong size into a record's header; its closing copy keeps the true one.

    The record becomes a damaged region (`chunk.damaged`) that ends where the next whole record
    starts; rows behind it are marked `recovered`. `chunk.data_crc` unless `reseal`. A size of 0
    has made readers loop for ever, a huge one made them allocate gigabytes.
    """
    data = bytearray(log)
    struct.pack_into("<I", data, record_offsets(log, chunk)[record] + 4, size)
    return _finish(bytes(data), _base(log, chunk), reseal=reseal)


def break_binxml(log: bytes, chunk: int, record: int, *, reseal: bool = True) -> bytes:
    """Replace the first token of a record's BinXML with one that does not exist.

    The record is whole, so it stays one present unit, but it cannot be decoded: one quarantined
    row with a `binxml.…` reason and its raw bytes. Later records that need a template it
    defined may still use it: the definition itself is intact.
    """
    at = record_offsets(log, chunk)[record] + 24
    return _finish(log[:at] + b"\x3f" + log[at + 1 :], _base(log, chunk), reseal=reseal)


def duplicate_chunk(log: bytes, chunk: int, *, before: int | None = None) -> bytes:
    """Put a copy of a chunk before chunk `before`, or at the end: splicing, or a bad carving.

    Finding `file.chunk_count` and, where ids jump, `chunk.id_gap`. Every record of the copy is
    present a second time, at its own offset and with the same id; no row is marked.
    """
    at = len(log) if before is None else _base(log, before)
    return log[:at] + chunk_bytes(log, chunk) + log[at:]


def splice_chunk(log: bytes, other: bytes, chunk: int, *, before: int | None = None) -> bytes:
    """Put chunk `chunk` of another log into this one.

    Chunks stand alone, so all records decode. Findings `file.chunk_count` and, where ids jump,
    `chunk.id_gap`.
    """
    at = len(log) if before is None else _base(log, before)
    return log[:at] + chunk_bytes(other, chunk) + log[at:]


def drop_chunk(log: bytes, chunk: int) -> bytes:
    """Take a chunk out, header left as it was.

    Findings `file.chunk_count` and `source.truncated` (a clean header claims more than there is).
    The records are gone without a trace of their own; only the ids of their neighbours jump.
    """
    at = _base(log, chunk)
    return log[:at] + log[at + CHUNK_BYTES :]


def insert_blank_chunk(log: bytes, *, before: int | None = None) -> bytes:
    """Insert 64 KiB of zeros: space that Windows allocates ahead of use, also between chunks.

    No unit and no chunk. A reader that stops at the first blank slot loses all behind it.
    """
    at = len(log) if before is None else _base(log, before)
    return log[:at] + bytes(CHUNK_BYTES) + log[at:]


def chunk_count(log: bytes) -> int:
    """Slots behind the file header; a cut one counts."""
    return -(-(len(log) - FILE_HEADER_BYTES) // CHUNK_BYTES)


def chunk_bytes(log: bytes, chunk: int) -> bytes:
    """The bytes of one chunk."""
    base = _base(log, chunk)
    return log[base : base + CHUNK_BYTES]


def record_offsets(log: bytes, chunk: int) -> list[int]:
    """Offsets in the file, in bytes, of a healthy chunk's live records."""
    base, slot = _base(log, chunk), chunk_bytes(log, chunk)
    limit = struct.unpack_from("<I", slot, 48)[0]
    offsets, at = [], CHUNK_HEADER_BYTES
    while size := record_size(slot, at, limit):
        offsets.append(base + at)
        at += size
    return offsets


def _base(log: bytes, chunk: int) -> int:
    if not 0 <= chunk < chunk_count(log):
        raise IndexError(f"there is no chunk {chunk}: the log has {chunk_count(log)}")
    base = FILE_HEADER_BYTES + chunk * CHUNK_BYTES
    if len(log) < base + CHUNK_HEADER_BYTES:
        raise IndexError(f"chunk {chunk} is cut off inside its header")
    return base


def _flip_word(log: bytes, at: int) -> bytes:
    return log[:at] + bytes(byte ^ 0xFF for byte in log[at : at + 4]) + log[at + 4 :]


def _finish(log: bytes, base: int, *, reseal: bool) -> bytes:
    if not reseal:
        return log
    chunk = bytearray(log[base : base + CHUNK_BYTES])
    seal(chunk)
    return log[:base] + chunk + log[base + CHUNK_BYTES :]
