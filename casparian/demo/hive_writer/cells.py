"""Bins and the cells in them.

Layout: M. Suhanov, "Windows registry file format specification", sections "Hive bin" and "Cell". An offset is what
a hive calls one: bytes from the first bin, of a cell's size field.
"""

from __future__ import annotations

import struct
from typing import Final

PAGE_BYTES: Final = 4096
BIN_HEADER_BYTES: Final = 32
_STEP: Final = 8


class Cells:
    """Cells in the order in which they were added; a bin that has no room is closed with a free cell.

    Args:
        timestamp: FILETIME in the first bin.
    """

    def __init__(self, timestamp: int) -> None:
        self._timestamp = timestamp
        self._data = bytearray()
        self._bin_end = 0

    def add(self, content: bytes, *, size: int | None = None, free: bool = False) -> int:
        """Place a cell and return its offset.

        Args:
            content: behind the size field.
            size: of the whole cell, when it is larger than its content needs.
            free: not allocated.
        """
        length = max(size or 0, len(content) + 4, _STEP)
        length += -length % _STEP
        if len(self._data) + length > self._bin_end:
            self._close_bin()
            self._open_bin(length)
        offset = len(self._data)
        self._data += struct.pack("<i", length if free else -length)
        self._data += content + bytes(length - 4 - len(content))
        return offset

    def patch(self, offset: int, at: int, content: bytes) -> None:
        """Overwrite content of a cell: `at` counts from behind its size field."""
        start = offset + 4 + at
        self._data[start : start + len(content)] = content

    def release(self, offset: int) -> None:
        """Make an allocated cell free; its bytes stay."""
        (size,) = struct.unpack_from("<i", self._data, offset)
        struct.pack_into("<i", self._data, offset, abs(size))

    def length(self, offset: int) -> int:
        """Bytes of a cell, its size field included."""
        (size,) = struct.unpack_from("<i", self._data, offset)
        return abs(int(size))

    def to_bytes(self, bins_bytes_min: int = 0) -> bytes:
        """All bins; further ones with nothing in them follow up to a size."""
        self._close_bin()
        while len(self._data) < bins_bytes_min:
            self._open_bin(_STEP)
            self._close_bin()
        return bytes(self._data)

    def _open_bin(self, content_bytes: int) -> None:
        size = BIN_HEADER_BYTES + content_bytes
        size += -size % PAGE_BYTES
        start = len(self._data)
        timestamp = self._timestamp if start == 0 else 0
        self._data += struct.pack("<4sIIQQI", b"hbin", start, size, 0, timestamp, 0)
        self._bin_end = start + size

    def _close_bin(self) -> None:
        if left := self._bin_end - len(self._data):
            self._data += struct.pack("<i", left) + bytes(left - 4)
