"""What is committed in the model: small jobs, real contracts, real rows."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pyarrow as pa

from casparian.db.records import ExpectedOutputRow, JobRow
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.domain.parsers import Limits, ParserKind
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.worker import ParserTask, SourceTask
from casparian.sentinel.state import JobSpec, OutputSpec
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.uri import default_settings
from tests.crash_model.filesystem import Rename

HOME_ID: Final = "home"
OUT: Final = "/case/out"
DATABASE: Final = "/case/db/out.duckdb"
QUARANTINE: Final = "/home/quarantine"
STRANGER: Final = b"not ours"
ROWS: Final = 2  # of each (source, table)

CONTRACTS: Final = (
    OutputContract(table="events", main=True, columns=(Column(name="n", type="int64"),)),
    OutputContract(table="names", columns=(Column(name="text", type="utf8"),)),
)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One world to explore.

    Args:
        rename: what a rename is to a power cut.
        by_link: the file system has no RENAME_NOREPLACE: files are promoted by `link`.
        sources: of the first job; each further job reads one less of them again.
        shared: whether the rows of all sources of a table are in one file; otherwise each has its own.
        quarantined: whether a row of the first source is set aside, in a second sink.
        modes: one job after another, each over the same sources, in these modes.
        cancel: when the first attempt of the first job is cancelled: while it stages, or when all is staged.
        worker_dies: the first attempt's worker ends when all is staged, while the sentinel lives.
        over_policy: quarantine is over its limit: only it is committed.
        clean_late: stages are removed after the next transaction, as a slow thread would do it.
        bare: the sinks are not there yet: they are prepared, and each crash can come in between.
        probed: whether preparing includes the proof that files can be promoted there.
        stranger: a file that is not ours has the name that the job's first file is to get.
    """

    name: str
    kind: SinkKind = SinkKind.PARQUET
    rename: Rename = Rename.ATOMIC
    by_link: bool = False
    outputs: int = 2
    sources: int = 1
    shared: bool = False
    quarantined: bool = False
    modes: tuple[SinkMode, ...] = (SinkMode.APPEND,)
    cancel: str | None = None
    worker_dies: bool = False
    over_policy: bool = False
    clean_late: bool = False
    bare: bool = False
    probed: bool = False
    stranger: bool = False

    @property
    def may_lose(self) -> bool:
        """Whether a power cut may take both copies of a file that is being promoted: strict POSIX renames only."""
        return self.rename is Rename.STRICT and not self.by_link

    @property
    def location(self) -> str:
        """Of the sink of the clean rows."""
        return DATABASE if self.kind is SinkKind.DUCKDB else OUT

    @property
    def end(self) -> JobState:
        """How the first job must end."""
        if self.cancel:
            return JobState.ABORTED
        return JobState.FAILED if self.over_policy else JobState.COMPLETED


def _output(contract: OutputContract, kind: SinkKind, location: str) -> OutputSpec:
    return OutputSpec(
        contract=contract,
        contract_hash=f"contract-{contract.table}",
        schema_hash=f"schema-{contract.table}",
        sink=Sink(kind=kind, location=location, settings=default_settings(kind)),
        sink_config_hash=f"settings-{kind}",
        dataset_id=f"dataset-{contract.table}",
    )


def spec(scenario: Scenario, number: int) -> JobSpec:
    """Job `number` of a scenario (from 0)."""
    return JobSpec(
        root="/evidence",
        mode=scenario.modes[number],
        parser=ParserTask(
            name="p",
            version=str(number),
            kind=ParserKind.PYTHON,
            entry="parser.py:parse",
            directory="/p",
            artifact_hash=f"artifact-{number}",
            account="lines",
            unit="line",
            config={},
            limits=Limits(),
        ),
        env_hash="environment",
        engine_hash="engine",
        parser_config_hash="configuration",
        lineage_version=1,
        sources=tuple(
            SourceTask(
                index=index,
                source_id=f"{index:064x}",
                source_hash=f"{index:064x}",
                sha256="",
                size_bytes=1,
                path=b"/evidence/%d" % index,
                display_path=str(index),
            )
            # A later job does not read the last source again, so that a file keeps one living pair.
            for index in range(max(1, scenario.sources - number))
        ),
        outputs=tuple(
            _output(contract, scenario.kind, scenario.location)
            for contract in CONTRACTS[: scenario.outputs]
        ),
        quarantine=_output(QUARANTINE_CONTRACT, SinkKind.PARQUET, QUARANTINE),
    )


def job_id(number: int) -> int:
    """Of job `number`."""
    return 7 + number


def job_row(scenario: Scenario, number: int) -> JobRow:
    """Job `number` as it is enqueued."""
    value = spec(scenario, number)
    return JobRow(
        job_id=job_id(number),
        run_id=f"run-{number}",
        state=JobState.QUEUED.value,
        epoch=0,
        attempts=0,
        parser=value.label,
        sources=len(value.sources),
        size_bytes=value.size_bytes,
        spec=msgspec.msgpack.encode(value),
        created_at_ns=1,
        updated_at_ns=1,
    )


def expected_outputs(value: JobSpec) -> tuple[ExpectedOutputRow, ...]:
    """What the plan says about a job's outputs."""
    return tuple(
        ExpectedOutputRow(
            parser=value.parser.name,
            artifact_hash=value.parser.artifact_hash,
            table_name=output.contract.table,
            main=output.contract.main,
            contract_hash=output.contract_hash,
            sink=output.sink.uri,
            declared_at_ns=1,
        )
        for output in (*value.outputs, value.quarantine)
    )


def rows(contract: OutputContract, source: int) -> pa.RecordBatch:
    """What the guest yields for one (source, table)."""
    values: dict[str, Any] = {"n": [source, None], "text": [f"text {source}", ""]}
    column = contract.columns[0]
    schema = bridge_schema(contract)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(ROWS), pa.uint64()),
            pa.array([1] * ROWS, pa.uint64()),
            pa.array([0] * ROWS, pa.uint32()),
            pa.array(values[column.name], schema.field(column.name).type),
        ],
        schema=schema,
    )


def quarantined_rows() -> pa.RecordBatch:
    """One row that the guest sets aside."""
    return pa.RecordBatch.from_pydict(
        {
            "@offset": pa.array([9], pa.uint64()),
            "@length": pa.array([1], pa.uint64()),
            "@flags": pa.array([0], pa.uint32()),
            "reason": ["parse.bad"],
            "field": pa.array([None], pa.utf8()),
            "message": ["bad"],
            "raw": pa.array([b"x"], pa.binary()),
        }
    )


def expected_rows(scenario: Scenario, number: int) -> set[tuple[str, int, str, int]]:
    """(table, job, source, ordinal) of every clean row of a job."""
    value = spec(scenario, number)
    return {
        (output.contract.table, job_id(number), source.source_id, ordinal)
        for output in value.outputs
        for source in value.sources
        for ordinal in range(ROWS)
    }
