"""What a crash left behind, and how it goes on. Runs once, before the loop, with nobody else at work.

QUEUED                      stays queued
DISPATCHED, RUNNING         the worker is dead: back to QUEUED, its staging goes
COMMITTING                  past the point of no return: promoted again (idempotent) and recorded
queued for another engine   ABORTED: the next run plans it anew, with the right key
staging of any other epoch  removed
runs that were under way    marked interrupted
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from casparian.db import reads
from casparian.db.operations import CommitClaims, FinishRun, Operation, StepJob
from casparian.db.rows import scalar
from casparian.db.writer import DatabaseWriter
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol.worker import Receipt
from casparian.sentinel.effects import Effect, Promote
from casparian.sentinel.state import JobEntry, JobSpec, State
from casparian.sinks.promote import sweep_stages

if TYPE_CHECKING:
    import duckdb

_LOG = logging.getLogger(__name__)


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sentinel starts from."""

    state: State
    effects: tuple[Effect, ...]


def recover(
    state: State,
    reader: duckdb.DuckDBPyConnection,
    writer: DatabaseWriter,
    quarantine: Sink,
    *,
    now_ns: int,
) -> Recovered:
    """Bring database, staging and memory to one another."""
    jobs: dict[int, JobEntry] = {}
    operations: list[list[Operation]] = []
    effects: list[Effect] = []
    for row in reads.live_jobs(reader):
        entry, operation = _job(row, state.engine_hash, now_ns, order=len(jobs) + 1)
        if operation is not None:
            operations.append([operation])
        if entry is not None:
            jobs[entry.job_id] = entry
            if entry.state is JobState.COMMITTING:
                assert entry.receipt is not None
                effects.append(
                    Promote(
                        job_id=entry.job_id,
                        epoch=entry.epoch,
                        spec=entry.spec,
                        receipt=entry.receipt,
                        claims=entry.claims,
                    )
                )
    for (run_id,) in reader.execute(
        "SELECT run_id FROM cf_runs WHERE state = 'running'"
    ).fetchall():
        operations.append(
            [FinishRun(at_ns=now_ns, run_id=run_id, state="interrupted", result="{}")]
        )
    for outcome in writer.apply(operations) if operations else ():
        if isinstance(outcome, Exception):
            raise outcome
    keys = {
        entry.spec.key_parts(entry.spec.main, source.source_id).materialization_key(): entry.job_id
        for entry in jobs.values()
        for source in entry.spec.sources
    }
    _sweep(jobs, reader, quarantine, state.home_id)
    recovered = msgspec.structs.replace(
        state,
        jobs=jobs,
        job_order=len(jobs),
        keys_in_flight=keys,
        replies=reads.recent_replies(reader, 1000),
        catalog_dirty=_has_outputs(reader),
    )
    if jobs:
        _LOG.info("recovered %d jobs", len(jobs))
    return Recovered(state=recovered, effects=tuple(effects))


def _job(
    row: tuple[Any, ...], engine_hash: str, now_ns: int, *, order: int
) -> tuple[JobEntry | None, StepJob | None]:
    job_id, _run_id, state_text, epoch, attempts, spec_bytes, receipt, intents = row
    state = JobState(state_text)
    spec = msgspec.msgpack.decode(bytes(spec_bytes), type=JobSpec)
    entry = JobEntry(
        job_id=job_id,
        run_ids=(),
        spec=spec,
        state=state,
        epoch=epoch,
        attempts=attempts,
        order=order,
    )
    if state is JobState.COMMITTING:
        _, claims = msgspec.msgpack.decode(bytes(intents), type=tuple[bytes, CommitClaims])
        return (
            msgspec.structs.replace(
                entry, receipt=msgspec.msgpack.decode(bytes(receipt), type=Receipt), claims=claims
            ),
            None,
        )
    if spec.engine_hash != engine_hash:
        return None, StepJob(
            at_ns=now_ns,
            job_id=job_id,
            before=state,
            after=JobState.ABORTED,
            epoch=epoch,
            code="engine.changed",
            message="the engine changed while the job was queued; run again to plan it anew",
            detail="engine changed",
        )
    if state is JobState.QUEUED:
        return entry, None
    return msgspec.structs.replace(entry, state=JobState.QUEUED), StepJob(
        at_ns=now_ns,
        job_id=job_id,
        before=state,
        after=JobState.QUEUED,
        epoch=epoch,
        detail="the sentinel ended; its worker died with it",
    )


def _has_outputs(reader: duckdb.DuckDBPyConnection) -> bool:
    return scalar(reader, "SELECT count(*) FROM cf_materializations") > 0


def _sweep(
    jobs: dict[int, JobEntry], reader: duckdb.DuckDBPyConnection, quarantine: Sink, home_id: str
) -> None:
    """Remove staging that no committing job needs, in every sink this home has used or was about to use."""
    sinks: dict[str, Sink] = {quarantine.uri: quarantine}
    for uri in reads.known_sinks(reader):
        kind, _, location = uri.partition(":")
        sinks[uri] = Sink(kind=SinkKind(kind), location=location)
    keep: set[str] = set()
    for job in jobs.values():
        for output in job.spec.outputs:
            sinks[output.sink.uri] = output.sink
        if job.state is JobState.COMMITTING:
            keep.add(f"{job.job_id}.{job.epoch}")
    for sink in sinks.values():
        try:
            removed = sweep_stages(sink, home_id, keep)
        except OSError:
            _LOG.warning("staging of %s could not be swept", sink.uri, exc_info=True)
            continue
        if removed:
            _LOG.info("removed %d stages left in %s", len(removed), sink.uri)
