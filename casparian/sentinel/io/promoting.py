"""Promotion: staged files to their final names, or into the sink's database. Runs on its own thread, after T1."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from casparian import clock
from casparian.db.records import OutputPairRow, OutputRow
from casparian.db.visible import shown, superseded_by
from casparian.domain.outputs import SinkKind
from casparian.errors import CasparianError, IntegrityError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.protocol.worker import StagedFile
from casparian.sentinel.effects import Promote
from casparian.sentinel.events import Promoted, PromoteFailed
from casparian.sentinel.records import POLICY_CODE
from casparian.sentinel.state import OutputSpec
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.faults import is_transient
from casparian.sinks.promote import Intent, final_path, promote, verify, withdraw

if TYPE_CHECKING:
    import duckdb

_LOG = logging.getLogger(__name__)


def carry_out(
    effect: Promote, *, home: Home, home_id: str, reader: duckdb.DuckDBPyConnection
) -> Promoted | PromoteFailed:
    """P1 and P2 for file sinks, D for database sinks; idempotent, so that recovery calls it again.

    After a passing fault everything stays as it is, to be tried again. What cannot be completed is taken back from every sink
    before the answer, so that no row of a failed job stays visible.
    """
    intents = [
        _intent(file) for file in effect.receipt.files if file.sink.kind is not SinkKind.DUCKDB
    ]
    databases = _database_outputs(effect)
    commit_id = identity.commit_id(home_id, effect.job_id, effect.epoch)
    try:
        promote(intents)
        for uri, outputs in databases.items():
            sink = DuckDbSink(outputs[0].sink, home=str(home.root))
            if not sink.has_commit(commit_id):
                _load(effect, uri, outputs, sink, commit_id, reader)
    except CasparianError as error:
        lost = isinstance(error, IntegrityError)  # staged files are gone or altered
        code, message, passing = error.code, error.message, is_transient(error)
    except OSError as error:
        lost, code, message, passing = False, "sink.io", error.strerror or str(error), True
    else:
        return _promoted(effect)
    if passing and not effect.give_up:
        return PromoteFailed(
            job_id=effect.job_id,
            epoch=effect.epoch,
            code=code,
            message=message,
            lost=False,
            transient=True,
        )
    if not _taken_back(effect, intents, databases, commit_id, home, reader):
        # A job is not over while rows of it can be seen: it stays committing, and this is tried again.
        return PromoteFailed(
            job_id=effect.job_id,
            epoch=effect.epoch,
            code=code,
            message=f"{message}; it could not be taken back",
            lost=False,
            transient=True,
        )
    return PromoteFailed(
        job_id=effect.job_id, epoch=effect.epoch, code=code, message=message, lost=lost
    )


def _taken_back(
    effect: Promote,
    intents: list[Intent],
    databases: dict[str, list[OutputSpec]],
    commit_id: str,
    home: Home,
    reader: duckdb.DuckDBPyConnection,
) -> bool:
    """Take everything of a commit back; whether nothing of it can be seen any more.

    A stage that stays is seen by nobody, and a database that is not ours, or no database at all, shows nothing of ours.
    """
    gone = True
    for intent in intents:
        try:
            withdraw([intent])
        except (CasparianError, OSError):
            _LOG.exception("`%s` could not be taken back", intent.final)
            gone = gone and not os.path.lexists(intent.final)
    for outputs in databases.values():
        sink = DuckDbSink(outputs[0].sink, home=str(home.root))
        try:
            _take_back(effect, outputs, sink, commit_id, reader)
        except (CasparianError, OSError) as error:
            _LOG.exception("rows of job %d could not be taken back", effect.job_id)
            gone = gone and not (is_transient(error) or isinstance(error, OSError))
    return gone


def _take_back(
    effect: Promote,
    outputs: list[OutputSpec],
    sink: DuckDbSink,
    commit_id: str,
    reader: duckdb.DuckDBPyConnection,
) -> None:
    """Remove from a database sink what this commit put there, and show again what it hid."""
    sources = {source.source_id for source in effect.spec.sources}
    if sink.has_commit(commit_id):
        sink.withdraw(commit_id, effect.job_id)
        sink.change_hidden(
            unhide=[
                (output.contract.table, *pair)
                for output in outputs
                for pair in shown(reader, output.dataset_id, sources)
            ]
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


def _outputs(effect: Promote) -> tuple[OutputSpec, ...]:
    """The outputs of a commit: the job's own, and the sparse ones that it has rows of, or hides older rows of."""
    sparse = effect.spec.sparse_datasets() if effect.claims.empty else {}
    tables = {file.table for file in effect.receipt.files}
    tables |= {sparse[dataset] for dataset, _ in effect.claims.empty if dataset in sparse}
    return effect.spec.written(tables)


def _database_outputs(effect: Promote) -> dict[str, list[OutputSpec]]:
    """Outputs of database sinks, by sink; a job that a policy failed loads nothing."""
    found: dict[str, list[OutputSpec]] = {}
    if effect.receipt.code != POLICY_CODE:
        for output in _outputs(effect):
            if output.sink.kind is SinkKind.DUCKDB:
                found.setdefault(output.sink.uri, []).append(output)
    return found


def _load(
    effect: Promote,
    uri: str,
    outputs: list[OutputSpec],
    sink: DuckDbSink,
    commit_id: str,
    reader: duckdb.DuckDBPyConnection,
) -> None:
    """One transaction: the rows, and what they hide.

    Retired rows are only hidden here; they are deleted when the retirement is recorded, because a deletion could not be taken
    back.
    """
    included = {
        effect.spec.sources[source.index].source_id
        for source in effect.receipt.sources
        if source.code is None
    }
    loads = []
    hide: set[tuple[str, int, str]] = set()
    for output in outputs:
        table = output.contract.table
        staged = [f for f in effect.receipt.files if f.table == table and f.sink.uri == uri]
        for file in staged:
            verify(file.path, file.blake3, file.size_bytes)
        loads.append((table, output.contract, [file.path for file in staged]))
        for pair in effect.claims.retire:
            if pair.dataset_id == output.dataset_id:
                hide.add((table, pair.job_id, pair.source_id))
        for job_id, source_id in superseded_by(
            reader, output.dataset_id, effect.spec.parser.name, included
        ):
            hide.add((table, job_id, source_id))
    sink.commit(commit_id, loads, hide=sorted(hide))


def _promoted(effect: Promote) -> Promoted:
    """What T2 records about files: one row a file; for database sinks one row a table."""
    now = clock.now_ns()
    specs = {
        (output.contract.table, output.sink.uri): output
        for output in (*_outputs(effect), effect.spec.quarantine)
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
