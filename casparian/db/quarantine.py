"""Decisions about quarantined rows in the control database: how they are written, and what is looked up before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from casparian.db import operations as op
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.domain.quarantine import Span
from casparian.errors import Conflict

if TYPE_CHECKING:
    import duckdb


class QuarantineWriter:
    """The part of the single writer that concerns quarantine; belongs to its thread and its transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tape: Callable[..., None]) -> None:
        self._connection = connection
        self._tape = tape
        self.handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.AcceptQuarantine: self._accept,
            op.ReopenQuarantine: self._reopen,
        }

    def _accept(self, o: op.AcceptQuarantine) -> None:
        accepted = o.acceptance
        held = held_by_decisions(self._connection, accepted.spans)
        if held:  # whoever asks: no row is accepted twice
            raise Conflict(
                f"some of these rows are accepted already, by decision {held[0]}",
                code="quarantine.accepted",
            )
        self._connection.execute(
            "INSERT INTO cf_quarantine_decisions VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
            [
                o.decision_id,
                accepted.parser,
                accepted.rows,
                accepted.rows_hash,
                accepted.reason,
                o.actor,
                o.at_ns,
            ],
        )
        spans = _table(accepted.spans)
        self._connection.register("decided_spans", spans)
        try:
            self._connection.execute(
                "INSERT INTO cf_quarantine_spans SELECT ?, job_id, source_id, first, last FROM decided_spans",
                [o.decision_id],
            )
        finally:
            self._connection.unregister("decided_spans")
        self._tape(
            o.at_ns,
            "quarantine.accepted",
            decision_id=o.decision_id,
            parser=accepted.parser,
            rows=accepted.rows,
            rows_hash=accepted.rows_hash,
            reason=accepted.reason,
            actor=o.actor,
        )

    def _reopen(self, o: op.ReopenQuarantine) -> int:
        found = self._connection.execute(
            "UPDATE cf_quarantine_decisions SET reopened_at_ns = ?, reopened_by = ?, reopened_reason = ? "
            "WHERE reopened_at_ns IS NULL AND decision_id IN (SELECT unnest(?::VARCHAR[])) "
            "RETURNING decision_id, parser, rows, rows_hash",
            [o.at_ns, o.actor, o.reason, list(o.decision_ids)],
        ).fetchall()
        for decision_id, parser, rows, rows_hash in sorted(found):
            self._tape(
                o.at_ns,
                "quarantine.reopened",
                decision_id=decision_id,
                parser=parser,
                rows=rows,
                rows_hash=rows_hash,
                reason=o.reason,
                actor=o.actor,
            )
        return len(found)


def held_by_decisions(connection: duckdb.DuckDBPyConnection, spans: Sequence[Span]) -> list[str]:
    """Decisions in force that hold a row of these spans."""
    connection.register("asked_spans", _table(spans))
    try:
        rows = connection.execute(
            "SELECT DISTINCT s.decision_id FROM cf_quarantine_spans s JOIN cf_quarantine_decisions d USING (decision_id) "
            "JOIN asked_spans a ON a.job_id = s.job_id AND a.source_id = s.source_id "
            "AND a.first <= s.last_ordinal AND a.last >= s.first_ordinal WHERE d.reopened_at_ns IS NULL ORDER BY ALL"
        ).fetchall()
    finally:
        connection.unregister("asked_spans")
    return [decision_id for (decision_id,) in rows]


def living_pairs(
    connection: duckdb.DuckDBPyConnection, parser: str, pairs: Collection[tuple[int, str]]
) -> set[tuple[int, str]]:
    """Those of (job, source) pairs whose rows of this parser are in view `quarantine` now, as far as the record says."""
    rows = connection.execute(
        "SELECT job_id, source_id FROM cf_materializations WHERE table_name = ? AND parser = ? AND retired_by IS NULL "
        "QUALIFY row_number() OVER (PARTITION BY dataset_id, source_id ORDER BY sequence DESC) = 1",
        [QUARANTINE_TABLE, parser],
    ).fetchall()
    return {(job_id, source_id) for job_id, source_id in rows} & set(pairs)


def files_of_jobs(connection: duckdb.DuckDBPyConnection, jobs: Collection[int]) -> list[str]:
    """Living files of the quarantine that hold rows of these jobs."""
    rows = connection.execute(
        "SELECT DISTINCT path FROM cf_outputs WHERE table_name = ? AND removed_at_ns IS NULL "
        "AND job_id IN (SELECT unnest(?::BIGINT[])) ORDER BY path",
        [QUARANTINE_TABLE, sorted(jobs)],
    ).fetchall()
    return [path for (path,) in rows]


def _table(spans: Sequence[Span]) -> pa.Table:
    return pa.table(
        {
            "job_id": pa.array([span.job_id for span in spans], pa.int64()),
            "source_id": pa.array([span.source_id for span in spans], pa.utf8()),
            "first": pa.array([span.first for span in spans], pa.int64()),
            "last": pa.array([span.last for span in spans], pa.int64()),
        }
    )
