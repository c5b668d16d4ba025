"""Find recorded evidence on disk and hash it, independently of the native module."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from typing import Any, Final

import blake3
import msgspec

from casparian.display import show
from casparian.protocol import identity
from casparian.protocol.worker import SourceTask

_BLOCK_BYTES: Final = 1 << 20
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FoundEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded path that exists, with what it holds now."""

    path: bytes  # absolute
    source_hash: str
    sha256: str
    size_bytes: int

    def task(self, display_path: str) -> SourceTask:
        """The source as a worker takes it, under its present identity."""
        return SourceTask(
            index=0,
            source_id=identity.source_id(self.source_hash),
            source_hash=self.source_hash,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            path=self.path,
            display_path=display_path,
        )


def recorded_paths(sightings: Iterable[dict[str, Any]], first: tuple[str, str]) -> list[bytes]:
    """Absolute paths a source was seen at; the one its rows name comes first.

    Args:
        sightings: lines of `sources`: `root`, `path` (bytes), `display_path`.
        first: root and display path that the rows carry.
    """
    lines = list(sightings)
    ordered = sorted(lines, key=lambda line: (line["root"], line["display_path"]) != first)
    return [_absolute(line["root"], line["path"]) for line in ordered]


def find(paths: Iterable[bytes]) -> FoundEvidence | None:
    """The first path that is a readable regular file, hashed with BLAKE3 and SHA-256."""
    for path in paths:
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                continue
            try:
                return _hashed(path, file)
            except OSError:
                continue
    return None


def read_span(path: bytes, offset: int, length: int) -> bytes:
    """Bytes of a span; fewer at the end of the file."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def text(paths: Iterable[bytes]) -> str:
    """Paths for a message."""
    return ", ".join(show(os.fsdecode(path).encode("utf-8", "replace").decode()) for path in paths)


def file_blake3(path: str) -> str:
    """BLAKE3 of a file.

    Raises:
        OSError: it cannot be read.
    """
    hasher = blake3.blake3()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _hashed(path: bytes, file: Any) -> FoundEvidence:
    fast, court = blake3.blake3(), hashlib.sha256()
    size_bytes = 0
    while block := file.read(_BLOCK_BYTES):
        fast.update(block)
        court.update(block)
        size_bytes += len(block)
    return FoundEvidence(
        path=path,
        source_hash=fast.hexdigest(),
        sha256=court.hexdigest(),
        size_bytes=size_bytes,
    )


def _absolute(root: str, path: bytes) -> bytes:
    """Root and byte-exact path; an empty path means that the root is the file."""
    base = os.fsencode(root)
    return os.path.join(base, path) if path else base
