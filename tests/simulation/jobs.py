"""Specifications and receipts of jobs in the simulated world: three tables in three sinks, a quarantine, tiny sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.ledger import Ledger
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.domain.parsers import Limits, ParserKind
from casparian.protocol import worker as messages
from casparian.protocol.worker import Receipt, SourceReceipt, StagedFile
from casparian.sentinel.state import JobSpec, OutputSpec
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import stage_directory

ENGINE: Final = "engine"
HOME_ID: Final = "home"
POLICY: Final = "quarantine.limit"

_COLUMNS: Final = (Column(name="a", type="int64"),)
MAIN: Final = OutputContract(table="t", main=True, columns=_COLUMNS)
SIDE: Final = OutputContract(table="u", main=False, columns=_COLUMNS)


def sink(name: str, kind: SinkKind = SinkKind.PARQUET) -> Sink:
    """A sink somewhere under `/sinks`."""
    location = f"/sinks/{name}" if kind is not SinkKind.DUCKDB else f"/sinks/{name}/out.duckdb"
    return Sink(kind=kind, location=location, settings={})


def output(contract: OutputContract, where: Sink) -> OutputSpec:
    """An output with plain identities; the dataset is named by table and sink."""
    return OutputSpec(
        contract=contract,
        contract_hash=f"contract-{contract.table}",
        schema_hash="schema",
        sink=where,
        sink_config_hash="settings",
        dataset_id=f"{contract.table}@{where.uri}",
    )


QUARANTINE: Final = output(QUARANTINE_CONTRACT, sink("quarantine"))
FILES_ONLY: Final = (output(MAIN, sink("main")),)
TWO_SINKS: Final = (output(MAIN, sink("main")), output(SIDE, sink("side")))
WITH_DATABASE: Final = (
    output(MAIN, sink("main")),
    output(SIDE, sink("database", SinkKind.DUCKDB)),
)
LAYOUTS: Final = (FILES_ONLY, TWO_SINKS, WITH_DATABASE)

_PARSER: Final = messages.ParserTask(
    name="p",
    version="1",
    kind=ParserKind.PYTHON,
    entry="parser.py:parse",
    directory="/parsers/p",
    artifact_hash="artifact",
    account="lines",
    unit="line",
    config={},
    limits=Limits(),
)


def source(index: int, name: str) -> messages.SourceTask:
    """A source whose identity is its name."""
    return messages.SourceTask(
        index=index,
        source_id=name,
        source_hash=name,
        sha256=name,
        size_bytes=1,
        path=name.encode(),
        display_path=name,
    )


def spec(
    names: Sequence[str],
    mode: SinkMode = SinkMode.APPEND,
    *,
    outputs: tuple[OutputSpec, ...] = FILES_ONLY,
    quarantine: OutputSpec = QUARANTINE,
    engine_hash: str = ENGINE,
    quarantine_rows_max: int | None = None,
) -> JobSpec:
    """What a plan would make of these sources."""
    return JobSpec(
        root="/evidence",
        mode=mode,
        parser=_PARSER,
        env_hash="env",
        engine_hash=engine_hash,
        parser_config_hash="config",
        lineage_version=1,
        sources=tuple(source(index, name) for index, name in enumerate(names)),
        outputs=outputs,
        quarantine=quarantine,
        quarantine_rows_max=quarantine_rows_max,
    )


_LEDGER: Final = Ledger(
    unit="line",
    declared=None,
    present=2,
    rows=1,
    recovered_live=0,
    recovered_extra=0,
    quarantined=1,
    quarantined_extra=0,
    lost=0,
    blank_units=0,
    blank_bytes=0,
    balanced=True,
)


def content(table: str, job_id: int, epoch: int, sources: Collection[str]) -> str:
    """The hash of a staged file; it says whose rows the file holds, so that a mix-up shows."""
    return f"{table}:{job_id}.{epoch}:{','.join(sources)}"


def receipt(
    told: messages.Dispatch, *, bad: Collection[int] = (), transient: bool = False, code: str = ""
) -> Receipt:
    """An honest receipt: one row and one quarantined row for each good source.

    Args:
        told: the dispatch.
        bad: indexes of sources that failed.
        transient: whether their fault may pass.
        code: the job's own code: `quarantine.limit`, or a fault of the whole job (then nothing else is said).
    """
    if code and code != POLICY:
        return Receipt(
            sources=(), files=(), isolation={}, code=code, message=code, transient=transient
        )
    tables = () if code else tuple(o.contract.table for o in told.outputs)
    sources = tuple(
        SourceReceipt(
            index=task.index,
            code="source.unreadable" if transient else "parser.exception",
            message="it broke",
            transient=transient,
        )
        if task.index in bad
        else SourceReceipt(
            index=task.index, rows=dict.fromkeys(tables, 1), quarantined=1, ledger=_LEDGER
        )
        for task in told.sources
    )
    return Receipt(
        sources=sources,
        files=staged_files(told, bad, policy=bool(code)),
        isolation={"level": "simulated"},
        code=code or None,
        message=code,
    )


def staged_files(
    told: messages.Dispatch, bad: Collection[int] = (), *, policy: bool = False
) -> tuple[StagedFile, ...]:
    """The files that such a receipt names: one a table, and one of quarantined rows."""
    kept = [task for task in told.sources if task.index not in bad]
    if not kept:
        return ()
    places = [(o.contract.table, o.sink) for o in told.outputs if not policy]
    places.append((QUARANTINE_CONTRACT.table, told.quarantine))
    found = []
    for table, where in places:
        stage = stage_directory(where, told.home_id, told.job_id, told.epoch)
        found.append(
            StagedFile(
                table=table,
                sink=where,
                path=f"{stage}/{table}_{told.job_id}_{told.epoch}_0.parquet",
                size_bytes=1,
                blake3=content(table, told.job_id, told.epoch, [t.source_id for t in kept]),
                rows=len(kept),
                sources=tuple(task.index for task in kept),
            )
        )
    return tuple(found)
