"""Every BinXML value type: plain Python value -> the bytes a record stores.

A `Value` is a type code and its bytes, nothing more: corner cases that no encoder would choose (a
null with left-over bytes, a boolean of 16, a string with its NUL) are one constructor call away.
Names and codes follow [MS-EVEN6] 2.2.12 and the libyal specification of the format; where neither
says how an array separates its items, `array` says which form is written.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, cast

ARRAY_BIT: Final = 0x80
"""Set in the type code of an array; the low bits name the type of its items."""

VALUE_BYTES_MAX: Final = 0xFFFF
"""A descriptor stores the size of a value in 16 bits."""

FILETIME_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)


class ValueType(IntEnum):
    """Type codes of [MS-EVEN6] 2.2.12, and the three that only the libyal specification names."""

    NULL = 0x00
    STRING = 0x01
    ANSI_STRING = 0x02
    INT8 = 0x03
    UINT8 = 0x04
    INT16 = 0x05
    UINT16 = 0x06
    INT32 = 0x07
    UINT32 = 0x08
    INT64 = 0x09
    UINT64 = 0x0A
    REAL32 = 0x0B
    REAL64 = 0x0C
    BOOL = 0x0D
    BINARY = 0x0E
    GUID = 0x0F
    SIZE_T = 0x10
    FILETIME = 0x11
    SYSTEMTIME = 0x12
    SID = 0x13
    HEX_INT32 = 0x14
    HEX_INT64 = 0x15
    EVT_HANDLE = 0x20
    BINXML = 0x21
    EVT_XML = 0x23


@dataclass(frozen=True, slots=True)
class Value:
    """One substitution value as it lies in a record: its type code and its bytes."""

    type_code: int
    data: bytes

    def __post_init__(self) -> None:
        """Refuse what a 16-bit descriptor cannot describe."""
        if len(self.data) > VALUE_BYTES_MAX:
            raise ValueError(f"a value holds at most {VALUE_BYTES_MAX} bytes, not {len(self.data)}")


def null(left_over: bytes = b"") -> Value:
    """Null; `left_over` are bytes that Windows leaves behind a substitution it blanked out."""
    return Value(ValueType.NULL, left_over)


def string(text: str, *, terminated: bool = False) -> Value:
    """UTF-16 string; lone surrogates are written as they are, a final NUL only when asked for."""
    return Value(ValueType.STRING, utf16(text) + (b"\0\0" if terminated else b""))


def ansi(text: str | bytes, *, terminated: bool = False) -> Value:
    """String in code page 1252; give bytes to write those that the code page does not define."""
    data = text if isinstance(text, bytes) else text.encode("cp1252")
    return Value(ValueType.ANSI_STRING, data + (b"\0" if terminated else b""))


def number(kind: ValueType, item: float) -> Value:
    """Integer, hexadecimal integer, or float of the width that `kind` says."""
    return Value(kind, struct.pack(_NUMBER_FORMATS[kind], item))


def uint8(item: int) -> Value:
    """8-bit unsigned integer."""
    return number(ValueType.UINT8, item)


def uint16(item: int) -> Value:
    """16-bit unsigned integer."""
    return number(ValueType.UINT16, item)


def uint32(item: int) -> Value:
    """32-bit unsigned integer."""
    return number(ValueType.UINT32, item)


def uint64(item: int) -> Value:
    """64-bit unsigned integer."""
    return number(ValueType.UINT64, item)


def hex32(item: int) -> Value:
    """32-bit integer that renders as `0x…`."""
    return number(ValueType.HEX_INT32, item)


def hex64(item: int) -> Value:
    """64-bit integer that renders as `0x…`."""
    return number(ValueType.HEX_INT64, item)


def boolean(item: int) -> Value:
    """32-bit boolean; real logs hold numbers other than 0 and 1, so any is taken."""
    return Value(ValueType.BOOL, struct.pack("<I", int(item)))


def binary(data: bytes) -> Value:
    """Bytes, as they are."""
    return Value(ValueType.BINARY, data)


def guid(item: uuid.UUID | str) -> Value:
    """GUID in its mixed-endian form."""
    return Value(ValueType.GUID, _guid_bytes(item))


def size_t(item: int, *, width_bytes: int = 8) -> Value:
    """Pointer-sized integer: 4 bytes from a 32-bit provider, 8 from a 64-bit one."""
    return Value(ValueType.SIZE_T, item.to_bytes(width_bytes, "little"))


def filetime(item: int | datetime) -> Value:
    """FILETIME, from its 100 ns ticks since 1601 or from an aware time."""
    return Value(ValueType.FILETIME, _filetime_bytes(item))


def systemtime(item: datetime) -> Value:
    """SYSTEMTIME: eight 16-bit fields, to the millisecond."""
    return Value(ValueType.SYSTEMTIME, _systemtime_bytes(item))


def sid(text: str) -> Value:
    """Security identifier from its `S-1-…` form."""
    return Value(ValueType.SID, _sid_bytes(text))


def evt_handle(item: int) -> Value:
    """Handle of the event service. No published sample holds one; 4 bytes are written."""
    return Value(ValueType.EVT_HANDLE, struct.pack("<I", item))


def evt_xml(text: str) -> Value:
    """XML held as UTF-16 text. No published sample holds one."""
    return Value(ValueType.EVT_XML, utf16(text))


def array(kind: ValueType, items: Iterable[object]) -> Value:
    """Array of any scalar type.

    Numbers, GUIDs and times lie one behind the other; SIDs say their own length; both kinds of
    string end with a NUL each ([MS-EVEN6] 2.2.12). `SIZE_T` items are written 8 bytes wide.
    Bytes have no way to say where an item ends, so an array of `BINARY` is their concatenation.
    """
    encode = _ITEM_ENCODERS[kind]
    return Value(ARRAY_BIT | kind, b"".join(encode(item) for item in items))


def to_filetime(moment: datetime, *, ticks: int = 0) -> int:
    """100 ns ticks since 1601 of an aware time; `ticks` adds what a microsecond cannot hold."""
    return (moment - FILETIME_EPOCH) // timedelta(microseconds=1) * 10 + ticks


def utf16(text: str) -> bytes:
    """UTF-16 LE without BOM; a lone surrogate stays one unit, as Windows stores it."""
    return text.encode("utf-16-le", "surrogatepass")


_NUMBER_FORMATS: Final[dict[ValueType, str]] = {
    ValueType.INT8: "<b",
    ValueType.UINT8: "<B",
    ValueType.INT16: "<h",
    ValueType.UINT16: "<H",
    ValueType.INT32: "<i",
    ValueType.UINT32: "<I",
    ValueType.INT64: "<q",
    ValueType.UINT64: "<Q",
    ValueType.REAL32: "<f",
    ValueType.REAL64: "<d",
    ValueType.BOOL: "<I",
    ValueType.SIZE_T: "<Q",
    ValueType.HEX_INT32: "<I",
    ValueType.HEX_INT64: "<Q",
    ValueType.EVT_HANDLE: "<I",
}

NUMBER_TYPES: Final = frozenset(_NUMBER_FORMATS)
"""The types that `number` takes."""


def _guid_bytes(item: uuid.UUID | str) -> bytes:
    return (item if isinstance(item, uuid.UUID) else uuid.UUID(item)).bytes_le


def _filetime_bytes(item: int | datetime) -> bytes:
    return struct.pack("<Q", item if isinstance(item, int) else to_filetime(item))


def _systemtime_bytes(item: datetime) -> bytes:
    """Year, month, day of week (Sunday is 0), day, hour, minute, second, millisecond."""
    fields = (item.year, item.month, item.isoweekday() % 7, item.day)
    clock = (item.hour, item.minute, item.second, item.microsecond // 1000)
    return struct.pack("<8H", *fields, *clock)


def _sid_bytes(text: str) -> bytes:
    """Revision, count, 48-bit big-endian authority, then the sub-authorities."""
    prefix, revision, authority, *rest = text.split("-")
    if prefix != "S":
        raise ValueError(f"not a security identifier: {text!r}")
    head = struct.pack("<BB", int(revision), len(rest)) + int(authority).to_bytes(6, "big")
    return head + struct.pack(f"<{len(rest)}I", *map(int, rest))


def _number_encoder(layout: str) -> Callable[[object], bytes]:
    return lambda item: struct.pack(layout, item)


_ITEM_ENCODERS: Final[dict[ValueType, Callable[[object], bytes]]] = {
    **{kind: _number_encoder(layout) for kind, layout in _NUMBER_FORMATS.items()},
    ValueType.STRING: lambda item: utf16(str(item)) + b"\0\0",
    ValueType.ANSI_STRING: lambda item: ansi(str(item), terminated=True).data,
    ValueType.BINARY: lambda item: cast("bytes", item),
    ValueType.GUID: lambda item: _guid_bytes(cast("uuid.UUID | str", item)),
    ValueType.FILETIME: lambda item: _filetime_bytes(cast("int | datetime", item)),
    ValueType.SYSTEMTIME: lambda item: _systemtime_bytes(cast("datetime", item)),
    ValueType.SID: lambda item: _sid_bytes(str(item)),
}
