"""What the planner must know of the past: living materializations and lasting failures of given sources."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from casparian.domain.files import CataloguedFile, Rule

if TYPE_CHECKING:
    import duckdb


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A living materialization, as far as a plan compares it."""

    materialization_key: str
    dataset_id: str
    source_id: str
    parser: str
    sink_mode: str
    sink_config_hash: str
    schema_hash: str
    artifact_hash: str
    env_hash: str
    engine_hash: str
    parser_config_hash: str
    contract_hash: str
    lineage_version: int
    job_id: int
    quarantined: int = 0  # rows of the source that were set aside by its job


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Living materializations by (dataset, source), newest last; failures by main key."""

    recorded: dict[tuple[str, str], list[Recorded]]
    failures: dict[str, str]  # main output's materialization key -> code
    failed_at: dict[str, int] = {}  # the same keys -> when
    # (source, parser) whose newest ledger is red
    unbalanced: frozenset[tuple[str, str]] = frozenset()


_RECORDED = ", ".join(Recorded.__struct_fields__)


def history(connection: duckdb.DuckDBPyConnection, source_ids: Collection[str]) -> History:
    """Everything recorded about these sources."""
    wanted = pa.table({"source_id": pa.array(sorted(set(source_ids)), pa.string())})
    connection.register("wanted_sources", wanted)
    try:
        rows = connection.execute(
            f"SELECT {_RECORDED} FROM cf_materializations SEMI JOIN wanted_sources USING (source_id) "
            "WHERE retired_by IS NULL ORDER BY sequence"
        ).fetchall()
        failed = connection.execute(
            "SELECT failure_key, code, at_ns FROM cf_dispositions SEMI JOIN wanted_sources USING (source_id) "
            "WHERE permanent AND failure_key IS NOT NULL ORDER BY at_ns"
        ).fetchall()
        red = connection.execute(
            "SELECT source_id, split_part(parser, '@', 1) FROM cf_ledgers SEMI JOIN wanted_sources USING (source_id) "
            "QUALIFY row_number() OVER (PARTITION BY source_id, split_part(parser, '@', 1) ORDER BY rowid DESC) = 1 "
            "AND NOT balanced"
        ).fetchall()
    finally:
        connection.unregister("wanted_sources")
    recorded: dict[tuple[str, str], list[Recorded]] = {}
    for row in rows:
        item = Recorded(**dict(zip(Recorded.__struct_fields__, row, strict=True)))
        recorded.setdefault((item.dataset_id, item.source_id), []).append(item)
    return History(
        recorded=recorded,
        failures={key: code for key, code, _ in failed},
        failed_at={key: at_ns for key, _, at_ns in failed},
        unbalanced=frozenset(red),
    )


def catalogued(
    connection: duckdb.DuckDBPyConnection, root: str, source_ids: Collection[str]
) -> list[CataloguedFile]:
    """Files of a root that held these sources when it was scanned last, in walk order."""
    wanted = pa.table({"source_id": pa.array(sorted(set(source_ids)), pa.string())})
    connection.register("wanted_sources", wanted)
    names = CataloguedFile.__struct_fields__
    try:
        rows = connection.execute(
            f"SELECT {', '.join(names)} FROM scout_files SEMI JOIN wanted_sources USING (source_id) "
            "WHERE root = ? ORDER BY walk_order",
            [root],
        ).fetchall()
    finally:
        connection.unregister("wanted_sources")
    return [msgspec.convert(dict(zip(names, row, strict=True)), CataloguedFile) for row in rows]


def tag_rules(connection: duckdb.DuckDBPyConnection) -> list[Rule]:
    """Tagging rules in the order they were added."""
    rows = connection.execute(
        "SELECT rule_id, pattern, tag FROM scout_rules ORDER BY rule_id"
    ).fetchall()
    return [Rule(rule_id=number, pattern=pattern, tag=tag) for number, pattern, tag in rows]


def tags_by_hand(connection: duckdb.DuckDBPyConnection, root: str) -> dict[bytes, tuple[str, ...]]:
    """Tags that a person put on paths of a root."""
    rows = connection.execute(
        "SELECT path, list(tag ORDER BY added_at_ns) FROM scout_tags WHERE root = ? GROUP BY path",
        [root],
    ).fetchall()
    return {bytes(path): tuple(tags) for path, tags in rows}


def datasets(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int, str, str, str]]:
    """(table, revision, hash, document, effect) of every promoted revision, by table, oldest first."""
    rows = connection.execute(
        "SELECT table_name, revision, hash, document, effect FROM schema_datasets ORDER BY table_name, revision"
    ).fetchall()
    return [(str(t), int(r), str(h), str(d), str(e)) for t, r, h, d, e in rows]
