"""Read from ELF files what the loader will ask for: libraries, and versions of their symbols.

It follows the dynamic segment, as the loader does, so stripped files are no trouble. 64 bit, little endian: all that we ship.
Layout: System V ABI, chapter 5, and the GNU symbol versioning of the LSB (Elf64_Verneed, Elf64_Vernaux).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_DT_SONAME: Final = 14
_DT_RPATH: Final = 15
_DT_RUNPATH: Final = 29
_DT_VERNEED: Final = 0x6FFFFFFE
_DT_VERNEEDNUM: Final = 0x6FFFFFFF
_ENTRIES_MAX: Final = 4096


class BadElfError(Exception):
    """The file begins like an ELF file of ours and is none."""


@dataclass(frozen=True)
class Elf:
    """What one file asks for."""

    needed: tuple[str, ...]  # names of libraries
    versions: tuple[str, ...]  # such as GLIBC_2.28, each once
    search: str  # run path, as it stands in the file
    soname: str

    def floor(self, family: str) -> tuple[int, ...]:
        """Highest version asked for of `GLIBC`, `GLIBCXX` and so on; empty: none."""
        return max((numbers(name, family) for name in self.versions), default=())


def numbers(name: str, family: str) -> tuple[int, ...]:
    """(2, 28) of `GLIBC_2.28`; empty for other families and for private versions."""
    prefix, _, rest = name.partition("_")
    parts = rest.split(".")
    if prefix != family or not all(part.isdigit() for part in parts):
        return ()
    return tuple(int(part) for part in parts)


def dotted(version: tuple[int, ...]) -> str:
    """`2.28`."""
    return ".".join(map(str, version))


def read_elf(path: str | os.PathLike[str]) -> Elf | None:
    """What a file asks for; `None`: it is not ELF.

    Raises:
        BadElfError: it is, and its tables point outside of it.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        file.seek(0)
        data = file.read()
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError) as error:
        raise BadElfError(f"`{os.fspath(path)}` is no whole ELF file: {error}") from error


def elf_files(root: Path) -> Iterator[tuple[Path, Elf]]:
    """Every ELF file below a folder, in the order of their paths."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found = read_elf(path)
            if found is not None:
                yield path, found


def _read(data: bytes) -> Elf:
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    for index in range(count):
        kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", data, offset + index * size)
        if kind == _PT_LOAD:
            loads.append((address, at, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (at, length)
    if dynamic is None:  # a static program asks for nothing
        return Elf((), (), "", "")
    entries = [
        struct.unpack_from("<QQ", data, at)
        for at in range(dynamic[0], dynamic[0] + dynamic[1] - 15, 16)
    ]
    first = dict(reversed(entries))
    if _DT_STRTAB not in first:
        return Elf((), (), "", "")
    strings = _place(loads, first[_DT_STRTAB])

    def text(where: int) -> str:
        start = strings + where
        return data[start : data.index(b"\0", start)].decode("ascii", "backslashreplace")

    search = first.get(_DT_RUNPATH, first.get(_DT_RPATH))
    return Elf(
        needed=tuple(text(value) for tag, value in entries if tag == _DT_NEEDED),
        versions=tuple(sorted({text(name) for name in _version_names(data, loads, first)})),
        search="" if search is None else text(search),
        soname=text(first[_DT_SONAME]) if _DT_SONAME in first else "",
    )


def _version_names(
    data: bytes, loads: list[tuple[int, int, int]], first: dict[int, int]
) -> Iterator[int]:
    if _DT_VERNEED not in first:
        return
    at = _place(loads, first[_DT_VERNEED])
    for _ in range(min(first.get(_DT_VERNEEDNUM, 0), _ENTRIES_MAX)):
        _, count, _, auxiliary, following = struct.unpack_from("<HHIII", data, at)
        where = at + auxiliary
        for _ in range(count):
            _, _, _, name, next_one = struct.unpack_from("<IHHII", data, where)
            yield name
            where += next_one
        at += following


def _place(loads: list[tuple[int, int, int]], address: int) -> int:
    """Where in the file an address of memory comes from."""
    for start, at, length in loads:
        if start <= address < start + length:
            return at + address - start
    raise ValueError(f"no segment holds address {address:#x}")
