"""What one transaction is about to write, gathered so that many jobs cost a few statements.

A statement costs about as much for one row as for a thousand. So the steps of all jobs of a transaction become one update, and
the rows of a table one insert. `flush` writes what was gathered; whoever reads a table inside the transaction flushes it first.

Up to four rows are passed as values (0.5 ms), few as lists that the statement unnests (1.0 ms), many as an Arrow table (1.5 ms
and far less a row).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
from msgspec import UNSET, UnsetType, structs

from casparian.domain.jobs import JobState, check_step
from casparian.errors import CasparianError

if TYPE_CHECKING:
    import duckdb

# At a time: the rows of a large plan are many times larger as dictionaries.
_INSERT_ROWS: Final = 4096
_VALUE_ROWS: Final = 4
_LISTED_ROWS: Final = 64  # up to here lists are cheaper than an Arrow table
# As `DESCRIBE` says it.
_COMPANIONS: Final = (
    'STRUCT("role" VARCHAR, "name" BLOB, display_path VARCHAR, size_bytes UBIGINT, '
    "source_hash VARCHAR, sha256 VARCHAR)[]"
)
_ARROW_TYPES: Final = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "UINTEGER": pa.uint32(),
    "BOOLEAN": pa.bool_(),
    "BLOB": pa.binary(),
    "VARCHAR[]": pa.list_(pa.string()),
    _COMPANIONS: pa.list_(
        pa.struct(
            [
                ("role", pa.string()),
                ("name", pa.binary()),
                ("display_path", pa.string()),
                ("size_bytes", pa.uint64()),
                ("source_hash", pa.string()),
                ("sha256", pa.string()),
            ]
        )
    ),
}


class StaleStep(CasparianError):
    """A compare-and-swap found the job in another state or epoch."""

    code = "job.stale"


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """One compare-and-swap on (id, state, epoch), and the columns that change with it; `UNSET` leaves a column as it is."""

    job_id: int
    before: JobState
    after: JobState
    epoch: int
    new_epoch: int
    at_ns: int
    attempts: int | None = None  # `None` leaves it
    rows: int | None = None
    quarantined: int | None = None
    reason: tuple[str | None, str | None] | UnsetType = UNSET  # code, message
    receipt: bytes | UnsetType | None = UNSET
    spec: bytes | None = None


_SWAPS: Final = {
    "job_id": "BIGINT",
    "before": "VARCHAR",
    "epoch": "UINTEGER",
    "after": "VARCHAR",
    "new_epoch": "UINTEGER",
    "at_ns": "BIGINT",
    "attempts": "UINTEGER",
    "rows": "BIGINT",
    "quarantined": "BIGINT",
    "has_reason": "BOOLEAN",
    "code": "VARCHAR",
    "message": "VARCHAR",
}
_SWAP: Final = """
UPDATE cf_processing_queue AS q
SET state = s.after, epoch = s.new_epoch, updated_at_ns = s.at_ns,
    attempts = coalesce(s.attempts, q.attempts), rows = coalesce(s.rows, q.rows),
    quarantined = coalesce(s.quarantined, q.quarantined),
    code = CASE WHEN s.has_reason THEN s.code ELSE q.code END,
    message = CASE WHEN s.has_reason THEN s.message ELSE q.message END
FROM {given} AS s WHERE q.job_id = s.job_id AND q.state = s.before AND q.epoch = s.epoch
RETURNING q.job_id
"""
_RETIRED: Final = {
    "dataset_id": "VARCHAR",
    "job_id": "BIGINT",
    "source_id": "VARCHAR",
    "by": "BIGINT",
}
_RETIRE: Final = (
    'UPDATE cf_materializations AS m SET retired_by = r."by" FROM {given} AS r '
    "WHERE m.dataset_id = r.dataset_id AND m.job_id = r.job_id AND m.source_id = r.source_id"
)


class Buffer:
    """Rows, steps and deletions of the transaction under way."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._tables: dict[str, dict[str, str]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget what was gathered: the transaction was rolled back."""
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._swaps: dict[int, Swap] = {}
        self._gone: dict[str, set[int]] = {}
        self._retired: list[dict[str, Any]] = []

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows to a table."""
        self._rows.setdefault(table, []).extend(rows)

    def insert_structs(self, table: str, rows: Sequence[msgspec.Struct]) -> None:
        """Add rows whose fields are the columns."""
        self.insert(table, [structs.asdict(row) for row in rows])

    def replace(self, table: str, job_id: int, rows: Sequence[dict[str, Any]]) -> None:
        """Remove what a table holds of a job, and add rows instead."""
        self._gone.setdefault(table, set()).add(job_id)
        kept = [row for row in self._rows.get(table, ()) if row["job_id"] != job_id]
        self._rows[table] = [*kept, *rows]

    def swap(self, swap: Swap) -> None:
        """Step a job; a second step of the same job in one transaction follows from the first.

        Raises:
            StaleStep: now, when the first step of this transaction leads elsewhere; at `flush`, when the table says otherwise.
        """
        check_step(swap.before, swap.after)
        first = self._swaps.get(swap.job_id)
        if first is None:
            self._swaps[swap.job_id] = swap
            return
        if (first.after, first.new_epoch) != (swap.before, swap.epoch):
            raise _stale(swap)
        self._swaps[swap.job_id] = structs.replace(
            swap,
            before=first.before,
            epoch=first.epoch,
            attempts=first.attempts if swap.attempts is None else swap.attempts,
            rows=first.rows if swap.rows is None else swap.rows,
            quarantined=first.quarantined if swap.quarantined is None else swap.quarantined,
            reason=first.reason if swap.reason is UNSET else swap.reason,
            receipt=first.receipt if swap.receipt is UNSET else swap.receipt,
            spec=first.spec if swap.spec is None else swap.spec,
        )

    def retire(self, pairs: Sequence[Any], by: int) -> None:
        """Retire (dataset, job, source) pairs."""
        self._retired += [{**structs.asdict(pair), "by": by} for pair in pairs]

    def flush_materializations(self) -> None:
        """Write what a read of the living materializations must see."""
        self._write("cf_materializations")
        if self._retired:
            self.given(_RETIRE, _RETIRED, self._retired)
            self._retired = []

    def flush(self) -> None:
        """Write everything.

        Raises:
            StaleStep: a job is in another state or epoch than its step expects.
        """
        self._write("cf_processing_queue")
        self._write_swaps()
        for table, job_ids in self._gone.items():
            self._connection.execute(
                f'DELETE FROM "{table}" WHERE job_id IN (SELECT unnest(?::BIGINT[]))',
                [sorted(job_ids)],
            )
        self._gone = {}
        self.flush_materializations()
        for table in list(self._rows):
            self._write(table)

    def _write_swaps(self) -> None:
        if not self._swaps:
            return
        swaps = list(self._swaps.values())
        rows = [
            {
                "job_id": s.job_id,
                "before": s.before.value,
                "epoch": s.epoch,
                "after": s.after.value,
                "new_epoch": s.new_epoch,
                "at_ns": s.at_ns,
                "attempts": s.attempts,
                "rows": s.rows,
                "quarantined": s.quarantined,
                "has_reason": s.reason is not UNSET,
                "code": None if s.reason is UNSET else s.reason[0],
                "message": None if s.reason is UNSET else s.reason[1],
            }
            for s in swaps
        ]
        stepped = {row[0] for row in self.given(_SWAP, _SWAPS, rows)}
        for swap in swaps:
            if swap.job_id not in stepped:
                raise _stale(swap)
        # Apart from the others: rewriting a large column of a row that keeps it would cost more than all the rest.
        self._set("receipt", {s.job_id: s.receipt for s in swaps if s.receipt is not UNSET})
        self._set("spec", {s.job_id: s.spec for s in swaps if s.spec is not None})
        self._swaps = {}

    def _set(self, column: str, values: dict[int, Any]) -> None:
        if not values:
            return
        rows = [{"job_id": job_id, "value": value} for job_id, value in values.items()]
        sql = f"UPDATE cf_processing_queue AS q SET {column} = c.value FROM {{given}} AS c WHERE q.job_id = c.job_id"
        self.given(sql, {"job_id": "BIGINT", "value": "BLOB"}, rows)

    def _write(self, table: str) -> None:
        rows = self._rows.pop(table, [])
        if 0 < len(rows) <= _VALUE_ROWS:
            names = list(self._columns(table))
            row = f"({', '.join('?' * len(names))})"
            self._run(
                f'INSERT INTO "{table}" VALUES {", ".join([row] * len(rows))}',
                [values[name] for values in rows for name in names],
            )
            return
        for start in range(0, len(rows), _INSERT_ROWS):
            self.given(
                f'INSERT INTO "{table}" SELECT * FROM {{given}}',
                self._columns(table),
                rows[start : start + _INSERT_ROWS],
            )

    def given(
        self, sql: str, columns: dict[str, str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Any, ...]]:
        """Run a statement over rows; `{given}` in it stands for them, a relation of these columns and types."""
        names = ", ".join(f'"{name}"' for name in columns)
        if len(rows) <= _LISTED_ROWS and not any(kind.endswith("[]") for kind in columns.values()):
            lists = ", ".join(f"unnest(?::{kind}[])" for kind in columns.values())
            given = f"(SELECT {lists}) AS given({names})"
            parameters = [[row[name] for row in rows] for name in columns]
            return self._run(sql.replace("{given}", f"(SELECT * FROM {given})"), parameters)
        schema = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])
        self._connection.register("given", pa.Table.from_pylist(list(rows), schema=schema))
        try:
            return self._run(sql.replace("{given}", "(SELECT * FROM given)"), [])
        finally:
            self._connection.unregister("given")

    def _run(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._connection.execute(sql, parameters).fetchall()
        return found

    def _columns(self, table: str) -> dict[str, str]:
        if table not in self._tables:
            rows = self._connection.execute(f'DESCRIBE "{table}"').fetchall()
            self._tables[table] = {name: kind for name, kind, *_ in rows}
        return self._tables[table]


def _stale(swap: Swap) -> StaleStep:
    return StaleStep(
        f"job {swap.job_id} is no longer {swap.before} at epoch {swap.epoch}", job=swap.job_id
    )
