"""A new file that is hashed while it is written.

The hash is of the bytes that were meant to be on disk, not of what is read back, so that a later
check finds what the disk changed. The descriptor that wrote is the one that is fsynced: that is
where the kernel reports a lost write.
"""

from __future__ import annotations

import io
import os
from typing import Any

import blake3

from casparian.sinks.faults import fsync_fault


class HashingFile(io.RawIOBase):
    """A new file that hashes what is written to it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.size_bytes = 0
        self._hasher = blake3.blake3()
        self._discarding = False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, data: Any, /) -> int:
        """Write all of the data, or raise `OSError`."""
        view = memoryview(data).cast("B")
        if self._discarding:
            return len(view)
        rest = view
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._hasher.update(view)
        self.size_bytes += len(view)
        return len(view)

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def sync(self) -> str:
        """Make the content durable and close; the BLAKE3 of what was written."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise fsync_fault(error, self.path) from error
        self.close()
        return str(self._hasher.hexdigest())

    def discard(self) -> None:
        """From now on nothing is written."""
        self._discarding = True

    def close(self) -> None:
        """Close the descriptor, once."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
