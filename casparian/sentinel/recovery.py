"""What a crash left behind, and how it goes on. Runs once, before the loop, with nobody else at work.

QUEUED                      stays queued
DISPATCHED, RUNNING         the worker is dead: back to QUEUED, its staging goes
COMMITTING                  past the point of no return: promoted again (idempotent) and recorded
queued for another engine   ABORTED: the next run plans it anew, with the right key
staging of committing jobs  kept until they are recorded; all other staging of this home is removed
runs that were under way    marked interrupted

`plan_recovery` decides and is pure; `recover` reads, records and sweeps. A crash in the middle is answered by doing it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db import reads
from casparian.db.operations import CommitDocument, FinishRun, Operation, StepJob
from casparian.db.rows import scalar
from casparian.db.writer import DatabaseWriter
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import CasparianError, IntegrityError
from casparian.protocol.worker import Receipt
from casparian.sentinel.effects import Effect, Promote
from casparian.sentinel.state import JobEntry, JobSpec, State
from casparian.sentinel.turn import stage_sinks
from casparian.sinks.promote import sweep_stages
from casparian.sinks.staging import stage_directory

if TYPE_CHECKING:
    import duckdb

_REPLIES_MAX: Final = 1000  # of the newest mutations; a client asks again within seconds, not days
_LOG = logging.getLogger(__name__)


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sentinel starts from."""

    state: State
    effects: tuple[Effect, ...]


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the database holds after a crash."""

    jobs: tuple[tuple[Any, ...], ...]  # rows of `reads.live_jobs`
    runs: tuple[str, ...]  # runs without an end
    sinks: tuple[str, ...]  # canonical URIs of all sinks that this home knows of
    replies: Mapping[str, bytes]  # request id -> reply, of the newest mutations
    has_outputs: bool


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, in this order: record `groups`, sweep the stages of `sinks`, carry out `effects`."""

    state: State
    groups: tuple[tuple[Operation, ...], ...]
    sinks: tuple[Sink, ...]
    keep: frozenset[str]  # absolute stage directories that a committing job still needs
    effects: tuple[Effect, ...]


def plan_recovery(state: State, left: Left, quarantine: Sink, *, now_ns: int) -> Recovery:
    """Decide how a home goes on. Pure.

    Args:
        state: a fresh one, with nothing alive in it.
        left: what the database holds.
        quarantine: where this home's quarantine goes now; live jobs may name another.
        now_ns: wall clock, for records.

    Raises:
        IntegrityError: a committing job without what T1 writes: no crash leaves that.
    """
    jobs: dict[int, JobEntry] = {}
    groups: list[tuple[Operation, ...]] = []
    effects: list[Effect] = []
    sinks = {quarantine.uri: quarantine}
    for uri in left.sinks:
        kind, _, location = uri.partition(":")
        sinks[uri] = Sink(kind=SinkKind(kind), location=location)
    keep: set[str] = set()
    for row in left.jobs:
        entry = _entry(row, order=len(jobs) + 1)
        used = stage_sinks(entry)
        sinks |= {sink.uri: sink for sink in used}
        if entry.state is JobState.COMMITTING:
            keep |= {stage_directory(s, state.home_id, entry.job_id, entry.epoch) for s in used}
            effects.append(_promote(entry))
        elif entry.spec.engine_hash != state.engine_hash:
            groups.append((_abort(entry, now_ns),))
            continue
        elif entry.state is not JobState.QUEUED:
            groups.append((_requeue(entry, now_ns),))
            entry = msgspec.structs.replace(entry, state=JobState.QUEUED)
        jobs[entry.job_id] = entry
    groups += [
        (FinishRun(at_ns=now_ns, run_id=run_id, state="interrupted", result="{}"),)
        for run_id in left.runs
    ]
    recovered = msgspec.structs.replace(
        state,
        jobs=jobs,
        job_order=len(jobs),
        keys_in_flight=_keys(jobs.values()),
        replies=dict(left.replies),
        catalog_dirty=left.has_outputs,
    )
    return Recovery(
        state=recovered,
        groups=tuple(groups),
        sinks=tuple(sinks.values()),
        keep=frozenset(keep),
        effects=tuple(effects),
    )


def recover(
    state: State,
    reader: duckdb.DuckDBPyConnection,
    writer: DatabaseWriter,
    quarantine: Sink,
    *,
    now_ns: int,
) -> Recovered:
    """Bring database, staging and memory to one another.

    Raises:
        Exception: what kept the database from being brought up to date; nothing has been swept then.
    """
    left = Left(
        jobs=tuple(reads.live_jobs(reader)),
        runs=_running_runs(reader),
        sinks=tuple(reads.known_sinks(reader)),
        replies=reads.recent_replies(reader, _REPLIES_MAX),
        has_outputs=scalar(reader, "SELECT count(*) FROM cf_materializations") > 0,
    )
    plan = plan_recovery(state, left, quarantine, now_ns=now_ns)
    for outcome in writer.apply(plan.groups) if plan.groups else ():
        if isinstance(outcome, Exception):
            raise outcome
    _sweep(plan.sinks, state.home_id, plan.keep)
    if plan.state.jobs:
        _LOG.info("recovered %d jobs", len(plan.state.jobs))
    return Recovered(state=plan.state, effects=plan.effects)


def _running_runs(reader: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    rows = reader.execute("SELECT run_id FROM cf_runs WHERE state = 'running'").fetchall()
    return tuple(str(run_id) for (run_id,) in rows)


def _sweep(sinks: Sequence[Sink], home_id: str, keep: frozenset[str]) -> None:
    """Remove the staging that nobody needs. A sink that is away or refuses is left to the next start."""
    for sink in sinks:
        try:
            removed = sweep_stages(sink, home_id, set(keep))
        except (OSError, CasparianError):
            _LOG.warning("staging of %s could not be swept", sink.uri, exc_info=True)
            continue
        if removed:
            _LOG.info("removed %d stages left in %s", len(removed), sink.uri)


# -- one job


def _entry(row: tuple[Any, ...], *, order: int) -> JobEntry:
    """A job as the database has it."""
    job_id, run_id, state, epoch, attempts, spec, receipt, intents = row
    entry = JobEntry(
        job_id=job_id,
        run_ids=(run_id,),
        spec=msgspec.msgpack.decode(bytes(spec), type=JobSpec),
        state=JobState(state),
        epoch=epoch,
        attempts=attempts,
        order=order,
    )
    if entry.state is not JobState.COMMITTING:
        return entry
    try:
        if receipt is None or intents is None:
            raise _damaged(
                job_id, f"there is no {'receipt' if receipt is None else 'intent'} of it"
            )
        return msgspec.structs.replace(
            entry,
            receipt=msgspec.msgpack.decode(bytes(receipt), type=Receipt),
            claims=msgspec.msgpack.decode(bytes(intents), type=CommitDocument).found,
        )
    except msgspec.DecodeError as error:
        raise _damaged(job_id, f"what it holds cannot be read: {error}") from error


def _damaged(job_id: int, what: str) -> IntegrityError:
    return IntegrityError(
        f"job {job_id} is committing, but the control database is damaged: {what}",
        code="db.corrupt",
        hint="`casparian sentinel backups` lists copies to restore; `casparian doctor` then compares the files",
        job=job_id,
    )


def _promote(job: JobEntry) -> Promote:
    assert job.receipt is not None
    return Promote(
        job_id=job.job_id, epoch=job.epoch, spec=job.spec, receipt=job.receipt, claims=job.claims
    )


def _requeue(job: JobEntry, now_ns: int) -> StepJob:
    return StepJob(
        at_ns=now_ns,
        job_id=job.job_id,
        before=job.state,
        after=JobState.QUEUED,
        epoch=job.epoch,
        detail="the sentinel ended; its worker died with it",
    )


def _abort(job: JobEntry, now_ns: int) -> StepJob:
    return StepJob(
        at_ns=now_ns,
        job_id=job.job_id,
        before=job.state,
        after=JobState.ABORTED,
        epoch=job.epoch,
        code="engine.changed",
        message="the engine changed while the job was queued; run again to plan it anew",
        detail="engine changed",
    )


def _keys(jobs: Iterable[JobEntry]) -> dict[str, int]:
    """Which job writes which key (of the main output)."""
    return {
        job.spec.key_parts(job.spec.main, source.source_id).materialization_key(): job.job_id
        for job in jobs
        for source in job.spec.sources
    }
