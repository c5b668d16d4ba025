"""Run a parser's generator over one source: rows in, checked batches out.

The same code runs in the confined guest and in an author's own test. What it sends is in the shape that the bridge asks for:
`@offset`, `@length`, `@flags`, then the contract's columns in order. A row with a value that does not fit its column is sent to
quarantine with reason `contract.type`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import pyarrow as pa

from casparian.domain.contracts import OutputContract
from casparian.domain.parsers import ConfigValue
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import BOOKKEEPING
from casparian.sdk.context import Context, Rejected
from casparian.sdk.rows import FLAGS, LENGTH, OFFSET, OutputError, RowBlock, block_of
from casparian.sdk.source import Source
from casparian.sdk.values import column_of, keep_rows, non_null, recast

REASON_TYPE: Final = "contract.type"
_SPAN: Final = (OFFSET, LENGTH, FLAGS)
_SPAN_TYPES: Final = {OFFSET: pa.uint64(), LENGTH: pa.uint64(), FLAGS: pa.uint32()}
assert tuple(column.name for column in BOOKKEEPING) == _SPAN

Entry = Callable[[Context], Iterable[tuple[str, Any]] | None]


class Receiver(Protocol):
    """Where batches go."""

    def rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows of one output."""

    def rejected(self, table: str | None, batch: pa.RecordBatch) -> None:
        """Quarantined rows: of one output, or (`None`) units that became no row at all."""


def run_parser(
    entry: Entry,
    source: Source,
    *,
    display_path: str,
    config: Mapping[str, ConfigValue],
    outputs: tuple[OutputContract, ...],
    receiver: Receiver,
) -> None:
    """Drive one parser over one source; its exceptions pass through.

    Raises:
        OutputError: an output, column or span that the contract does not allow.
    """
    context = Context(
        source,
        display_path=display_path,
        config=config,
        send_quarantine=lambda rejected: receiver.rejected(None, quarantine_batch(rejected)),
    )
    contracts = {output.table: output for output in outputs}
    produced = entry(context)
    if produced is not None:
        for table, data in produced:
            contract = contracts.get(table)
            if contract is None:
                raise OutputError(f"unknown output `{table}`: the contract has {sorted(contracts)}")
            send(contract, data, receiver)
    context.send_rejected()


def send(contract: OutputContract, data: object, receiver: Receiver) -> None:
    """Convert what was yielded for one output, and send it."""
    if isinstance(data, pa.Table):
        for batch in data.to_batches():
            _convert_batch(contract, batch, receiver)
    elif isinstance(data, pa.RecordBatch):
        _convert_batch(contract, data, receiver)
    else:
        block = data if isinstance(data, RowBlock) else block_of(data)
        if len(block):
            _convert_block(contract, block, receiver)


def quarantine_batch(rejected: list[Rejected]) -> pa.RecordBatch:
    """Quarantined rows in the shape of the bridge."""
    schema = bridge_schema(None)
    columns = {name: [getattr(row, name) for row in rejected] for name in Rejected._fields}
    try:
        spans = [pa.array(columns[name[1:]], kind) for name, kind in _SPAN_TYPES.items()]
    except (pa.ArrowException, OverflowError) as error:
        raise OutputError(f"a quarantined row's span is not in the file: {error}") from error
    texts = [
        pa.array([_clean(text) for text in columns[name]], pa.utf8())
        for name in ("reason", "field", "message")
    ]
    raw = pa.array(columns["raw"], pa.binary())
    return pa.RecordBatch.from_arrays([*spans, *texts, raw], schema=schema)


def _clean(text: Any) -> str | None:
    """Text that UTF-8 can hold: a lone surrogate (undecodable file names have them) becomes visible."""
    return None if text is None else str(text).encode("utf-8", "backslashreplace").decode()


def _convert_block(contract: OutputContract, block: RowBlock, receiver: Receiver) -> None:
    try:
        spans = [
            pa.array(block.offsets, pa.uint64()),
            pa.array(block.lengths, pa.uint64()),
            pa.array(block.flags, pa.uint32()),
        ]
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise OutputError(f"a row of `{contract.table}` has an impossible span: {error}") from error
    given: set[str] = set().union(*block.values)
    _check_names(contract, given)
    kinds = _column_types(contract)
    absent = [None] * len(block)
    columns = {
        name: column_of([row.get(name) for row in block.values] if name in given else absent, kind)
        for name, kind in kinds.items()
    }
    _deliver(contract, spans, columns, receiver)


def _convert_batch(contract: OutputContract, batch: pa.RecordBatch, receiver: Receiver) -> None:
    if not batch.num_rows:
        return
    names = batch.schema.names
    if tuple(names[:3]) != _SPAN:
        raise OutputError(
            f"the first columns of a batch of `{contract.table}` must be {', '.join(_SPAN)}"
        )
    if len(set(names)) != len(names):
        raise OutputError(f"a batch of `{contract.table}` has two columns of one name")
    _check_names(contract, set(names[3:]))
    spans = []
    for name, kind in _SPAN_TYPES.items():
        column = recast(batch.column(name), kind)
        if column.bad or not non_null(column.array):
            raise OutputError(f"`{name}` of `{contract.table}` must be {kind} without nulls")
        spans.append(column.array)
    columns = {
        name: recast(batch.column(name), kind)
        if name in names
        else column_of([None] * batch.num_rows, kind)
        for name, kind in _column_types(contract).items()
    }
    _deliver(contract, spans, columns, receiver)


def _deliver(
    contract: OutputContract, spans: list[pa.Array], columns: dict[str, Any], receiver: Receiver
) -> None:
    arrays = [*spans, *(column.array for column in columns.values())]
    batch = pa.RecordBatch.from_arrays(arrays, schema=bridge_schema(contract))
    misfits: dict[int, tuple[str, str]] = {}
    for name, column in columns.items():
        for bad in column.bad:
            misfits.setdefault(bad.row, (name, bad.message))
    if misfits:
        offsets, lengths, flags = (span.to_pylist() for span in spans)
        rejected = [
            Rejected(offsets[row], lengths[row], flags[row], REASON_TYPE, field, message, None)
            for row, (field, message) in sorted(misfits.items())
        ]
        receiver.rejected(contract.table, quarantine_batch(rejected))
        batch = keep_rows(batch, set(misfits))
    if batch.num_rows:
        receiver.rows(contract.table, batch)


def _check_names(contract: OutputContract, names: set[str]) -> None:
    unknown = names - {column.name for column in contract.columns}
    if unknown:
        raise OutputError(
            f"`{contract.table}` has no column {', '.join(map(repr, sorted(unknown)))}"
        )


def _column_types(contract: OutputContract) -> dict[str, pa.DataType]:
    schema = bridge_schema(contract)
    return {field.name: field.type for field in list(schema)[3:]}
