"""How Parquet parts are encoded: small, and with what a query needs to skip row groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.worker import SourceTask
from casparian.sinks import lineage
from casparian.sinks.part import Part

EVENTS = OutputContract(
    table="events",
    main=True,
    columns=(
        Column(name="record_id", type="uint64"),
        Column(name="time", type="timestamp[ns, UTC]"),
        Column(name="event_id", type="uint32"),
        Column(name="channel", type="utf8"),
        Column(name="raw", type="binary"),
        Column(name="values", type="list<utf8>"),
    ),
)
SOURCE = SourceTask(
    index=0,
    source_id="a" * 64,
    source_hash="b" * 64,
    sha256="0" * 64,
    size_bytes=1 << 30,
    path=b"/x",
    display_path="x",
)
ROWS = 20_000


def written(tmp_path: Path) -> str:
    """One file of several row groups, whose times grow."""
    numbers = range(ROWS)
    values: list[Any] = [
        pa.array([number * 100 for number in numbers], pa.uint64()),
        pa.array([100] * ROWS, pa.uint64()),
        pa.array([0] * ROWS, pa.uint32()),
        pa.array(numbers, pa.uint64()),
        pa.array([10**18 + number * 10**9 for number in numbers], pa.timestamp("ns", "UTC")),
        pa.array([4624 if number < ROWS // 2 else 7045 for number in numbers], pa.uint32()),
        pa.array(["Security" if number % 3 else "System" for number in numbers]),
        pa.array([b"x" * (number % 7) for number in numbers]),
        pa.array([["a", str(number % 5)] for number in numbers]),
    ]
    batch = pa.RecordBatch.from_arrays(values, schema=bridge_schema(EVENTS))
    stored = lineage.add(
        batch,
        output=EVENTS,
        source=SOURCE,
        parser_label="p@1",
        artifact_hash="c" * 64,
        contract_hash="d" * 64,
        job_id=7,
        processed_at_ns=1,
        first_ordinal=0,
    )
    sink = Sink(
        kind=SinkKind.PARQUET, location=str(tmp_path), settings={"row_group_rows": ROWS // 4}
    )
    part = Part(os.path.join(tmp_path, "events.parquet"), EVENTS, sink)
    part.write([stored])
    return part.finish().path


def columns(path: str) -> dict[str, Any]:
    group = pq.read_metadata(path).row_group(0)
    found = (group.column(position) for position in range(group.num_columns))
    return {column.path_in_schema: column for column in found}


def test_numbers_that_grow_are_differences_and_texts_are_dictionaries(tmp_path: Path) -> None:
    found = columns(written(tmp_path))
    for name in ("record_id", "time", "_cf_ordinal", "_cf_offset", "_cf_job_id"):
        assert "DELTA_BINARY_PACKED" in found[name].encodings, name
        assert found[name].total_compressed_size < ROWS // 4, name  # less than a byte a row
    for name in ("event_id", "channel", "values.list.element", "_cf_source_path"):
        assert "RLE_DICTIONARY" in found[name].encodings, name


def test_row_groups_can_be_skipped_by_time_and_event_id(tmp_path: Path) -> None:
    path = written(tmp_path)
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 4
    found = columns(path)
    for name in ("time", "event_id", "channel", "_cf_source_path", "_cf_ordinal"):
        assert found[name].statistics.has_min_max, name
    assert found["values.list.element"].statistics is None
    assert found["raw"].statistics is None
    position = list(found).index("event_id")
    ranges = [metadata.row_group(group).column(position).statistics for group in range(4)]
    assert [(one.min, one.max) for one in ranges] == [(4624, 4624)] * 2 + [(7045, 7045)] * 2
