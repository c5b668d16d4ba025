"""Arrow types by name: one vocabulary for contracts, the bridge and the sinks.

Only types that are safe to receive from an untrusted process have a name: no dictionaries, views, run-end encoding, extension
types or zero-width values (`docs/explanation/bridge.md` has the bombs that each of these allows).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.lineage import LINEAGE_COLUMNS
from casparian.errors import ContractError
from casparian.protocol.guest import BOOKKEEPING, QUARANTINE_COLUMNS

_DEPTH_MAX: Final = 8
_SIMPLE: Final[dict[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "utf8": pa.utf8(),
    "binary": pa.binary(),
    "date32": pa.date32(),
    "time64[us]": pa.time64("us"),
}
_TIMESTAMP: Final = re.compile(r"timestamp\[(s|ms|us|ns)(, UTC)?\]\Z")
_DECIMAL: Final = re.compile(r"decimal128\((\d{1,2}), ?(\d{1,2})\)\Z")
_LIST: Final = re.compile(r"list<(.+)>\Z")


@lru_cache(maxsize=1024)
def arrow_type(name: str, depth: int = 0) -> pa.DataType:
    """Arrow type of a contract's type name.

    Raises:
        ContractError: the name is not in the vocabulary.
    """
    if name in _SIMPLE:
        return _SIMPLE[name]
    if match := _TIMESTAMP.match(name):
        return pa.timestamp(match[1], tz="UTC" if match[2] else None)
    if match := _DECIMAL.match(name):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= 38 and scale <= precision:
            return pa.decimal128(precision, scale)
    if (match := _LIST.match(name)) and depth < _DEPTH_MAX:
        return pa.list_(pa.field("item", arrow_type(match[1], depth + 1), nullable=True))
    raise ContractError(f"unknown column type `{name}`", code="contract.type", type=name)


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """Arrow schema of contract columns."""
    return pa.schema(
        [
            pa.field(column.name, arrow_type(column.type), nullable=column.nullable)
            for column in columns
        ]
    )


def bridge_schema(output: OutputContract | None) -> pa.Schema:
    """What a guest sends for one output (`None`: for quarantine): bookkeeping, then the contract's columns.

    All fields but the bookkeeping are nullable on the bridge: the contract is checked by the host, row by row, so that
    a null in the wrong place is a quarantined row and not a broken stream.
    """
    columns = QUARANTINE_COLUMNS if output is None else output.columns
    fields = [pa.field(c.name, arrow_type(c.type), nullable=False) for c in BOOKKEEPING]
    fields += [pa.field(c.name, arrow_type(c.type), nullable=True) for c in columns]
    return pa.schema(fields)


def spread(values: pa.Array, counts: Sequence[int]) -> pa.Array:
    """Each value as many times as its count says; at least one count is not 0."""
    held = [position for position, count in enumerate(counts) if count]
    run_ends = pa.array(accumulate(counts[position] for position in held), pa.int32())
    runs = pa.RunEndEncodedArray.from_arrays(run_ends, values.take(pa.array(held, pa.int32())))
    return pc.run_end_decode(runs)


def lineage_fields() -> list[pa.Field]:
    """The `_cf_` columns as they are stored."""
    return [
        pa.field(name, arrow_type(kind), nullable=False) for name, kind in LINEAGE_COLUMNS.items()
    ]


def table_schema(output: OutputContract) -> pa.Schema:
    """What a sink stores for one output: the contract's columns, then lineage."""
    return pa.schema([*schema_of(output.columns), *lineage_fields()])
