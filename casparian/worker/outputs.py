"""From checked batches to staged files: contract, lineage, one stage an output and one for quarantine.

A source's rows are in all stages or in none. The bytes of a quarantined row are read by the host
from the evidence; a row that breaks its contract counts as quarantined. Ordinals count from 0 in
each (source, table), in the order of arrival.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from casparian.contracts.check import Seen, TooManyValues, has_unique, split
from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.domain.trust import TrustRecord
from casparian.errors import SinkFault
from casparian.protocol.guest import QUARANTINE_OUTPUT, RAW_INLINE_BYTES_MAX
from casparian.protocol.worker import Dispatch, StagedFile
from casparian.sinks import lineage, quarantine
from casparian.sinks.faults import StagingFault
from casparian.sinks.staging import OutputStage, sync_directories
from casparian.sinks.times import check_times
from casparian.worker.balance import Spans, Units
from casparian.worker.evidence import Evidence
from casparian.worker.faults import JobViolation, SourceExcluded
from casparian.worker.session import Batch, Together
from casparian.worker.sparse import SparseOutputs

_RAW_BYTES_PER_BATCH: Final = 8 * 1024 * 1024


class SourceOutputs:
    """What one source of several has."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self.rows: dict[str, int] = {}  # by table, quarantine left out
        self.quarantined = 0


class Outputs:
    """All stages of one job.

    Args:
        dispatch: names the outputs, their contracts and their stages.
        trust: the verdict on the parser that is run: rows of an unsigned one say so.
        sparse: outputs that are numbered behind those of the dispatch; each gets a stage with its first row.
    """

    def __init__(
        self, dispatch: Dispatch, trust: TrustRecord, sparse: SparseOutputs | None = None
    ) -> None:
        self._dispatch = dispatch
        self._artifact_hash = dispatch.parser.artifact_hash  # of what was read and verified
        self._label = trust.label(dispatch.parser.name, dispatch.parser.version)
        attempt = (dispatch.job_id, dispatch.epoch)
        self._sparse = sparse
        self._tasks = list(dispatch.outputs)
        self._stages = [
            OutputStage(task.contract, task.sink, task.stage, *attempt) for task in self._tasks
        ]
        self._places = {position: position for position in range(len(self._tasks))}
        self._quarantine = OutputStage(
            quarantine.QUARANTINE_CONTRACT,
            dispatch.quarantine,
            dispatch.quarantine_stage,
            *attempt,
        )
        mains = [i for i, task in enumerate(dispatch.outputs) if task.contract.main]
        self._mains = frozenset(mains)
        self._first_main = mains[0] if mains else 0
        self._source: Evidence | None = None
        self._ordinals: dict[str, int] = {}
        self._seen: Seen | None = None  # values of the open source's unique columns
        self._unique = any(has_unique(task.contract) for task in dispatch.outputs)
        self.units = Units(dispatch.parser.account)
        self.rows_total = 0
        self.quarantined_total = 0

    @property
    def rows(self) -> dict[str, int]:
        """Rows of the open source by table, quarantine left out."""
        return {
            task.contract.table: self._ordinals[task.contract.table]
            for task in self._tasks
            if self._ordinals.get(task.contract.table)
        }

    @property
    def quarantined(self) -> int:
        """Quarantined rows of the open source, of all outputs."""
        return self._ordinals.get(QUARANTINE_TABLE, 0)

    def begin(self, source: Evidence) -> None:
        """Start a source."""
        self._source = source
        self._ordinals = {}
        self._seen = Seen()
        self.units = Units(self._dispatch.parser.account)
        for stage in self._all():
            stage.begin_source(source.task.index)

    def write(self, batch: Batch) -> None:
        """Take one batch of the open source.

        Raises:
            SourceExcluded: `contract.violation`, or a value that no sink can hold: the source fails; as `JobViolation`, the job.
            StagingFault: the stage cannot be written.
        """
        if batch.quarantine:
            self._set_aside(batch.output, batch.rows)
            return
        assert batch.output is not None
        place = self._place(batch.output)
        task = self._tasks[place]
        try:
            sides = split(batch.rows, task.contract, self._seen)
        except TooManyValues as error:
            raise SourceExcluded(error.code, error.message) from error
        if sides.failure is not None:
            if sides.failure.whole_job:
                raise JobViolation("contract.violation", sides.failure.message)
            raise SourceExcluded("contract.violation", sides.failure.message)
        if sides.rejected.num_rows:
            self._set_aside(batch.output, sides.rejected)
        if sides.valid.num_rows:
            if batch.output in self._mains:
                self.units.add_rows(sides.valid)
            stage = self._stages[place]
            self._store(stage, task.contract, task.contract_hash, sides.valid)

    def _place(self, output: int) -> int:
        """Position of an output's task and stage; they are made for the first row of a sparse output."""
        if output not in self._places:
            assert self._sparse is not None
            task = self._sparse.task(output - len(self._dispatch.outputs))
            stage = OutputStage(
                task.contract, task.sink, task.stage, self._dispatch.job_id, self._dispatch.epoch
            )
            assert self._source is not None
            stage.begin_source(self._source.task.index)
            self._tasks.append(task)
            self._stages.append(stage)
            self._places[output] = len(self._tasks) - 1
        return self._places[output]

    def _set_aside(self, output: int | None, rows: pa.RecordBatch) -> None:
        """Quarantine rows of an output, or units (`None`) that became no row: these are the first main output's."""
        if output is None or output in self._mains:
            self.units.add_quarantined(rows)
        task = self._tasks[self._first_main if output is None else self._place(output)]
        assert self._source is not None
        for part in _bounded(rows):
            table = quarantine.rows(part, table_name=task.contract.table, read=self._source.read)
            self._store(self._quarantine, quarantine.QUARANTINE_CONTRACT, task.contract_hash, table)

    def _store(
        self, stage: OutputStage, contract: OutputContract, contract_hash: str, rows: pa.RecordBatch
    ) -> None:
        assert self._source is not None
        first = self._ordinals.get(contract.table, 0)
        stored = lineage.add(
            rows,
            output=contract,
            source=self._source.task,
            parser_label=self._label,
            artifact_hash=self._artifact_hash,
            contract_hash=contract_hash,
            job_id=self._dispatch.job_id,
            processed_at_ns=self._dispatch.processed_at_ns,
            first_ordinal=first,
        )
        try:
            stage.write(stored)
        except StagingFault:
            raise
        except SinkFault as error:
            raise SourceExcluded(error.code, error.message) from error
        self._ordinals[contract.table] = first + rows.num_rows

    def commit(self) -> None:
        """Keep the open source's rows."""
        for stage in self._all():
            stage.commit_source()
        own = [task.contract.table for task in self._dispatch.outputs]
        self.rows_total += sum(self._ordinals.get(table, 0) for table in own)
        self.quarantined_total += self.quarantined
        self._source = None

    def keep_together(
        self, sources: Sequence[Evidence], together: Together
    ) -> list[SourceOutputs] | None:
        """Keep all rows of several sources, none of which is open: what each of them has.

        `None`, and nothing is kept, when a row breaks its contract or needs a look at the evidence: then each source must
        be written alone.

        Raises:
            StagingFault: the stage cannot be written.
        """
        if self._unique:
            return None
        tasks = [source.task for source in sources]
        kept = [SourceOutputs(Units(self._dispatch.parser.account)) for _ in sources]
        stored: list[tuple[OutputStage, pa.RecordBatch, list[int]]] = []
        for number, rows in together.rows.items():
            counts = together.counts[number]
            if number == QUARANTINE_OUTPUT:
                task, stage, contract = (
                    self._dispatch.outputs[self._first_main],
                    self._quarantine,
                    quarantine.QUARANTINE_CONTRACT,
                )
                if not _is_inline(rows):
                    return None
                _count_quarantined(kept, rows, counts)
                rows = quarantine.rows(rows, table_name=task.contract.table)
            elif 0 < number <= len(self._stages):
                task, stage = self._dispatch.outputs[number - 1], self._stages[number - 1]
                contract = task.contract
                if split(rows, contract).rejected.num_rows:
                    return None
                _count_rows(kept, rows, counts, contract.table, main=number - 1 in self._mains)
            else:
                return None
            batch = lineage.add_together(
                rows,
                output=contract,
                sources=tasks,
                counts=counts,
                parser_label=self._label,
                artifact_hash=self._artifact_hash,
                contract_hash=task.contract_hash,
                job_id=self._dispatch.job_id,
                processed_at_ns=self._dispatch.processed_at_ns,
            )
            try:
                check_times(batch)
            except SinkFault:
                return None
            held = [task.index for task, count in zip(tasks, counts, strict=True) if count]
            stored.append((stage, batch, held))
        for stage, batch, held in stored:
            stage.add_sources(batch, held)
        for one in kept:
            self.rows_total += sum(one.rows.values())
            self.quarantined_total += one.quarantined
        return kept

    def rollback(self) -> None:
        """Forget the open source; nothing when none is open."""
        if self._source is not None:
            for stage in self._all():
                stage.rollback_source()
            self._source = None

    def finish(self, *, quarantine_only: bool) -> tuple[StagedFile, ...]:
        """Complete and fsync all files, then their directories (after every guest was reaped)."""
        if quarantine_only:
            for stage in self._stages:
                stage.abort()
            _remove_empty(task.stage for task in self._tasks)
            kept = [self._quarantine]
        else:
            kept = list(self._all())
        files = [file for stage in kept for file in stage.finish()]
        sync_directories(sorted({os.path.dirname(file.path) for file in files}))
        return tuple(files)

    def abort(self) -> None:
        """Remove everything that was staged."""
        for stage in self._all():
            with suppress(OSError):  # the sentinel may be removing the same stage
                stage.abort()
        _remove_empty([task.stage for task in self._tasks] + [self._dispatch.quarantine_stage])

    def _all(self) -> Iterator[OutputStage]:
        yield from self._stages
        yield self._quarantine


def _remove_empty(directories: Iterable[str]) -> None:
    for directory in set(directories):
        with suppress(OSError):  # it was never made, or holds the files of another stage
            os.rmdir(directory)


def _count_rows(
    kept: list[SourceOutputs], rows: pa.RecordBatch, counts: list[int], table: str, *, main: bool
) -> None:
    spans, start = Spans(rows), 0
    for one, count in zip(kept, counts, strict=True):
        if count:
            one.rows[table] = count
            if main:
                one.units.add_spans(spans, start, count)
        start += count


def _count_quarantined(kept: list[SourceOutputs], rows: pa.RecordBatch, counts: list[int]) -> None:
    spans, start = Spans(rows), 0
    for one, count in zip(kept, counts, strict=True):
        one.quarantined = count
        one.units.add_quarantined_spans(spans, start, count)
        start += count


def _is_inline(rows: pa.RecordBatch) -> bool:
    """Whether every quarantined row came with its bytes, and they are few enough to keep."""
    raw = rows.column("raw")
    if raw.null_count:
        return False
    longest: int = pc.max(pc.binary_length(raw)).as_py()
    return longest <= RAW_INLINE_BYTES_MAX


def _bounded(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices whose inline bytes fit in memory together."""
    raw = pc.min_element_wise(rows.column(1), pa.scalar(RAW_INLINE_BYTES_MAX, pa.uint64()))
    if rows.num_rows > 1 and pc.sum(raw).as_py() > _RAW_BYTES_PER_BATCH:
        middle = rows.num_rows // 2
        yield from _bounded(rows.slice(0, middle))
        yield from _bounded(rows.slice(middle))
    else:
        yield rows
