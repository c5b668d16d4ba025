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
from casparian.domain.parsers import companion_role
from casparian.protocol import identity
from casparian.protocol.worker import CompanionTask, SourceTask

_BLOCK_BYTES: Final = 1 << 20
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a source was seen, with what belongs to it: role and absolute path of each companion."""

    path: bytes  # absolute
    companions: dict[str, bytes] = {}


class FoundEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded path that exists, with what it and its companions hold now; a companion that is gone is left out."""

    path: bytes  # absolute
    source_hash: str
    sha256: str
    size_bytes: int
    companions: dict[str, FoundEvidence] = {}  # by role

    @property
    def source_id(self) -> str:
        """The identity it has now."""
        return identity.source_id(
            self.source_hash,
            (
                identity.companion_id(role, found.source_hash)
                for role, found in self.companions.items()
            ),
        )

    def task(self, display_path: str, suffixes: Iterable[str] = ()) -> SourceTask:
        """The source as a worker takes it, under its present identity.

        Args:
            display_path: relative to the evidence root.
            suffixes: of the companions that the parser asks for.
        """
        roles = {companion_role(suffix) for suffix in suffixes}
        return SourceTask(
            index=0,
            source_id=self.source_id,
            source_hash=self.source_hash,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            path=self.path,
            display_path=display_path,
            companions=tuple(
                CompanionTask(
                    role=role,
                    source_hash=found.source_hash,
                    size_bytes=found.size_bytes,
                    path=found.path,
                )
                for role, found in sorted(self.companions.items())
                if role in roles
            ),
        )


def recorded_places(sightings: Iterable[dict[str, Any]], first: tuple[str, str]) -> list[Place]:
    """Where a source was seen; the place that its rows name comes first.

    Args:
        sightings: lines of `sources`: `root`, `path` (bytes), `display_path`, and `companions` where there are any
            (their `name` in hex).
        first: root and display path that the rows carry.
    """
    lines = list(sightings)
    ordered = sorted(lines, key=lambda line: (line["root"], line["display_path"]) != first)
    return [_place(line) for line in ordered]


def find(places: Iterable[Place]) -> FoundEvidence | None:
    """The first place with a readable regular file, hashed with BLAKE3 and SHA-256.

    One where every companion can be read as well goes before one where a companion is gone.
    """
    incomplete: FoundEvidence | None = None
    for place in places:
        main = hashed(place.path)
        if main is None:
            continue
        beside = {role: hashed(path) for role, path in place.companions.items()}
        found = msgspec.structs.replace(
            main, companions={role: one for role, one in beside.items() if one is not None}
        )
        if len(found.companions) == len(place.companions):
            return found
        incomplete = incomplete or found
    return incomplete


def hashed(path: bytes) -> FoundEvidence | None:
    """One file by both hashes; `None` when it is no readable regular file."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return _hashed(path, file)
    except OSError:
        return None
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


def _place(line: dict[str, Any]) -> Place:
    path = _absolute(line["root"], line["path"])
    directory = os.path.dirname(path)
    companions = {
        c["role"]: os.path.join(directory, bytes.fromhex(c["name"]))
        for c in line.get("companions") or ()
    }
    return Place(path=path, companions=companions)


def _absolute(root: str, path: bytes) -> bytes:
    """Root and byte-exact path; a root that is one file has that file's name as its only path."""
    base = os.fsencode(root)
    if os.path.basename(base) == path and not os.path.isdir(base):
        return base
    return os.path.join(base, path) if path else base
