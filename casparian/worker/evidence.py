"""One source while it is read: opened once, checked, hashed beside the parsing, lent to guests.

It is opened without following a link and without blocking, must be a regular file of the recorded
size, and is never mapped. Each guest gets an open file description of its own, for the same inode:
a shared one would share its position. All of this holds for the source's companions as well: rows
are made of both, so a companion that changed is a source that changed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, Self

from casparian import _native
from casparian.display import show_bytes
from casparian.protocol.worker import CompanionTask, SourceTask
from casparian.worker.faults import SourceExcluded

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEVICE_FAULTS: Final = frozenset(
    {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT}
)
_PAGE_BYTES: Final = 4096
_GROWTH_FREE_BYTES: Final = 64 << 20  # as decoder and walk let a hive grow
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Evidence:
    """An open source with its companions.

    Raises:
        SourceExcluded: `source.unreadable` or `source.changed`.
    """

    def __init__(self, task: SourceTask) -> None:
        self.task = task
        self._main = _File(task)
        self._files = [self._main]
        try:
            for companion in task.companions:
                self._files.append(_File(companion))
        except BaseException:
            self._close()
            raise
        self.size_bytes = sum(file.task.size_bytes for file in self._files)

    @property
    def extent_bytes(self) -> int:
        """Where the span of a row must end. A log can put pages far behind the end of a hive that was cut off."""
        if not self.task.companions:
            return self.size_bytes
        return max(self.size_bytes + _PAGE_BYTES, _GROWTH_FREE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for file in self._files:
            file.close()

    @contextmanager
    def duplicates(self) -> Iterator[list[int]]:
        """New open file descriptions of the source and its companions, for a guest; closed here when they were sent."""
        with ExitStack() as opened:
            descriptors = []
            for file in self._files:
                descriptors.append(file.duplicate())
                opened.callback(os.close, descriptors[-1])
            yield descriptors

    @property
    def descriptor(self) -> int:
        """The open file of the source itself; it stays the evidence's."""
        return self._main.descriptor

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of a span of the source itself; fewer when the file ends before it does.

        Raises:
            SourceExcluded: the device does not answer.
        """
        return self._main.read(offset, length)

    def verify(self) -> SourceExcluded | None:
        """Hash all of it: `None` when it is what discovery recorded. Runs without the GIL."""
        return next(filter(None, (file.verify() for file in self._files)), None)

    def touched(self) -> SourceExcluded | None:
        """Whether it was written to since it was opened; asked when its readers are done.

        The hash may have been taken before a write and the rows after it, so the rows cannot be
        kept. The content may be the recorded one all the same: worth another attempt.
        """
        return next(filter(None, (file.touched() for file in self._files)), None)


class _File:
    """One open file of the evidence."""

    def __init__(self, task: SourceTask | CompanionTask) -> None:
        self.task = task
        try:
            self.descriptor = os.open(task.path, _OPEN_FLAGS)
        except OSError as error:
            raise _fault(error, task) from error
        try:
            found = os.fstat(self.descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _changed(task, "it is not a regular file any more")
            if found.st_size != task.size_bytes:
                raise _changed(task, f"it has {found.st_size} bytes, not {task.size_bytes}")
            self._modified_ns = found.st_mtime_ns
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.descriptor)

    def duplicate(self) -> int:
        try:
            return os.open(
                f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise _fault(error, self.task) from error

    def read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self.descriptor, length, offset)
        except OSError as error:
            raise _fault(error, self.task) from error

    def verify(self) -> SourceExcluded | None:
        digest = _native.digest_fd(self.descriptor)
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

    def touched(self) -> SourceExcluded | None:
        found = os.fstat(self.descriptor)
        if found.st_size != self.task.size_bytes:
            return _changed(self.task, f"it has {found.st_size} bytes, not {self.task.size_bytes}")
        if found.st_mtime_ns != self._modified_ns:
            return _changed(self.task, "it was written to while it was read", transient=True)
        return None


def all_intact(sources: Sequence[Evidence]) -> bool:
    """Whether the content of each is the recorded one: `Evidence.verify` says what is wrong with one. Runs without the GIL.

    For sources without companions.
    """
    digests = _native.digest_fds([source.descriptor for source in sources])
    return all(
        digest.blake3 == source.task.source_hash
        for digest, source in zip(digests, sources, strict=True)
    )


def _changed(
    task: SourceTask | CompanionTask, why: str, *, transient: bool = False
) -> SourceExcluded:
    message = f"`{show_bytes(task.path)}` changed: {why}"
    return SourceExcluded("source.changed", message, transient=transient)


def _fault(error: OSError, task: SourceTask | CompanionTask) -> SourceExcluded:
    if error.errno == errno.ELOOP:
        return _changed(task, "it is a symbolic link now")
    return SourceExcluded(
        "source.unreadable",
        f"`{show_bytes(task.path)}` could not be read: {error.strerror}",
        transient=error.errno in _DEVICE_FAULTS or error.errno in _SHORTAGES,
    )
