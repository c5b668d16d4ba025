"""What the control database says about itself: each table against the others, and the tape from head to tail.

Read-only SQL over one cursor; no file is looked at here. Each rule selects what breaks it, so that an empty result is good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.tape.chain import TapeEntry, first_break

if TYPE_CHECKING:
    import duckdb

Status = Literal["ok", "warn", "fail"]
DETAILS_MAX: Final = 100  # of one rule
_TAPE_ROWS: Final = 2_000  # at a time


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `details` holds at most `DETAILS_MAX` of what was found."""

    check: str
    status: Status
    message: str
    hint: str | None = None
    details: tuple[dict[str, Any], ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must not be there. `broken` is told with the number of rows of `sql`."""

    check: str
    sql: str
    good: str
    broken: str
    status: Status = "fail"
    hint: str | None = None


# Files are held against what is recorded for the same dataset and job. Database sinks have no pairs: their rows are counted.
_HELD: Final = """
WITH held AS (SELECT DISTINCT o.dataset_id, p.job_id, p.source_id FROM cf_outputs o JOIN cf_output_pairs p ON p.path = o.path
              WHERE o.removed_at_ns IS NULL)"""

RULES: Final = (
    Rule(
        check="intents",
        sql="SELECT job_id, epoch FROM cf_commit_intents i ANTI JOIN "
        "(SELECT job_id, epoch FROM cf_processing_queue WHERE state = 'committing') q USING (job_id, epoch)",
        good="every commit intent belongs to a committing job",
        broken="{n} commit intents without a committing job",
        hint="`casparian doctor --repair` takes them away and keeps a copy on the tape",
    ),
    Rule(
        check="commits",
        sql="SELECT job_id, epoch FROM cf_processing_queue q ANTI JOIN cf_commit_intents i USING (job_id, epoch) "
        "WHERE q.state = 'committing'",
        good="every committing job has its intents",
        broken="{n} jobs are committing without an intent",
        hint="restore a copy of the control database: `casparian sentinel backups`",
    ),
    Rule(
        check="approvals",
        sql="WITH granted AS (SELECT approval_id FROM cf_approvals a SEMI JOIN (SELECT approval_id FROM cf_approval_votes "
        "WHERE decision = 'accept') v USING (approval_id) WHERE a.state = 'accepted') "
        "SELECT 'limits of ' || parser AS what, approval_id FROM cf_parser_limits l ANTI JOIN granted g USING (approval_id) "
        "WHERE l.approval_id <> '' "
        "UNION ALL SELECT 'contract of ' || table_name, approval_id FROM schema_datasets ANTI JOIN granted g USING (approval_id) "
        "UNION ALL SELECT 'quarantine of ' || parser, decision_id FROM cf_quarantine_decisions d "
        "ANTI JOIN granted g ON g.approval_id = d.decision_id "
        "ORDER BY ALL",
        good="whatever needed an approval has one",
        broken="{n} changes are in force without an accepted approval",
        hint="restore a copy of the control database: `casparian sentinel backups`",
    ),
    Rule(
        check="materializations",
        sql="SELECT DISTINCT m.job_id, q.state FROM cf_materializations m LEFT JOIN cf_processing_queue q USING (job_id) "
        "WHERE q.state IS NULL OR q.state NOT IN ('completed', 'failed')",
        good="belong to jobs that ended with a commit",
        broken="{n} jobs have rows on record and did not end with a commit",
    ),
    Rule(
        check="keys",
        # Quarantine stays in the home whatever the sink: a run into a second sink sets the same rows aside again.
        sql="SELECT materialization_key, count(*) AS times FROM cf_materializations WHERE retired_by IS NULL "
        f"AND table_name <> '{QUARANTINE_TABLE}' GROUP BY ALL HAVING count(*) > 1",
        good="no work is recorded twice",
        broken="{n} materialization keys are alive more than once",
    ),
    Rule(
        check="outputs of rows",
        sql=f"{_HELD} SELECT m.table_name, m.job_id, m.source_id, m.source_path FROM cf_materializations m "
        "ANTI JOIN held h USING (dataset_id, job_id, source_id) WHERE m.retired_by IS NULL AND m.rows > 0 "
        "AND NOT starts_with(m.sink, 'duckdb:')",
        good="every living row has a recorded file",
        broken="{n} living materializations have rows and no recorded file",
        hint="run the evidence again with another `--mode`",
    ),
    Rule(
        check="rows of outputs",
        sql="SELECT o.path, o.job_id FROM cf_outputs o ANTI JOIN cf_materializations m USING (dataset_id, job_id) "
        "WHERE o.removed_at_ns IS NULL",
        good="every recorded file belongs to a materialization",
        broken="{n} recorded files belong to no materialization",
    ),
    Rule(
        check="pairs",
        sql="SELECT o.path, o.job_id FROM cf_outputs o ANTI JOIN cf_output_pairs p USING (path) "
        "WHERE o.removed_at_ns IS NULL AND o.rows > 0 AND NOT starts_with(o.sink, 'duckdb:') "
        "UNION ALL SELECT o.path, p.job_id FROM cf_outputs o JOIN cf_output_pairs p USING (path) "
        "ANTI JOIN cf_materializations m ON m.dataset_id = o.dataset_id AND m.job_id = p.job_id "
        "AND m.source_id = p.source_id WHERE o.removed_at_ns IS NULL",
        good="every recorded file says whose rows it holds",
        broken="{n} recorded files do not say rightly whose rows they hold",
    ),
    Rule(
        check="row counts",
        sql=f"{_HELD}, files AS (SELECT dataset_id, job_id, sum(rows) AS rows FROM cf_outputs "
        "WHERE removed_at_ns IS NULL AND NOT starts_with(sink, 'duckdb:') GROUP BY ALL), "
        "said AS (SELECT m.dataset_id, m.job_id, sum(m.rows) AS rows FROM cf_materializations m "
        "SEMI JOIN held h USING (dataset_id, job_id, source_id) GROUP BY ALL) "
        "SELECT f.job_id, f.rows::BIGINT AS in_files, s.rows::BIGINT AS recorded FROM files f "
        "JOIN said s USING (dataset_id, job_id) WHERE f.rows <> s.rows",
        good="files hold as many rows as were recorded",
        broken="{n} jobs recorded another number of rows than their files hold",
    ),
    Rule(
        check="retired files",
        sql="SELECT o.path, o.job_id FROM cf_outputs o JOIN cf_output_pairs p ON p.path = o.path "
        "JOIN cf_materializations m ON m.dataset_id = o.dataset_id AND m.job_id = p.job_id AND m.source_id = p.source_id "
        "WHERE o.removed_at_ns IS NULL GROUP BY ALL HAVING bool_and(m.retired_by IS NOT NULL)",
        good="no file is kept whose rows are all retired",
        broken="{n} files hold retired rows only",
        status="warn",
        hint="the next run removes them",
    ),
    Rule(
        check="ledger records",
        sql="SELECT l.job_id, l.source_path FROM cf_ledgers l ANTI JOIN cf_materializations m USING (job_id, source_id)",
        good="every ledger belongs to a materialization",
        broken="{n} ledgers belong to no materialization",
    ),
    Rule(
        check="documents",
        sql="SELECT DISTINCT h AS hash FROM (SELECT unnest([sink_config_hash, parser_config_hash, contract_hash]) AS h "
        "FROM cf_materializations) ANTI JOIN (SELECT hash AS h FROM cf_documents) d USING (h)",
        good="every hash on record can be looked up",
        broken="{n} hashes on record stand for a document that is not there",
    ),
)


def audit(
    connection: duckdb.DuckDBPyConnection, *, schema: int, live: frozenset[int], at_rest: bool
) -> list[Finding]:
    """Check all rules.

    Args:
        connection: read from, in a transaction of its own for each rule.
        schema: number of the schema that was opened.
        live: jobs that the sentinel knows of and works on.
        at_rest: nothing is under way; else what may be a moment's picture is only a warning.
    """
    found = [
        Finding(check="control database", status="ok", message=f"opens, schema {schema}"),
        _tape(connection),
        _live(connection, live, at_rest=at_rest),
    ]
    for rule in RULES:
        found.append(_check(connection, rule, at_rest=at_rest))
    return found


def _check(connection: duckdb.DuckDBPyConnection, rule: Rule, *, at_rest: bool) -> Finding:
    lines = list(_rows(connection, rule.sql))
    if not lines:
        return Finding(check=rule.check, status="ok", message=rule.good)
    return Finding(
        check=rule.check,
        status=rule.status if at_rest else "warn",
        message=rule.broken.format(n=len(lines)),
        hint=rule.hint if at_rest else "work is under way; ask again when it is done",
        details=tuple(lines[:DETAILS_MAX]),
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM ({sql}) ORDER BY ALL")
    names = [column[0] for column in cursor.description or ()]
    for row in cursor.fetchall():
        yield dict(zip(names, row, strict=True))


def _live(connection: duckdb.DuckDBPyConnection, live: frozenset[int], *, at_rest: bool) -> Finding:
    lines = [
        line
        for line in _rows(
            connection,
            "SELECT job_id, state, epoch FROM cf_processing_queue "
            "WHERE state IN ('queued', 'dispatched', 'running', 'committing')",
        )
        if at_rest or line["job_id"] not in live
    ]
    if not at_rest:
        message = f"work is under way: {len(live)} live jobs"
        return Finding(
            check="jobs",
            status="ok",
            message=message,
            hint="ask again when it is done for a picture at rest",
        )
    if lines:
        return Finding(
            check="jobs",
            status="fail",
            message=f"{len(lines)} jobs are live and nobody works on them",
            hint="`casparian sentinel stop`, then run the evidence again",
            details=tuple(lines[:DETAILS_MAX]),
        )
    return Finding(check="jobs", status="ok", message="nothing is under way")


def _tape(connection: duckdb.DuckDBPyConnection) -> Finding:
    count = 0

    def entries() -> Iterator[TapeEntry]:
        nonlocal count
        last = -1
        while rows := connection.execute(
            "SELECT seq, prev_hash, hash, entry FROM cf_tape WHERE seq > ? ORDER BY seq LIMIT ?",
            [last, _TAPE_ROWS],
        ).fetchall():
            last = rows[-1][0]
            for seq, previous, own, text in rows:
                count += 1
                yield TapeEntry(seq=seq, prev_hash=previous, hash=own, entry=text)

    broken = first_break(entries())
    if broken is None:
        return Finding(check="tape", status="ok", message=f"{count} entries follow from each other")
    return Finding(
        check="tape",
        status="fail",
        message=f"entry {broken} does not follow from the one before",
        hint="the record of custody was altered: `casparian sentinel backups` lists older copies",
        details=({"seq": broken},),
    )
