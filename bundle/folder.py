"""Write a stick's folder: names that FAT holds, every file hashed as it is written, the list signed last, one rename.

What is not finished is called `NAME.partial`; it is written again from the beginning.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from casparian.appliance.stick import layout, sshsig
from casparian.trust.keys import SigningKey

FILE_BYTES_MAX: Final = (1 << 32) - 1  # of FAT32
PATH_CHARACTERS_MAX: Final = 255
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*\Z")
_WINDOWS: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.ASCII)
_COPY_BYTES: Final = 1 << 20


class NotForAStick(ValueError):
    """A name or a size that FAT cannot hold, or that is there already."""


class StickWriter:
    """A stick being written.

    Args:
        out: where it will be; it must not exist.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.partial = out.with_name(f"{out.name}.partial")
        self.sums: dict[str, str] = {}
        self._names: dict[str, str] = {}  # folded path: how it is spelled, files and folders

    def begin(self) -> None:
        """Make the empty folder; a stick that was not finished is removed.

        Raises:
            FileExistsError: `out` is there.
        """
        if self.out.exists():
            raise FileExistsError(f"{self.out} is there already")
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A new file of the stick, hashed as it is written.

        Raises:
            NotForAStick: its name or its size.
        """
        self._claim(path)
        target = self.partial / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as stream:
            hashed = _Hashed(stream)
            yield hashed  # type: ignore[misc]  # of a file's methods only `write` is used
            stream.flush()
            os.fsync(stream.fileno())
        if hashed.size_bytes > FILE_BYTES_MAX:
            raise NotForAStick(f"{path!a} has {hashed.size_bytes} bytes, FAT holds 4 GiB less one")
        self.sums[path] = hashed.hasher.hexdigest()

    def write(self, path: str, content: bytes) -> None:
        """A small file."""
        with self.open(path) as stream:
            stream.write(content)

    def copy(self, path: str, source: Path) -> None:
        """A copy of a plain file."""
        if source.is_symlink() or not source.is_file():
            raise NotForAStick(f"{source} is no plain file")
        with self.open(path) as stream, open(source, "rb") as given:
            while block := given.read(_COPY_BYTES):
                stream.write(block)

    def finish(
        self, key: SigningKey, remarks: Mapping[str, str], check: Callable[[Path], object]
    ) -> None:
        """Write the list and its signature, let `check` look at all of it, then rename.

        Args:
            key: signs.
            remarks: lines `# name value` at the head of the list, in order; `sha256sum -c` passes over them.
            check: raises when the finished stick is not good; it is then not renamed.
        """
        head = "".join(f"# {name} {value}\n" for name, value in remarks.items())
        lines = "".join(f"{self.sums[path]}  {path}\n" for path in sorted(self.sums))
        content = f"# casparian stick\n{head}{lines}".encode("ascii")
        signature = sshsig.sign(content, key, layout.NAMESPACE)
        for name, data in ((layout.SUMS, content), (layout.SIGNATURE, signature)):
            with open(self.partial / name, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        for folder, _, names in os.walk(self.partial):
            os.chmod(folder, 0o755)  # noqa: S103  # a stick is for everybody to read
            for name in names:
                os.chmod(os.path.join(folder, name), 0o644)
            _sync(folder)
        check(self.partial)
        os.rename(self.partial, self.out)
        _sync(self.out.parent)

    def _claim(self, path: str) -> None:
        parts = path.split("/")
        if len(path) > PATH_CHARACTERS_MAX or not all(map(_holds, parts)):
            raise NotForAStick(
                f"the name {path!a} is not one that FAT and every shell take as it is"
            )
        if path in self.sums or path in (layout.SUMS, layout.SIGNATURE):
            raise NotForAStick(f"{path!a} stands twice")
        for count in range(1, len(parts) + 1):
            spelled = "/".join(parts[:count]) + ("/" if count < len(parts) else "")
            known = self._names.setdefault(spelled.casefold().rstrip("/"), spelled)
            if known != spelled:
                raise NotForAStick(f"{spelled!a} and {known!a} are one name on FAT")


class _Hashed:
    """Passes on what is written, and hashes it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.hasher = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.hasher.update(data)
        self.size_bytes += len(data)
        return self._stream.write(data)


def _holds(part: str) -> bool:
    return (
        _PART.match(part) is not None
        and not part.endswith(".")
        and not _WINDOWS.match(part.casefold())
    )


def _sync(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
