"""Promotion: staged files to their final names, or into the sink's database. Runs on its own thread, after T1."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from casparian import clock
from casparian.db.records import OutputPairRow, OutputRow
from casparian.db.visible import superseded_by
from casparian.domain.outputs import SinkKind
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.protocol.worker import StagedFile
from casparian.sentinel.effects import Promote
from casparian.sentinel.events import Promoted, PromoteFailed
from casparian.sentinel.records import POLICY_CODE
from casparian.sentinel.state import OutputSpec
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.promote import Intent, PromoteLost, final_path, promote, withdraw

if TYPE_CHECKING:
    import duckdb


def carry_out(
    effect: Promote, *, home: Home, home_id: str, reader: duckdb.DuckDBPyConnection
) -> Promoted | PromoteFailed:
    """P1 and P2 for file sinks, D for database sinks; idempotent, so that recovery calls it again."""
    intents = [
        _intent(file) for file in effect.receipt.files if file.sink.kind is not SinkKind.DUCKDB
    ]
    try:
        promote(intents)
        for uri, outputs in _database_outputs(effect).items():
            _load(effect, uri, outputs, home=home, home_id=home_id, reader=reader)
    except PromoteLost as error:
        withdraw(intents)
        return _failed(effect, error.code, error.message, lost=True)
    except CasparianError as error:
        withdraw(intents)
        return _failed(effect, error.code, error.message, lost=False)
    except OSError as error:
        withdraw(intents)
        return _failed(effect, "sink.io", f"{error.strerror or error}", lost=False)
    return _promoted(effect)


def _failed(effect: Promote, code: str, message: str, *, lost: bool) -> PromoteFailed:
    return PromoteFailed(
        job_id=effect.job_id, epoch=effect.epoch, code=code, message=message, lost=lost
    )


def _intent(file: StagedFile) -> Intent:
    return Intent(
        table=file.table,
        sink=file.sink,
        staged=file.path,
        final=final_path(file.sink, file.path),
        blake3=file.blake3,
        size_bytes=file.size_bytes,
        rows=file.rows,
        sources=file.sources,
    )


def _database_outputs(effect: Promote) -> dict[str, list[OutputSpec]]:
    """Outputs of database sinks, by sink; a job that a policy failed loads nothing."""
    found: dict[str, list[OutputSpec]] = {}
    if effect.receipt.code != POLICY_CODE:
        for output in effect.spec.outputs:
            if output.sink.kind is SinkKind.DUCKDB:
                found.setdefault(output.sink.uri, []).append(output)
    return found


def _load(
    effect: Promote,
    uri: str,
    outputs: list[OutputSpec],
    *,
    home: Home,
    home_id: str,
    reader: duckdb.DuckDBPyConnection,
) -> None:
    included = {
        effect.spec.sources[source.index].source_id
        for source in effect.receipt.sources
        if source.code is None
    }
    loads = []
    retire: list[tuple[str, int, str]] = []
    hide: list[tuple[str, int, str]] = []
    for output in outputs:
        table = output.contract.table
        staged = [f.path for f in effect.receipt.files if f.table == table and f.sink.uri == uri]
        loads.append((table, output.contract, staged))
        gone = [
            (p.job_id, p.source_id)
            for p in effect.claims.retire
            if p.dataset_id == output.dataset_id
        ]
        retire += [(table, job, source) for job, source in gone]
        older = superseded_by(reader, output.dataset_id, effect.spec.parser.name, included)
        hide += [(table, job, source) for job, source in older if (job, source) not in gone]
    DuckDbSink(outputs[0].sink, home=str(home.root)).commit(
        identity.commit_id(home_id, effect.job_id, effect.epoch), loads, retire, hide
    )


def _promoted(effect: Promote) -> Promoted:
    """What T2 records about files: one row a file; for database sinks one row a table."""
    now = clock.now_ns()
    specs = {
        (output.contract.table, output.sink.uri): output
        for output in (*effect.spec.outputs, effect.spec.quarantine)
    }
    outputs: list[OutputRow] = []
    pairs: list[OutputPairRow] = []
    for file in effect.receipt.files:
        if file.sink.kind is SinkKind.DUCKDB:
            continue
        path = final_path(file.sink, file.path)
        outputs.append(_row(effect, specs[file.table, file.sink.uri], path, file, now))
        pairs += [
            OutputPairRow(
                path=path, job_id=effect.job_id, source_id=effect.spec.sources[index].source_id
            )
            for index in file.sources
        ]
    for database in _database_outputs(effect).values():
        for output in database:
            staged = [
                f
                for f in effect.receipt.files
                if f.table == output.contract.table and f.sink.uri == output.sink.uri
            ]
            if staged:
                outputs.append(
                    _row(effect, output, output.sink.location, staged[0], now, _rows(staged))
                )
    return Promoted(
        job_id=effect.job_id, epoch=effect.epoch, outputs=tuple(outputs), pairs=tuple(pairs)
    )


def _rows(files: Iterable[StagedFile]) -> int:
    return sum(file.rows for file in files)


def _row(
    effect: Promote,
    output: OutputSpec,
    path: str,
    file: StagedFile,
    now: int,
    rows: int | None = None,
) -> OutputRow:
    in_database = file.sink.kind is SinkKind.DUCKDB
    return OutputRow(
        job_id=effect.job_id,
        epoch=effect.epoch,
        table_name=output.contract.table,
        sink=output.sink.uri,
        dataset_id=output.dataset_id,
        path=os.path.abspath(path),
        rows=file.rows if rows is None else rows,
        size_bytes=0 if in_database else file.size_bytes,
        blake3="" if in_database else file.blake3,
        committed_at_ns=now,
    )
