"""Directories and files that survive a power cut: what is created is fsynced, and so is the entry that names it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from casparian.errors import SinkFault
from casparian.sinks.faults import StagingFault, fsync_fault, staging_errors

# What the file system above ours may answer to an fsync of a directory: there is nothing to make durable.
_NOT_SYNCABLE: Final = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP})


def make_directories(path: str, *, mode: int = 0o777) -> None:
    """`mkdir -p` whose every entry is durable when it returns. Existing directories are left alone.

    The deepest directory that exists is synced into its parent too: whoever made it may have been killed in between. No more
    than one can be in that state, because each is synced before the next is made.

    Raises:
        SinkFault: the path exists and is not a directory, or cannot be created.
    """
    missing: list[str] = []
    current = os.path.abspath(path)
    while not os.path.lexists(current):
        missing.append(current)
        current = os.path.dirname(current)
    if not os.path.isdir(current):
        raise SinkFault(
            f"`{current}` is not a directory", code="sink.not_a_directory", path=current
        )
    _sync_made(current)
    for directory in reversed(missing):
        with staging_errors(directory), suppress(FileExistsError):  # another worker made it
            os.mkdir(directory, mode)
        sync_directory(os.path.dirname(directory))


def _sync_made(directory: str) -> None:
    """Make the entry of an existing directory durable, if it can be one that we made."""
    try:
        sync_directory(os.path.dirname(directory))
    except StagingFault as fault:
        if fault.code == "staging.denied":  # a place that we may not even read is not of our making
            return
        cause = fault.__cause__
        if not (isinstance(cause, OSError) and cause.errno in _NOT_SYNCABLE):
            raise


def sync_directory(path: str) -> None:
    """Make the entries of a directory durable.

    Raises:
        StagingFault: `staging.fsync`; never retried.
    """
    with staging_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise fsync_fault(error, path) from error
    finally:
        os.close(descriptor)


def sync_directories(paths: Iterable[str]) -> None:
    """Make directories and the entries that name them durable, each directory once.

    A stage is named in its home's stage directory, and that entry must survive as well: so each
    path's parent is synced too. Paths that do not exist (a job without rows) are passed over.
    """
    wanted: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            wanted[path] = None
            wanted[os.path.dirname(path)] = None
    for path in wanted:
        sync_directory(path)


def remove_file(path: str) -> bool:
    """Remove an output file for good; `False` when it is gone already.

    Raises:
        SinkFault: the path is not a regular file, or cannot be removed.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise SinkFault(
            f"`{path}` is not a regular file; it is left alone", code="sink.refused", path=path
        )
    with staging_errors(path):
        os.unlink(path)
    sync_directory(os.path.dirname(path))
    return True
