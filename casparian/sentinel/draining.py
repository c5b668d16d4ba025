"""Drain: what runs finishes, nothing new is started, then the sentinel stops.

Rules:
  * Once asked it stays in force whoever asked and left, until it is over or taken back.
  * No queued job is given out; what workers were given ahead and have not begun goes back to the queue.
  * Plans, decisions, environments and publications under way are finished; their jobs wait in the queue, which is on disk.
  * Requests that would begin such work are refused; reads, cancelling and small changes are not.
  * A commit that can be neither completed nor taken back until somebody sees to its sink is left to the next sentinel.
  * Then it stops as by any other stop (`requests.stop`), with nothing left that could be cut short. Killed at any moment, the
    next sentinel finds what any crash leaves.
"""

from __future__ import annotations

from typing import Final

from casparian.domain.jobs import JobState
from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.sentinel import committing, scheduling
from casparian.sentinel import events as ev
from casparian.sentinel.state import RunState, State
from casparian.sentinel.turn import Turn

SHOWN_MAX: Final = 16  # jobs that are named; the others are counted
_TOLD_NS: Final = 250_000_000  # between two reports of the same jobs
_BEGINS_WORK: Final = (
    control.Run
    | control.Scan
    | control.RetryJob
    | control.RetryJobs
    | control.PrepareEnvironment
    | control.Repair
)
DRAINING: Final = control.Failure(
    code="sentinel.draining",
    message="the sentinel lets its jobs finish and then stops: it begins nothing new",
    exit_code=ExitCode.SENTINEL,
    hint="run the same command again when it has stopped, or take the drain back with `casparian sentinel resume`",
)


def refuses(state: State, request: control.Request) -> bool:
    """Whether a request would begin work that a drain is to end."""
    if not state.draining or not isinstance(request, _BEGINS_WORK):
        return False
    known = request.request_id in state.requests_open or request.request_id in state.replies
    return not known  # who asks again for what is under way only waits for it


def asked(turn: Turn, event: ev.ClientAsked, request: control.Drain) -> None:
    """Begin a drain, join the one under way, or take it back."""
    who = (event.client_id, event.number)
    if request.take_back:
        _take_back(turn, who)
        return
    told_ns = turn.state.monotonic_ns - _TOLD_NS  # whoever asks hears at once
    turn.change(drainers=(*turn.state.drainers, who), drain_told_ns=told_ns)
    if not turn.state.draining:
        turn.change(draining=True)
        scheduling.recall_all(turn)


def _take_back(turn: Turn, who: tuple[int, int]) -> None:
    was = turn.state.draining
    waiting = turn.state.drainers
    turn.change(draining=False, drainers=())
    for client_id, number in waiting:
        message = "the drain was taken back; the sentinel begins jobs again"
        failure = control.Failure(
            code="sentinel.resumed", message=message, exit_code=ExitCode.CONFLICT
        )
        turn.reply(client_id, number, failure)
    message = "jobs are begun again" if was else "nothing was being drained"
    turn.reply(*who, control.Done(message=message, count=int(was)))


def is_over(state: State) -> bool:
    """Whether nothing is left that a drain waits for."""
    return (
        state.draining
        and not state.stopping
        and not works(state)
        and not (state.publishing or state.catalog_dirty)
        and not any(run.state is RunState.PUBLISHING for run in state.runs.values())
    )


def works(state: State) -> bool:
    """Whether jobs, plans, decisions or environments are under way, beside what only waits in the queue."""
    return (
        bool(state.planning or state.considering)
        or any(
            job.state is not JobState.QUEUED and not committing.is_stuck(job)
            for job in state.jobs.values()
        )
        or any(worker.preparing for worker in state.workers.values())
    )


def report(turn: Turn) -> None:
    """Tell who waits what still runs: at once who begins to wait, then several times a second at most."""
    state = turn.state
    if not state.drainers or state.monotonic_ns - state.drain_told_ns < _TOLD_NS:
        return
    said = still_running(state)
    turn.change(drain_told_ns=state.monotonic_ns)
    for client_id, number in state.drainers:
        turn.tell(client_id, number, said)


def still_running(state: State) -> control.Draining:
    """What a drain waits for."""
    live = [job for job in state.jobs.values() if job.state is not JobState.QUEUED]
    return control.Draining(
        jobs=len(live),
        queued=len(state.jobs) - len(live),
        plans=state.planning,
        decisions=len(state.considering),
        environments=sum(1 for worker in state.workers.values() if worker.preparing),
        publishing=state.publishing or state.catalog_dirty,
        running=tuple(
            control.RunningJob(
                job_id=job.job_id,
                parser=job.spec.label,
                state=job.state.value,
                files=len(job.spec.sources),
                files_done=job.progress.sources_done,
                size_bytes=job.spec.size_bytes,
                bytes_done=job.progress.bytes_done,
            )
            for job in live[:SHOWN_MAX]
        ),
    )
