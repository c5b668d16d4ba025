r"""Values as CSV text and back, a column at a time, without loss.

bool, integers, floats    as they are (`nan`, `inf`, `-inf`)         unquoted
utf8                      as it is                                   quoted
timestamp                 `2024-05-01T10:20:30.123456700Z`           always nine digits; `Z` only when the column is UTC
date32                    `2024-05-01`
time64[us]                `10:20:30.123456`                           always six digits
decimal                   as it is
binary                    lower-case hex
list<…>                   JSON text; elements without a JSON form of their own are strings of the forms above
"""

from __future__ import annotations

import io
import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_CONTROL: Final = "[\x00-\x1f]"
_WRAPPER: Final = ('{"v":', "}\n")
_TWO: Final = pa.scalar(2, pa.int32())  # hex digits a byte
_EPOCH_DAY: Final = "1970-01-01T"
_SECONDS_TEXT: Final = 19  # `2024-05-01T10:20:30`


def is_native(kind: pa.DataType) -> bool:
    """Whether CSV holds the type as it is, without a text form of ours."""
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def to_text(column: pa.Array) -> pa.Array:
    """Text of each value, null where it is null. Times lie in the years 0001-9999 (`times`)."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _timestamp_text(column)
    if pa.types.is_binary(kind):
        return _hex(column)
    if pa.types.is_list(kind):
        return _list_text(column)
    return column.cast(pa.utf8())


def from_text(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values that `to_text` wrote.

    Raises:
        pa.ArrowInvalid: the text is not such a value.
    """
    if pa.types.is_timestamp(kind):
        return _timestamps(column, kind)
    if pa.types.is_time(kind):
        return _times_of_day(column, kind)
    if pa.types.is_binary(kind):
        return _unhex(column)
    if pa.types.is_list(kind):
        return _lists(column, kind)
    return column.cast(kind)


# times


def _timestamp_text(column: pa.Array) -> pa.Array:
    unit, zone = column.type.unit, column.type.tz
    digits = _DIGITS[unit]
    ticks = column.cast(pa.int64())
    text = pc.replace_substring(
        ticks.cast(pa.timestamp(unit)).cast(pa.utf8()), " ", "T", max_replacements=1
    )
    tail = ("." if digits == 0 else "") + "0" * (9 - digits) + ("Z" if zone else "")
    return pc.binary_join_element_wise(text, tail, "") if tail else text


def _timestamps(column: pa.Array, kind: pa.DataType) -> pa.Array:
    digits = _DIGITS[kind.unit]
    whole = (
        pc.utf8_slice_codeunits(column, 0, _SECONDS_TEXT).cast(pa.timestamp("s")).cast(pa.int64())
    )
    ticks = whole
    if digits:
        fraction = pc.utf8_slice_codeunits(column, _SECONDS_TEXT + 1, _SECONDS_TEXT + 1 + digits)
        # Unchecked: near the first nanosecond of 1677 the product alone overflows, the sum does not.
        ticks = pc.add(pc.multiply(whole, 10**digits), fraction.cast(pa.int64()))
    return ticks.cast(kind)


def _times_of_day(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Arrow reads texts as times on a date only."""
    moments = pc.binary_join_element_wise(_EPOCH_DAY, column, "").cast(pa.timestamp("us"))
    return moments.cast(pa.int64()).cast(kind)


# bytes


def _hex(column: pa.Array) -> pa.Array:
    offsets, content = _content(column)
    return _strings(pa.utf8(), column, pc.multiply_checked(offsets, _TWO), content.hex().encode())


def _unhex(column: pa.Array) -> pa.Array:
    offsets, content = _content(column)
    try:
        decoded = bytes.fromhex(content.decode("ascii"))
    except ValueError as error:
        raise pa.ArrowInvalid(f"not hexadecimal: {error}") from error
    return _strings(pa.binary(), column, pc.divide(offsets, _TWO), decoded)


def _content(column: pa.Array) -> tuple[pa.Array, bytes]:
    """Offsets from zero and the bytes they point into, without what a slice has left behind."""
    compact = pa.concat_arrays([column, column.slice(0, 0)]) if column.offset else column
    buffers = compact.buffers()
    offsets = pa.Array.from_buffers(pa.int32(), len(compact) + 1, [None, buffers[1]])
    if len(compact) == 0:
        return pa.array([0], pa.int32()), b""
    first, last = offsets[0].as_py(), offsets[len(compact)].as_py()
    content = b"" if buffers[2] is None else memoryview(buffers[2])[first:last].tobytes()
    return pc.subtract(offsets, offsets[0]), content


def _strings(kind: pa.DataType, like: pa.Array, offsets: pa.Array, content: bytes) -> pa.Array:
    """String or binary array from offsets and content, null where `like` is."""
    assert offsets.type == pa.int32()
    assert offsets.offset == 0
    array = pa.Array.from_buffers(
        kind, len(like), [None, offsets.buffers()[1], pa.py_buffer(content)]
    )
    return pc.if_else(pc.is_valid(like), array, pa.scalar(None, kind)) if like.null_count else array


# lists


def _list_text(column: pa.Array) -> pa.Array:
    elements = pc.fill_null(_element_text(column.flatten()), "null")
    joined = pc.binary_join(pa.ListArray.from_arrays(_offsets(column), elements), ",")
    text = pc.binary_join_element_wise("[", joined, "]", "")
    return pc.if_else(pc.is_valid(column), text, pa.scalar(None, pa.utf8()))


def _element_text(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_list(kind):
        return _list_text(values)
    if pa.types.is_floating(kind):
        text = values.cast(pa.utf8())
        return pc.if_else(pc.is_finite(values), text, _quoted(text))
    if is_native(kind):
        return values.cast(pa.utf8())
    return _quoted(_escaped(values) if pa.types.is_string(kind) else to_text(values))


def _quoted(text: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', text, '"', "")


def _escaped(text: pa.Array) -> pa.Array:
    text = pc.replace_substring(text, "\\", "\\\\")
    text = pc.replace_substring(text, '"', '\\"')
    if pc.any(pc.match_substring_regex(text, _CONTROL)).as_py():
        for code in range(32):
            text = pc.replace_substring(text, chr(code), f"\\u{code:04x}")
    return text


def _offsets(lists: pa.Array) -> pa.Array:
    """Offsets from zero into `lists.flatten()`."""
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(lists), 0))
    return pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])


def _lists(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if len(column) == 0:
        return pa.array([], kind)
    wire = _wire_type(kind)
    document = pc.binary_join_element_wise(
        _WRAPPER[0], pc.fill_null(column, "null"), _WRAPPER[1], ""
    )
    _, content = _content(document)
    try:
        parsed = arrow_json.read_json(
            io.BytesIO(content),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=pa.schema([("v", wire)])),
        )["v"].combine_chunks()
    except pa.ArrowInvalid:
        if not pa.types.is_floating(_leaf(kind)):
            raise
        # Whole numbers are read as floats as well: as an integer `-0` would lose its sign.
        lines = [json.loads(line, parse_int=float)["v"] for line in content.splitlines()]
        parsed = pa.array([_floats(line) for line in lines], wire)
    return _relabel(parsed, kind)


def _floats(value: Any) -> Any:
    """`NaN` and the infinities travel as strings: JSON has no numbers for them."""
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _leaf(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_list(kind):
        kind = kind.value_type
    return kind


def _wire_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_wire_type(kind.value_type))
    return kind if is_native(kind) else pa.utf8()


def _relabel(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Give parsed JSON the contract's types, level by level."""
    if not pa.types.is_list(kind):
        return values if is_native(kind) else from_text(values, kind)
    inner = _relabel(values.flatten(), kind.value_type)
    return pa.ListArray.from_arrays(_offsets(values), inner, type=kind, mask=values.is_null())
