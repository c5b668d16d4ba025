"""Workers and dispatch: which job goes to which worker, what workers say, when one is started.

Rules:
  * A job goes to a worker only after the database says DISPATCHED with a new epoch; the epoch is the fencing token.
  * What a worker says counts only for jobs and epochs that it was given and that were not taken from it since.
  * While there are many small jobs a worker is given a few ahead, so that it does not wait for the database between two of
    them. Each has its own epoch; none has begun until the worker says so; those of a worker that is lost, or that stays too long
    with one job, go back to the queue without having been tried.
  * Workers that never say who they are are not started for ever: after `STARTS_MAX` in a row jobs stay queued, and runs are told.

`leases` watches the clock, `retrying` sends jobs back, `cancelling` stops them.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from casparian.db.operations import NoteJob, StepJob
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink
from casparian.protocol.worker import (
    NOT_DONE,
    Abort,
    Dispatch,
    OutputTask,
    SparsePlace,
    SparseTask,
)
from casparian.sentinel import breaking, cancelling, committing, preparing, retrying, totals
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import SendWorker
from casparian.sentinel.state import STARTS_MAX, JobEntry, WorkerEntry, WorkerState
from casparian.sentinel.turn import Turn
from casparian.sinks.staging import stage_directory

LEASE_NS: Final = 30 * 1_000_000_000
AHEAD_MAX: Final = (
    10  # for one worker: as many as it does while a transaction is gathered and written
)
SMALL_BYTES: Final = 256 * 1024  # a job of so much evidence takes about as long as its commit
RECALL_NS: Final = (
    1_000_000_000  # after so long with one job, a worker gives back what it was given ahead
)


def schedule(turn: Turn) -> None:
    """Give queued jobs to idle workers, oldest first; start workers while there is more work than workers.

    Jobs lie in the order in which they were queued, so that only the first few are looked at, however many wait.
    """
    state = turn.state
    if state.stopping or state.draining or not state.jobs:
        return
    idle = [w for w in state.workers.values() if w.state is WorkerState.IDLE]
    room = state.workers_max - len(state.workers) if state.starts_failed < STARTS_MAX else 0
    if not idle and room <= 0:
        _dispatch_ahead(turn)
        return
    starting = sum(w.state is WorkerState.STARTING for w in state.workers.values())
    chosen: list[JobEntry] = []
    waiting = 0
    for job in list(state.jobs.values()) if state.breakers else state.jobs.values():
        if waiting >= starting + max(room, 0) and len(chosen) == len(idle):
            break
        if job.state is not JobState.QUEUED or job.not_before_ns > state.monotonic_ns:
            continue
        if state.breakers and not breaking.may_start(turn, job):
            continue
        if not preparing.may_start(turn, job):
            continue
        if len(chosen) < len(idle):
            breaking.started(turn, job)
            chosen.append(job)
        else:
            waiting += 1
    _dispatch(turn, list(zip(chosen, idle, strict=False)))
    _dispatch_ahead(turn)
    for _ in range(min(waiting - starting, room)):
        preparing.start_worker(turn)


def _dispatch_ahead(turn: Turn) -> None:
    """Give busy workers small jobs ahead, as long as the next in the queue are small and many."""
    state = turn.state
    if not state.has_many_jobs or state.breakers or state.stopping:
        return
    rooms = [
        worker
        for worker in state.workers.values()
        if len(worker.ahead) <= AHEAD_MAX // 2  # several at once, in one transaction
        and worker.state is WorkerState.BUSY
        and worker.job_id is not None
        and state.monotonic_ns - worker.since_ns < RECALL_NS
        and all(_is_small(state.jobs.get(job_id)) for job_id, _ in worker.held)
    ]
    if not rooms:
        return
    slots = [worker for worker in rooms for _ in range(AHEAD_MAX - len(worker.ahead))]
    chosen: list[JobEntry] = []
    for job in state.jobs.values():
        if job.state is not JobState.QUEUED or job.not_before_ns > state.monotonic_ns:
            continue
        if len(chosen) == len(slots) or not _is_small(job):
            break
        if not preparing.may_start(turn, job):
            break
        chosen.append(job)
    _dispatch(turn, list(zip(chosen, slots, strict=False)))


def _is_small(job: JobEntry | None) -> bool:
    return job is not None and job.spec.size_bytes <= SMALL_BYTES


def _dispatch(turn: Turn, pairs: list[tuple[JobEntry, WorkerEntry]]) -> None:
    """Record dispatches, all of one step in one transaction."""
    patient = all(worker.state is WorkerState.BUSY for _, worker in pairs)
    steps = []
    for job, worker in pairs:
        epoch = job.epoch + 1
        turn.move_job(
            job,
            JobState.DISPATCHED,
            epoch=epoch,
            worker_id=worker.worker_id,
            deadline_ns=turn.state.monotonic_ns + LEASE_NS,
        )
        _hold(turn, worker.worker_id, job.job_id, epoch)
        steps.append(
            StepJob(
                at_ns=turn.state.now_ns,
                job_id=job.job_id,
                before=JobState.QUEUED,
                after=JobState.DISPATCHED,
                epoch=job.epoch,
                new_epoch=epoch,
                attempts=job.attempts,
                detail=f"to worker {worker.worker_id}",
            )
        )
    if steps:
        jobs = tuple((job.job_id, job.epoch + 1) for job, _ in pairs)
        turn.persist(*steps, then=after.AfterDispatch(jobs=jobs), patient=patient)


def _hold(turn: Turn, worker_id: str, job_id: int, epoch: int) -> None:
    """A worker is to work at a job, after those that it has."""
    worker = turn.state.workers[worker_id]
    if worker.job_id is None:
        _work_at(turn, worker, ((job_id, epoch),))
    else:
        turn.put_worker(structs.replace(worker, ahead=(*worker.ahead, (job_id, epoch))))


def _work_at(turn: Turn, worker: WorkerEntry, held: tuple[tuple[int, int], ...]) -> None:
    """A worker has these jobs now; the lease of the first begins when it becomes the first."""
    recalled = tuple(known for known in worker.recalled if known in held)
    if held[:1] == worker.held[:1]:
        turn.put_worker(structs.replace(worker, ahead=held[1:], recalled=recalled))
        return
    if not held:
        turn.put_worker(
            structs.replace(
                worker, state=WorkerState.IDLE, job_id=None, epoch=0, ahead=(), recalled=()
            )
        )
        return
    now = turn.state.monotonic_ns
    (job_id, epoch), *ahead = held
    turn.put_worker(
        structs.replace(
            worker,
            state=WorkerState.BUSY,
            job_id=job_id,
            epoch=epoch,
            ahead=tuple(ahead),
            recalled=recalled,
            since_ns=now,
        )
    )
    job = turn.state.jobs.get(job_id)
    if job is not None and job.epoch == epoch and job.state is JobState.DISPATCHED:
        turn.put_job(structs.replace(job, deadline_ns=now + LEASE_NS))


def let_go(turn: Turn, worker_id: str, job_id: int, epoch: int) -> None:
    """A worker does not have a job any more; it goes on with the next it was given, or is idle."""
    worker = turn.state.workers.get(worker_id)
    if worker is not None and worker.state is WorkerState.BUSY and (job_id, epoch) in worker.held:
        _work_at(turn, worker, tuple(held for held in worker.held if held != (job_id, epoch)))


def recall(turn: Turn) -> None:
    """Ask a worker that stays with one job for what it was given ahead: others may have it.

    A job goes back to the queue when the worker says that it has let go of it, and not if it has begun and ended it meanwhile.
    """
    _recall(turn, since_before_ns=turn.state.monotonic_ns - RECALL_NS)


def recall_all(turn: Turn) -> None:
    """Ask every worker for what it was given ahead, however short it is with its job: nothing more is to be begun."""
    _recall(turn, since_before_ns=turn.state.monotonic_ns)


def _recall(turn: Turn, *, since_before_ns: int) -> None:
    for worker in list(turn.state.workers.values()):
        if (
            not worker.ahead
            or worker.state is not WorkerState.BUSY
            or worker.since_ns > since_before_ns
        ):
            continue
        asked = [held for held in worker.ahead if held not in worker.recalled]
        for job_id, epoch in asked:
            # One whose dispatch is not recorded yet was not sent: the worker does not know it, and `dispatched` will not send it.
            turn.emit(
                SendWorker(worker_id=worker.worker_id, message=Abort(epoch=epoch, job_id=job_id))
            )
        if asked:
            turn.put_worker(structs.replace(worker, recalled=(*worker.recalled, *asked)))


def dispatched(turn: Turn, then: after.AfterDispatch) -> None:
    """Dispatches are durable: send them, but those whose job was cancelled or whose worker died meanwhile."""
    for job_id, epoch in then.jobs:
        job = turn.state.jobs.get(job_id)
        if job is not None and job.epoch == epoch and job.state is JobState.DISPATCHED:
            assert job.worker_id is not None
            if (job_id, epoch) not in turn.state.workers[job.worker_id].recalled:
                turn.emit(SendWorker(worker_id=job.worker_id, message=dispatch_message(turn, job)))
                continue
            retrying.back_to_queue(turn, job, f"taken back from worker {job.worker_id}")
        for worker_id in list(turn.state.workers):  # it was never told: it is free
            let_go(turn, worker_id, job_id, epoch)


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
        threads=max(1, turn.state.workers_max // max(1, len(turn.state.jobs))),
        processed_at_ns=turn.state.now_ns,
        lineage_version=spec.lineage_version,
        quarantine_rows_max=spec.quarantine_rows_max,
        quarantine_percent_max=spec.quarantine_percent_max,
        min_isolation=spec.min_isolation,
        sparse=_sparse_task(turn, job),
    )


def _sparse_task(turn: Turn, job: JobEntry) -> SparseTask | None:
    sparse = job.spec.sparse
    if sparse is None:
        return None

    def place(sink: Sink) -> SparsePlace:
        stage = stage_directory(sink, turn.state.home_id, job.job_id, job.epoch)
        return SparsePlace(sink=sink, stage=stage)

    return SparseTask(
        place=place(sparse.sink),
        elsewhere={table: place(sink) for table, sink in sparse.sinks.items()},
        tightened=sparse.tightened,
    )


def worker_ready(turn: Turn, worker_id: str) -> None:
    """A worker has identified itself."""
    worker = turn.state.workers.get(worker_id)
    if worker is not None and worker.state is WorkerState.STARTING:
        turn.put_worker(structs.replace(worker, state=WorkerState.IDLE))
        turn.change(starts_failed=0)


def worker_beat(turn: Turn, event: ev.WorkerBeat) -> None:
    """Renew the lease, in memory; the first beat of a job accepts it."""
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
    """DISPATCHED -> RUNNING; recorded a little later (`Turn.accept_later`): after a crash either state means the same."""
    turn.accept_later(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=JobState.DISPATCHED,
            after=JobState.RUNNING,
            epoch=job.epoch,
            detail=f"accepted by worker {job.worker_id}",
        )
    )
    return turn.move_job(job, JobState.RUNNING)


def worker_concluded(turn: Turn, event: ev.WorkerConcluded) -> None:
    """A worker is free again; its receipt counts only under the job's present epoch."""
    conclude = event.conclude
    worker = turn.state.workers.get(event.worker_id)
    recalled = worker is not None and (conclude.job_id, conclude.epoch) in worker.recalled
    let_go(turn, event.worker_id, conclude.job_id, conclude.epoch)
    job = turn.state.jobs.get(conclude.job_id)
    if job is None or job.epoch != conclude.epoch or job.worker_id != event.worker_id:
        _fenced(turn, job, event)
    elif job.state is JobState.ABORTED:
        cancelling.end_aborted(turn, job)
    elif job.state in (JobState.DISPATCHED, JobState.RUNNING):
        if recalled and conclude.receipt.code == NOT_DONE:
            retrying.back_to_queue(turn, job, f"taken back from worker {event.worker_id}")
            return
        if job.state is JobState.DISPATCHED:
            job = accept(turn, job)
        committing.concluded(turn, job, conclude.receipt)


def _fenced(turn: Turn, job: JobEntry | None, event: ev.WorkerConcluded) -> None:
    """A receipt came too late: it changes nothing, what it staged goes, and the job's history says so."""
    conclude = event.conclude
    state = "ended"
    if job is not None:
        state = job.state.value
        if conclude.epoch < job.epoch:
            turn.remove_stages(job, conclude.epoch)
    turn.persist(
        NoteJob(
            at_ns=turn.state.now_ns,
            job_id=conclude.job_id,
            epoch=conclude.epoch,
            state=state,
            detail=f"fenced: a late receipt of worker {event.worker_id} under epoch {conclude.epoch}",
        ),
        then=after.Nothing(),
    )


def worker_gone(turn: Turn, event: ev.WorkerGone) -> None:
    """A worker process ended: its jobs go back, or end if they were being cancelled."""
    worker = turn.state.workers.get(event.worker_id)
    turn.drop_worker(event.worker_id)
    if worker is None:
        return
    if worker.state is WorkerState.STARTING:
        turn.change(starts_failed=turn.state.starts_failed + 1)
    message = f"worker {event.worker_id} ended: {event.reason}"
    if worker.preparing:
        preparing.lost(turn, worker, message)
    for number, (job_id, epoch) in enumerate(worker.held):
        job = turn.state.jobs.get(job_id)
        if job is None or job.epoch != epoch:
            continue
        if job.state is JobState.ABORTED:
            cancelling.end_aborted(turn, job)
        elif number and job.state is JobState.DISPATCHED:
            retrying.back_to_queue(turn, job, message)
        elif job.state in (JobState.DISPATCHED, JobState.RUNNING):
            retrying.retry_or_fail(turn, job, "worker.lost", message)


def encode_spec(job: JobEntry) -> bytes:
    """The stored form of what a job is."""
    return msgspec.msgpack.encode(job.spec)
