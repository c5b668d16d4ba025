"""Jobs that go back to the queue: after a passing fault, when the sentinel stops, by a person's word.

A passing fault (worker lost, lease, no space in staging, …) is tried `ATTEMPTS_MAX` times with a growing pause, then the job is a
dead letter: FAILED with its reason, until somebody retries it. Whether a fault passes is the receipt's word, a flag and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from casparian.db.operations import StepJob
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.protocol import control
from casparian.sentinel import answering, committing
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.state import JobEntry
from casparian.sentinel.turn import Turn

BACK_OFF_NS: Final = 500_000_000  # doubled with every attempt
_GOLDEN: Final = 0x9E3779B97F4A7C15  # spreads consecutive numbers over the whole range


def back_off(job_id: int, attempts: int) -> int:
    """Nanoseconds to wait after so many attempts: doubled each time, and up to a quarter more, the same for the same job.

    Jobs that failed together do not come back together.
    """
    pause = BACK_OFF_NS << min(attempts - 1, 7)
    spread = ((job_id * 8 + attempts) * _GOLDEN) % (1 << 64)
    return pause + (pause // 4 * (spread >> 32) >> 32)


def retry_or_fail(turn: Turn, job: JobEntry, code: str, message: str) -> None:
    """After a transient fault: back to the queue with back-off, or FAILED when the attempts are used up."""
    attempts = job.attempts + 1
    turn.remove_stages(job, job.epoch)
    if attempts >= ATTEMPTS_MAX:
        committing.fail(
            turn, structs.replace(job, attempts=attempts), code, message, permanent=False
        )
        return
    turn.move_job(
        job,
        JobState.QUEUED,
        attempts=attempts,
        worker_id=None,
        receipt=None,
        promotes=0,
        not_before_ns=turn.state.monotonic_ns + back_off(job.job_id, attempts),
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
    committing.end_shut_out(turn)


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


def retry_by_hand(
    turn: Turn, request_id: str, loaded: Sequence[ev.LoadedJob], reply: control.Done
) -> None:
    """Ended jobs are queued again with fresh attempts, all in one transaction with the reply."""
    steps = []
    for item in loaded:
        order = turn.state.job_order + 1
        turn.change(job_order=order, starts_failed=0)
        main = item.spec.main
        job = turn.put_job(
            JobEntry(
                job_id=item.job_id,
                run_ids=(),
                spec=item.spec,
                state=JobState.QUEUED,
                epoch=item.epoch,
                order=order,
                keys=tuple(
                    item.spec.key_parts(main, source.source_id).materialization_key()
                    for source in item.spec.sources
                ),
            )
        )
        turn.take_keys(job)
        steps.append(
            StepJob(
                at_ns=turn.state.now_ns,
                job_id=item.job_id,
                before=item.state,
                after=JobState.QUEUED,
                epoch=item.epoch,
                attempts=0,
                detail="retried by hand",
            )
        )
    answering.record(turn, request_id, tuple(steps), reply)
    committing.end_shut_out(turn)
