"""From a worker's receipt to committed outputs: T1, promotion, T2, and every way out.

concluded -> T1 (BeginCommit) -> begun -> Promote -> promoted -> T2 (FinishCommit) -> finished

T1 may find that another job is committing the same (dataset, source): what may be done then depends on how that ends, so the job
stays RUNNING, can be cancelled, and asks again when the other one has ended. No job waits for one that waits: there is no circle.

A promotion that meets a passing fault (a locked sink, a full disk) stays COMMITTING and is tried again with a growing pause,
`PROMOTES_MAX` times in all; any other fault takes everything back and fails the job. A failed fsync is such another fault.
What cannot even be taken back (its disk became read-only) is tried on, and nobody who stops the sentinel waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import structs

from casparian.db.operations import (
    BeginCommit,
    CommitClaims,
    NoteJob,
    Operation,
    PairClaim,
    StepJob,
)
from casparian.domain.breakers import CIRCUIT_OPEN
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.protocol.worker import Receipt, SourceReceipt
from casparian.sentinel import breaking, records, retrying, scheduling, totals
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import Promote
from casparian.sentinel.state import JobEntry
from casparian.sentinel.turn import Turn
from casparian.sinks.staging import stage_directory

PROMOTES_MAX: Final = 5


def concluded(turn: Turn, job: JobEntry, receipt: Receipt) -> None:
    """Judge a receipt that arrived under the right epoch."""
    included = [s for s in receipt.sources if s.code is None]
    if _may_commit(turn, job, receipt, included):
        job = turn.put_job(structs.replace(job, receipt=receipt))
        _begin(turn, job, receipt, included)
    else:
        _end(turn, job, receipt)


def _may_commit(
    turn: Turn, job: JobEntry, receipt: Receipt, included: Sequence[SourceReceipt]
) -> bool:
    return (
        bool(included)
        and receipt.code in (None, records.POLICY_CODE)
        and not (receipt.code is not None and receipt.transient)
        and not _tries_again(job, receipt)
        and receipt_problem(turn, job, receipt) is None
    )


def _tries_again(job: JobEntry, receipt: Receipt) -> bool:
    """Whether a source met a passing fault and the job has attempts left."""
    passing = any(s.code is not None and s.transient for s in receipt.sources)
    return passing and job.attempts + 1 < ATTEMPTS_MAX


def _end(turn: Turn, job: JobEntry, receipt: Receipt) -> None:
    """A receipt that cannot be committed: once more, or never again."""
    if (problem := receipt_problem(turn, job, receipt)) is not None:
        turn.remove_stages(job, job.epoch)
        fail(turn, job, "worker.receipt", problem, permanent=False)
        return
    if receipt.code is not None and receipt.transient:
        retrying.retry_or_fail(turn, job, receipt.code, receipt.message)
        return
    if _tries_again(job, receipt):
        first = next(s for s in receipt.sources if s.code is not None and s.transient)
        assert first.code is not None
        retrying.retry_or_fail(turn, job, first.code, first.message)
        return
    job = turn.put_job(structs.replace(job, receipt=receipt))
    turn.remove_stages(job, job.epoch)
    if receipt.code is not None and receipt.code != records.POLICY_CODE:
        fail(turn, job, receipt.code, receipt.message, permanent=True)
        return
    first = receipt.sources[0]
    fail(turn, job, first.code or "source.failed", first.message, permanent=True)


def receipt_problem(turn: Turn, job: JobEntry, receipt: Receipt) -> str | None:
    """Why a receipt cannot be right, or `None`. The worker is ours, but what it says is checked all the same."""
    if receipt.code is None or receipt.code == records.POLICY_CODE:
        indexes = sorted(source.index for source in receipt.sources)
        if indexes != list(range(len(job.spec.sources))):
            return "the receipt does not name each source once"
    stages = {
        stage_directory(sink, turn.state.home_id, job.job_id, job.epoch)
        for sink in job.spec.sinks.values()
    }
    excluded = {source.index for source in receipt.sources if source.code is not None}
    for file in receipt.files:
        if os.path.dirname(file.path) not in stages:
            return f"staged file outside the job's stage: {file.path}"
        if excluded.intersection(file.sources):
            return f"staged file with rows of an excluded source: {file.path}"
    return None


def _begin(turn: Turn, job: JobEntry, receipt: Receipt, included: list[SourceReceipt]) -> None:
    by_policy = receipt.code == records.POLICY_CODE
    outputs = () if by_policy else records.written(job.spec, included)
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
        if records.has_part(job.spec, output, source)
    )
    # COMMITTING in memory until T1 has answered: a cancel that comes now is too late.
    turn.release(job.job_id)
    turn.move_job(job, JobState.COMMITTING)
    turn.persist(
        BeginCommit(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            epoch=job.epoch,
            mode=job.spec.mode.value,
            claims=claims,
            sparse=() if by_policy else tuple(job.spec.sparse_datasets()),
            sources=tuple(job.spec.sources[source.index].source_id for source in included),
            again=job.spec.again,
            receipt=msgspec.msgpack.encode(receipt),
            intents=msgspec.msgpack.encode(
                [(f.path, f.blake3, f.size_bytes) for f in receipt.files]
            ),
        ),
        then=after.AfterBegin(job_id=job.job_id, epoch=job.epoch),
        patient=True,
    )


def begun(turn: Turn, then: after.AfterBegin, claims: CommitClaims) -> None:
    """T1 is durable: promote. Or a race was lost: back without those sources. Or it is too early to say."""
    job = turn.state.jobs[then.job_id]
    assert job.receipt is not None
    if claims.waits_for:
        turn.put_job(structs.replace(job, state=JobState.RUNNING))  # as the database has it
        turn.hold(job.job_id, claims.waits_for)
        return
    if claims.conflicts:
        _requeue_without(turn, job, claims.conflicts)
        return
    _promote(turn, turn.put_job(structs.replace(job, claims=claims)))


def begin_held(turn: Turn) -> None:
    """Jobs ask for T1 again when all those that they wait for have left COMMITTING; oldest first."""
    for job_id, waits_for in list(turn.state.held.items()):
        job = turn.state.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING or job.receipt is None:
            turn.release(job_id)  # cancelled, or the sentinel stops
            continue
        others = (turn.state.jobs.get(other) for other in waits_for)
        if not any(other is not None and other.state is JobState.COMMITTING for other in others):
            included = [s for s in job.receipt.sources if s.code is None]
            _begin(turn, job, job.receipt, included)


def _promote(turn: Turn, job: JobEntry, *, give_up: bool = False) -> None:
    assert job.receipt is not None
    turn.emit(
        Promote(
            job_id=job.job_id,
            epoch=job.epoch,
            spec=job.spec,
            receipt=job.receipt,
            claims=job.claims,
            give_up=give_up,
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
        *breaking.after_success(turn, job),
        then=after.AfterFinish(job_id=job.job_id, epoch=job.epoch),
        patient=True,
    )


def promote_failed(turn: Turn, event: ev.PromoteFailed) -> None:
    """A promotion did not happen: again later, back to the queue (staged files vanished), or FAILED."""
    job = turn.state.jobs[event.job_id]
    if event.transient:
        _wait_for_promotion(turn, job, event)
        return
    turn.remove_stages(job, job.epoch)
    if event.lost:  # the evidence still exists
        retrying.retry_or_fail(turn, job, event.code, f"integrity: {event.message}")
        return
    fail(turn, job, event.code, event.message, permanent=False)


def _wait_for_promotion(turn: Turn, job: JobEntry, event: ev.PromoteFailed) -> None:
    promotes = job.promotes + 1
    pause = retrying.back_off(job.job_id, promotes)
    job = turn.put_job(
        structs.replace(job, promotes=promotes, not_before_ns=turn.state.monotonic_ns + pause)
    )
    totals.commit_waits(turn, job, event.code, event.message, pause)
    turn.persist(
        NoteJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            epoch=job.epoch,
            state=job.state.value,
            detail=f"{event.code}: {event.message}; {_what_follows(promotes)}",
        ),
        then=after.Nothing(),
    )


def _what_follows(promotes: int) -> str:
    if promotes < PROMOTES_MAX:
        return f"promotion {promotes + 1} of {PROMOTES_MAX} follows"
    return "it stays committing until it can be taken back"


def rests(job: JobEntry) -> bool:
    """Whether a commit waits for its sink with nothing of it under way: the next sentinel takes it up as after a crash."""
    return job.state is JobState.COMMITTING and job.promotes > 0 and job.not_before_ns > 0


def is_stuck(job: JobEntry) -> bool:
    """Whether a commit can be neither completed nor taken back until somebody sees to its sink."""
    return rests(job) and job.promotes >= PROMOTES_MAX


def promote_again(turn: Turn) -> None:
    """Promotions whose pause is over."""
    if turn.state.stopping:
        return
    now = turn.state.monotonic_ns
    due = [job for job in turn.state.jobs.values() if rests(job) and job.not_before_ns <= now]
    for job in due:
        job = turn.put_job(structs.replace(job, not_before_ns=0))
        _promote(turn, job, give_up=job.promotes + 1 >= PROMOTES_MAX)


def fail(turn: Turn, job: JobEntry, code: str, message: str, *, permanent: bool) -> None:
    """End a job as FAILED, with a disposition for each of its sources. Its parser's breaker takes note."""
    noted = breaking.after_failure(turn, job, code, message)
    step = _failure(turn, job, code, message, permanent=permanent)
    turn.persist(step, *noted, then=after.AfterFailure(job_ids=(job.job_id,)))
    if noted:
        end_shut_out(turn)


def end_shut_out(turn: Turn) -> None:
    """Queued jobs of parsers whose breaker is open end at once, all in one transaction."""
    found = breaking.queued_of(turn, breaking.open_ones(turn))
    steps: list[Operation] = [
        _failure(turn, job, CIRCUIT_OPEN, breaking.why(turn, job.spec), permanent=False)
        for job in found
    ]
    if steps:
        job_ids = tuple(job.job_id for job in found)
        turn.persist(*steps, then=after.AfterFailure(job_ids=job_ids))


def _failure(turn: Turn, job: JobEntry, code: str, message: str, *, permanent: bool) -> StepJob:
    """FAILED in memory, and the operation that records it."""
    receipt = job.receipt
    turn.move_job(job, JobState.FAILED)
    totals.sources_failed(turn, job, code, message)
    return StepJob(
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
        trust=records.trust_text(receipt),
    )


def failure_recorded(turn: Turn, then: after.AfterFailure) -> None:
    """The failures are durable: the jobs are over."""
    for job_id in then.job_ids:
        job = turn.state.jobs[job_id]
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
