"""Named reads of control-plane truth, for front ends. Names, filters and columns are part of the Control API.

Each view is one SELECT; a filter is one condition with one parameter. Nothing a client sends becomes SQL text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db.rows import first_row
from casparian.domain.breakers import Breaker, BreakerFailure, BreakerState
from casparian.domain.deployments import Deployment
from casparian.errors import UsageError

if TYPE_CHECKING:
    import duckdb

Filters = Mapping[str, str | int | bool | None]


class View:
    """One named read."""

    def __init__(self, sql: str, *, order: str, filters: Mapping[str, str] | None = None) -> None:
        self.sql = sql
        self.order = order
        self.filters = dict(filters or {})


_GLOB: Final = "display_path GLOB ?"

VIEWS: Final[dict[str, View]] = {
    "files": View(
        "SELECT root, path, display_path, status, size_bytes, mtime_ns, source_hash, sha256, source_id, tags, tag_reasons, "
        "link_target, message, companions, companion_of FROM scout_files",
        order="root, walk_order",
        filters={
            "root": "root = ?",
            "tag": "list_contains(tags, ?)",
            "status": "status = ?",
            "source_hash": "starts_with(source_hash, ?)",
            "glob": _GLOB,
        },
    ),
    "rules": View("SELECT rule_id, pattern, tag FROM scout_rules", order="rule_id"),
    "jobs": View(
        "SELECT job_id, run_id, state, epoch, attempts, parser, sources, size_bytes, rows, quarantined, code, message, "
        "created_at_ns, updated_at_ns, false AS aborting FROM cf_processing_queue",
        order="created_at_ns, job_id",
        filters={"job_id": "job_id = ?", "run_id": "run_id = ?", "state": "state = ?"},
    ),
    # Failed jobs that nobody has tried again: what they say of at least one source is the newest word of that parser on it.
    "dead_jobs": View(
        "SELECT * FROM (SELECT q.job_id, q.run_id, q.parser, q.code, q.message, q.attempts, q.epoch, q.sources, "
        "f.permanent, f.first_source, q.updated_at_ns AS since_ns FROM cf_processing_queue q JOIN "
        "(SELECT job_id, bool_or(permanent) AS permanent, min(display_path) AS first_source FROM "
        "(SELECT d.job_id, d.status, d.permanent, d.display_path, row_number() OVER (PARTITION BY d.source_id, "
        "split_part(p.parser, '@', 1) ORDER BY d.at_ns DESC, d.rowid DESC) AS place FROM cf_dispositions d "
        "JOIN cf_processing_queue p USING (job_id)) newest WHERE place = 1 AND status = 'failed' GROUP BY job_id) f "
        "USING (job_id) WHERE q.state = 'failed') dead",
        order="since_ns, job_id",
        filters={
            "parser": "list_contains([parser, split_part(parser, '@', 1)], ?)",
            "code": "starts_with(code || '.', ? || '.')",
            "run_id": "run_id = ?",
            "job_id": "job_id = ?",
        },
    ),
    "breakers": View(
        "SELECT parser, artifact_hash, state, opened_at_ns, failures, changed_at_ns FROM cf_breakers",
        order="parser, artifact_hash",
        filters={
            "parser": "list_contains([parser, split_part(parser, '@', 1)], ?)",
            "state": "state = ?",
        },
    ),
    "job_events": View(
        "SELECT job_id, epoch, row_number() OVER (PARTITION BY job_id ORDER BY rowid) AS seq, from_state, to_state, at_ns, "
        "detail FROM cf_job_events",
        order="job_id, seq",
        filters={"job_id": "job_id = ?"},
    ),
    "job_sources": View(
        "SELECT job_id, source_index, display_path, source_id, source_hash, status, code, message, rows, quarantined "
        "FROM cf_dispositions",
        order="job_id, source_index",
        filters={"job_id": "job_id = ?", "status": "status = ?"},
    ),
    "job_log": View(
        "SELECT job_id, epoch, log, isolation, trust FROM cf_job_logs",
        order="job_id, epoch",
        filters={"job_id": "job_id = ?"},
    ),
    "outputs": View(
        "SELECT table_name, sink, path, rows, size_bytes, blake3, job_id, epoch, committed_at_ns, "
        "removed_at_ns IS NULL AS live FROM cf_outputs",
        order="table_name, committed_at_ns, path",
        filters={
            "table_name": "table_name = ?",
            "job_id": "job_id = ?",
            "live": "(removed_at_ns IS NULL) = ?",
        },
    ),
    "materializations": View(
        "SELECT * EXCLUDE (retired_by), retired_by IS NOT NULL AS retired FROM cf_materializations",
        order="sequence",
        filters={
            "table_name": "table_name = ?",
            "source_id": "source_id = ?",
            "job_id": "job_id = ?",
            "source_hash": "starts_with(source_hash, ?)",
        },
    ),
    "ledger": View(
        "SELECT source_path, source_hash, source_id, sha256, unit, declared, present, rows, "
        "recovered_live + recovered_extra AS recovered, recovered_live, recovered_extra, quarantined, quarantined_extra, lost, "
        "balanced, parser, job_id, root FROM cf_ledgers QUALIFY row_number() OVER "
        "(PARTITION BY source_id, split_part(parser, '@', 1) ORDER BY rowid DESC) = 1",
        order="root, source_path",
        filters={
            "root": "root = ?",
            "source_hash": "starts_with(source_hash, ?)",
            "glob": "source_path GLOB ?",
            "unbalanced": "balanced = NOT ?",
        },
    ),
    "findings": View(
        'SELECT source_id, job_id, source_path, code, "offset", length, message FROM cf_findings',
        order='source_path, job_id, "offset"',
        filters={"source_id": "source_id = ?", "job_id": "job_id = ?"},
    ),
    "plan": View(
        "SELECT root, display_path, parser, decision, reason, detail, source_id, job_id FROM cf_plan_items",
        order="root, display_path, parser",
        filters={
            "root": "root = ?",
            "glob": _GLOB,
            "decision": "decision = ?",
            "run_id": "run_id = ?",
            "source_id": "source_id = ?",
        },
    ),
    "runs": View(
        "SELECT run_id, root, started_at_ns, finished_at_ns, state FROM cf_runs",
        order="started_at_ns",
        filters={"run_id": "run_id = ?"},
    ),
    "quarantine_decisions": View(
        "SELECT decision_id, parser, rows, rows_hash, reason, actor, accepted_at_ns, reopened_at_ns, reopened_by, "
        "reopened_reason FROM cf_quarantine_decisions",
        order="accepted_at_ns, decision_id",
        filters={"decision_id": "decision_id = ?", "parser": "parser = ?"},
    ),
    # What a run was asked for, to be asked for again for some of its sources.
    "run_requests": View(
        "SELECT run_id, root, request FROM cf_runs",
        order="run_id",
        filters={"run_id": "run_id = ?"},
    ),
    "contracts": View(
        "SELECT table_name, revision, contract_hash, parser, promoted_at_ns, origin, document FROM schema_contracts",
        order="parser, table_name, revision",
        filters={"parser": "parser = ?", "table_name": "table_name = ?"},
    ),
    "datasets": View(
        "SELECT table_name, revision, hash, parser, document, effect, compatible_with_previous, approval_id, actor, "
        "promoted_at_ns FROM schema_datasets",
        order="table_name, revision",
        filters={"table_name": "table_name = ?", "revision": "revision = ?"},
    ),
    "amendments": View(
        "SELECT table_name, revision, previous_hash, hash, changes, approval_id, promoted_at_ns FROM schema_amendments",
        order="table_name, revision",
        filters={"table_name": "table_name = ?", "revision": "revision = ?"},
    ),
    "approvals": View(
        "SELECT approval_id, kind, subject, scope, content, content_hash, diff, requested_by, requested_at_ns, expires_at_ns, "
        "state, ended_at_ns, superseded_by FROM cf_approvals",
        order="requested_at_ns, approval_id",
        filters={
            "approval_id": "starts_with(approval_id, ?)",
            "kind": "kind = ?",
            "subject": "subject = ?",
            "state": "state = ?",
        },
    ),
    "approval_votes": View(
        "SELECT approval_id, decision, keyids, holders, role, reason, actor, envelope, at_ns FROM cf_approval_votes",
        order="approval_id, at_ns",
        filters={"approval_id": "approval_id = ?"},
    ),
    "parser_limits": View(
        "SELECT parser, name, value, approval_id, actor, set_at_ns FROM cf_parser_limits",
        order="parser, name, approval_id",
        filters={"parser": "parser = ?"},
    ),
    # What `doctor` compares with the files: pages by `after`, because a reply has a largest size.
    "doctor_files": View(
        "SELECT rowid AS number, path, sink, table_name, job_id, epoch, rows, size_bytes, blake3, "
        "removed_at_ns IS NULL AS live FROM cf_outputs",
        order="number",
        filters={"after": "rowid > ?"},
    ),
    "doctor_jobs": View(
        "SELECT DISTINCT job_id, sink, root, sink_mode FROM cf_materializations",
        order="job_id, sink, root",
        filters={"after": "job_id > ?"},
    ),
    "doctor_known_jobs": View(
        "SELECT job_id FROM cf_processing_queue", order="job_id", filters={"after": "job_id > ?"}
    ),
    # Rows that a database sink must hold of each commit, and pairs that no view of a dataset shows.
    "doctor_loads": View(
        "SELECT sink, table_name, job_id, epoch, sum(rows)::BIGINT AS rows, "
        "coalesce(sum(rows) FILTER (retired_by IS NULL), 0)::BIGINT AS rows_alive, "
        "count(*) FILTER (retired_by IS NOT NULL) AS retired FROM cf_materializations GROUP BY ALL",
        order="sink, table_name, job_id",
    ),
    "deployments": View(
        "SELECT parser, version, serial, artifact_hash, statement_sha256, trust, actor, deployed_at_ns, retired_at_ns, "
        "retired_by FROM cf_deployments",
        order="parser, serial, deployed_at_ns",
        filters={"parser": "parser = ?", "version": "version = ?"},
    ),
    "trust": View(
        "SELECT sequence, kind, version, sha256, document, actor, imported_at_ns FROM cf_trust_documents",
        order="sequence",
        filters={"kind": "kind = ?"},
    ),
    # What was decided about trust, from the tape; the program's own versions came by a key as well.
    "trust_log": View(
        "SELECT * FROM (SELECT seq, entry FROM cf_tape WHERE "
        'regexp_matches(entry, \'"kind":"(trust|parser|approval|program)[.]\')) decisions',
        order="seq",
    ),
    # Jobs whose parser a key signed, or that ran an artifact, and the tables that hold their living rows.
    "trust_impact": View(
        "SELECT * FROM (SELECT m.job_id, m.parser, m.parser_version, m.artifact_hash, m.table_name, m.sink, "
        "count(DISTINCT m.source_id) AS sources, sum(m.rows)::BIGINT AS rows, max(m.committed_at_ns) AS committed_at_ns, "
        "max(l.trust) AS trust FROM cf_materializations m LEFT JOIN cf_job_logs l ON l.job_id = m.job_id AND l.epoch = m.epoch "
        "WHERE m.retired_by IS NULL GROUP BY ALL) impact",
        order="job_id, table_name",
        filters={"keyid": "contains(trust, ?)", "artifact_hash": "starts_with(artifact_hash, ?)"},
    ),
    "tape": View("SELECT seq, hash, entry FROM cf_tape", order="seq"),
}

_LIMIT_MAX: Final = 2**62


def read(
    connection: duckdb.DuckDBPyConnection, name: str, filters: Filters, limit: int | None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]], bool]:
    """Columns, rows, and whether the limit cut rows off.

    Raises:
        UsageError: no such view, or no such filter of it.
    """
    view = VIEWS.get(name)
    if view is None:
        raise UsageError(
            f"no view is named `{name}`",
            code="read.view",
            hint=f"there are {', '.join(sorted(VIEWS))}",
        )
    conditions: list[str] = []
    parameters: list[Any] = []
    for key, value in filters.items():
        if key not in view.filters:
            raise UsageError(
                f"view `{name}` has no filter `{key}`",
                code="read.filter",
                hint=f"it has {', '.join(sorted(view.filters)) or 'none'}",
            )
        conditions.append(view.filters[key])
        parameters.append(value)
    # The filters are conditions on the view's own rows: windows inside it are computed before.
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT * FROM ({view.sql} ORDER BY {view.order})" if not where else ""
    if where:
        sql = f"WITH narrowed AS ({_narrow(view, where)}) SELECT * FROM narrowed"
    if limit is not None:
        sql += f" LIMIT {min(limit, _LIMIT_MAX) + 1}"
    cursor = _execute(connection, sql, parameters)
    columns = tuple(column[0] for column in cursor.description or ())
    rows = cursor.fetchall()
    cut = limit is not None and len(rows) > limit
    return columns, rows[:limit] if cut else rows, cut


def _execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any]
) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        return connection.execute(sql, parameters)
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise UsageError(f"a filter's value cannot be used: {error}", code="read.filter") from error


def _narrow(view: View, where: str) -> str:
    """Put the conditions where the view's base columns are still visible."""
    head, qualify, tail = view.sql.partition(" QUALIFY ")
    return f"{head}{where}{qualify}{tail} ORDER BY {view.order}"


def jobs_for_retry(
    connection: duckdb.DuckDBPyConnection, job_ids: Sequence[int]
) -> dict[int, tuple[str, int, bytes, bool]]:
    """State, epoch, specification, and whether it has recorded rows, of jobs; those that do not exist are left out."""
    rows = connection.execute(
        "SELECT job_id, state, epoch, spec, job_id IN (SELECT job_id FROM cf_materializations) FROM cf_processing_queue "
        "WHERE job_id IN (SELECT unnest(?::BIGINT[]))",
        [list(job_ids)],
    ).fetchall()
    return {
        int(job_id): (str(state), int(epoch), bytes(spec), bool(has_rows))
        for job_id, state, epoch, spec, has_rows in rows
    }


def job_end(connection: duckdb.DuckDBPyConnection, job_id: int) -> tuple[str, int, int] | None:
    """State, rows and quarantined rows of a job."""
    row = first_row(
        connection,
        "SELECT state, rows, quarantined FROM cf_processing_queue WHERE job_id = ?",
        [job_id],
    )
    return None if row is None else (str(row[0]), int(row[1]), int(row[2]))


def breakers(connection: duckdb.DuckDBPyConnection) -> list[Breaker]:
    """Circuit breakers as they were stored last."""
    rows = connection.execute(
        "SELECT parser, artifact_hash, state, opened_at_ns, failures FROM cf_breakers"
    ).fetchall()
    return [
        Breaker(
            parser=parser,
            artifact_hash=artifact_hash,
            state=BreakerState(state),
            opened_at_ns=opened_at_ns,
            failures=msgspec.json.decode(failures, type=tuple[BreakerFailure, ...]),
        )
        for parser, artifact_hash, state, opened_at_ns, failures in rows
    ]


def live_jobs(connection: duckdb.DuckDBPyConnection) -> Sequence[tuple[Any, ...]]:
    """(job_id, run_id, state, epoch, attempts, spec, receipt, intents) of jobs that a crash may have left, oldest first.

    Jobs of one moment come in the order of their numbers, after every crash the same.
    """
    rows: Sequence[tuple[Any, ...]] = connection.execute(
        "SELECT q.job_id, q.run_id, q.state, q.epoch, q.attempts, q.spec, q.receipt, i.document FROM cf_processing_queue q "
        "LEFT JOIN cf_commit_intents i ON i.job_id = q.job_id AND i.epoch = q.epoch "
        "WHERE q.state IN ('queued', 'dispatched', 'running', 'committing') ORDER BY q.created_at_ns, q.job_id"
    ).fetchall()
    return rows


def deployments(connection: duckdb.DuckDBPyConnection) -> list[Deployment]:
    """Every parser version that was ever deployed, oldest first."""
    rows = connection.execute(
        "SELECT parser, version, serial, artifact_hash, deployed_at_ns, retired_at_ns FROM cf_deployments "
        "ORDER BY deployed_at_ns, rowid"
    ).fetchall()
    return [
        Deployment(
            parser=parser,
            version=version,
            serial=serial,
            artifact_hash=artifact_hash,
            deployed_at_ns=deployed_at_ns,
            retired_at_ns=retired_at_ns,
        )
        for parser, version, serial, artifact_hash, deployed_at_ns, retired_at_ns in rows
    ]


def trust_documents(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int, bytes]]:
    """(kind, version, bytes) of every root and policy that was imported, in that order."""
    rows = connection.execute(
        "SELECT kind, version, document FROM cf_trust_documents ORDER BY sequence"
    ).fetchall()
    return [(str(kind), int(version), bytes(document)) for kind, version, document in rows]


def known_sinks(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Canonical URIs of all sinks that this home has written to, or was about to write to."""
    found = connection.execute(
        "SELECT sink FROM cf_materializations UNION SELECT sink FROM cf_expected_outputs ORDER BY sink"
    ).fetchall()
    return [str(sink) for (sink,) in found]


def recent_replies(connection: duckdb.DuckDBPyConnection, limit: int) -> dict[str, bytes]:
    """Replies to the newest mutations, by request id, oldest first; at most 8 MiB of them."""
    rows = connection.execute(
        "SELECT request_id, reply FROM (SELECT request_id, reply, at_ns, sum(octet_length(reply)) OVER "
        "(ORDER BY at_ns DESC, rowid DESC ROWS UNBOUNDED PRECEDING) AS bytes FROM cf_requests) r "
        "WHERE bytes <= 8388608 ORDER BY at_ns DESC LIMIT ?",
        [limit],
    ).fetchall()
    return {str(request_id): bytes(reply) for request_id, reply in reversed(rows)}
