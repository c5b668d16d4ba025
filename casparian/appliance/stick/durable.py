"""Writing so that a crash leaves the old or the new: replaced files and links, folders that are on the disk."""

from __future__ import annotations

import errno
import os
import secrets
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD: Final = -100


def sync_folder(path: str) -> None:
    """Have a folder's names on the disk."""
    folder = os.open(path, _FOLDER)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sync_everything_at(path: str) -> None:
    """Have all of a file system on the disk, with an error when a write failed: one call for thousands of new files."""
    import ctypes

    folder = os.open(path, _FOLDER)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(folder) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(folder)


def replace_file(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole, or leave what was there."""
    beside = f"{path}.new-{secrets.token_hex(6)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(beside, path)
    sync_folder(os.path.dirname(path))


def replace_link(path: str, target: str) -> None:
    """Have a link point to a target; at each moment it points to the old or the new one."""
    beside = f"{path}.new-{secrets.token_hex(6)}"
    os.symlink(target, beside)
    os.rename(beside, path)
    sync_folder(os.path.dirname(path))


def exchange(one: str, other: str) -> bool:
    """Swap two names in one step; false where the system cannot."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        return False
    done = call(
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(one)),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(other)),
        ctypes.c_uint(_EXCHANGE),
    )
    if done == 0:
        sync_folder(os.path.dirname(one))
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), one)
