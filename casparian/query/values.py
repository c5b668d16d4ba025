"""Turn Arrow batches of a query's result into JSON values and CSV.

Rules:
  * A value is never rounded: timestamps keep every digit of their unit (`…27.087613200Z`),
    integers of any size that JSON readers take (64 bits) stay integers and larger ones are text,
    decimals are text, floats that JSON has no number for are `NaN`, `Infinity` and `-Infinity`.
  * Binary is lower-case hex. Lists are lists, structs are objects, maps with text keys are objects.
  * CSV: null is an empty field, the empty text is `""`; lists and structs are JSON text.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1


def json_rows(batch: pa.RecordBatch) -> list[list[Any]]:
    """Rows of a batch as plain values that JSON can carry."""
    columns = [json_values(column) for column in batch.columns]
    return [list(row) for row in zip(*columns, strict=True)] if columns else []


def json_values(array: pa.Array) -> list[Any]:
    """One column as plain values; nulls are `None`."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(array)
    types = pa.types
    if types.is_timestamp(kind):
        return _timestamps(array)
    if types.is_floating(kind):
        return [None if v is None else _number(v) for v in array.to_pylist()]
    if types.is_decimal(kind):
        return [None if v is None else format(v, "f") for v in array.to_pylist()]
    if types.is_date(kind) or types.is_time(kind):
        return list(array.cast(pa.utf8()).to_pylist())
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return [None if v is None else v.hex() for v in array.to_pylist()]
    if types.is_dictionary(kind):
        return json_values(array.dictionary_decode())
    if types.is_map(kind):
        return _maps(array)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(array)
    if types.is_struct(kind):
        return _structs(array)
    if types.is_interval(kind):
        return [None if v is None else _interval(v) for v in array.to_pylist()]
    return list(array.to_pylist())


def text_column(array: pa.Array) -> pa.Array:
    """One column as CSV needs it: numbers and truth values as they are, the rest as text."""
    kind = array.type
    types = pa.types
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_string(kind):
        return array
    values = json_values(array)
    if getattr(kind, "type_name", "") == "hugeint" and all(map(_is_small, values)):
        return pa.array(values, pa.int64())  # a sum: a number, not a quoted text
    texts = [
        value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
        for value in values
    ]
    return pa.array(texts, pa.utf8())


def _is_small(value: Any) -> bool:
    return value is None or (isinstance(value, int) and abs(value) < 2**63)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _whole(value: int) -> int | str:
    return value if _INTEGER_MIN <= value <= _INTEGER_MAX else str(value)


def _timestamps(array: pa.Array) -> list[str | None]:
    zone = "Z" if array.type.tz else ""
    # without its zone it is the same instant in UTC, and Arrow needs no time-zone database
    plain = array.cast(pa.timestamp(array.type.unit))
    texts = plain.cast(pa.utf8()).to_pylist()
    found: list[str | None] = []
    for position, text in enumerate(texts):
        if text is None:
            found.append(None)
        elif text.startswith("<"):  # DuckDB's infinite timestamps have no date
            found.append("infinity" if plain[position].value > 0 else "-infinity")
        else:
            found.append(text.replace(" ", "T", 1) + zone)
    return found


def _extension(array: pa.Array) -> list[Any]:
    """DuckDB's own types, exported without loss: 128-bit integers, booleans, UUID, JSON."""
    name = getattr(array.type, "type_name", "")
    storage = array.storage
    if name in ("hugeint", "uhugeint"):
        signed = name == "hugeint"
        return [
            None if v is None else _whole(int.from_bytes(v, "little", signed=signed))
            for v in storage.to_pylist()
        ]
    if array.type.extension_name == "arrow.bool8":
        return [None if v is None else bool(v) for v in storage.to_pylist()]
    if array.type.extension_name == "arrow.uuid":
        return [None if v is None else str(v) for v in array.to_pylist()]
    return json_values(storage)


def _lists(array: pa.Array) -> list[Any]:
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_field))
    values = json_values(array.values)
    offsets = array.offsets.to_pylist()
    valid = pc.is_valid(array).to_pylist()
    return [
        values[start:end] if present else None
        for start, end, present in zip(offsets, offsets[1:], valid, strict=False)
    ]


def _maps(array: pa.Array) -> list[Any]:
    keys, items = json_values(array.keys), json_values(array.items)
    offsets = array.offsets.to_pylist()
    valid = pc.is_valid(array).to_pylist()
    found: list[Any] = []
    for number, present in enumerate(valid):
        if not present:
            found.append(None)
            continue
        pairs = [(keys[n], items[n]) for n in range(offsets[number], offsets[number + 1])]
        if all(isinstance(key, str) for key, _ in pairs):
            found.append(dict(pairs))
        else:
            found.append([list(pair) for pair in pairs])
    return found


def _structs(array: pa.Array) -> list[Any]:
    names = [field.name for field in array.type]
    columns = [json_values(column) for column in array.flatten()]
    valid = pc.is_valid(array).to_pylist()
    rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
    return [
        dict(zip(names, row, strict=True)) if present else None
        for present, row in zip(valid, rows, strict=True)
    ]


def _interval(value: Any) -> str:
    """ISO 8601 duration of months, days and nanoseconds: `P1M2DT0.000000003S`."""
    sign = "-" if value.nanoseconds < 0 else ""
    seconds, rest = divmod(abs(value.nanoseconds), 1_000_000_000)
    return f"P{value.months}M{value.days}DT{sign}{seconds}.{rest:09d}S"
