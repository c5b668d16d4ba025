"""Jobs that go back to the queue: after a passing fault, when the sentinel stops, by a person's word.

A passing fault (worker lost, lease, no space in staging, …) is tried `ATTEMPTS_MAX` times with a growing pause, then the job is a
dead letter: FAILED with its reason, until somebody retries it. Whether a fault passes is the receipt's word, a flag and no text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import structs

from casparian.db.operations import StepJob
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.sentinel import answering, committing
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.state import JobEntry, JobSpec
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
    if attempts >= ATTEMPTS_MAX:
        turn.remove_stages(job, job.epoch)
        committing.fail(
            turn, structs.replace(job, attempts=attempts), code, message, permanent=False
        )
        return
    waits = structs.replace(
        job,
        attempts=attempts,
        promotes=0,
        not_before_ns=turn.state.monotonic_ns + back_off(job.job_id, attempts),
    )
    again = f"{code}: {message}; attempt {attempts + 1} of {ATTEMPTS_MAX}"
    back_to_queue(turn, waits, again, code=code, message=message)
    committing.end_shut_out(turn)


def back_to_queue(
    turn: Turn, job: JobEntry, why: str, *, code: str | None = None, message: str | None = None
) -> None:
    """A job that was given to a worker waits again: what it staged goes, and its history says why."""
    turn.remove_stages(job, job.epoch)
    turn.move_job(job, JobState.QUEUED, worker_id=None, receipt=None)
    turn.persist(
        StepJob(
            at_ns=turn.state.now_ns,
            job_id=job.job_id,
            before=job.state,
            after=JobState.QUEUED,
            epoch=job.epoch,
            attempts=job.attempts,
            code=code,
            message=message,
            detail=why,
        ),
        then=after.Nothing(),
    )


def keys_of(spec: JobSpec) -> tuple[str, ...]:
    """The main output's materialization key of each source."""
    return tuple(
        spec.key_parts(spec.main, source.source_id).materialization_key() for source in spec.sources
    )


def why_not(turn: Turn, item: ev.LoadedJob, taken: Collection[str]) -> control.Failure | None:
    """Why an ended job may not be queued again, or `None`.

    Args:
        turn: the step under way.
        item: the job.
        taken: keys of jobs that are queued again in the same step.
    """
    if item.has_rows:
        # Rows live and retire by (job, source): under the same job they could not be told from those that are kept.
        return control.Failure(
            code="job.keeps_quarantine",
            message=f"job {item.job_id} was failed by a policy and its quarantined rows are kept; it is not written twice",
            exit_code=ExitCode.CONFLICT,
            hint="`casparian run EVIDENCE --retry-failed` reads the files again, in a new job",
        )
    for key in keys_of(item.spec):
        other = turn.state.jobs.get(turn.state.keys_in_flight.get(key, 0))
        if key in taken or (other is not None and other.state is not JobState.ABORTED):
            by = f"job {other.job_id}" if other is not None else "another job"
            return control.Failure(
                code="job.in_flight",
                message=f"files of job {item.job_id} are read by {by} already",
                exit_code=ExitCode.CONFLICT,
                hint=f"`casparian jobs show {other.job_id}` tells how it goes" if other else "",
            )
    return None


def retry_by_hand(
    turn: Turn, request_id: str, loaded: Sequence[ev.LoadedJob], reply: control.Done
) -> None:
    """Ended jobs are queued again with fresh attempts, all in one transaction with the reply."""
    steps = []
    for item in loaded:
        order = turn.state.job_order + 1
        turn.change(job_order=order, starts_failed=0)
        job = turn.put_job(
            JobEntry(
                job_id=item.job_id,
                run_ids=(),
                spec=item.spec,
                state=JobState.QUEUED,
                epoch=item.epoch,
                order=order,
                keys=keys_of(item.spec),
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
