"""Faults of output locations, and what they mean for the job that met them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from casparian.errors import SinkFault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class StagingFault(SinkFault):
    """A staged file could not be written whole. None of the job's files may be used.

    Args:
        transient: the same work may succeed when it is tried again unchanged (a full disk that is
            cleared).
    """

    code = "staging.io"

    def __init__(
        self, message: str, *, transient: bool, code: str, hint: str | None = None, path: str = ""
    ) -> None:
        super().__init__(message, hint=hint, code=code, path=path, transient=int(transient))
        self.transient = transient


def is_transient(error: BaseException) -> bool:
    """Whether trying the same work again, unchanged, may succeed."""
    return bool(getattr(error, "transient", False))


def staging_fault(error: OSError, path: str) -> StagingFault:
    """The fault that an operating-system error while staging stands for."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StagingFault(
            f"no space left for `{path}`: {reason}",
            transient=True,
            code="staging.no_space",
            hint="free space on the sink's file system, then run again",
            path=path,
        )
    if error.errno in _UNWRITABLE:
        return StagingFault(
            f"`{path}` cannot be written: {reason}",
            transient=False,
            code="staging.denied",
            hint="check the permissions of the sink's directory",
            path=path,
        )
    return StagingFault(
        f"`{path}` could not be written: {reason}", transient=True, code="staging.io", path=path
    )


def fsync_fault(error: OSError, path: str) -> StagingFault:
    """An fsync that failed: what is on disk is unknown, and a second fsync would lie. Never retried."""
    return StagingFault(
        f"`{path}` could not be made durable: {error.strerror or error}",
        transient=False,
        code="staging.fsync",
        hint="check the disk (dmesg, SMART) before running again",
        path=path,
    )


@contextmanager
def staging_errors(path: str) -> Iterator[None]:
    """Turn `OSError`s of the block into `StagingFault`s."""
    try:
        yield
    except OSError as error:
        raise staging_fault(error, path) from error
