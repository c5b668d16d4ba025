"""Compare two folders byte by byte and name each file that differs: `python -m bundle.reproducible A B`.

Prints one line a file: its name, what differs, both sizes and the first offset that differs. Ends with 1 if any does.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Difference:
    """One name that is not the same in both folders."""

    path: str
    what: str
    sizes: tuple[int, int] = (0, 0)
    offset: int | None = None  # of the first byte that differs

    def __str__(self) -> str:
        if self.offset is None:
            return f"{self.path}: {self.what}"
        return f"{self.path}: {self.what} from byte {self.offset}; {self.sizes[0]} and {self.sizes[1]} bytes"


def differences(one: Path, other: Path) -> list[Difference]:
    """All differences of names, kinds, executable bits and bytes, in the order of names.

    Raises:
        OSError: something cannot be read.
    """
    left, right = _names(one), _names(other)
    found = [Difference(name, f"only in `{one}`") for name in left - right]
    found += [Difference(name, f"only in `{other}`") for name in right - left]
    for name in left & right:
        difference = _compare(name, one / name, other / name)
        if difference is not None:
            found.append(difference)
    return sorted(found, key=lambda difference: difference.path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and say so."""
    parser = argparse.ArgumentParser(
        prog="python -m bundle.reproducible", description="Compare two folders byte by byte."
    )
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    given = parser.parse_args(arguments)
    for folder in (given.one, given.other):
        if not folder.is_dir():
            parser.error(f"`{folder}` is not a folder")
    found = differences(given.one, given.other)
    for difference in found:
        sys.stdout.write(f"{difference}\n")
    count = len(_names(given.one))
    sys.stdout.write(f"{len(found)} differences in {count} names\n")
    return 1 if found else 0


def _names(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(where, name), folder)
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def _compare(name: str, one: Path, other: Path) -> Difference | None:
    left, right = one.lstat(), other.lstat()
    if stat.S_IFMT(left.st_mode) != stat.S_IFMT(right.st_mode):
        return Difference(name, "another kind of thing")
    if stat.S_ISLNK(left.st_mode):
        same = os.readlink(one) == os.readlink(other)
        return None if same else Difference(name, "a link to another place")
    if not stat.S_ISREG(left.st_mode):
        return None
    offset = _first_difference(one, other)
    if offset is not None:
        return Difference(name, "other bytes", (left.st_size, right.st_size), offset)
    if (left.st_mode ^ right.st_mode) & 0o111:
        return Difference(name, "executable in one of them alone")
    return None


def _first_difference(one: Path, other: Path) -> int | None:
    with open(one, "rb") as left, open(other, "rb") as right:
        at = 0
        while True:
            a, b = left.read(_BLOCK), right.read(_BLOCK)
            if a != b:
                pairs = enumerate(zip(a, b, strict=False))
                shorter = min(len(a), len(b))
                return at + next((index for index, (x, y) in pairs if x != y), shorter)
            if not a:
                return None
            at += len(a)


if __name__ == "__main__":
    sys.exit(main())
