"""Times that every sink can hold: the years 0001-9999.

Parquet, DuckDB and ISO 8601 each end somewhere else outside them, and a value must mean the same in
all sinks. Nanoseconds reach from 1677 to 2262 only and need no check. Checked before a row is
staged, so that it costs one source and not the job.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from casparian.errors import SinkFault

_SECONDS_MIN: Final = -62_135_596_800  # 0001-01-01T00:00:00
_SECONDS_MAX: Final = 253_402_300_799  # 9999-12-31T23:59:59
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000}
_DAY_SECONDS: Final = 86_400


def check_times(batch: pa.RecordBatch) -> None:
    """Refuse a batch with a time or date outside the years 0001-9999.

    Raises:
        SinkFault: `sink.range`, naming the column.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not _in_range(column):
            raise SinkFault(
                f"a value of `{name}` lies outside the years 0001-9999 and no sink can hold it",
                code="sink.range",
                hint="declare the column as an integer, or set such rows aside in the parser",
                column=name,
            )


def _in_range(values: pa.Array) -> bool:
    kind = values.type
    if pa.types.is_list(kind):
        return _in_range(values.flatten())
    if pa.types.is_date32(kind):
        ends = pc.min_max(values.cast(pa.int32())).as_py()
        low, high = _SECONDS_MIN // _DAY_SECONDS, _SECONDS_MAX // _DAY_SECONDS
    elif pa.types.is_timestamp(kind) and kind.unit in _PER_SECOND:
        per_second = _PER_SECOND[kind.unit]
        ends = pc.min_max(values.cast(pa.int64())).as_py()
        low, high = _SECONDS_MIN * per_second, _SECONDS_MAX * per_second + per_second - 1
    else:
        return True
    return ends["min"] is None or (low <= ends["min"] and ends["max"] <= high)
