"""How Casparian shows each BinXML value as text, said once more in Python.

Written from the rules of the `data_values` column, never from the decoder: integers in decimal,
hexadecimal integers and sizes as `0x…`, GUIDs in capitals without braces, times in ISO 8601 with
seven (FILETIME) or three (SYSTEMTIME) digits, binary as capital hex digits. An array is one
entry for each item, under the same name and with the array's type; an empty one is one null.
"""

from __future__ import annotations

import math
import struct
import uuid
from datetime import UTC, datetime, timedelta

from casparian.demo.evtx_writer import ValueType
from casparian.demo.evtx_writer.values import ARRAY_BIT

EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
WIDTHS = {
    ValueType.INT8: "b", ValueType.UINT8: "B", ValueType.INT16: "h", ValueType.UINT16: "H",
    ValueType.INT32: "i", ValueType.UINT32: "I", ValueType.INT64: "q", ValueType.UINT64: "Q",
    ValueType.REAL32: "f", ValueType.REAL64: "d", ValueType.BOOL: "I", ValueType.GUID: "16s",
    ValueType.SIZE_T: "Q", ValueType.FILETIME: "Q", ValueType.SYSTEMTIME: "16s",
    ValueType.HEX_INT32: "I", ValueType.HEX_INT64: "Q",
}  # fmt: skip


def render(type_code: int, data: bytes) -> str | list[str] | None:
    """The text of a value; a list for an array, `None` for null."""
    if type_code & ARRAY_BIT:
        return _items(ValueType(type_code & ~ARRAY_BIT), data)
    kind = ValueType(type_code)
    if kind is ValueType.NULL:
        return None
    if kind in {ValueType.STRING, ValueType.EVT_XML}:
        return _utf16(data).rstrip("\0")
    if kind is ValueType.ANSI_STRING:
        return data.decode("cp1252", "replace").rstrip("\0")
    if kind is ValueType.BINARY:
        return data.hex().upper()
    if kind is ValueType.SID:
        return _sid(data)
    if kind is ValueType.SIZE_T:
        return f"0x{int.from_bytes(data, 'little'):x}"
    return _fixed(kind, data)


def same_text(type_code: int, shown: str | None, expected: str | list[str] | None) -> bool:
    """Whether a decoder's text says what `render` says.

    Floats are compared as numbers (digits may be spelled in more than one way).
    """
    assert not isinstance(expected, list), "an array is one entry for each item"
    type_code &= ~ARRAY_BIT
    if type_code in {ValueType.REAL32, ValueType.REAL64} and shown and expected:
        number, wanted = float(shown), float(expected)
        if math.isnan(wanted):
            return math.isnan(number)
        width = "f" if type_code == ValueType.REAL32 else "d"
        return struct.pack(width, number) == struct.pack(width, wanted)
    return shown == expected


def _items(kind: ValueType, data: bytes) -> list[str]:
    if kind is ValueType.STRING:
        return _split(data, b"\0\0")
    if kind is ValueType.ANSI_STRING:
        return [part.decode("cp1252", "replace") for part in data.split(b"\0")[:-1]]
    if kind is ValueType.SID:
        sids, at = [], 0
        while at < len(data):
            size = 8 + 4 * data[at + 1]
            sids.append(_sid(data[at : at + size]))
            at += size
        return sids
    width = struct.calcsize("<" + WIDTHS[kind])
    parts = [data[at : at + width] for at in range(0, len(data), width)]
    return [str(render(kind, part)) for part in parts]


def _split(data: bytes, end: bytes) -> list[str]:
    """UTF-16 strings, each with its NUL; units, not bytes, are searched."""
    units = [data[at : at + 2] for at in range(0, len(data), 2)]
    texts, start = [], 0
    for at, unit in enumerate(units):
        if unit == end:
            texts.append(_utf16(b"".join(units[start:at])))
            start = at + 1
    return texts


def _fixed(kind: ValueType, data: bytes) -> str:
    (value,) = struct.unpack("<" + WIDTHS[kind], data)
    match kind:
        case ValueType.BOOL:
            return {0: "false", 1: "true"}.get(value, str(value))
        case ValueType.GUID:
            return str(uuid.UUID(bytes_le=value)).upper()
        case ValueType.HEX_INT32 | ValueType.HEX_INT64:
            return f"0x{value:x}"
        case ValueType.FILETIME:
            moment = EPOCH + timedelta(seconds=value // 10_000_000)
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{value % 10_000_000:07}Z"
        case ValueType.SYSTEMTIME:
            year, month, _, day, hour, minute, second, ms = struct.unpack("<8H", value)
            return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        case _:
            return str(value)


def _utf16(data: bytes) -> str:
    """Lone surrogates become U+FFFD, one for each unit."""
    text = data.decode("utf-16-le", "surrogatepass")
    return "".join("\ufffd" if 0xD800 <= ord(char) < 0xE000 else char for char in text)


def _sid(data: bytes) -> str:
    parts = struct.unpack_from(f"<{data[1]}I", data, 8)
    return "-".join(map(str, ("S", data[0], int.from_bytes(data[2:8], "big"), *parts)))
