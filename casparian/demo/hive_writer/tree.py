"""What a hive holds, before it has bytes: keys, values, and who owns them.

`state` of a key or a value says how it lies in the hive:
    live      listed by its parent
    orphaned  allocated, but in no list
    deleted   its cells are free, its bytes are still there
A key that is not live takes everything below it with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

State = Literal["live", "orphaned", "deleted"]
DEFAULT_TIME: Final = 133_545_888_000_000_000  # FILETIME of 2024-03-11T00:00:00Z


class ValueType(IntEnum):
    """Types of data (M. Suhanov, "Windows registry file format specification", "Data types")."""

    NONE = 0
    SZ = 1
    EXPAND_SZ = 2
    BINARY = 3
    DWORD = 4
    DWORD_BIG_ENDIAN = 5
    LINK = 6
    MULTI_SZ = 7
    RESOURCE_LIST = 8
    FULL_RESOURCE_DESCRIPTOR = 9
    RESOURCE_REQUIREMENTS_LIST = 10
    QWORD = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value with its data as stored. `name` is empty for the default value; `type` may be any number."""

    name: str
    type: int
    data: bytes
    state: State = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key and what is below it.

    Attributes:
        name: any text; names of other than Latin-1 letters are stored as UTF-16.
        values: in the order of their list.
        subkeys: in any order; the list is sorted as Windows sorts it.
        last_write: FILETIME, 100 ns since 1601, UTC.
        class_name: `None` for none.
        owner: SIDs of the security descriptor; keys with the same descriptor share its cell.
        group: as `owner`.
        state: see the module.
    """

    name: str
    values: tuple[Value, ...] = ()
    subkeys: tuple[Key, ...] = ()
    last_write: int = DEFAULT_TIME
    class_name: str | None = None
    owner: str = "S-1-5-32-544"
    group: str = "S-1-5-18"
    state: State = "live"


def text(name: str, value: str, kind: ValueType = ValueType.SZ) -> Value:
    """A text with its NUL, as Windows writes it."""
    return Value(name=name, type=kind, data=(value + "\0").encode("utf-16-le", "surrogatepass"))


def texts(name: str, *values: str) -> Value:
    """A list of texts: each with its NUL, and one more NUL at the end."""
    data = "".join(value + "\0" for value in values) + "\0"
    return Value(name=name, type=ValueType.MULTI_SZ, data=data.encode("utf-16-le"))


def dword(name: str, value: int) -> Value:
    """A 32-bit number."""
    return Value(name=name, type=ValueType.DWORD, data=struct.pack("<I", value))


def qword(name: str, value: int) -> Value:
    """A 64-bit number."""
    return Value(name=name, type=ValueType.QWORD, data=struct.pack("<Q", value))


def binary(name: str, data: bytes, kind: int = ValueType.BINARY) -> Value:
    """Bytes."""
    return Value(name=name, type=kind, data=data)


def sid(written: str) -> bytes:
    """A security identifier from its text, `S-1-5-32-544` (MS-DTYP 2.4.2)."""
    _, revision, authority, *parts = written.split("-")
    numbers = [int(part) for part in parts]
    return (
        struct.pack("BB", int(revision), len(numbers))
        + int(authority).to_bytes(6, "big")
        + struct.pack(f"<{len(numbers)}I", *numbers)
    )


def security_descriptor(owner: str, group: str) -> bytes:
    """A self-relative descriptor with owner and group and no lists (MS-DTYP 2.4.6)."""
    owner_sid, group_sid = sid(owner), sid(group)
    header = struct.pack("<BBHIIII", 1, 0, 0x8000, 20, 20 + len(owner_sid), 0, 0)
    return header + owner_sid + group_sid
