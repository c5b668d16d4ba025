"""Workers, dispatch, leases, retries and cancellation.

Rules:
  * A job goes to a worker only after the database says DISPATCHED with a new epoch; the epoch is the fencing token.
  * A worker that is silent for `LEASE_NS` is killed; its job goes back at the next epoch, at most `ATTEMPTS_MAX` times.
  * Cancelling first records ABORTED (from then on nothing of the job can commit), then stops the guest, then reaps.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from casparian.db.operations import StepJob
from casparian.domain.jobs import ATTEMPTS_MAX, CANCELLABLE, JobState
from casparian.protocol.worker import Abort, Dispatch, OutputTask
from casparian.sentinel import committing, totals
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import KillWorker, SendWorker, StartWorker
from casparian.sentinel.state import JobEntry, WorkerEntry, WorkerState
from casparian.sentinel.turn import Turn
from casparian.sinks.staging import stage_directory

LEASE_NS: Final = 30 * 1_000_000_000
BACK_OFF_NS: Final = 500_000_000  # doubled with every attempt


def schedule(turn: Turn) -> None:
    """Give queued jobs to idle workers, oldest first; start workers while there is more work than workers."""
    state = turn.state
    if state.stopping:
        return
    ready = sorted(
        (
            job
            for job in state.jobs.values()
            if job.state is JobState.QUEUED and job.not_before_ns <= state.monotonic_ns
        ),
        key=lambda job: job.order,
    )
    idle = [w for w in state.workers.values() if w.state is WorkerState.IDLE]
    starting = sum(w.state is WorkerState.STARTING for w in state.workers.values())
    for job, worker in zip(ready, idle, strict=False):
        _dispatch(turn, job, worker)
    waiting = len(ready) - len(idle) - starting
    alive = len(state.workers)
    for _ in range(min(waiting, state.workers_max - alive)):
        number = turn.state.workers_started + 1
        worker_id = f"w{number}"
        turn.change(workers_started=number)
        turn.put_worker(WorkerEntry(worker_id=worker_id))
        turn.emit(StartWorker(worker_id=worker_id))


def _dispatch(turn: Turn, job: JobEntry, worker: WorkerEntry) -> None:
    epoch = job.epoch + 1
    turn.move_job(
        job,
        JobState.DISPATCHED,
        epoch=epoch,
        worker_id=worker.worker_id,
        deadline_ns=turn.state.monotonic_ns + LEASE_NS,
    )
    turn.put_worker(structs.replace(worker, state=WorkerState.BUSY, job_id=job.job_id, epoch=epoch))
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=JobState.QUEUED,
            after=JobState.DISPATCHED,
            epoch=job.epoch,
            new_epoch=epoch,
            attempts=job.attempts,
            detail=f"to worker {worker.worker_id}",
        ),
        then=after.AfterDispatch(job_id=job.job_id, epoch=epoch),
    )


def dispatched(turn: Turn, then: after.AfterDispatch) -> None:
    """The dispatch is durable: send it, unless the job was cancelled or the worker died meanwhile."""
    job = turn.state.jobs.get(then.job_id)
    if job is None or job.epoch != then.epoch or job.state is not JobState.DISPATCHED:
        return
    assert job.worker_id is not None
    turn.emit(SendWorker(worker_id=job.worker_id, message=dispatch_message(turn, job)))


def dispatch_message(turn: Turn, job: JobEntry) -> Dispatch:
    """What the worker needs, from what the job is."""
    spec, home_id = job.spec, turn.state.home_id
    return Dispatch(
        epoch=job.epoch,
        job_id=job.job_id,
        home_id=home_id,
        parser=spec.parser,
        sources=spec.sources,
        outputs=tuple(
            OutputTask(
                contract=output.contract,
                contract_hash=output.contract_hash,
                sink=output.sink,
                stage=stage_directory(output.sink, home_id, job.job_id, job.epoch),
            )
            for output in spec.outputs
        ),
        quarantine=spec.quarantine.sink,
        quarantine_stage=stage_directory(spec.quarantine.sink, home_id, job.job_id, job.epoch),
        processed_at_ns=turn.state.now_ns,
        lineage_version=spec.lineage_version,
        quarantine_rows_max=spec.quarantine_rows_max,
        quarantine_percent_max=spec.quarantine_percent_max,
        min_isolation=spec.min_isolation,
    )


def worker_ready(turn: Turn, worker_id: str) -> None:
    """A worker has identified itself."""
    worker = turn.state.workers.get(worker_id)
    if worker is not None and worker.state is WorkerState.STARTING:
        turn.put_worker(structs.replace(worker, state=WorkerState.IDLE))


def worker_beat(turn: Turn, event: ev.WorkerBeat) -> None:
    """Renew the lease; the first beat of a job accepts it."""
    beat = event.beat
    job = turn.state.jobs.get(beat.job_id)
    if job is None or job.epoch != beat.epoch or job.worker_id != event.worker_id:
        return
    if job.state is JobState.DISPATCHED:
        job = accept(turn, job)
    if job.state is JobState.RUNNING:
        job = structs.replace(
            job, progress=beat.progress, deadline_ns=turn.state.monotonic_ns + LEASE_NS
        )
        turn.put_job(job)
        totals.report_progress(turn, job.run_ids)


def accept(turn: Turn, job: JobEntry) -> JobEntry:
    """DISPATCHED -> RUNNING."""
    moved = turn.move_job(job, JobState.RUNNING)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=JobState.DISPATCHED,
            after=JobState.RUNNING,
            epoch=job.epoch,
            detail=f"accepted by worker {job.worker_id}",
        ),
        then=after.Nothing(),
    )
    return moved


def worker_concluded(turn: Turn, event: ev.WorkerConcluded) -> None:
    """A worker is free again; its receipt counts only under the job's present epoch."""
    conclude = event.conclude
    worker = turn.state.workers.get(event.worker_id)
    if worker is not None and worker.state is WorkerState.BUSY:
        turn.put_worker(structs.replace(worker, state=WorkerState.IDLE, job_id=None))
    job = turn.state.jobs.get(conclude.job_id)
    if job is None or job.epoch != conclude.epoch or job.worker_id != event.worker_id:
        return
    if job.state is JobState.ABORTED:
        _end_aborted(turn, job)
        return
    if job.state is JobState.DISPATCHED:
        job = accept(turn, job)
    if job.state is JobState.RUNNING:
        committing.concluded(turn, job, conclude.receipt)


def worker_gone(turn: Turn, event: ev.WorkerGone) -> None:
    """A worker process ended: its job goes back, or ends if it was being cancelled."""
    worker = turn.state.workers.get(event.worker_id)
    turn.drop_worker(event.worker_id)
    if worker is None or worker.job_id is None:
        return
    job = turn.state.jobs.get(worker.job_id)
    if job is None or job.epoch != worker.epoch:
        return
    if job.state is JobState.ABORTED:
        _end_aborted(turn, job)
    elif job.state in (JobState.DISPATCHED, JobState.RUNNING):
        retry_or_fail(turn, job, "worker.lost", f"worker {event.worker_id} ended: {event.reason}")


def retry_or_fail(turn: Turn, job: JobEntry, code: str, message: str) -> None:
    """After a transient fault: back to the queue with back-off, or FAILED when the attempts are used up."""
    attempts = job.attempts + 1
    turn.remove_stages(job, job.epoch)
    if attempts >= ATTEMPTS_MAX:
        committing.fail(
            turn, structs.replace(job, attempts=attempts), code, message, permanent=False
        )
        return
    back_off = BACK_OFF_NS << (attempts - 1)
    turn.move_job(
        job,
        JobState.QUEUED,
        attempts=attempts,
        worker_id=None,
        not_before_ns=turn.state.monotonic_ns + back_off,
    )
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=job.state,
            after=JobState.QUEUED,
            epoch=job.epoch,
            attempts=attempts,
            code=code,
            message=message,
            detail=f"{code}: {message}; attempt {attempts + 1} of {ATTEMPTS_MAX}",
        ),
        then=after.Nothing(),
    )


def check_leases(turn: Turn) -> None:
    """Kill workers that have been silent for too long."""
    for job in turn.state.jobs.values():
        if job.state not in (JobState.DISPATCHED, JobState.RUNNING) or job.worker_id is None:
            continue
        worker = turn.state.workers.get(job.worker_id)
        if (
            job.deadline_ns < turn.state.monotonic_ns
            and worker
            and worker.state is WorkerState.BUSY
        ):
            turn.put_worker(structs.replace(worker, state=WorkerState.KILLED))
            turn.emit(KillWorker(worker_id=job.worker_id))


def cancel(turn: Turn, job: JobEntry) -> bool:
    """Cancel a job that can be cancelled; `False` once it commits."""
    if job.state not in CANCELLABLE:
        return job.state is JobState.ABORTED
    turn.move_job(job, JobState.ABORTED)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=job.state,
            after=JobState.ABORTED,
            epoch=job.epoch,
            code="job.aborted",
            message="cancelled",
            detail="cancelled",
        ),
        then=after.AfterAbort(job_id=job.job_id, epoch=job.epoch),
    )
    return True


def aborted(turn: Turn, then: after.AfterAbort) -> None:
    """ABORTED is durable: stop the guest. The job is forgotten when its worker has let go of it."""
    job = turn.state.jobs.get(then.job_id)
    if job is None or job.state is not JobState.ABORTED:
        return
    worker = turn.state.workers.get(job.worker_id) if job.worker_id else None
    if worker is None or worker.job_id != job.job_id or worker.state is not WorkerState.BUSY:
        _end_aborted(turn, job)
    else:
        turn.emit(
            SendWorker(
                worker_id=worker.worker_id, message=Abort(epoch=job.epoch, job_id=job.job_id)
            )
        )


def _end_aborted(turn: Turn, job: JobEntry) -> None:
    turn.remove_stages(job, job.epoch)
    turn.drop_job(job)
    totals.job_ended(turn, job, "aborted")


def requeue_for_stop(turn: Turn, job: JobEntry) -> None:
    """The sentinel stops: what has not begun to commit goes back to the queue, and will run after the next start."""
    turn.move_job(job, JobState.QUEUED, worker_id=None)
    turn.remove_stages(job, job.epoch)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=job.state,
            after=JobState.QUEUED,
            epoch=job.epoch,
            detail="the sentinel stopped",
        ),
        then=after.Nothing(),
    )


def requeue_ended(turn: Turn, event: ev.JobLoaded) -> None:
    """`jobs retry`: an ended job is queued again with fresh attempts."""
    order = turn.state.job_order + 1
    main = event.spec.main
    keys = {
        event.spec.key_parts(main, source.source_id).materialization_key(): event.job_id
        for source in event.spec.sources
    }
    turn.change(job_order=order, keys_in_flight={**turn.state.keys_in_flight, **keys})
    turn.put_job(
        JobEntry(
            job_id=event.job_id,
            run_ids=(),
            spec=event.spec,
            state=JobState.QUEUED,
            epoch=event.epoch,
            order=order,
        )
    )
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=event.job_id,
            before=event.state,
            after=JobState.QUEUED,
            epoch=event.epoch,
            attempts=0,
            detail="retried by hand",
        ),
        then=after.Nothing(),
    )


def encode_spec(job: JobEntry) -> bytes:
    """The stored form of what a job is."""
    return msgspec.msgpack.encode(job.spec)
