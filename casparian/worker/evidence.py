"""One source while it is read: opened once, checked, hashed beside the parsing, lent to guests.

It is opened without following a link and without blocking, must be a regular file of the recorded
size, and is never mapped. Each guest gets an open file description of its own, for the same inode:
a shared one would share its position.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

from casparian import _native
from casparian.display import show_bytes
from casparian.protocol.worker import SourceTask
from casparian.worker.faults import SourceExcluded

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEVICE_FAULTS: Final = frozenset(
    {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT}
)
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Evidence:
    """An open source.

    Raises:
        SourceExcluded: `source.unreadable` or `source.changed`.
    """

    def __init__(self, task: SourceTask) -> None:
        self.task = task
        try:
            self._descriptor = os.open(task.path, _OPEN_FLAGS)
        except OSError as error:
            raise _fault(error, task) from error
        try:
            found = os.fstat(self._descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _changed(task, "it is not a regular file any more")
            if found.st_size != task.size_bytes:
                raise _changed(task, f"it has {found.st_size} bytes, not {task.size_bytes}")
            self._modified_ns = found.st_mtime_ns
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @contextmanager
    def duplicate(self) -> Iterator[int]:
        """A new open file description of the same file, for a guest; closed here when it was sent."""
        try:
            descriptor = os.open(
                f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise _fault(error, self.task) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of a span; fewer when the file ends before it does.

        Raises:
            SourceExcluded: the device does not answer.
        """
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise _fault(error, self.task) from error

    def verify(self) -> SourceExcluded | None:
        """Hash the whole file: `None` when it is what discovery recorded. Runs without the GIL."""
        digest = _native.digest_fd(self._descriptor)
        if digest.error == "source.changed":  # bytes went missing
            return _changed(self.task, "it changed while it was read")
        if digest.blake3 is None:
            # It could be opened, so what fails now is the device.
            return SourceExcluded(
                "source.unreadable",
                f"`{show_bytes(self.task.path)}` could not be read: {digest.message}",
                transient=True,
            )
        if digest.blake3 != self.task.source_hash:
            return _changed(self.task, "its content has another hash than when it was discovered")
        return None

    @property
    def descriptor(self) -> int:
        """The open file; it stays the evidence's."""
        return self._descriptor

    def touched(self) -> SourceExcluded | None:
        """Whether the file was written to since it was opened; asked when its readers are done.

        The hash may have been taken before a write and the rows after it, so the rows cannot be
        kept. The content may be the recorded one all the same: worth another attempt.
        """
        found = os.fstat(self._descriptor)
        if found.st_size != self.task.size_bytes:
            return _changed(self.task, f"it has {found.st_size} bytes, not {self.task.size_bytes}")
        if found.st_mtime_ns != self._modified_ns:
            return _changed(self.task, "it was written to while it was read", transient=True)
        return None


def all_intact(sources: Sequence[Evidence]) -> bool:
    """Whether the content of each is the recorded one: `Evidence.verify` says what is wrong with one. Runs without the GIL."""
    digests = _native.digest_fds([source.descriptor for source in sources])
    return all(
        digest.blake3 == source.task.source_hash
        for digest, source in zip(digests, sources, strict=True)
    )


def _changed(task: SourceTask, why: str, *, transient: bool = False) -> SourceExcluded:
    message = f"`{show_bytes(task.path)}` changed: {why}"
    return SourceExcluded("source.changed", message, transient=transient)


def _fault(error: OSError, task: SourceTask) -> SourceExcluded:
    if error.errno == errno.ELOOP:
        return _changed(task, "it is a symbolic link now")
    return SourceExcluded(
        "source.unreadable",
        f"`{show_bytes(task.path)}` could not be read: {error.strerror}",
        transient=error.errno in _DEVICE_FAULTS or error.errno in _SHORTAGES,
    )
