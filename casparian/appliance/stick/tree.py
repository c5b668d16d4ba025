"""Compare a version's folder with the signed list of its files: every file hashed, nothing missing, nothing more.

Used on what `install.sh` unpacked, before it is switched to, and by `casparian bundle verify` at any later time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import msgspec

from casparian.appliance.stick import layout
from casparian.appliance.stick.folder import BLOCK_BYTES

Problem = Literal["missing", "extra", "changed", "mode", "kind", "unreadable"]
Progress = Callable[[int, int], None]
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_BATCH: Final = 256


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a file must be."""

    sha256: str
    size: int | None = None
    executable: bool = False


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a folder is not what it should be."""

    path: str
    problem: Problem
    message: str


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a comparison."""

    files: int
    size_bytes: int
    differences: tuple[Difference, ...]


def of_archive(files: layout.PayloadFiles) -> dict[str, Expected]:
    """What the archive of a version must have become."""
    return {
        file.path: Expected(sha256=file.sha256, size=file.size, executable=file.executable)
        for file in files.files
    }


def compare(
    root: str,
    expected: Mapping[str, Expected],
    *,
    progress: Progress = lambda _done, _total: None,
    threads: int | None = None,
) -> Compared:
    """Every way in which a folder differs from a list, in the order of paths.

    Raises:
        OSError: the folder itself cannot be read.
    """
    present: dict[str, int] = {}
    differences = list(_walk(root, expected, present))
    for path in sorted(expected.keys() - present.keys()):
        differences.append(_difference(path, "missing", "is missing"))
    common = sorted(expected.keys() & present.keys())
    total, done = sum(present[path] for path in common), 0
    workers = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:  # hashing and reading release the interpreter's lock
        for start in range(0, len(common), _BATCH):
            batch = common[start : start + _BATCH]
            for path, why in zip(
                batch, pool.map(lambda p: _hash_problem(root, p, expected[p]), batch), strict=True
            ):
                done += present[path]
                if why is not None:
                    differences.append(_difference(path, *why))
            progress(done, total)
    differences.sort(key=lambda difference: difference.path)
    return Compared(files=len(common), size_bytes=total, differences=tuple(differences))


def _walk(
    root: str, expected: Mapping[str, Expected], present: dict[str, int]
) -> Iterator[Difference]:
    """Fill in sizes of files by path, and give what is seen without reading."""
    folders = {path.rpartition("/")[0] for path in expected}
    for folder in list(folders):
        while folder:
            folder = folder.rpartition("/")[0]
            folders.add(folder)
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(os.path.join(root, inside)) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            path = f"{inside}/{entry.name}" if inside else entry.name
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                if path not in folders:
                    yield _difference(path, "extra", "is a folder that was not signed")
                    continue
                waiting.append(path)
            elif path not in expected:
                yield _difference(path, "extra", "was not signed")
                continue
            elif not stat.S_ISREG(found.st_mode):
                yield _difference(path, "kind", "is no plain file")
                present[path] = 0
                continue
            else:
                present[path] = found.st_size
                if bool(found.st_mode & stat.S_IXUSR) != expected[path].executable:
                    word = "must" if expected[path].executable else "must not"
                    yield _difference(path, "mode", f"{word} be executable")
            if found.st_mode & _WRITABLE_BY_OTHERS:
                yield _difference(path, "mode", "can be written by others")


def _hash_problem(root: str, path: str, expected: Expected) -> tuple[Problem, str] | None:
    hasher, size = hashlib.sha256(), 0
    try:
        descriptor = os.open(
            os.path.join(root, path),
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
        )
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None  # told already
            while block := os.read(descriptor, BLOCK_BYTES):
                hasher.update(block)
                size += len(block)
        finally:
            os.close(descriptor)
    except OSError as error:
        if os.path.islink(os.path.join(root, path)):
            return None  # told already
        return "unreadable", f"cannot be read: {error.strerror or error}"
    if hasher.hexdigest() != expected.sha256 or expected.size not in (None, size):
        return "changed", "is not the file that was signed"
    return None


def _difference(path: str, problem: Problem, message: str) -> Difference:
    return Difference(path=path, problem=problem, message=message)
