"""Cancel: first ABORTED is recorded, and from then on nothing of the job can commit; then its guest is stopped, then reaped.

A job that commits is past the point of no return and is not cancelled: the answer says what it keeps. A cancelled job is shown as
`aborting` until its worker has let go of it; a worker that does not within two seconds is killed.
"""

from __future__ import annotations

from msgspec import structs

from casparian.db.operations import StepJob
from casparian.domain.jobs import CANCELLABLE, JobState
from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.protocol.worker import Abort
from casparian.sentinel import answering, leases, totals
from casparian.sentinel import events as ev
from casparian.sentinel.effects import FindEnd, SendWorker
from casparian.sentinel.state import JobEntry, WorkerState
from casparian.sentinel.turn import Turn


def cancel(turn: Turn, event: ev.ClientAsked, request: control.CancelJob) -> None:
    """Carry out a request to cancel one job, a run or everything."""
    if request.everything:
        _cancel_many(turn, request.request_id, list(turn.state.runs), everything=True)
    elif request.run_id is not None:
        _cancel_run(turn, request.request_id, request.run_id)
    elif request.job_id is not None:
        _cancel_job(turn, event, request.request_id, request.job_id)
    else:
        failure = control.Failure(
            code="usage.cancel", message="name a job or a run to cancel", exit_code=ExitCode.USAGE
        )
        answering.answer(turn, request.request_id, failure)


def _cancel_job(turn: Turn, event: ev.ClientAsked, request_id: str, job_id: int) -> None:
    job = turn.state.jobs.get(job_id)
    if job is None:
        turn.emit(FindEnd(client_id=event.client_id, number=event.number, job_id=job_id))
    elif job.state is JobState.ABORTED:
        answering.record(
            turn, request_id, (), control.Done(message=f"job {job_id} is cancelled already")
        )
    elif job.state not in CANCELLABLE:
        failure = control.Failure(
            code="job.too_late",
            message=f"job {job_id} is committing: too late to cancel{_what_is_kept(job)}",
            exit_code=ExitCode.CONFLICT,
            hint="what it commits can be replaced by `casparian run --mode replace`",
        )
        answering.answer(turn, request_id, failure)
    else:
        done = control.Done(message=f"job {job_id} cancelled", count=1)
        answering.record(
            turn, request_id, (_abort(turn, job),), done, aborted=((job_id, job.epoch),)
        )


def _what_is_kept(job: JobEntry) -> str:
    if job.receipt is None:
        return ""
    kept = [source for source in job.receipt.sources if source.code is None]
    rows = sum(sum(source.rows.values()) for source in kept)
    return f"; {rows} rows of {len(kept)} files will be kept"


def _cancel_run(turn: Turn, request_id: str, run_id: str) -> None:
    """Cancel a run's jobs, planned or yet to be planned, except those that another live run waits for as well."""
    known = run_id in turn.state.runs or any(
        run_id in job.run_ids for job in turn.state.jobs.values()
    )
    if not known:
        failure = control.Failure(
            code="run.unknown",
            message=f"no live run `{run_id}`",
            exit_code=ExitCode.USAGE,
            hint="`casparian jobs list --run RUN` shows its jobs",
        )
        answering.answer(turn, request_id, failure)
        return
    _cancel_many(turn, request_id, [run_id])


def _cancel_many(
    turn: Turn, request_id: str, run_ids: list[str], *, everything: bool = False
) -> None:
    ours = set(run_ids)
    steps: list[StepJob] = []
    aborted: list[tuple[int, int]] = []
    late = 0
    for job in list(turn.state.jobs.values()):
        if not ours.intersection(job.run_ids) and not everything:
            continue
        others = tuple(r for r in job.run_ids if r not in ours and r in turn.state.runs)
        if others:
            turn.put_job(structs.replace(job, run_ids=others))
            for run_id in ours.intersection(job.run_ids, turn.state.runs):
                run = turn.state.runs[run_id]
                turn.put_run(structs.replace(run, jobs_open=run.jobs_open - {job.job_id}))
        elif job.state in CANCELLABLE:
            steps.append(_abort(turn, job))
            aborted.append((job.job_id, job.epoch))
        elif job.state is JobState.COMMITTING:
            late += 1
    for run_id in run_ids:
        if (found := turn.state.runs.get(run_id)) is not None:
            turn.put_run(structs.replace(found, cancelled=True))
    message = f"{len(steps)} jobs cancelled"
    if late:
        message += f"; {late} are committing and will be kept"
    done = control.Done(message=message, count=len(steps), fields={"committing": late})
    answering.record(turn, request_id, tuple(steps), done, aborted=tuple(aborted))


def _abort(turn: Turn, job: JobEntry) -> StepJob:
    """ABORTED in memory, and the operation that makes it durable."""
    turn.move_job(job, JobState.ABORTED, deadline_ns=leases.abort_deadline(turn))
    return StepJob(
        at_ns=turn.state.now_ns,
        job_id=job.job_id,
        before=job.state,
        after=JobState.ABORTED,
        epoch=job.epoch,
        code="job.aborted",
        message="cancelled",
        detail="cancelled",
    )


def aborted(turn: Turn, job_id: int) -> None:
    """ABORTED is durable: stop the guest. The job is forgotten when its worker has let go of it."""
    job = turn.state.jobs.get(job_id)
    if job is None or job.state is not JobState.ABORTED:
        return
    worker = turn.state.workers.get(job.worker_id) if job.worker_id else None
    if worker is None or (job.job_id, job.epoch) not in worker.held:
        end_aborted(turn, job)
    elif worker.state is WorkerState.BUSY:
        turn.put_job(structs.replace(job, deadline_ns=leases.abort_deadline(turn)))
        message = Abort(epoch=job.epoch, job_id=job.job_id)
        turn.emit(SendWorker(worker_id=worker.worker_id, message=message))
    # A killed worker is on its way out: `WorkerGone` ends the job.


def end_aborted(turn: Turn, job: JobEntry) -> None:
    """The worker has let go of a cancelled job."""
    turn.remove_stages(job, job.epoch)
    turn.drop_job(job)
    totals.job_ended(turn, job, "aborted")
