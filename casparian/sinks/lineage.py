"""Add the host's columns to what a guest sent.

A batch arrives as the bridge carries it (`@offset, @length, @flags`, then the contract's columns)
and leaves as it is stored (the contract's columns, then `_cf_…`). Columns that are constant for a
source are dictionary arrays of one value, so that they cost four bytes a row in memory and next to
nothing on disk. A parser can neither set nor shadow a lineage column.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from casparian.domain.contracts import OutputContract
from casparian.domain.lineage import LINEAGE_COLUMNS, flag_names, is_reserved_column
from casparian.errors import ContractError
from casparian.protocol.arrow import arrow_type, bridge_schema, spread, table_schema
from casparian.protocol.guest import BOOKKEEPING
from casparian.protocol.worker import SourceTask

# int32 indexes: one part file may hold more sources than an int8 can count.
CONSTANT_TYPE: Final = pa.dictionary(pa.int32(), pa.utf8())
CONSTANT_COLUMNS: Final = frozenset(
    {
        "_cf_source_hash",
        "_cf_source_id",
        "_cf_source_path",
        "_cf_parser",
        "_cf_artifact_hash",
        "_cf_contract_hash",
    }
)
_PROCESSED_AT_TYPE: Final = arrow_type(LINEAGE_COLUMNS["_cf_processed_at"])
_FLAGS_TYPE: Final = arrow_type(LINEAGE_COLUMNS["_cf_flags"])


def check_columns(output: OutputContract) -> None:
    """Refuse a contract whose columns would collide with lineage, bookkeeping or each other.

    Raises:
        ContractError: `contract.reserved_column` or `contract.duplicate_column`; nothing has been
            written yet.
    """
    seen: dict[str, str] = {}
    for column in output.columns:
        if is_reserved_column(column.name) or column.name.startswith("@"):
            raise ContractError(
                f"column `{column.name}` of `{output.table}` uses a reserved name",
                code="contract.reserved_column",
                hint="names that begin with `_cf_` or `@` belong to Casparian",
                table=output.table,
                column=column.name,
            )
        folded = column.name.casefold()
        if folded in seen:  # SQL names are case-insensitive
            raise ContractError(
                f"columns `{seen[folded]}` and `{column.name}` of `{output.table}` are one name to SQL",
                code="contract.duplicate_column",
                table=output.table,
                column=column.name,
            )
        seen[folded] = column.name


@lru_cache(maxsize=256)
def stored_schema(output: OutputContract) -> pa.Schema:
    """`table_schema` with the constant columns dictionary-encoded: what `add` returns and a stage takes."""
    check_columns(output)
    return pa.schema(
        [
            pa.field(f.name, CONSTANT_TYPE, nullable=False) if f.name in CONSTANT_COLUMNS else f
            for f in table_schema(output)
        ]
    )


def add(
    batch: pa.RecordBatch,
    *,
    output: OutputContract,
    source: SourceTask,
    parser_label: str,
    artifact_hash: str,
    contract_hash: str,
    job_id: int,
    processed_at_ns: int,
    first_ordinal: int,
) -> pa.RecordBatch:
    """Turn a bridge batch into a stored batch.

    Args:
        batch: bookkeeping, then the contract's columns, in the contract's order.
        output: the contract.
        source: where the rows come from.
        parser_label: `name@version`.
        artifact_hash: of the parser that was really run.
        contract_hash: of the contract that the rows were checked against.
        job_id: of the job.
        first_ordinal: position of the first row in (source, table); later rows follow on.
        processed_at_ns: when the job was dispatched, ns since 1970 UTC; one value for all rows of
            the job.

    Raises:
        ContractError: a contract column has a reserved name, or the batch is not of this contract.
    """
    rows = batch.num_rows
    return _stored(
        batch,
        output,
        {
            "_cf_source_hash": _constant(source.source_hash, rows),
            "_cf_source_id": _constant(source.source_id, rows),
            "_cf_source_path": _constant(source.display_path, rows),
            "_cf_job_id": pa.repeat(pa.scalar(job_id, pa.int64()), rows),
            "_cf_parser": _constant(parser_label, rows),
            "_cf_artifact_hash": _constant(artifact_hash, rows),
            "_cf_contract_hash": _constant(contract_hash, rows),
            "_cf_processed_at": pa.repeat(pa.scalar(processed_at_ns, _PROCESSED_AT_TYPE), rows),
            "_cf_ordinal": pa.arange(first_ordinal, first_ordinal + rows),
        },
    )


def add_together(
    batch: pa.RecordBatch,
    *,
    output: OutputContract,
    sources: Sequence[SourceTask],
    counts: Sequence[int],
    parser_label: str,
    artifact_hash: str,
    contract_hash: str,
    job_id: int,
    processed_at_ns: int,
) -> pa.RecordBatch:
    """As `add`, for all rows of several sources, one source behind the other; ordinals count from 0 in each.

    `counts` has the rows of each source, in the order of `sources`; not all are 0.
    """
    rows = batch.num_rows
    held = [source for source, count in zip(sources, counts, strict=True) if count]
    counts = [count for count in counts if count]
    which = spread(pa.array(range(len(held)), pa.int32()), counts)
    firsts = spread(pa.array([0, *accumulate(counts)][:-1], pa.int64()), counts)

    def by_source(values: list[str]) -> pa.DictionaryArray:
        distinct = dict.fromkeys(values)
        if len(distinct) == 1:
            return _constant(values[0], rows)
        if len(distinct) == len(values):
            return pa.DictionaryArray.from_arrays(which, pa.array(values, pa.utf8()))
        return spread(pa.array(values, pa.utf8()).dictionary_encode(), counts)

    return _stored(
        batch,
        output,
        {
            "_cf_source_hash": by_source([source.source_hash for source in held]),
            "_cf_source_id": by_source([source.source_id for source in held]),
            "_cf_source_path": by_source([source.display_path for source in held]),
            "_cf_job_id": pa.repeat(pa.scalar(job_id, pa.int64()), rows),
            "_cf_parser": _constant(parser_label, rows),
            "_cf_artifact_hash": _constant(artifact_hash, rows),
            "_cf_contract_hash": _constant(contract_hash, rows),
            "_cf_processed_at": pa.repeat(pa.scalar(processed_at_ns, _PROCESSED_AT_TYPE), rows),
            "_cf_ordinal": pc.subtract(pa.arange(0, rows), firsts),
        },
    )


def _stored(
    batch: pa.RecordBatch, output: OutputContract, values: dict[str, pa.Array]
) -> pa.RecordBatch:
    """The batch with these lineage columns, and those that its own bookkeeping gives."""
    expected = [
        *(column.name for column in BOOKKEEPING),
        *(column.name for column in output.columns),
    ]
    if batch.schema.names != expected or batch.schema.types != bridge_schema(output).types:
        raise ContractError(
            f"a batch for `{output.table}` does not have the columns of its contract",
            code="contract.schema",
            table=output.table,
        )
    offsets, lengths, flags = (batch.column(position) for position in range(3))
    values |= {"_cf_offset": offsets, "_cf_length": lengths, "_cf_flags": flag_lists(flags)}
    columns = batch.columns[len(BOOKKEEPING) :] + [values[name] for name in LINEAGE_COLUMNS]
    return pa.RecordBatch.from_arrays(columns, schema=stored_schema(output))


def plain(table: pa.Table, output: OutputContract) -> pa.Table:
    """The same rows with `table_schema`: dictionary columns decoded."""
    return table.cast(table_schema(output))


def flag_lists(flags: pa.Array) -> pa.Array:
    """Names of the set bits of each row, as `list<utf8>`; rows without flags are empty lists, never null."""
    rows = len(flags)
    if not rows or not pc.max(flags).as_py():
        return pa.ListArray.from_arrays(_zeros(rows + 1), pa.array([], pa.utf8()), type=_FLAGS_TYPE)
    kinds = flags.dictionary_encode()
    names = pa.array([flag_names(bits) for bits in kinds.dictionary.to_pylist()], _FLAGS_TYPE)
    return names.take(kinds.indices)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(_zeros(rows), pa.array([value], pa.utf8()))


def _zeros(count: int) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])
