"""Transaction logs: how a hive and its logs lie on a disk when a write was cut short.

    before, after = Hive(root=old).to_bytes(), Hive(root=new).to_bytes()
    dirty = interrupted(before)
    log1 = entry_log([(before, after)], first=sequence_of(dirty))

Layout: M. Suhanov, "Windows registry file format specification", section "Format of transaction log files".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from casparian.demo.hive_writer.hive import BASE_BYTES, SECTOR_BYTES, seal

PAGE_BYTES: Final = 4096
_SEED: Final = 0x82EF4D887A4E55C5
_MASK: Final = 0xFFFFFFFF
_OLD_LOG, _ENTRY_LOG = 1, 6  # file types
_TIME_AT: Final = 12


def sequence_of(hive: bytes) -> int:
    """The primary sequence number."""
    return int.from_bytes(hive[4:8], "little")


def interrupted(hive: bytes) -> bytes:
    """The hive as it lies there when a write began and did not end: the primary number is one ahead."""
    data = bytearray(hive)
    struct.pack_into("<I", data, 4, sequence_of(hive) + 1)
    seal(data)
    return bytes(data)


def entry_log(steps: Sequence[tuple[bytes, bytes]], *, first: int) -> bytes:
    """A log of numbered entries (since Windows 8.1).

    Args:
        steps: for each entry the hive before and after it.
        first: number of the first entry.
    """
    log = _base(steps[0][1], first, _ENTRY_LOG)
    for number, (before, after) in enumerate(steps, start=first):
        log += _entry(before, after, number)
    return bytes(log)


def sector_log(before: bytes, after: bytes, *, sequence: int) -> bytes:
    """A log with one bitmap of dirty sectors (up to Windows 8).

    Its time of writing is that of `before`: the base block of the hive is written before its bins.
    """
    log = _base(after, sequence, _OLD_LOG)
    log[_TIME_AT : _TIME_AT + 8] = before[_TIME_AT : _TIME_AT + 8]
    seal(log)
    bins = after[BASE_BYTES:]
    bitmap = bytearray(len(bins) // SECTOR_BYTES // 8)
    pages = b""
    for at in _dirty_pages(before, after):
        for sector in range(at // SECTOR_BYTES, (at + PAGE_BYTES) // SECTOR_BYTES):
            bitmap[sector // 8] |= 1 << sector % 8
        pages += bins[at : at + PAGE_BYTES]
    log += b"DIRT" + bitmap
    log += bytes(-len(log) % SECTOR_BYTES)
    return bytes(log) + pages


def marvin32(data: bytes, seed: int = _SEED) -> int:
    """The checksum of log entries."""
    low, high = seed & _MASK, seed >> 32
    whole = len(data) // 4 * 4
    last = (data[whole:] + b"\x80").ljust(4, b"\0")
    numbers = struct.unpack(f"<{whole // 4}I", data[:whole]) + struct.unpack("<I", last) + (0,)
    for number in numbers:
        low = (low + number) & _MASK
        high ^= low
        low = (_rotated(low, 20) + high) & _MASK
        high = _rotated(high, 9) ^ low
        low = (_rotated(low, 27) + high) & _MASK
        high = _rotated(high, 19)
    return high << 32 | low


def _rotated(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _MASK


def _base(hive: bytes, sequence: int, kind: int) -> bytearray:
    """The first sector of a hive as a log keeps it."""
    data = bytearray(hive[:SECTOR_BYTES])
    struct.pack_into("<II", data, 4, sequence, sequence)
    struct.pack_into("<I", data, 28, kind)
    seal(data)
    return data


def _entry(before: bytes, after: bytes, number: int) -> bytes:
    places = _dirty_pages(before, after)
    bins = after[BASE_BYTES:]
    body = b"".join(struct.pack("<II", at, PAGE_BYTES) for at in places)
    body += b"".join(bins[at : at + PAGE_BYTES] for at in places)
    body += bytes(-(len(body) + 40) % SECTOR_BYTES)
    head = struct.pack(
        "<4sIIIIIQ", b"HvLE", len(body) + 40, 0, number, len(bins), len(places), marvin32(body)
    )
    return head + struct.pack("<Q", marvin32(head)) + body


def _dirty_pages(before: bytes, after: bytes) -> list[int]:
    """Places of the pages of bins that differ, from the first bin."""
    old, new = before[BASE_BYTES:], after[BASE_BYTES:]
    return [
        at
        for at in range(0, len(new), PAGE_BYTES)
        if old[at : at + PAGE_BYTES] != new[at : at + PAGE_BYTES]
    ]
