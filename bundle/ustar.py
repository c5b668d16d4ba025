"""Pack a version's tree as `bundle apply` reads it: one spelling of POSIX ustar, plain files only.

For each file in the order of its path: the header with one time, no owner and mode 0644 or 0755, its bytes, zeros to the block;
then two blocks of zeros and zeros to a record of 20 blocks, as `tar` writes it. Folders follow from the paths.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from casparian.appliance.stick.layout import PayloadFile

BLOCK: Final = 512
RECORD: Final = 20 * BLOCK
_COPY_BYTES: Final = 1 << 20

Progress = Callable[[int, int], None]


class NotPackable(ValueError):
    """The tree holds what no stick may: a link, a device, a path that ustar cannot hold."""


def list_tree(root: Path) -> list[str]:
    """Relative paths of all files of a tree, in the order of their bytes.

    Raises:
        NotPackable: something is neither a plain file nor a folder.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(root / inside) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                    raise NotPackable(f"{path!a} is neither a plain file nor a folder")
                if entry.is_dir():
                    waiting.append(path)
                else:
                    found.append(path)
    return sorted(found, key=os.fsencode)


def pack(
    sources: Mapping[str, Path],
    out: BinaryIO,
    mtime: int,
    progress: Progress = lambda _done, _total: None,
) -> tuple[tuple[PayloadFile, ...], str]:
    """Write the archive; the list of its files, and its own SHA-256.

    Args:
        sources: the file behind each path.
        out: where the archive goes.
        mtime: seconds since 1970, of every file.
        progress: told bytes done and in all.

    Raises:
        NotPackable: a path does not fit, or a file changed while it was read.
    """
    paths = sorted(sources, key=os.fsencode)
    total = sum(os.stat(sources[path]).st_size for path in paths)
    whole, done, written = hashlib.sha256(), 0, 0
    files = []

    def write(data: bytes) -> None:
        nonlocal written
        whole.update(data)
        written += len(data)
        out.write(data)

    for path in paths:
        with open(sources[path], "rb") as stream:
            found = os.fstat(stream.fileno())
            executable = bool(found.st_mode & stat.S_IXUSR)
            write(_header(path, found.st_size, mtime, executable=executable))
            hasher, left = hashlib.sha256(), found.st_size
            while left >= 0 and (block := stream.read(_COPY_BYTES)):
                hasher.update(block)
                write(block)
                left -= len(block)
            if left:
                raise NotPackable(f"{path!a} changed while it was read")
            write(bytes(-found.st_size % BLOCK))
        done += found.st_size
        progress(done, total)
        files.append(
            PayloadFile(
                path=path, size=found.st_size, sha256=hasher.hexdigest(), executable=executable
            )
        )
    write(bytes(2 * BLOCK))
    write(bytes(-written % RECORD))
    return tuple(files), whole.hexdigest()


def _header(path: str, size: int, mtime: int, *, executable: bool) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime, entry.mode = size, mtime, 0o755 if executable else 0o644
    try:
        header = entry.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")
    except ValueError as error:
        raise NotPackable(f"{path!a} does not fit into a ustar header: {error}") from error
    if len(header) != BLOCK:
        raise NotPackable(f"{path!a} does not fit into one ustar header")
    return header
