"""Every wide row of the corpus is exactly one event again: all rows, all columns."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from casparian import _native
from tests.factories.wide import comparable, expected

pytestmark = pytest.mark.corpus

ROWS_MIN = 2_500
TABLES_MIN = 50


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by table; times as nanoseconds."""
    found: dict[str, list[dict[str, Any]]] = {}
    with path.open("rb") as file:
        for name, exported in _native.EvtxReader(
            file.fileno(), os.fstat(file.fileno()).st_size, wide="curated"
        ):
            if name in ("evtx_chunks", "@quarantine"):
                continue
            batch = pa.record_batch(exported)
            for place, field in enumerate(batch.schema):
                if pa.types.is_timestamp(field.type):
                    column = batch.column(place).cast(pa.int64())
                    batch = batch.set_column(place, field.name, column)
            found.setdefault(name, []).extend(batch.to_pylist())
    return found


def test_every_wide_row_is_one_event_with_equal_values(corpus: Path) -> None:
    made: Counter[str] = Counter()
    misfits = 0
    for path in sorted((corpus / "evtx").rglob("*")):
        if not path.is_file() or path.suffix.lower() != ".evtx":
            continue
        found = read(path)
        rows: Counter[str] = Counter()
        for event in found.pop("evtx_events", []):
            wanted = expected(event)
            if wanted is None:
                continue
            table, row = wanted
            own = found[table][rows[table]]
            place = ("@offset", "@length", "@flags")
            assert [own[name] for name in place] == [event[name] for name in place], path
            assert comparable(own) == row, (path, event["header_record_id"])
            rows[table] += 1
            misfits += own["misfits"]
        assert {table: len(wide) for table, wide in found.items()} == dict(rows), path
        made += rows
    assert made.total() >= ROWS_MIN
    assert len(made) >= TABLES_MIN
    assert misfits <= made.total() // 100, (
        "types that come from the same logs fit nearly all of them"
    )


def test_a_run_of_the_corpus_joins_each_wide_row_to_one_event(corpus: Path, tmp_path: Path) -> None:
    from tests.support.world import World

    world = World(tmp_path, evidence=corpus / "evtx")
    try:
        summary = world.run("--set", "windows.evtx.wide=curated")
        rows = {output["table"]: output["rows"] for output in summary["outputs"]}
        wide = [table for table in rows if table not in ("evtx_events", "evtx_chunks")]
        assert len(wide) >= TABLES_MIN
        joined = " UNION ALL ".join(
            f"SELECT '{table}', count(*), count(e._cf_row_id), "
            "count(*) FILTER (w.time_created IS DISTINCT FROM e.time_created "
            "OR w.record_id IS DISTINCT FROM e.record_id OR w._cf_flags <> e._cf_flags) "
            f"FROM {table} w LEFT JOIN evtx_events e USING (_cf_source_id, _cf_offset, _cf_job_id)"
            for table in wide
        )
        for table, found, matched, differing in world.query(joined):
            assert found == matched == rows[table] > 0
            assert differing == 0
        # The ledger knows of events only.
        ledger = summary["ledger"]
        events = world.column("SELECT count(*) FROM evtx_events")[0]
        assert ledger["rows"] + ledger["recovered"] == events
        assert ledger["lost"] == 0
        for table in wide[::9]:
            row = world.column(f"SELECT _cf_row_id FROM {table} USING SAMPLE 1 ROWS")[0]
            assert world.json("why", row)["proven"] is True
    finally:
        world.stop()
