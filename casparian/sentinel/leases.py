"""What time does: leases run out, workers never start, an aborted job's worker does not let go, promotions are repeated.

All on the monotonic clock; nothing here writes the database for a heartbeat. A worker that is killed is reaped before its job
goes anywhere (`WorkerGone` follows).
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from casparian.domain.jobs import JobState
from casparian.sentinel import committing, preparing, runs, scheduling
from casparian.sentinel.effects import KillWorker
from casparian.sentinel.state import STARTS_MAX, WorkerEntry, WorkerState
from casparian.sentinel.turn import Turn

START_NS: Final = 60 * 1_000_000_000  # in which a worker says who it is
_ABORT_NS: Final = 2 * 1_000_000_000
_WATCHED: Final = (JobState.DISPATCHED, JobState.RUNNING, JobState.ABORTED)


def abort_deadline(turn: Turn) -> int:
    """When a worker that was told to abort is killed instead."""
    return turn.state.monotonic_ns + _ABORT_NS


def check(turn: Turn) -> None:
    """Look at every worker, and at every promotion that waits."""
    turn.record_accepts()
    now = turn.state.monotonic_ns
    for worker in list(turn.state.workers.values()):
        if worker.state is WorkerState.STARTING and now - worker.since_ns > START_NS:
            turn.change(starts_failed=turn.state.starts_failed + 1)
            _kill(turn, worker)
        elif worker.state is WorkerState.BUSY and _is_overdue(turn, worker):
            _kill(turn, worker)
    scheduling.recall(turn)
    committing.promote_again(turn)
    committing.end_shut_out(turn)  # what a restart has brought back to the queue


def _is_overdue(turn: Turn, worker: WorkerEntry) -> bool:
    """Whether it is silent about what it works at, or does not let go of a job that was aborted."""
    if worker.preparing:
        return turn.state.monotonic_ns - worker.since_ns > scheduling.LEASE_NS
    for number, (job_id, epoch) in enumerate(worker.held):
        job = turn.state.jobs.get(job_id)
        watched = (JobState.ABORTED,) if number else _WATCHED
        if (
            job is not None
            and job.epoch == epoch
            and job.state in watched
            and job.deadline_ns < turn.state.monotonic_ns
        ):
            return True
    return False


def settle_stuck(turn: Turn) -> None:
    """Workers cannot be started: tell the runs that wait; their jobs stay queued."""
    if turn.state.starts_failed >= STARTS_MAX and turn.state.is_stuck and not turn.state.stopping:
        preparing.give_up(turn)
        runs.give_up_unstartable(turn)


def _kill(turn: Turn, worker: WorkerEntry) -> None:
    turn.put_worker(structs.replace(worker, state=WorkerState.KILLED))
    turn.emit(KillWorker(worker_id=worker.worker_id))
