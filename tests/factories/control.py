"""A control database with one committed job, written without a sentinel: every table agrees with the others."""

from __future__ import annotations

import duckdb
import msgspec

from casparian.db.connection import ControlDatabase
from casparian.db.operations import RecordDecision
from casparian.db.records import (
    JobRow,
    LedgerRow,
    MaterializationRow,
    OutputPairRow,
    OutputRow,
)
from casparian.db.writer import DatabaseWriter
from casparian.paths import Home

JOB = 7
SINK = "parquet:/cases/out"
PATH = "/cases/out/lines_7_1_0.parquet"


def commit_one(database: ControlDatabase, *, tape: int = 3) -> None:
    """One completed job with one source, three rows, one file, a ledger and a tape."""
    writer = DatabaseWriter(database.writer)
    for number in range(tape):
        (outcome,) = writer.apply(
            [[RecordDecision(at_ns=number, kind="test", fields={"number": number})]]
        )
        assert not isinstance(outcome, Exception)
    job = JobRow(
        job_id=JOB,
        run_id="r",
        state="completed",
        epoch=1,
        attempts=1,
        parser="test.lines@1.0.0",
        sources=1,
        size_bytes=30,
        spec=b"",
        created_at_ns=1,
        updated_at_ns=1,
    )
    materialization = MaterializationRow(
        sequence=1,
        materialization_key="k" * 64,
        dataset_id="d",
        output_target_key="t",
        table_name="lines",
        sink=SINK,
        sink_mode="append",
        sink_config_hash="settings",
        job_id=JOB,
        epoch=1,
        source_id="s",
        source_hash="h",
        sha256="h2",
        root="/evidence",
        source_path="a.log",
        parser="test.lines",
        parser_version="1.0.0",
        artifact_hash="a",
        artifact_dir="/parsers",
        env_hash="e",
        engine_hash="g",
        parser_config_hash="config",
        contract_hash="contract",
        schema_hash="schema",
        lineage_version=1,
        rows=3,
        quarantined=0,
        committed_at_ns=1,
    )
    output = OutputRow(
        job_id=JOB,
        epoch=1,
        table_name="lines",
        sink=SINK,
        dataset_id="d",
        path=PATH,
        rows=3,
        size_bytes=100,
        blake3="b" * 64,
        committed_at_ns=1,
    )
    ledger = LedgerRow(
        job_id=JOB,
        source_id="s",
        source_hash="h",
        sha256="h2",
        root="/evidence",
        source_path="a.log",
        parser="test.lines@1.0.0",
        unit="line",
        declared=None,
        present=3,
        rows=3,
        recovered_live=0,
        recovered_extra=0,
        quarantined=0,
        quarantined_extra=0,
        lost=0,
        blank_units=0,
        blank_bytes=0,
        balanced=True,
    )
    for table, row in (
        ("cf_processing_queue", job),
        ("cf_materializations", materialization),
        ("cf_outputs", output),
        ("cf_output_pairs", OutputPairRow(path=PATH, job_id=JOB, source_id="s")),
        ("cf_ledgers", ledger),
    ):
        insert(database.writer, table, row)
    for name in ("settings", "config", "contract"):
        database.writer.execute("INSERT INTO cf_documents VALUES (?, '{}')", [name])


def insert(connection: duckdb.DuckDBPyConnection, table: str, row: msgspec.Struct) -> None:
    """One row, as it is."""
    values = msgspec.structs.asdict(row)
    columns, marks = ", ".join(values), ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(values.values()))


def committed(home: Home) -> None:
    """Make a home with such a database, and close it."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.run.mkdir(exist_ok=True)
    with ControlDatabase(home) as database:
        commit_one(database)


def tape_length(path: object) -> int:
    """Entries of the tape in a database file that nobody has open."""
    with duckdb.connect(str(path), read_only=True) as connection:
        row = connection.execute("SELECT count(*) FROM cf_tape").fetchone()
    assert row is not None
    return int(row[0])
