"""Where two passes of a parser over the same files part: the first row and column, or what became of a file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import blake3
import msgspec

from casparian.protocol import worker

NONDETERMINISTIC: Final = "parser.nondeterministic"
_ROWS_COMPARED: Final = 4096


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What the second pass did otherwise: the first place in one table, or what became of one file.

    `row` counts from 0 in the table's own order; a value that only one pass has is null in the other.
    """

    code: str = NONDETERMINISTIC
    table: str | None = None
    row: int | None = None
    column: str | None = None
    path: str | None = None
    first: Any = None
    second: Any = None
    message: str


def different_sources(
    paths: Sequence[str],
    first: Sequence[worker.SourceReceipt],
    second: Sequence[worker.SourceReceipt],
) -> Iterator[Difference]:
    """Files of which the second pass made something else: excluded or not, counts, ledger.

    Args:
        paths: by the sources' indexes.
        first: receipts of the first pass, in order.
        second: those of the second.
    """
    for one, other in zip(first, second, strict=True):
        before, after = (_said(receipt) for receipt in (one, other))
        if before != after:
            path = paths[one.index]
            yield Difference(
                path=path,
                first=before,
                second=after,
                message=f"`{path}` came to {_outcome_text(one)} and then to {_outcome_text(other)}",
            )


def _said(source: worker.SourceReceipt) -> dict[str, Any]:
    return {
        "code": source.code,
        "rows": source.rows,
        "quarantined": source.quarantined,
        "ledger": msgspec.to_builtins(source.ledger),
    }


def _outcome_text(source: worker.SourceReceipt) -> str:
    if source.code is not None:
        return f"`{source.code}`"
    return f"{sum(source.rows.values())} rows and {source.quarantined} quarantined"


def different_tables(first: worker.Receipt, second: worker.Receipt) -> Iterator[Difference]:
    """The first difference of each table; equal files need not be read."""
    for table in sorted({file.table for file in (*first.files, *second.files)}):
        hashes = [
            [file.blake3 for file in receipt.files if file.table == table]
            for receipt in (first, second)
        ]
        if hashes[0] == hashes[1]:
            continue
        one, other = read_table(first, table), read_table(second, table)
        if one is not None and other is not None and _stream_hash(one) == _stream_hash(other):
            continue  # the same rows, in files that are laid out otherwise
        found = first_difference(table, one, other)
        if found is not None:
            yield found


class _Hashing(io.RawIOBase):
    """A file that keeps the hash of what was written to it."""

    def __init__(self) -> None:
        self.hasher = blake3.blake3()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Hash the bytes."""
        self.hasher.update(data)
        return len(data)


def _stream_hash(rows: Any) -> str:
    """BLAKE3 over the Arrow IPC stream of a table."""
    import pyarrow as pa

    sink = _Hashing()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), rows.schema) as stream:
        stream.write_table(rows)
    return sink.hasher.hexdigest()


def first_difference(table: str, first: Any, second: Any) -> Difference | None:
    """Where two passes part: the first row that differs, and in it the first column.

    Args:
        table: name, for the message.
        first: rows of the first pass as one Arrow table; `None` when it gave no file.
        second: rows of the second pass, with the same columns.
    """
    if first is None or second is None:
        which = "first" if second is None else "second"
        message = f"only the {which} pass gave rows in `{table}`"
        return Difference(table=table, row=0, message=message)
    rows = min(first.num_rows, second.num_rows)
    best: tuple[int, str, Any, Any] | None = None
    for name in first.column_names:
        limit = rows if best is None else best[0]
        found = _first_unequal(first[name].slice(0, limit), second[name].slice(0, limit))
        if found is not None:
            row, one, other = found
            best = (row, name, one, other)
    if best is None:
        if first.num_rows == second.num_rows:
            return None
        message = f"the passes gave {first.num_rows} and {second.num_rows} rows in `{table}`"
        return Difference(
            table=table, row=rows, first=first.num_rows, second=second.num_rows, message=message
        )
    row, name, one, other = best
    return Difference(
        table=table,
        row=row,
        column=name,
        first=one,
        second=other,
        message=f"row {row} of `{table}` has another `{name}` the second time",
    )


def _first_unequal(one: Any, other: Any) -> tuple[int, Any, Any] | None:
    """Position and values of the first difference of two columns of equal length."""
    for start in range(0, len(one), _ROWS_COMPARED):
        before, after = (column.slice(start, _ROWS_COMPARED) for column in (one, other))
        if before.equals(after):
            continue
        # NaN equals nothing in Arrow: only the values decide.
        pairs = zip(_values(before), _values(after), strict=True)
        for position, (value, again) in enumerate(pairs, start=start):
            if value != again:
                return position, value, again
    return None


def _values(column: Any) -> list[Any]:
    from casparian.query.values import json_values

    return [value for chunk in column.chunks for value in json_values(chunk)]


def read_table(receipt: worker.Receipt, table: str) -> Any:
    """Rows of a table in the order of its staged files; `None` when there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [pq.read_table(file.path) for file in receipt.files if file.table == table]
    return pa.concat_tables(parts).combine_chunks() if parts else None
