"""From a worker's receipt to committed outputs: T1, promotion, T2, and every way out.

concluded -> T1 (BeginCommit) -> begun -> Promote -> promoted -> T2 (FinishCommit) -> finished
"""

from __future__ import annotations

import os

import msgspec
from msgspec import structs

from casparian.db.operations import BeginCommit, CommitClaims, PairClaim, StepJob
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.protocol.worker import Receipt, SourceReceipt
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel import records, scheduling, totals
from casparian.sentinel.effects import Promote
from casparian.sentinel.state import JobEntry
from casparian.sentinel.turn import Turn
from casparian.sinks.staging import stage_directory


def concluded(turn: Turn, job: JobEntry, receipt: Receipt) -> None:
    """Judge a receipt that arrived under the right epoch."""
    if (problem := receipt_problem(turn, job, receipt)) is not None:
        turn.remove_stages(job, job.epoch)
        fail(turn, job, "worker.receipt", problem, permanent=False)
        return
    if receipt.code is not None and receipt.transient:
        scheduling.retry_or_fail(turn, job, receipt.code, receipt.message)
        return
    transient = [s for s in receipt.sources if s.code is not None and s.transient]
    if transient and job.attempts + 1 < ATTEMPTS_MAX:
        first = transient[0]
        assert first.code is not None
        scheduling.retry_or_fail(turn, job, first.code, first.message)
        return
    job = turn.put_job(structs.replace(job, receipt=receipt))
    if receipt.code is not None and receipt.code != records.POLICY_CODE:
        turn.remove_stages(job, job.epoch)
        fail(turn, job, receipt.code, receipt.message, permanent=True)
        return
    included = [s for s in receipt.sources if s.code is None]
    if not included:
        first = receipt.sources[0]
        turn.remove_stages(job, job.epoch)
        fail(turn, job, first.code or "source.failed", first.message, permanent=True)
        return
    _begin(turn, job, receipt, included)


def receipt_problem(turn: Turn, job: JobEntry, receipt: Receipt) -> str | None:
    """Why a receipt cannot be right, or `None`. The worker is ours, but what it says is checked all the same."""
    if receipt.code is None or receipt.code == records.POLICY_CODE:
        indexes = sorted(source.index for source in receipt.sources)
        if indexes != list(range(len(job.spec.sources))):
            return "the receipt does not name each source once"
    stages = {
        stage_directory(output.sink, turn.state.home_id, job.job_id, job.epoch)
        for output in (*job.spec.outputs, job.spec.quarantine)
    }
    excluded = {source.index for source in receipt.sources if source.code is not None}
    for file in receipt.files:
        if os.path.dirname(file.path) not in stages:
            return f"staged file outside the job's stage: {file.path}"
        if excluded.intersection(file.sources):
            return f"staged file with rows of an excluded source: {file.path}"
    return None


def _begin(turn: Turn, job: JobEntry, receipt: Receipt, included: list[SourceReceipt]) -> None:
    outputs = () if receipt.code == records.POLICY_CODE else job.spec.outputs
    claims = tuple(
        PairClaim(
            dataset_id=output.dataset_id,
            source_id=job.spec.sources[source.index].source_id,
            materialization_key=job.spec.key_parts(
                output, job.spec.sources[source.index].source_id
            ).materialization_key(),
        )
        for output in outputs
        for source in included
    )
    # COMMITTING in memory from here on: a cancel that comes now is too late, whichever way T1 goes.
    turn.move_job(job, JobState.COMMITTING)
    turn.persist(
        BeginCommit(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            epoch=job.epoch,
            mode=job.spec.mode.value,
            claims=claims,
            receipt=msgspec.msgpack.encode(receipt),
            intents=msgspec.msgpack.encode(
                [(f.path, f.blake3, f.size_bytes) for f in receipt.files]
            ),
        ),
        then=after.AfterBegin(job_id=job.job_id, epoch=job.epoch),
    )


def begun(turn: Turn, then: after.AfterBegin, claims: CommitClaims) -> None:
    """T1 is durable: promote. Or a race was lost: back without those sources."""
    job = turn.state.jobs[then.job_id]
    assert job.receipt is not None
    if claims.conflicts:
        _requeue_without(turn, job, claims.conflicts)
        return
    job = turn.put_job(structs.replace(job, claims=claims))
    assert job.receipt is not None
    turn.emit(
        Promote(
            job_id=job.job_id, epoch=job.epoch, spec=job.spec, receipt=job.receipt, claims=claims
        )
    )


def _requeue_without(turn: Turn, job: JobEntry, conflicts: tuple[str, ...]) -> None:
    """The database still says RUNNING; memory follows it back."""
    turn.remove_stages(job, job.epoch)
    lost = [s for s in job.spec.sources if s.source_id in conflicts]
    kept = tuple(
        structs.replace(source, index=index)
        for index, source in enumerate(s for s in job.spec.sources if s.source_id not in conflicts)
    )
    totals.sources_refused(turn, job, lost, "sink.exists", "another job materialized it first")
    job = turn.put_job(structs.replace(job, state=JobState.RUNNING, receipt=None))
    if not kept:
        fail(
            turn, job, "sink.exists", "another job materialized every source first", permanent=False
        )
        return
    spec = structs.replace(job.spec, sources=kept)
    job = turn.move_job(structs.replace(job, spec=spec), JobState.QUEUED, worker_id=None)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=JobState.RUNNING,
            after=JobState.QUEUED,
            epoch=job.epoch,
            spec=scheduling.encode_spec(job),
            detail=f"{len(lost)} sources were materialized by another job first",
        ),
        then=after.Nothing(),
    )


def promoted(turn: Turn, event: ev.Promoted) -> None:
    """Everything is in place: record it, T2."""
    job = turn.state.jobs[event.job_id]
    assert job.state is JobState.COMMITTING
    assert job.epoch == event.epoch
    turn.persist(
        records.finish_commit(job, event, turn.state.now_ns),
        then=after.AfterFinish(job_id=job.job_id, epoch=job.epoch),
    )


def promote_failed(turn: Turn, event: ev.PromoteFailed) -> None:
    """Staged files vanished (requeue: the evidence still exists) or could not be promoted (fail)."""
    job = turn.state.jobs[event.job_id]
    turn.remove_stages(job, job.epoch)
    if event.lost:
        turn.move_job(job, JobState.QUEUED, receipt=None, worker_id=None)
        turn.persist(
            StepJob(
                at_ns=turn.state.now_ns,
                job_id=job.job_id,
                before=JobState.COMMITTING,
                after=JobState.QUEUED,
                epoch=job.epoch,
                code=event.code,
                message=event.message,
                detail=f"integrity: {event.message}",
            ),
            then=after.Nothing(),
        )
        return
    fail(turn, job, event.code, event.message, permanent=False)


def fail(turn: Turn, job: JobEntry, code: str, message: str, *, permanent: bool) -> None:
    """End a job as FAILED, with a disposition for each of its sources."""
    receipt = job.receipt
    turn.move_job(job, JobState.FAILED)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=job.state,
            after=JobState.FAILED,
            epoch=job.epoch,
            attempts=job.attempts,
            code=code,
            message=message,
            detail=f"{code}: {message}",
            dispositions=records.failure_dispositions(
                job, code, message, permanent=permanent, at_ns=turn.state.now_ns
            ),
            log=receipt.guest_log if receipt else "",
            isolation=records.isolation_text(receipt),
        ),
        then=after.AfterFailure(job_id=job.job_id, epoch=job.epoch),
    )
    totals.sources_failed(turn, job, code, message)


def failure_recorded(turn: Turn, then: after.AfterFailure) -> None:
    """The failure is durable: the job is over."""
    job = turn.state.jobs[then.job_id]
    turn.drop_job(job)
    totals.job_ended(turn, job, "failed")


def finished(turn: Turn, then: after.AfterFinish) -> None:
    """T2 is durable: the rows are visible, the staging may go."""
    job = turn.state.jobs[then.job_id]
    assert job.receipt is not None
    turn.remove_stages(job, job.epoch)
    turn.drop_job(job)
    totals.job_committed(turn, job)
    totals.job_ended(
        turn, job, "failed" if job.receipt.code == records.POLICY_CODE else "completed"
    )
