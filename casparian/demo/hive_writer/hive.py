"""A whole hive: base block, bins, and where each key and value landed.

Layout: M. Suhanov, "Windows registry file format specification", sections "Base block" to "Big data".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

from casparian.demo.hive_writer.cells import Cells
from casparian.demo.hive_writer.tree import (
    DEFAULT_TIME,
    Key,
    State,
    Value,
    security_descriptor,
)

BASE_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
NOWHERE: Final = 0xFFFFFFFF
SEGMENT_BYTES: Final = 16_344  # of big data
_INLINE: Final = 0x80000000
_KEY_ROOT, _KEY_NAME_IN_BYTES = 0x0C, 0x20  # the root cannot be deleted
_VALUE_NAME_IN_BYTES: Final = 1

ListKind = Literal["lh", "lf", "li"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCell:
    """Where a key or a value landed. `offset` counts from the beginning of the file; `path` leaves the root's name out."""

    path: str
    offset: int
    length: int
    state: State
    key: Key | None = None
    value: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltHive:
    """A hive as bytes, with all its keys and values, each before what is below it."""

    data: bytes
    cells: tuple[PlacedCell, ...]

    def key(self, path: str) -> PlacedCell:
        """The key at a path; a backslash alone is the root."""
        return next(cell for cell in self.cells if cell.key and cell.path == path)

    def value(self, path: str, name: str) -> PlacedCell:
        """A value of the key at a path."""
        cells = (cell for cell in self.cells if cell.value and cell.path == path)
        return next(cell for cell in cells if cell.value and cell.value.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hive:
    """A hive to be written.

    Attributes:
        root: the root key; its name is not part of any path.
        file_name: the end of the path that Windows would know it by.
        sequence: both sequence numbers of the base block.
        last_written: FILETIME in the base block and the first bin.
        minor_version: of version 1: 3 to 6. Big data needs 4.
        lists: form of the lists of subkeys.
        keys_per_list: with more subkeys, the list is a list of such lists.
        bins_bytes_min: empty bins are added up to this size.
    """

    root: Key
    file_name: str = "\\Config\\TEST"
    sequence: int = 7
    last_written: int = DEFAULT_TIME
    minor_version: int = 5
    lists: ListKind = "lh"
    keys_per_list: int = 500
    bins_bytes_min: int = 0

    def build(self) -> BuiltHive:
        """Lay everything out."""
        writer = _Writer(self)
        root = writer.key(self.root, NOWHERE, "", "live")
        bins = writer.cells.to_bytes(self.bins_bytes_min)
        base = bytearray(BASE_BYTES)
        struct.pack_into(
            "<4sIIQIIIIIII",
            base,
            0,
            b"regf",
            self.sequence,
            self.sequence,
            self.last_written,
            1,
            self.minor_version,
            0,  # a hive, no log
            1,
            root,
            len(bins),
            1,
        )
        name = self.file_name.encode("utf-16-le")[-62:]
        base[48 : 48 + len(name)] = name
        seal(base)
        return BuiltHive(data=bytes(base) + bins, cells=tuple(writer.placed))

    def to_bytes(self) -> bytes:
        """The hive alone."""
        return self.build().data


def seal(data: bytearray) -> None:
    """Recompute the checksum of a base block, in place."""
    checksum = 0
    for (number,) in struct.iter_unpack("<I", data[: SECTOR_BYTES - 4]):
        checksum ^= number
    checksum = {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(checksum, checksum)
    struct.pack_into("<I", data, SECTOR_BYTES - 4, checksum)


@dataclass(slots=True)
class _Writer:
    """Cells written so far, and the security descriptors that keys share."""

    hive: Hive
    cells: Cells = field(init=False)
    placed: list[PlacedCell] = field(default_factory=list)
    security: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # offset, references

    def __post_init__(self) -> None:
        self.cells = Cells(self.hive.last_written)

    def key(self, key: Key, parent: int, path: str, state: State) -> int:
        """Write a key with everything below it; returns its offset."""
        name, in_bytes = _name(key.name)
        is_root = parent == NOWHERE
        flags = (_KEY_ROOT if is_root else 0) | (_KEY_NAME_IN_BYTES if in_bytes else 0)
        offset = self.cells.add(bytes(76) + name)
        shown = path or "\\"
        self.placed.append(
            PlacedCell(
                path=shown,
                offset=BASE_BYTES + offset,
                length=self.cells.length(offset),
                state=state,
                key=key,
            )
        )
        class_name = (key.class_name or "").encode("utf-16-le")
        class_at = self._cell(class_name, state) if class_name else NOWHERE
        security_at = self._security(security_descriptor(key.owner, key.group))
        listed_values = []
        for value in key.values:
            where = self.value(value, shown, _lower(state, value.state))
            if value.state == "live":
                listed_values.append(where)
        values_at = NOWHERE
        if listed_values:
            values_at = self._cell(struct.pack(f"<{len(listed_values)}I", *listed_values), state)
        listed: list[tuple[Key, int]] = []
        for subkey in key.subkeys:
            below = _lower(state, subkey.state)
            where = self.key(subkey, offset, f"{path}\\{subkey.name}", below)
            if subkey.state == "live":
                listed.append((subkey, where))
        head = struct.pack(
            "<2sHQIIIIIIIIIIIIIIIHH",
            b"nk",
            flags,
            key.last_write,
            0,
            0 if is_root else parent,
            len(listed),
            0,
            self._subkeys(listed, state),
            NOWHERE,
            len(listed_values),
            values_at,
            security_at,
            class_at,
            max((2 * len(subkey.name) for subkey in key.subkeys), default=0),
            0,
            max((2 * len(value.name) for value in key.values), default=0),
            max((len(value.data) for value in key.values), default=0),
            0,
            len(name),
            len(class_name),
        )
        self.cells.patch(offset, 0, head)
        if state == "deleted":
            self.cells.release(offset)
        return offset

    def value(self, value: Value, path: str, state: State) -> int:
        """Write a value and its data; returns its offset."""
        name, in_bytes = _name(value.name)
        size = len(value.data)
        if size <= 4:
            place = int.from_bytes(value.data, "little")
            size |= _INLINE
        elif size > SEGMENT_BYTES and self.hive.minor_version > 3:
            place = self._big_data(value.data, state)
        else:
            place = self._cell(value.data, state)
        head = struct.pack(
            "<2sHIIIHH",
            b"vk",
            len(name),
            size,
            place,
            value.type,
            _VALUE_NAME_IN_BYTES if in_bytes else 0,
            0,
        )
        offset = self._cell(head + name, state)
        self.placed.append(
            PlacedCell(
                path=path,
                offset=BASE_BYTES + offset,
                length=self.cells.length(offset),
                state=state,
                value=value,
            )
        )
        return offset

    def _cell(self, content: bytes, state: State) -> int:
        return self.cells.add(content, free=state == "deleted")

    def _big_data(self, data: bytes, state: State) -> int:
        pieces = range(0, len(data), SEGMENT_BYTES)
        places = [self._cell(data[at : at + SEGMENT_BYTES], state) for at in pieces]
        listed = self._cell(struct.pack(f"<{len(places)}I", *places), state)
        return self._cell(struct.pack("<2sHI", b"db", len(places), listed), state)

    def _subkeys(self, listed: list[tuple[Key, int]], state: State) -> int:
        """One list of subkeys, or a list of lists."""
        if not listed:
            return NOWHERE
        listed = sorted(listed, key=lambda pair: pair[0].name.upper())
        step = self.hive.keys_per_list
        leaves = [
            self._leaf(listed[start : start + step], state) for start in range(0, len(listed), step)
        ]
        if len(leaves) == 1:
            return leaves[0]
        content = struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves)
        return self._cell(content, state)

    def _leaf(self, listed: list[tuple[Key, int]], state: State) -> int:
        kind = self.hive.lists
        content = struct.pack("<2sH", kind.encode(), len(listed))
        for key, offset in listed:
            content += struct.pack("<I", offset)
            if kind == "lh":
                content += struct.pack("<I", _hash(key.name))
            elif kind == "lf":
                content += _hint(key.name)
        return self._cell(content, state)

    def _security(self, descriptor: bytes) -> int:
        """The cell of a security descriptor; all of them are a ring (section "Key security")."""
        if descriptor in self.security:
            offset, references = self.security[descriptor]
        else:
            head = struct.pack("<2sHIIII", b"sk", 0, 0, 0, 0, len(descriptor))
            offset, references = self.cells.add(head + descriptor), 0
        self.security[descriptor] = (offset, references + 1)
        ring = [place for place, _ in self.security.values()]
        for position, (place, count) in enumerate(self.security.values()):
            after, before = ring[(position + 1) % len(ring)], ring[position - 1]
            self.cells.patch(place, 4, struct.pack("<III", after, before, count))
        return offset


def _lower(above: State, own: State) -> State:
    """The state of something below a key that is not live itself."""
    return own if above == "live" else above


def _name(name: str) -> tuple[bytes, bool]:
    """A name as stored, and whether each letter is one byte."""
    try:
        return name.encode("latin-1"), True
    except UnicodeEncodeError:
        return name.encode("utf-16-le", "surrogatepass"), False


def _hash(name: str) -> int:
    """Name hash of a list of kind `lh`."""
    found = 0
    for unit in name.upper():
        found = (found * 37 + ord(unit)) & 0xFFFFFFFF
    return found


def _hint(name: str) -> bytes:
    """Name hint of a list of kind `lf`: the first four letters; nothing when they are no bytes."""
    try:
        return name[:4].encode("latin-1").ljust(4, b"\0")
    except UnicodeEncodeError:
        return bytes(4)
