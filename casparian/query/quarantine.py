"""Quarantined rows as work: which there are, whether they wait for somebody or were accepted, and what lies beside them.

A row is `open` until a decision accepts it as it is, and `open` again when that decision is taken back. Decisions name rows by
(job, source) and ranges of ordinals; the catalog carries those in force as `quarantine_accepted`. What is counted here is what
view `quarantine` shows: rows of a (job, source) pair that was replaced or superseded are no work any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from casparian.domain.lineage import parse_row_id
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.domain.quarantine import ROWS_MAX, SPANS_MAX, Acceptance, spans_of
from casparian.errors import UsageError
from casparian.query.engine import Query
from casparian.query.rows import read_row_id
from casparian.sinks.catalog_views import row_id_expression, rows_sql
from casparian.sinks.quarantine_rows import HeldRow, held_rows, rows_hash

OPEN: Final = "open"
ACCEPTED: Final = "accepted"
_ACCEPTED: Final = "quarantine_accepted"
_NO_DECISION: Final = (
    "SELECT q.*, 'open' AS state, NULL::VARCHAR AS decision_id, NULL::VARCHAR AS accepted_for, "
    "NULL::VARCHAR AS accepted_by, NULL::TIMESTAMP_NS AS accepted_at FROM quarantine q"
)
_DECIDED: Final = (
    "SELECT q.*, CASE WHEN a.decision_id IS NULL THEN 'open' ELSE 'accepted' END AS state, a.decision_id, "
    "a.reason AS accepted_for, a.actor AS accepted_by, a.accepted_at FROM quarantine q LEFT JOIN {accepted} a "
    "ON a.job_id = q._cf_job_id AND a.source_id = q._cf_source_id "
    "AND q._cf_ordinal BETWEEN a.first_ordinal AND a.last_ordinal"
)

_GROUPS: Final = {
    "parser": "_cf_parser",
    "table": "table_name",
    "reason": "reason",
    "file": "_cf_source_path",
}
_FILES_MAX: Final = 100


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which quarantined rows: all conditions must hold; empty means no condition."""

    table: str | None = None  # the output the row would have gone to
    parser: str | None = None  # name, or name@version
    reason: str | None = None  # code, or family of codes
    file: str | None = None  # glob over the display path
    state: str | None = None  # `open` or `accepted`
    rows: tuple[str, ...] = ()  # row ids

    @property
    def is_empty(self) -> bool:
        """Whether it leaves every row."""
        return self == Filter()


def is_there(query: Query) -> bool:
    """Whether anything was ever set aside in this home.

    Raises:
        IntegrityError: a committed file of the quarantine is gone.
    """
    if QUARANTINE_TABLE not in query.tables:
        return False
    query.run(f"SELECT _cf_row_id FROM {QUARANTINE_TABLE} LIMIT 0").to_json()
    return True


def relation(query: Query, chosen: Filter) -> tuple[str, list[Any]]:
    """SQL of the rows that a filter leaves, with `state`, `decision_id`, `accepted_for`, `accepted_by`, `accepted_at`.

    Raises:
        UsageError: `row.malformed`.
    """
    sql = _NO_DECISION
    if query.has_control(_ACCEPTED):
        sql = _DECIDED.format(accepted=query.control(_ACCEPTED))
    conditions: list[str] = []
    values: list[Any] = []
    for value, condition in (
        (chosen.table, "table_name = ?"),
        (chosen.parser, "list_contains([_cf_parser, split_part(_cf_parser, '@', 1)], ?)"),
        (chosen.reason, "starts_with(reason || '.', ? || '.')"),
        (chosen.file, "_cf_source_path GLOB ?"),
        (chosen.state, "state = ?"),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if chosen.rows:
        jobs = sorted({read_row_id(row).job_id for row in chosen.rows})
        conditions.append("_cf_job_id IN (SELECT unnest(?::BIGINT[]))")
        conditions.append("_cf_row_id IN (SELECT unnest(?::VARCHAR[]))")
        values += [jobs, list(chosen.rows)]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT * FROM ({sql}) s{where}", values


def reasons(query: Query, chosen: Filter) -> list[dict[str, Any]]:
    """Rows counted by parser, table, reason and field, with an example of each: an open one where there is one."""
    sql, values = relation(query, chosen)
    found = query.fetch(
        f"WITH wanted AS ({sql}) SELECT _cf_parser AS parser, table_name, reason, field, count(*) AS rows, "
        "count(*) FILTER (state = 'open') AS open, count(*) FILTER (state = 'accepted') AS accepted, "
        "count(DISTINCT _cf_source_id) AS sources, sum(raw_length)::BIGINT AS size_bytes, "
        "min(_cf_processed_at) AS first_seen, max(_cf_processed_at) AS last_seen, "
        'arg_min({row_id: _cf_row_id, source_path: _cf_source_path, "offset": _cf_offset, length: _cf_length, '
        "message: message}, {s: state = 'accepted', r: _cf_row_id}) AS example "
        "FROM wanted GROUP BY _cf_parser, table_name, reason, field "
        "ORDER BY open DESC, rows DESC, parser, table_name, reason, field",
        values,
    )
    for line in found:
        example = line.pop("example")
        line["state"] = OPEN if line["open"] else ACCEPTED
        line["example"] = example.pop("row_id")
        line.update(example)
    return found


def rows(query: Query, chosen: Filter) -> list[dict[str, Any]]:
    """Rows with their bytes in hex, in the order of their files; all in memory."""
    sql, values = relation(query, chosen)
    ordered = f"{sql} ORDER BY _cf_source_path, _cf_job_id, _cf_source_id, _cf_ordinal"
    found = query.fetch(ordered, values)
    for row in found:
        row["raw"] = None if row["raw"] is None else bytes(row["raw"]).hex()
    return found


def batches(query: Query, chosen: Filter) -> Iterator[pa.RecordBatch]:
    """The same rows as Arrow, bytes as they are, batch by batch."""
    sql, values = relation(query, chosen)
    yield from query.stream(
        f"{sql} ORDER BY _cf_source_path, _cf_job_id, _cf_source_id, _cf_ordinal", values
    )


def sources(query: Query, chosen: Filter) -> list[dict[str, Any]]:
    """(root, parser, source, run) of the rows that a filter leaves, with their number: what a retry is about."""
    sql, values = relation(query, chosen)
    return query.fetch(
        f"WITH wanted AS ({sql}) SELECT m.root, m.parser, m.parser_version, m.artifact_dir, m.source_id, m.source_path, "
        f"m.sink_mode, j.run_id, m.job_id, count(*) AS rows FROM wanted w JOIN {query.control('materializations')} m "
        "ON m.job_id = w._cf_job_id AND m.source_id = w._cf_source_id AND m.table_name = 'quarantine' "
        f"JOIN {query.control('jobs')} j ON j.job_id = m.job_id GROUP BY ALL ORDER BY m.root, m.parser, m.source_path",
        values,
    )


def decisions(query: Query) -> list[dict[str, Any]]:
    """Decisions in force: what was accepted, by whom and why, with how many of their rows are still in quarantine."""
    if not query.has_control(_ACCEPTED):
        return []
    sql, values = relation(query, Filter(state=ACCEPTED))
    return query.fetch(
        f"WITH held AS ({sql}), counted AS (SELECT decision_id, count(*) AS rows_now FROM held GROUP BY ALL) "
        "SELECT decision_id, any_value(parser) AS parser, any_value(reason) AS reason, any_value(actor) AS actor, "
        "any_value(accepted_at) AS accepted_at, any_value(rows) AS rows, any_value(rows_hash) AS rows_hash, "
        f"coalesce(any_value(rows_now), 0) AS rows_now FROM {query.control(_ACCEPTED)} LEFT JOIN counted USING (decision_id) "
        "GROUP BY decision_id ORDER BY accepted_at, decision_id",
        values,
    )


def constraint(query: Query, row: dict[str, Any]) -> dict[str, Any] | None:
    """The column of the contract that refused a row, as the row's job had it; `None` when no contract did."""
    if not str(row["reason"]).startswith("contract.") or row["table_name"] is None:
        return None
    found = query.fetch(
        f"SELECT contract, contract_hash FROM {query.control('materializations')} WHERE job_id = ? AND table_name = ? LIMIT 1",
        [row["_cf_job_id"], row["table_name"]],
    )
    for line in found:
        contract = msgspec.json.decode(line["contract"])
        for column in contract["columns"]:
            if column["name"] == row["field"]:
                return {"contract_hash": line["contract_hash"], **column}
    return None


def neighbours(query: Query, row: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """The nearest rows before and after a row in its source, of the same job: of its main tables or set aside as well."""
    if row["_cf_offset"] is None:
        return {"previous": None, "next": None}
    place = (row["_cf_job_id"], row["_cf_source_id"], row["_cf_offset"], row["_cf_ordinal"])
    return {
        "previous": _nearest(query, *place, before=True),
        "next": _nearest(query, *place, before=False),
    }


def _nearest(
    query: Query, job_id: int, source_id: str, offset: int, ordinal: int, *, before: bool
) -> dict[str, Any] | None:
    sign, order, best = ("<", "DESC", max) if before else (">", "ASC", min)
    catalog = query.catalog
    held = [dataset for dataset in catalog.datasets if dataset.output.main]
    held += [catalog.quarantine] if catalog.quarantine is not None else []
    found: list[dict[str, Any]] = []
    for dataset in held:
        if all(file.job_id != job_id for file in dataset.files):
            continue
        rows = rows_sql(dataset, attached=query.attached(dataset), jobs=[job_id])
        place = f"(_cf_offset, _cf_ordinal) {sign} (?, ?)"
        if dataset is not catalog.quarantine:  # its ordinals are of another table
            place = f"_cf_offset {sign} ?"
        values = [job_id, source_id, offset]
        values += [ordinal] if dataset is catalog.quarantine else []
        for line in query.fetch(
            f"SELECT *, {row_id_expression(dataset.table)} AS _cf_row_id FROM ({rows}) r "
            f"WHERE _cf_job_id = ? AND _cf_source_id = ? AND {place} "
            f"ORDER BY _cf_offset {order}, _cf_ordinal {order} LIMIT 1",
            values,
        ):
            found.append(
                {
                    "row_id": line["_cf_row_id"],
                    "table": dataset.table,
                    "offset": line["_cf_offset"],
                    "length": line["_cf_length"],
                    "values": {
                        name: value.hex() if isinstance(value, bytes) else value
                        for name, value in line.items()
                        if not name.startswith("_cf_") and value is not None
                    },
                }
            )
    return best(found, key=lambda line: line["offset"], default=None)


def row_of(query: Query, text: str) -> dict[str, Any] | None:
    """One row by its id; `None` when view `quarantine` has no such row.

    Raises:
        UsageError: `row.malformed`.
    """
    found = rows(query, Filter(rows=(str(read_row_id(text)),)))
    return found[0] if found else None


def is_row_id(text: str) -> bool:
    """Whether a word on the command line names a row."""
    return parse_row_id(text) is not None


def stats(query: Query, chosen: Filter) -> dict[str, Any]:
    """Counts of rows by state, and by parser, table, reason and file; files are the hundred with most rows."""
    sql, values = relation(query, chosen)
    sums = (
        "count(*) AS rows, count(*) FILTER (state = 'open') AS open, "
        "count(*) FILTER (state = 'accepted') AS accepted, coalesce(sum(raw_length), 0)::BIGINT AS size_bytes"
    )
    (totals,) = query.fetch(
        f"SELECT {sums}, count(DISTINCT _cf_source_id) AS sources, count(*) FILTER (raw IS NULL) AS without_bytes, "
        f"min(_cf_processed_at) AS first_seen, max(_cf_processed_at) AS last_seen FROM ({sql}) w",
        values,
    )
    document: dict[str, Any] = dict(totals)
    for name, column in _GROUPS.items():
        document[f"by_{name}"] = query.fetch(
            f'SELECT {column} AS "{name}", {sums} FROM ({sql}) w GROUP BY {column} '
            f'ORDER BY rows DESC, "{name}" LIMIT {_FILES_MAX}',
            values,
        )
    return document


def acceptances(query: Query, chosen: Filter, reason: str) -> list[Acceptance]:
    """What it would be to accept these rows as they are: one decision for each parser, bound to the exact rows.

    Raises:
        UsageError: `quarantine.too_many`.
    """
    by_parser: dict[str, list[HeldRow]] = {}
    for row in held_rows(batches(query, chosen)):
        held = by_parser.setdefault(row.parser.partition("@")[0], [])
        held.append(row)
        if len(held) > ROWS_MAX:
            raise UsageError(
                f"more than {ROWS_MAX} rows are more than one decision may be about",
                code="quarantine.too_many",
                hint="narrow them with --reason or --file",
            )
    found = []
    for parser, held in sorted(by_parser.items()):
        spans = spans_of(row.place for row in held)
        if len(spans) > SPANS_MAX:
            raise UsageError(
                f"these rows lie in {len(spans)} places, more than one decision may name",
                code="quarantine.too_many",
                hint="narrow them with --reason or --file",
            )
        found.append(
            Acceptance(
                parser=parser,
                reason=reason,
                rows=len(held),
                rows_hash=rows_hash(sorted(held)),
                spans=spans,
            )
        )
    return found
