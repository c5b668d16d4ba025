"""Rows of every type, sources and stages, for the tests of the sinks."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from typing import Any

import pyarrow as pa

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol.arrow import arrow_type, bridge_schema
from casparian.protocol.worker import SourceTask, StagedFile
from casparian.sinks import lineage
from casparian.sinks.promote import Intent, final_path
from casparian.sinks.staging import OutputStage, stage_directory, sync_directories
from casparian.sinks.uri import parse_sink

HOME = "11111111-2222-3333-4444-555555555555"
JOB = 7
NASTY = 'a"b\r\n,;\x00\\\x1f\u2028😀'
_PER_SECOND = {"s": 1, "m": 1_000, "u": 1_000_000}
_SIMPLE: dict[str, list[Any]] = {
    "bool": [True, False, None],
    "int8": [-(2**7), 2**7 - 1, None],
    "int16": [-(2**15), 2**15 - 1, None],
    "int32": [-(2**31), 2**31 - 1, None],
    "int64": [-(2**63), 2**63 - 1, None],
    "uint8": [0, 2**8 - 1, None],
    "uint16": [0, 2**16 - 1, None],
    "uint32": [0, 2**32 - 1, None],
    "uint64": [0, 2**64 - 1, None],
    "float32": [0.10000000149011612, float("inf"), None, -0.0, 3.4028234663852886e38],
    "float64": [0.1, float("-inf"), None, 1e-308, 1.7976931348623157e308],
    "utf8": ["", None, NASTY, "null", "NaN", " x ", "[]", "\ufeff"],
    "binary": [b"", None, bytes(range(256))],
    "date32": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)],
    "time64[us]": [dt.time(0), None, dt.time(23, 59, 59, 999_999), dt.time(14, 3, 22, 120_000)],
    "timestamp[ns]": [-(2**63) + 1, None, 2**63 - 2, 0, -1],
    "decimal128(38, 10)": [Decimal("1E-10"), None, Decimal("-9" * 1 + "9" * 27)],
    "decimal128(5, 2)": [Decimal("999.99"), Decimal("-0.01"), None],
}
TYPES = (
    *_SIMPLE,
    *(f"timestamp[{unit}]" for unit in ("s", "ms", "us")),
    *(f"timestamp[{unit}, UTC]" for unit in ("s", "ms", "us", "ns")),
    *(f"list<{name}>" for name in _SIMPLE),
    "list<timestamp[ns, UTC]>",
    "list<list<utf8>>",
    "list<list<float64>>",
    "list<list<timestamp[us]>>",
)
EVERYTHING = OutputContract(
    table="everything",
    columns=tuple(Column(name=f"c{i}", type=name) for i, name in enumerate(TYPES)),
    main=True,
)
SMALL = OutputContract(
    table="events",
    columns=(Column(name="n", type="int64", nullable=False), Column(name="text", type="utf8")),
    main=True,
)


def samples(name: str) -> list[Any]:
    """Values at the edges of a type; times as ticks."""
    if name.startswith("list<"):
        inner = samples(name[5:-1])
        return [inner, [], None, inner[:1]]
    if name.startswith("timestamp[ns"):
        return _SIMPLE["timestamp[ns]"]
    if name.startswith("timestamp"):
        per_second = _PER_SECOND[name[10]]
        first, last = -62_135_596_800 * per_second, 253_402_300_800 * per_second - 1
        return [first, None, last, 0, -1]
    return _SIMPLE[name]


def array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Array of values, times given as ticks."""
    if pa.types.is_list(kind):
        offsets, flat = [0], []
        for value in values:
            flat += value or []
            offsets.append(len(flat))
        return pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()),
            array(flat, kind.value_type),
            type=kind,
            mask=pa.array([value is None for value in values]),
        )
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def source(index: int) -> SourceTask:
    """Source number `index`."""
    return SourceTask(
        index=index,
        source_id=f"{index:016x}" + "5" * 48,
        source_hash=f"{index:016x}" + "a" * 48,
        sha256="0" * 64,
        size_bytes=1,
        path=b"/evidence/x",
        display_path=f"logs/{index}.evtx",
    )


def batch(
    output: OutputContract,
    index: int,
    columns: list[pa.Array],
    *,
    job_id: int = JOB,
    first: int = 0,
) -> pa.RecordBatch:
    """Stored batch of one source."""
    rows = len(columns[0])
    bridge = pa.RecordBatch.from_arrays(
        [
            pa.array(range(first, first + rows), pa.uint64()),
            pa.array([1] * rows, pa.uint64()),
            pa.array([(0, 3, 512)[i % 3] for i in range(rows)], pa.uint32()),
            *columns,
        ],
        schema=bridge_schema(output),
    )
    return lineage.add(
        bridge,
        output=output,
        source=source(index),
        parser_label="test@1",
        artifact_hash="a" * 64,
        contract_hash="c" * 64,
        job_id=job_id,
        processed_at_ns=1_700_000_000_123_456_789,
        first_ordinal=first,
    )


def everything(index: int, rows: int = 24) -> pa.RecordBatch:
    """Rows that hold every edge of every type."""
    columns = []
    for name in TYPES:
        values = samples(name)
        columns.append(array([values[i % len(values)] for i in range(rows)], arrow_type(name)))
    return batch(EVERYTHING, index, columns)


def small(index: int, rows: int = 3, *, job_id: int = JOB, first: int = 0) -> pa.RecordBatch:
    """A few rows of `events`."""
    numbers = pa.array(range(first, first + rows), pa.int64())
    texts = pa.array([f"{index}/{n}" for n in range(rows)])
    return batch(SMALL, index, [numbers, texts], job_id=job_id, first=first)


def sink(kind: str, base: os.PathLike[str], settings: str = "") -> Sink:
    """A sink below a directory."""
    name = "out.duckdb" if kind == "duckdb" else "out"
    return parse_sink(f"{kind}:{name}{settings}", base=os.fspath(base))


def stage(where: Sink, output: OutputContract, *, job_id: int = JOB, epoch: int = 1) -> OutputStage:
    """An empty stage of one output."""
    return OutputStage(output, where, stage_directory(where, HOME, job_id, epoch), job_id, epoch)


def staged(
    where: Sink,
    output: OutputContract,
    batches: dict[int, pa.RecordBatch],
    *,
    job_id: int = JOB,
    epoch: int = 1,
) -> tuple[StagedFile, ...]:
    """Staged files of whole sources."""
    writer = stage(where, output, job_id=job_id, epoch=epoch)
    for index, rows in batches.items():
        writer.begin_source(index)
        writer.write(rows)
        writer.commit_source()
    files = writer.finish()
    sync_directories([stage_directory(where, HOME, job_id, epoch)])
    return files


def intents(files: tuple[StagedFile, ...]) -> tuple[Intent, ...]:
    """What the sentinel would record for staged files."""
    assert all(file.sink.kind is not SinkKind.DUCKDB for file in files)
    return tuple(
        Intent(
            table=file.table,
            sink=file.sink,
            staged=file.path,
            final=final_path(file.sink, os.path.basename(file.path)),
            blake3=file.blake3,
            size_bytes=file.size_bytes,
            rows=file.rows,
            sources=file.sources,
        )
        for file in files
    )


def tree(directory: os.PathLike[str] | str) -> set[str]:
    """Relative paths of all files below a directory."""
    found = set()
    for place, _, names in os.walk(directory):
        found |= {os.path.relpath(os.path.join(place, name), directory) for name in names}
    return found
