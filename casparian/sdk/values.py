"""From a parser's values to Arrow columns: a value either fits its column exactly or its row is set aside.

pyarrow alone is too kind: it cuts 1.5 to 1, turns True into 1.0, 1e300 into infinity and reads a
string as a list of letters. So the Python type of every value is looked at first (a set of types a
column, so it costs little), and only then is the column built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_MESSAGE_CHARACTERS_MAX: Final = 120
_FLOAT32_MAX: Final = 3.4028234663852886e38
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000}
_FIT_ERRORS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError)


class BadValue(NamedTuple):
    """Why one value does not fit."""

    row: int
    message: str


class Column(NamedTuple):
    """A column with nulls where a value did not fit, and those values."""

    array: pa.Array
    bad: list[BadValue]


def column_of(values: Sequence[Any], kind: pa.DataType) -> Column:
    """Build a column of exactly this type; each value that does not fit is reported with its row."""
    if _harmless(values, kind):
        with suppress(*_FIT_ERRORS):  # one of them does not fit: find out which
            return Column(pa.array(values, kind), [])
    return _one_by_one(values, kind)


def recast(array: pa.Array, kind: pa.DataType) -> Column:
    """Bring an Arrow column to the contract's type; only changes that cannot alter a value are made wholesale."""
    if array.type == kind:
        return Column(array, [])
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _same_family(array.type, kind):
        with suppress(*_FIT_ERRORS):  # a value is out of range: find out which
            return Column(array.cast(kind, safe=True), [])
    return column_of(array.to_pylist(), kind)


def _one_by_one(values: Sequence[Any], kind: pa.DataType) -> Column:
    fitting: list[Any] = []
    bad: list[BadValue] = []
    for row, value in enumerate(values):
        reason = None if value is None else _misfit(value, kind)
        if reason is None:
            fitting.append(value)
        else:
            fitting.append(None)
            bad.append(BadValue(row, reason))
    return Column(pa.array(fitting, kind), bad)


def _misfit(value: Any, kind: pa.DataType) -> str | None:
    """Why the value does not fit the type; `None` when it does."""
    if not _acceptable(value, kind):
        return f"{shown(value)} is a {type(value).__name__}, the column is {kind}"
    if pa.types.is_list(kind):
        for item in value:
            if item is not None and (reason := _misfit(item, kind.value_type)):
                return reason
    if pa.types.is_timestamp(kind) and isinstance(value, datetime):
        if kind.tz is not None and value.tzinfo is None:
            return f"{shown(value)} names no time zone, the column is {kind}"
        if kind.tz is None and value.tzinfo is not None:
            return f"{shown(value)} names a time zone, the column is {kind}"
        if value.microsecond % _MICROSECONDS.get(kind.unit, 1):
            return f"{shown(value)} is finer than a {kind.unit}, the column is {kind}"
    if isinstance(value, time) and value.tzinfo is not None:
        return f"{shown(value)} names a time zone, the column is {kind}"
    if pa.types.is_float32(kind) and math.isfinite(value) and abs(value) > _FLOAT32_MAX:
        return f"{shown(value)} is out of range, the column is {kind}"
    try:
        pa.array([value], kind)
    except _FIT_ERRORS:
        return f"{shown(value)} does not fit, the column is {kind}"
    return None


def _accepted(kind: pa.DataType) -> set[type]:
    """Python types whose values may fit; a subclass takes the slow road."""
    if pa.types.is_integer(kind):
        return {int}
    if pa.types.is_string(kind):
        return {str}
    if pa.types.is_timestamp(kind):
        return {datetime, int}
    if pa.types.is_binary(kind):
        return {bytes, bytearray}
    if pa.types.is_boolean(kind):
        return {bool}
    if pa.types.is_floating(kind):
        return {float, int}
    if pa.types.is_decimal(kind):
        return {Decimal, int}
    if pa.types.is_date(kind):
        return {date}
    if pa.types.is_time(kind):
        return {time}
    return {list, tuple}


def _acceptable(value: Any, kind: pa.DataType) -> bool:
    accepted = _accepted(kind)
    if type(value) in accepted:
        return True
    if isinstance(value, bool) or (isinstance(value, datetime) and date in accepted):
        return False
    return isinstance(value, tuple(accepted))


def _harmless(values: Iterable[Any], kind: pa.DataType) -> bool:
    """Whether pyarrow stores all of these as they are, or raises."""
    values = [value for value in values if value is not None]
    types = set(map(type, values))
    if not types <= _accepted(kind):
        return False
    if pa.types.is_timestamp(kind) and datetime in types:
        step = _MICROSECONDS.get(kind.unit, 1)
        aware = kind.tz is not None
        return types == {datetime} and all(
            (value.tzinfo is not None) is aware and value.microsecond % step == 0
            for value in values
        )
    if pa.types.is_time(kind):  # pyarrow drops a zone without a word
        return all(value.tzinfo is None for value in values)
    if pa.types.is_float32(kind):
        return not any(abs(value) > _FLOAT32_MAX and math.isfinite(value) for value in values)
    if pa.types.is_list(kind):
        return _harmless(chain.from_iterable(values), kind.value_type)
    return True


def _same_family(one: pa.DataType, other: pa.DataType) -> bool:
    types = pa.types
    if types.is_integer(one) and types.is_integer(other):
        return True
    if types.is_timestamp(one) and types.is_timestamp(other):
        return bool(one.tz == other.tz)
    if types.is_time(one) and types.is_time(other):
        return True
    textual = (types.is_string, types.is_large_string, types.is_string_view)
    if any(test(one) for test in textual) and types.is_string(other):
        return True
    binary = (
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
    )
    if any(test(one) for test in binary) and types.is_binary(other):
        return True
    if (types.is_list(one) or types.is_large_list(one)) and types.is_list(other):
        return bool(one.value_type == other.value_type) or _same_family(
            one.value_type, other.value_type
        )
    return bool(types.is_null(one))


def shown(value: object) -> str:
    """A value for a message: bounded whatever its size."""
    if isinstance(value, str | bytes | bytearray):
        cut = value[:_MESSAGE_CHARACTERS_MAX]
        return repr(cut) + ("…" if len(value) > len(cut) else "")
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 512:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text[:_MESSAGE_CHARACTERS_MAX] + ("…" if len(text) > _MESSAGE_CHARACTERS_MAX else "")


def keep_rows(batch: pa.RecordBatch, dropped: set[int]) -> pa.RecordBatch:
    """The batch without these rows, order kept."""
    mask = pa.array([row not in dropped for row in range(batch.num_rows)], pa.bool_())
    return batch.filter(mask)


def non_null(array: pa.Array) -> bool:
    """Whether every value is there, counted and not believed."""
    return bool(pc.all(array.is_valid(), min_count=0).as_py())
