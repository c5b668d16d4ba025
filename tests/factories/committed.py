"""Homes with committed outputs: real sinks and a real catalog, without a sentinel."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import blake3
import msgspec
import pyarrow as pa

from casparian import processes
from casparian.contracts import overrides, settings
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.outputs import QUARANTINE_TABLE, Sink, SinkKind
from casparian.paths import Home, first_party_parsers
from casparian.protocol import identity
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.engine import current_engine_hash
from casparian.protocol.worker import (
    Conclude,
    Dispatch,
    OutputTask,
    ParserTask,
    SourceTask,
    StagedFile,
    decode,
    encode,
)
from casparian.sinks import lineage
from casparian.sinks.catalog import Catalog, CatalogDataset, CatalogFile, publish
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import OutputStage, stage_directory
from casparian.sinks.uri import parse_sink
from casparian.trust.library import ParserLibrary

LINES = OutputContract(
    table="lines",
    main=True,
    columns=(
        Column(name="number", type="uint64"),
        Column(name="time", type="timestamp[ns, UTC]"),
        Column(name="text", type="utf8"),
        Column(name="names", type="list<utf8>"),
        Column(name="raw", type="binary"),
        Column(name="ratio", type="float64"),
        Column(name="price", type="decimal128(10, 2)"),
        Column(name="ok", type="bool"),
        Column(name="day", type="date32"),
    ),
)
TIME_NS = 1_556_380_647_087_613_207
VALUES: list[dict[str, Any]] = [
    {
        "number": 2**64 - 1,
        "time": TIME_NS,
        "text": 'quo"te,\r\nline',
        "names": ["a", None, 'b"\\', ""],
        "raw": b"\x00\xff",
        "ratio": 0.1,
        "price": "12345678.90",
        "ok": True,
        "day": 18_000,
    },
    {"number": 0, "text": "", "names": [], "raw": b"", "ratio": -1.5e300, "ok": False},
    {"text": None},
]

_PROCESSED_AT_NS = 1_700_000_000_000_000_000


def bridge_batch(output: OutputContract, values: list[dict[str, Any]]) -> pa.RecordBatch:
    """Rows as a guest sends them; each row's span is ten bytes."""
    schema = bridge_schema(output)
    arrays = []
    for field in schema:
        if field.name == "@offset":
            arrays.append(pa.array([10 * n for n in range(len(values))], pa.uint64()))
        elif field.name == "@length":
            arrays.append(pa.array([10] * len(values), pa.uint64()))
        elif field.name == "@flags":
            arrays.append(pa.array([n % 2 for n in range(len(values))], pa.uint32()))
        elif pa.types.is_decimal(field.type):
            arrays.append(
                pa.array([row.get(field.name) for row in values], pa.utf8()).cast(field.type)
            )
        else:
            arrays.append(pa.array([row.get(field.name) for row in values], field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class CommittedHome:
    """A home whose outputs are committed by hand, file by file."""

    def __init__(self, directory: Path) -> None:
        self.home = Home.at(directory / "home")
        self.home.root.mkdir(parents=True)
        self.home_id = "11111111-2222-3333-4444-555555555555"
        self.evidence = directory / "evidence"
        self.evidence.mkdir()
        self.files: dict[tuple[str, str], list[CatalogFile]] = {}
        self.contracts: dict[tuple[str, str], tuple[Sink, OutputContract]] = {}
        self.retired: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self.hidden: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self.materializations: list[dict[str, Any]] = []
        self.sources: dict[str, dict[str, Any]] = {}
        self.outputs: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []

    def sink(self, text: str) -> Sink:
        """Sink from a URI relative to the home."""
        return parse_sink(text, base=str(self.home.root))

    def source(self, name: str, content: bytes) -> SourceTask:
        """An evidence file, recorded in `sources`."""
        path = self.evidence / name
        path.write_bytes(content)
        source_hash = blake3.blake3(content).hexdigest()
        source_id = identity.source_id(source_hash)
        sha256 = hashlib.sha256(content).hexdigest()
        self.sources[f"{source_id}:{name}"] = {
            "source_id": source_id,
            "source_hash": source_hash,
            "sha256": sha256,
            "size_bytes": len(content),
            "root": str(self.evidence),
            "path": name.encode(),
            "display_path": name,
            "tags": ["text"],
        }
        return SourceTask(
            index=0,
            source_id=source_id,
            source_hash=source_hash,
            sha256=sha256,
            size_bytes=len(content),
            path=os.fsencode(path),
            display_path=name,
        )

    def commit(
        self,
        sink: Sink,
        job_id: int,
        rows: list[tuple[SourceTask, list[dict[str, Any]]]],
        *,
        output: OutputContract = LINES,
        parser: str = "test.lines",
        artifact_hash: str = "a" * 64,
        **recorded: Any,
    ) -> list[StagedFile]:
        """Commit rows of sources as one job, into one sink."""
        contract_hash = identity.contract_hash(output)
        directory = stage_directory(sink, self.home_id, job_id, 1)
        stage = OutputStage(output, sink, directory, job_id, 1)
        for index, (source, values) in enumerate(rows):
            stage.begin_source(index)
            batch = bridge_batch(output, values)
            stage.write(
                lineage.add(
                    batch,
                    output=output,
                    source=source,
                    parser_label=f"{parser}@1.0.0",
                    artifact_hash=artifact_hash,
                    contract_hash=contract_hash,
                    job_id=job_id,
                    processed_at_ns=_PROCESSED_AT_NS,
                    first_ordinal=0,
                )
            )
            stage.commit_source()
            self._record(sink, job_id, source, output, parser, artifact_hash, len(values), recorded)
        staged = list(stage.finish())
        self.record_files(sink, job_id, output, staged)
        return staged

    def record_files(
        self, sink: Sink, job_id: int, output: OutputContract, staged: list[StagedFile]
    ) -> None:
        """Promote staged files and record them."""
        key = (output.table, sink.uri)
        self.contracts[key] = (sink, output)
        if sink.kind is SinkKind.DUCKDB:
            target = DuckDbSink(sink)
            loads = [(output.table, output, [file.path for file in staged])]
            target.commit(identity.commit_id(self.home_id, job_id, 1), loads, [])
            target.publish()
        os.makedirs(os.path.dirname(sink.location), exist_ok=True)
        for file in staged:
            final = os.path.join(sink.location, os.path.basename(file.path))
            if sink.kind is SinkKind.DUCKDB:
                final = sink.location
            else:
                os.rename(file.path, final)
            self.files.setdefault(key, []).append(
                CatalogFile(path=final, job_id=job_id, epoch=1, rows=file.rows)
            )
            self.outputs.append(
                {
                    "table_name": output.table,
                    "sink": sink.uri,
                    "path": final,
                    "rows": file.rows,
                    "size_bytes": file.size_bytes,
                    "blake3": "" if sink.kind is SinkKind.DUCKDB else file.blake3,
                    "job_id": job_id,
                    "epoch": 1,
                    "committed_at": "2024-01-01T00:00:00Z",
                    "live": True,
                }
            )

    def run_parser(
        self, name: str, sources: list[SourceTask], sink: Sink, job_id: int
    ) -> dict[str, int]:
        """Run a first-party parser in a real worker and commit what it made; rows by table."""
        library = ParserLibrary(first_party_parsers(), self.home.parsers)
        artifact = library.find(name)
        manifest = artifact.manifest
        override = overrides.find_override(self.home.contracts, name)
        contract = overrides.effective(artifact.contract, override)
        config = settings.effective_config(manifest, {})
        tasks = tuple(msgspec.structs.replace(s, index=n) for n, s in enumerate(sources))
        quarantine = self.sink(f"parquet:{self.home.quarantine}")
        dispatch = Dispatch(
            epoch=1,
            job_id=job_id,
            home_id=self.home_id,
            parser=ParserTask(
                name=name,
                version=manifest.version,
                kind=manifest.kind,
                entry=manifest.entry,
                directory=artifact.directory,
                artifact_hash=artifact.artifact_hash,
                account=manifest.account,
                unit=manifest.unit,
                config=config,
                limits=manifest.limits,
            ),
            sources=tasks,
            outputs=tuple(
                OutputTask(
                    contract=output,
                    contract_hash=identity.contract_hash(output),
                    sink=sink,
                    stage=stage_directory(sink, self.home_id, job_id, 1),
                )
                for output in contract.outputs
            ),
            quarantine=quarantine,
            quarantine_stage=stage_directory(quarantine, self.home_id, job_id, 1),
            processed_at_ns=_PROCESSED_AT_NS,
            lineage_version=1,
            min_isolation=IsolationLevel.REDUCED,
        )
        process = subprocess.run(
            processes.command("worker", self.home, "--once"),
            input=encode(dispatch),
            capture_output=True,
            check=True,
            env=processes.host_environment(),
        )
        receipt = decode(process.stdout, Conclude).receipt
        assert receipt.code is None, receipt
        assert all(source.code is None for source in receipt.sources), receipt
        for output in (*contract.outputs, QUARANTINE_CONTRACT):
            target = quarantine if output.table == QUARANTINE_TABLE else sink
            staged = [file for file in receipt.files if file.table == output.table]
            self.record_files(target, job_id, output, staged)
            for task, done in zip(tasks, receipt.sources, strict=True):
                self._record(
                    target,
                    job_id,
                    task,
                    output,
                    name,
                    artifact.artifact_hash,
                    done.rows.get(output.table, 0),
                    {
                        "parser_version": manifest.version,
                        "artifact_dir": artifact.directory,
                        "engine_hash": current_engine_hash(),
                        "parser_config": msgspec.json.encode(config).decode(),
                        "parser_config_hash": identity.config_hash(config),
                    },
                )
        return {
            output.table: sum(source.rows.get(output.table, 0) for source in receipt.sources)
            for output in contract.outputs
        } | {QUARANTINE_TABLE: sum(source.quarantined for source in receipt.sources)}

    def publish(self, default_sink: str | None = None) -> None:
        """Publish the catalog of all that was committed."""
        datasets = {
            key: CatalogDataset(
                table=key[0],
                sink=sink,
                output=output,
                files=tuple(self.files.get(key, ())),
                retired=tuple(self.retired.get(key, ())),
                hidden=tuple(self.hidden.get(key, ())),
            )
            for key, (sink, output) in self.contracts.items()
        }
        quarantine = next((d for k, d in datasets.items() if k[0] == QUARANTINE_TABLE), None)
        catalog = Catalog(
            home_id=self.home_id,
            generation=1,
            default_sink=default_sink,
            datasets=tuple(d for k, d in datasets.items() if k[0] != QUARANTINE_TABLE),
            quarantine=quarantine,
        )
        tables = {
            "materializations": pa.Table.from_pylist(self.materializations),
            "sources": pa.Table.from_pylist(list(self.sources.values())),
            "outputs": pa.Table.from_pylist(self.outputs),
        }
        if self.jobs:
            tables["jobs"] = pa.Table.from_pylist(self.jobs)
        publish(self.home.catalog, catalog, tables)

    def quarantine(self, job_id: int, source: SourceTask, values: list[dict[str, Any]]) -> None:
        """Commit quarantined rows of a source."""
        sink = self.sink(f"parquet:{self.home.quarantine}")
        self.commit(sink, job_id, [(source, values)], output=QUARANTINE_CONTRACT)

    def _record(
        self,
        sink: Sink,
        job_id: int,
        source: SourceTask,
        output: OutputContract,
        parser: str,
        artifact_hash: str,
        rows: int,
        recorded: dict[str, Any],
    ) -> None:
        dataset = identity.dataset_id(sink.uri, output.table)
        row = {
            "materialization_key": identity.derive("test", dataset, source.source_id, str(job_id)),
            "dataset_id": dataset,
            "output_target_key": "t" * 64,
            "table_name": output.table,
            "sink": sink.uri,
            "sink_mode": "append",
            "sink_settings": msgspec.json.encode(sink.settings).decode(),
            "job_id": job_id,
            "epoch": 1,
            "source_id": source.source_id,
            "source_hash": source.source_hash,
            "sha256": source.sha256,
            "source_path": source.display_path,
            "root": str(self.evidence),
            "parser": parser,
            "parser_version": "1.0.0",
            "artifact_hash": artifact_hash,
            "artifact_dir": str(self.home.parsers / parser),
            "env_hash": identity.environment_hash([]),
            "engine_hash": "e" * 64,
            "parser_config_hash": identity.config_hash({}),
            "parser_config": "{}",
            "contract_hash": identity.contract_hash(output),
            "contract": msgspec.json.encode(output).decode(),
            "schema_hash": identity.schema_hash(output),
            "lineage_version": 1,
            "rows": rows,
            "quarantined": 0,
            "committed_at": "2024-01-01T00:00:00Z",
            "retired": False,
            "superseded": False,
        }
        self.materializations.append(row | recorded)
