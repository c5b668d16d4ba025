"""Read a stick as what it is: hostile, and gone at any moment.

Every file is reached from one open folder, name by name, never through a link, and opened without waiting for a FIFO or a device.
Bytes are hashed as they are read: what is kept is what was hashed, whatever the stick says a moment later.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from casparian.appliance.stick.refusals import reading, refused
from casparian.display import show

BLOCK_BYTES: Final = 1 << 20
FILE_BYTES_MAX: Final = (4 << 30) - 1  # what FAT holds
_FILES_MAX: Final = 20_000
_OF_EXT4: Final = "lost+found"  # root's alone: nobody else puts a file into it, or reads one
_DEPTH_MAX: Final = 8
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Sink = Callable[[bytes], object]


class StickFolder:
    """An open folder whose files are read by their relative paths."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            # The folder itself may be named through a link, as mount points are; nothing below it may.
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise refused(
                "stick.not_a_stick",
                f"`{show(self.path)}` cannot be opened: {error.strerror or error}",
                path=self.path,
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def files(self) -> list[str]:
        """Relative paths of all files, sorted.

        Raises:
            Refused: `stick.not_regular`, `stick.name` (bytes that are no text), `stick.too_large`, `stick.unreadable`.
        """
        found: list[str] = []
        self._collect(self._descriptor, "", found, 0)
        return sorted(found)

    def _collect(self, folder: int, prefix: str, found: list[str], depth: int) -> None:
        with reading(prefix or "."), os.scandir(folder) as entries:
            listed = [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
        for name, mode in sorted(listed):
            path = prefix + name
            if stat.S_ISREG(mode):
                found.append(path)
            elif stat.S_ISDIR(mode):
                if depth >= _DEPTH_MAX:
                    raise refused("stick.too_large", f"`{show(path)}` lies too deep")
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except PermissionError:
                    if path == _OF_EXT4:
                        continue
                    with reading(path):
                        raise
                except OSError:
                    with reading(path):
                        raise
                try:
                    self._collect(inner, f"{path}/", found, depth + 1)
                finally:
                    os.close(inner)
            else:
                raise _not_regular(path)
            if len(found) > _FILES_MAX:
                raise refused("stick.too_large", f"there are more than {_FILES_MAX} files")

    @contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A descriptor of a plain file.

        Raises:
            Refused: `stick.missing`, `stick.not_regular`, `stick.unreadable`.
        """
        held: list[int] = []
        try:
            folder = self._descriptor
            *above, name = path.split("/")
            try:
                for part in above:
                    folder = os.open(part, _FOLDER, dir_fd=folder)
                    held.append(folder)
                descriptor = os.open(name, _FILE, dir_fd=folder)
                held.append(descriptor)
                mode = os.fstat(descriptor).st_mode
            except FileNotFoundError as error:
                raise refused("stick.missing", f"`{show(path)}` is missing", path=path) from error
            except OSError as error:
                if self._is_odd(path):
                    raise _not_regular(path) from error
                with reading(path):
                    raise
            if not stat.S_ISREG(mode):
                raise _not_regular(path)
            yield descriptor
        finally:
            for descriptor in reversed(held):
                os.close(descriptor)

    def read(self, path: str, bytes_max: int) -> bytes:
        """A small file, whole.

        Raises:
            Refused: as `open`, and `stick.too_large`.
        """
        with self.open(path) as descriptor, reading(path):
            content = b""
            while block := os.read(descriptor, min(BLOCK_BYTES, bytes_max + 1 - len(content))):
                content += block
                if len(content) > bytes_max:
                    raise refused(
                        "stick.too_large", f"`{show(path)}` has more than {bytes_max} bytes"
                    )
        return content

    def pour(self, path: str, sink: Sink | None = None) -> tuple[str, int]:
        """Read a file once, hashing what goes to `sink`; its SHA-256 and its size in bytes."""
        hasher, size_bytes = hashlib.sha256(), 0
        with self.open(path) as descriptor:
            while True:
                with reading(path):
                    if os.fstat(descriptor).st_size > FILE_BYTES_MAX or size_bytes > FILE_BYTES_MAX:
                        raise refused(
                            "stick.too_large", f"`{show(path)}` is larger than FAT allows"
                        )
                    block = os.read(descriptor, BLOCK_BYTES)
                if not block:
                    return hasher.hexdigest(), size_bytes
                hasher.update(block)
                size_bytes += len(block)
                if sink is not None:
                    sink(block)

    def size_bytes(self, path: str) -> int:
        """What a file has now; it is checked again when it is read."""
        with self.open(path) as descriptor, reading(path):
            return os.fstat(descriptor).st_size

    def _is_odd(self, path: str) -> bool:
        """Whether a path, or one above it, is a link or another thing that is no file or folder."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            try:
                found = os.stat(
                    "/".join(parts[:count]), dir_fd=self._descriptor, follow_symlinks=False
                )
            except OSError:
                return False
            wanted = stat.S_ISREG if count == len(parts) else stat.S_ISDIR
            if not wanted(found.st_mode):
                return True
        return False


def _not_regular(path: str) -> Exception:
    return refused(
        "stick.not_regular", f"`{show(path)}` is neither a plain file nor a folder", path=path
    )
