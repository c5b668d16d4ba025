"""The archive of a version: read member by member against the signed list of its files, and in no other way.

A stick's archive has one spelling: for each file of the list, in its order, the header that POSIX ustar gives it (no owner, no
names, mode 0644 or 0755, one time for all), its bytes, zeros to the block; then two blocks of zeros, and at most as many more as
fill a record of 20 blocks. Of a header only the time is not known beforehand, so it is compared whole with the one we would
write: a link, a device, a folder, an extension of pax or GNU, a sparse file or another owner is another header.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from casparian.appliance.stick.folder import BLOCK_BYTES
from casparian.appliance.stick.layout import PayloadFile
from casparian.appliance.stick.refusals import refused, writing
from casparian.display import show

BLOCK: Final = 512
RECORD: Final = 20 * BLOCK
FOLDER_MODE: Final = 0o755

Read = Callable[[int], bytes]
Progress = Callable[[int, int], None]


def file_mode(*, executable: bool) -> int:
    """The mode of an installation's file: one bit is all that it says."""
    return 0o755 if executable else 0o644


def header(file: PayloadFile, mtime: int) -> bytes:
    """The one header of a file.

    Raises:
        ValueError: ustar cannot hold its path.
    """
    entry = tarfile.TarInfo(file.path)
    entry.size, entry.mtime = file.size, mtime
    entry.mode = file_mode(executable=file.executable)
    return entry.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


def archive_size(files: tuple[PayloadFile, ...]) -> tuple[int, int]:
    """Least and greatest size in bytes of an archive of these files."""
    body = sum(BLOCK + file.size + (-file.size % BLOCK) for file in files)
    least = body + 2 * BLOCK
    return least, least + (-least % RECORD)


class Archive:
    """Reads an archive forwards, once.

    Args:
        read: gives the next bytes, at most so many, none at the end; it raises what reading raises.
        files: what the archive must hold.
    """

    def __init__(self, read: Read, files: tuple[PayloadFile, ...]) -> None:
        self._read = read
        self._files = files
        self._mtime: int | None = None
        self._rest = b""

    def members(self) -> Iterator[tuple[PayloadFile, Iterator[bytes]]]:
        """Each file with its bytes, which must be taken before the next one is asked for.

        Raises:
            Refused: `stick.archive*`, also while bytes are taken.
        """
        for file in self._files:
            self._check_header(self._take(BLOCK, file.path), file)
            content = self._content(file)
            yield file, content
            for _ in content:  # whoever took less
                pass
            if any(self._take(-file.size % BLOCK, file.path)):
                raise refused("stick.archive", f"{file.path!a} is padded with data")
        self._check_end()

    def _content(self, file: PayloadFile) -> Iterator[bytes]:
        hasher, left = hashlib.sha256(), file.size
        while left:
            block = self._some(min(left, BLOCK_BYTES))
            if not block:
                raise refused("stick.archive", f"the archive ends within {file.path!a}")
            left -= len(block)
            hasher.update(block)
            yield block
        if hasher.hexdigest() != file.sha256:
            raise refused("stick.archive", f"{file.path!a} is not the file that was signed")

    def _check_header(self, found: bytes, file: PayloadFile) -> None:
        if self._mtime is None:
            if not any(found):
                raise refused("stick.archive", "the archive holds nothing")
            self._mtime = _time_of(found)
        try:
            if found == header(file, self._mtime):
                return
        except ValueError as error:
            raise refused("stick.archive_path", f"{file.path!a} does not fit a header") from error
        raise _explained(found, file)

    def _check_end(self) -> None:
        if any(self._take(2 * BLOCK, "its end")):
            raise refused("stick.archive_size", "the archive holds a file that the list has not")
        least, most = archive_size(self._files)
        room = most - least
        while block := self._some(BLOCK_BYTES):
            room -= len(block)
            if room < 0 or any(block):
                raise refused("stick.archive_end", "something follows the end of the archive")

    def _some(self, bytes_max: int) -> bytes:
        if self._rest:
            block, self._rest = self._rest[:bytes_max], self._rest[bytes_max:]
            return block
        block = self._read(BLOCK_BYTES)
        self._rest = block[bytes_max:]
        return block[:bytes_max]

    def _take(self, count: int, where: str) -> bytes:
        taken = b""
        while len(taken) < count:
            block = self._some(count - len(taken))
            if not block:
                raise refused("stick.archive", f"the archive ends before {where!a}")
            taken += block
        return taken


def unpack(
    archive: Archive, into: str, total_bytes: int, progress: Progress = lambda _done, _total: None
) -> None:
    """Write the files of an archive below an empty folder; nothing that exists is opened or followed.

    Raises:
        Refused: `stick.archive*`, `stick.space`, `stick.permission`.
        CasparianError: `stick.failed`.
    """
    done = 0
    with writing(into):
        root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        made: set[str] = set()
        for file, content in archive.members():
            _make_folders(root, file.path, made)
            with new_file(root, file.path, executable=file.executable) as descriptor:
                for block in content:
                    write_all(descriptor, block, file.path)
                    done += len(block)
                    progress(done, total_bytes)
    finally:
        os.close(root)


@contextmanager
def new_file(folder: int | None, path: str, *, executable: bool = False) -> Iterator[int]:
    """A descriptor of a file that did not exist, with the mode that an installation's files have."""
    with writing(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600, dir_fd=folder)
    try:
        yield descriptor
        with writing(path):
            os.fchmod(descriptor, file_mode(executable=executable))  # whatever the umask is
    finally:
        os.close(descriptor)


def write_all(descriptor: int, block: bytes, path: str) -> None:
    """Write all of a block, or raise what `writing` says."""
    view = memoryview(block)
    while view:
        with writing(path):
            view = view[os.write(descriptor, view) :]


def _make_folders(root: int, path: str, made: set[str]) -> None:
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        if folder not in made:
            with writing(folder):
                os.mkdir(folder, 0o700, dir_fd=root)
                os.chmod(folder, FOLDER_MODE, dir_fd=root)
            made.add(folder)


def _time_of(found: bytes) -> int:
    """The time in the first header; every other one must be equal."""
    digits = found[136:147]
    if len(digits) != 11 or not all(byte in b"01234567" for byte in digits):
        raise refused("stick.archive_header", "the first header of the archive has no plain time")
    return int(digits, 8)


def _explained(found: bytes, file: PayloadFile) -> Exception:
    """Why a header is not the one of a file."""
    expected = f"where {show(file.path)!a} should be"
    if not any(found):
        return refused("stick.archive", f"the archive ends {expected}")
    kind = found[156:157]
    if kind in (b"x", b"g", b"X", b"L", b"K", b"S", b"N", b"V", b"M", b"A"):
        return refused("stick.archive_header", f"the archive has an extension {kind!a} {expected}")
    if kind not in (b"0", b"\0"):
        return refused(
            "stick.archive_kind", f"the archive has an entry of kind {kind!a} {expected}"
        )
    try:
        entry = tarfile.TarInfo.frombuf(found, "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        return refused("stick.archive_header", f"the archive has no plain header {expected}")
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        return refused("stick.archive_path", f"the archive has {entry.name[:120]!a} {expected}")
    if entry.name != file.path:
        return refused("stick.archive", f"the archive has {entry.name[:120]!a} {expected}")
    if entry.size != file.size:
        return refused(
            "stick.archive_size", f"{file.path!a} has {entry.size} bytes, not {file.size}"
        )
    return refused("stick.archive_header", f"the header of {file.path!a} is not a stick's")
