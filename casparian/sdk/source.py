"""The evidence as a parser sees it: a read-only, seekable binary reader over an open descriptor.

The reader keeps its own position and reads with `pread`, so that nothing else that holds the descriptor can move it. The file
is never mapped: a stick that is pulled out is a read error, not a crash.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Source(io.RawIOBase):
    """Bytes of one source. Wrap it in `io.BufferedReader` to read small pieces quickly.

    Args:
        fd: descriptor, open for reading; it stays open when the reader is closed.
        size_bytes: size when the file was opened; reads end there even if the file grows.
        companions: files that belong to this one, by role.
    """

    def __init__(
        self, fd: int, size_bytes: int, companions: Mapping[str, Source] | None = None
    ) -> None:
        super().__init__()
        self._fd = fd
        self._size = size_bytes
        self._position = 0
        self._companions = MappingProxyType(dict(companions or {}))

    @property
    def companions(self) -> Mapping[str, Source]:
        """What lay beside the file and belongs to it, by role: `LOG1`, `WAL`; only what parser.toml asks for and was there."""
        return self._companions

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def fileno(self) -> int:
        """The descriptor, for native readers."""
        return self._fd

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position in bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; beyond the end is allowed, before the start is a `ValueError`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`, fewer only at the end; the position does not move.

        Raises:
            EOFError: the file is shorter than it was when the job began.
        """
        wanted = max(0, min(length, self._size - offset))
        if wanted == 0:
            return b""
        data = os.pread(self._fd, wanted, offset)
        if len(data) == wanted:
            return data
        pieces = [data]
        missing = wanted - len(data)
        while missing:
            data = os.pread(self._fd, missing, offset + wanted - missing)
            if not data:
                raise EOFError(
                    f"the source ends at {offset + wanted - missing}, expected {self._size}"
                )
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer from the position on; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        count = os.preadv(self._fd, [view[:wanted]], self._position)
        if count == 0:
            raise EOFError(f"the source ends at {self._position}, expected {self._size}")
        self._position += count
        return count
