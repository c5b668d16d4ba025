"""What readers may see: datasets with their files, the pairs that do not count, and the tables of the catalog.

Life of a (job, source) pair of a dataset:
    retired      replaced: in no view
    superseded   a newer living pair of the same parser holds the same source: in `T__all`, not in `T`
    displaced    every path where this content was seen shows other content now: in `T__all`, not in `T`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

_PAIRS: Final = """
WITH current AS (SELECT DISTINCT source_id FROM scout_files WHERE source_id IS NOT NULL),
displaced AS (
    SELECT DISTINCT s.source_id FROM scout_sightings s JOIN scout_files f ON s.root = f.root AND s.path = f.path
    WHERE f.status = 'catalogued' AND f.source_id <> s.source_id AND s.source_id NOT IN (SELECT source_id FROM current)),
newest AS (
    SELECT dataset_id, source_id, parser, max(sequence) AS sequence FROM cf_materializations WHERE retired_by IS NULL
    GROUP BY dataset_id, source_id, parser)
SELECT m.dataset_id, m.job_id, m.source_id, m.retired_by IS NOT NULL AS retired,
       m.retired_by IS NULL AND n.sequence <> m.sequence AS superseded,
       m.retired_by IS NULL AND m.source_id IN (SELECT source_id FROM displaced) AS displaced
FROM cf_materializations m LEFT JOIN newest n
  ON n.dataset_id = m.dataset_id AND n.source_id = m.source_id AND n.parser = m.parser
WHERE m.retired_by IS NOT NULL OR n.sequence <> m.sequence OR m.source_id IN (SELECT source_id FROM displaced)
"""

_STREAM_ROWS: Final = 10_000  # of a control table, at a time
_TABLES: Final[dict[str, str]] = {
    "materializations": (
        "SELECT materialization_key, dataset_id, output_target_key, table_name, sink, sink_mode, "
        "s.document AS sink_settings, job_id, "
        "epoch, source_id, source_hash, sha256, source_path, root, parser, parser_version, artifact_hash, artifact_dir, "
        "env_hash, engine_hash, parser_config_hash, p.document AS parser_config, contract_hash, "
        "c.document AS contract, schema_hash, lineage_version, rows, quarantined, "
        "make_timestamp_ns(committed_at_ns) AS committed_at, retired_by IS NOT NULL AS retired, "
        "coalesce(superseded, false) AS superseded FROM cf_materializations m LEFT JOIN dead d "
        "USING (dataset_id, job_id, source_id) LEFT JOIN cf_documents s ON s.hash = m.sink_config_hash "
        "LEFT JOIN cf_documents p ON p.hash = m.parser_config_hash LEFT JOIN cf_documents c ON c.hash = m.contract_hash"
    ),
    "sources": (
        "SELECT s.source_id, s.source_hash, s.sha256, s.size_bytes, s.root, s.path, s.display_path, "
        "coalesce(f.tags, []) AS tags, s.companions FROM scout_sightings s LEFT JOIN scout_files f "
        "ON f.root = s.root AND f.path = s.path AND f.source_id = s.source_id"
    ),
    "outputs": (
        "SELECT table_name, sink, path, rows, size_bytes, blake3, job_id, epoch, "
        "make_timestamp_ns(committed_at_ns) AS committed_at, removed_at_ns IS NULL AS live FROM cf_outputs"
    ),
    "ledgers": (
        "SELECT source_path, source_hash, source_id, sha256, unit, declared, present, rows, "
        "recovered_live + recovered_extra AS recovered, recovered_live, recovered_extra, quarantined, quarantined_extra, lost, "
        "balanced, parser, job_id, root FROM cf_ledgers"
    ),
    "quarantine_accepted": (
        "SELECT decision_id, parser, rows, rows_hash, reason, actor, make_timestamp_ns(accepted_at_ns) AS accepted_at, "
        "job_id, source_id, first_ordinal, last_ordinal FROM cf_quarantine_decisions JOIN cf_quarantine_spans "
        "USING (decision_id) WHERE reopened_at_ns IS NULL"
    ),
    "findings": 'SELECT source_id, job_id, source_path, code, "offset", length, message FROM cf_findings',
    "jobs": (
        "SELECT q.job_id, q.run_id, q.state, q.epoch, q.parser, q.sources, q.rows, q.quarantined, q.code, q.message, "
        "coalesce(l.isolation, '') AS isolation, coalesce(l.trust, '') AS trust, "
        "make_timestamp_ns(q.created_at_ns) AS created_at, "
        "make_timestamp_ns(q.updated_at_ns) AS updated_at FROM cf_processing_queue q LEFT JOIN "
        "(SELECT job_id, epoch, last(isolation) AS isolation, last(trust) AS trust FROM cf_job_logs GROUP BY job_id, epoch) l "
        "ON l.job_id = q.job_id AND l.epoch = q.epoch"
    ),
}


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """One table in one sink, as recorded."""

    dataset_id: str
    table: str
    sink: str
    settings: str  # JSON, of the newest materialization
    contract: str  # JSON, of the newest materialization
    files: list[tuple[str, int, int, int]]  # path, job, epoch, rows
    retired: list[tuple[int, str]]
    hidden: list[tuple[int, str]]


def datasets(connection: duckdb.DuckDBPyConnection) -> list[Dataset]:
    """Every dataset with its living files."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE dead AS {_PAIRS}")
    found: dict[str, Dataset] = {}
    for dataset_id, table, sink, settings, contract in connection.execute(
        "SELECT n.dataset_id, n.table_name, n.sink, s.document, c.document FROM (SELECT dataset_id, "
        "any_value(table_name) AS table_name, any_value(sink) AS sink, arg_max(sink_config_hash, sequence) AS settings, "
        "arg_max(contract_hash, sequence) AS contract FROM cf_materializations GROUP BY dataset_id) n "
        "JOIN cf_documents s ON s.hash = n.settings JOIN cf_documents c ON c.hash = n.contract "
        "ORDER BY n.table_name, n.sink"
    ).fetchall():
        found[dataset_id] = Dataset(
            dataset_id=dataset_id,
            table=table,
            sink=sink,
            settings=settings,
            contract=contract,
            files=[],
            retired=[],
            hidden=[],
        )
    for dataset_id, path, job_id, epoch, rows in connection.execute(
        "SELECT dataset_id, path, job_id, epoch, rows FROM cf_outputs WHERE removed_at_ns IS NULL ORDER BY committed_at_ns, path"
    ).fetchall():
        found[dataset_id].files.append((path, job_id, epoch, rows))
    for dataset_id, job_id, source_id, retired, *_ in connection.execute(
        "SELECT dataset_id, job_id, source_id, retired FROM dead ORDER BY ALL"
    ).fetchall():
        target = found[dataset_id].retired if retired else found[dataset_id].hidden
        target.append((job_id, source_id))
    return list(found.values())


def tables(
    connection: duckdb.DuckDBPyConnection,
) -> dict[str, Callable[[], pa.RecordBatchReader]]:
    """The control tables that readers get a copy of, each as a stream that is opened when it is asked for.

    One stream must be read to its end before the next is opened. `datasets` must have been called on this connection.
    """

    def opener(sql: str) -> Callable[[], pa.RecordBatchReader]:
        return lambda: connection.sql(sql).to_arrow_reader(_STREAM_ROWS)

    return {name: opener(sql) for name, sql in _TABLES.items()}


def output_pairs(connection: duckdb.DuckDBPyConnection) -> dict[str, set[tuple[int, str]]]:
    """(job, source) pairs whose rows each living output file holds, for files with at least one retired pair."""
    pairs: dict[str, set[tuple[int, str]]] = {}
    for path, job_id, source_id in connection.execute(
        "SELECT p.path, p.job_id, p.source_id FROM cf_output_pairs p WHERE p.path IN (SELECT p2.path FROM cf_output_pairs p2 "
        "JOIN cf_outputs o ON o.path = p2.path AND o.removed_at_ns IS NULL JOIN cf_materializations m "
        "ON m.job_id = p2.job_id AND m.source_id = p2.source_id AND m.dataset_id = o.dataset_id WHERE m.retired_by IS NOT NULL)"
    ).fetchall():
        pairs.setdefault(path, set()).add((job_id, source_id))
    return pairs


def removed_outputs(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Files that are recorded as gone from the disk."""
    rows = connection.execute(
        "SELECT DISTINCT path FROM cf_outputs WHERE removed_at_ns IS NOT NULL ORDER BY path"
    ).fetchall()
    return [path for (path,) in rows]


def shown(
    connection: duckdb.DuckDBPyConnection, dataset_id: str, source_ids: set[str]
) -> list[tuple[int, str]]:
    """Pairs of these sources that view `T` shows: living, and the newest of their parser."""
    rows: list[Any] = connection.execute(
        "SELECT job_id, source_id FROM cf_materializations WHERE dataset_id = ? AND retired_by IS NULL "
        "QUALIFY row_number() OVER (PARTITION BY source_id, parser ORDER BY sequence DESC) = 1",
        [dataset_id],
    ).fetchall()
    return [(job_id, source_id) for job_id, source_id in rows if source_id in source_ids]


def superseded_by(
    connection: duckdb.DuckDBPyConnection, dataset_id: str, parser: str, source_ids: set[str]
) -> list[tuple[int, str]]:
    """Living pairs of a dataset that new rows of the same parser and sources will supersede."""
    rows: list[Any] = connection.execute(
        "SELECT job_id, source_id FROM cf_materializations WHERE dataset_id = ? AND parser = ? AND retired_by IS NULL",
        [dataset_id, parser],
    ).fetchall()
    return [(job_id, source_id) for job_id, source_id in rows if source_id in source_ids]
