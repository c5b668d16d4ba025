"""Record-batch messages and the lies that can be told in them: where each number of the header is, and how to change it.

honest = honest_message()
honest.with_node(3, null_count=-1)        honest.with_buffer(0, offset=2**62)        honest.with_rows(2**40)
"""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc

from casparian.domain.contracts import Column, OutputContract
from casparian.protocol.arrow import bridge_schema

OUTPUT = OutputContract(
    table="t",
    main=True,
    columns=(
        Column(name="number", type="int64"),
        Column(name="text", type="utf8"),
        Column(name="raw", type="binary"),
        Column(name="names", type="list<utf8>"),
        Column(name="deep", type="list<list<int32>>"),
        Column(name="time", type="timestamp[ns, UTC]"),
        Column(name="price", type="decimal128(20, 4)"),
        Column(name="day", type="date32"),
        Column(name="clock", type="time64[us]"),
        Column(name="yes", type="bool"),
    ),
)
SCHEMA = bridge_schema(OUTPUT)
SOURCE_BYTES = 10_000
_NUMBERS = (-1, 0, 1, 2, 49, 51, 64, 65_536, 2**30, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62)
_LONG_NUMBERS = (*_NUMBERS, 2**63 - 1, -(2**63))


def honest_batch(rows: int = 50) -> pa.RecordBatch:
    """Every type of the vocabulary, with nulls and empty values."""
    values: dict[str, Any] = {
        "@offset": range(rows),
        "@length": [1] * rows,
        "@flags": [0] * rows,
        "number": [n if n % 7 else None for n in range(rows)],
        "text": [f"text {n}" if n % 3 else None for n in range(rows)],
        "raw": [bytes([n % 256]) * (n % 7) for n in range(rows)],
        "names": [["a", None, "b"][: n % 4] if n % 5 else None for n in range(rows)],
        "deep": [[[1, None], [], None][: n % 4] if n % 6 else None for n in range(rows)],
        "time": list(range(rows)),
        "price": [None if n % 4 else n for n in range(rows)],
        "day": list(range(rows)),
        "clock": [n * 1_000_003 for n in range(rows)],
        "yes": [bool(n % 2) for n in range(rows)],
    }
    columns = [pa.array(values[field.name], field.type) for field in SCHEMA]
    return pa.record_batch(columns, schema=SCHEMA)


class Place(NamedTuple):
    """Where a number is in the message, and how it is written."""

    at: int
    kind: str


class Message:
    """One encapsulated record-batch message, as bytes that can be changed."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.metadata_bytes = struct.unpack_from("<I", raw, 4)[0]
        message = self._table(8 + self._u32(8))
        self.body_length = Place(message[3], "<q")
        self.header_type = Place(message[1], "<B")
        batch = self._table(message[2] + self._u32(message[2]))
        self.rows = Place(batch[0], "<q")
        self.node_at = self._vector(batch[1])
        self.buffer_at = self._vector(batch[2])
        self.node_count = Place(self.node_at[0] - 4, "<I")
        self.buffer_count = Place(self.buffer_at[0] - 4, "<I")

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.raw, at)[0])

    def _table(self, at: int) -> dict[int, int]:
        """Position of each field that a flatbuffer table has."""
        vtable = at - struct.unpack_from("<i", self.raw, at)[0]
        size = struct.unpack_from("<H", self.raw, vtable)[0]
        offsets = struct.unpack_from(f"<{(size - 4) // 2}H", self.raw, vtable + 4)
        return {field: at + offset for field, offset in enumerate(offsets) if offset}

    def _vector(self, at: int) -> list[int]:
        start = at + self._u32(at)
        return [start + 4 + 16 * n for n in range(self._u32(start))]

    @property
    def body_at(self) -> int:
        """Where the body begins."""
        return 8 + self.metadata_bytes

    def changed(self, *changes: tuple[Place, int]) -> bytes:
        """The message with other numbers."""
        raw = bytearray(self.raw)
        for place, value in changes:
            struct.pack_into(place.kind, raw, place.at, value)
        return bytes(raw)

    def with_rows(self, rows: int) -> bytes:
        """Another number of rows in the header."""
        return self.changed((self.rows, rows))

    def with_node(
        self, number: int, *, length: int | None = None, nulls: int | None = None
    ) -> bytes:
        """Other counts of one column."""
        at = self.node_at[number]
        changes = [(Place(at, "<q"), length), (Place(at + 8, "<q"), nulls)]
        return self.changed(*[(place, value) for place, value in changes if value is not None])

    def with_buffer(
        self, number: int, *, offset: int | None = None, length: int | None = None
    ) -> bytes:
        """Another place of one buffer."""
        at = self.buffer_at[number]
        changes = [(Place(at, "<q"), offset), (Place(at + 8, "<q"), length)]
        return self.changed(*[(place, value) for place, value in changes if value is not None])

    def buffer(self, number: int) -> tuple[int, int]:
        """Offset within the body and length of one buffer."""
        offset, length = struct.unpack_from("<qq", self.raw, self.buffer_at[number])
        return offset, length

    def with_body(self, number: int, position: int, kind: str, value: int) -> bytes:
        """Another number in the data of one buffer."""
        offset, _ = self.buffer(number)
        return self.changed((Place(self.body_at + offset + position, kind), value))


def honest_message(rows: int = 50) -> Message:
    """A message that is accepted."""
    return Message(honest_batch(rows).serialize().to_pybytes())


def mutant(chance: random.Random, message: Message) -> bytes:
    """The message with one to eight things wrong in it; header numbers are hit more often than their share of bytes."""
    raw = bytearray(message.raw)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        match chance.randrange(7):
            case 0:
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            case 1:
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            case 2:
                at = chance.randrange(0, len(raw) - 4) & ~3
                number = chance.choice([n for n in _NUMBERS if -(2**31) <= n < 2**31])
                struct.pack_into("<i", raw, at, number)
            case 3:
                struct.pack_into("<q", raw, chance.randrange(0, len(raw) - 8) & ~7, _long(chance))
            case 4:
                at = chance.choice(message.node_at) + chance.choice((0, 8))
                struct.pack_into("<q", raw, at, _long(chance))
            case 5:
                at = chance.choice(message.buffer_at) + chance.choice((0, 8))
                struct.pack_into("<q", raw, at, _long(chance))
            case 6:
                raw[chance.randrange(message.body_at)] ^= 1 << chance.randrange(8)
    if chance.random() < 0.05:
        del raw[chance.randrange(len(raw)) :]
    return bytes(raw)


def _long(chance: random.Random) -> int:
    return chance.choice((chance.choice(_LONG_NUMBERS), chance.randrange(0, 4096) & ~7))
