"""What clients ask: reads, small mutations, runs, cancel, retry, stop. Every mutation acts once per request id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

import casparian
from casparian.db.operations import DeleteRule, InsertRule, LowerLimits, TagPaths
from casparian.domain.jobs import JobState
from casparian.domain.limits import BOUNDS, problem_with
from casparian.errors import CasparianError, ExitCode
from casparian.protocol import control, frame
from casparian.scout import rules
from casparian.sentinel import (
    answering,
    approvals,
    breaking,
    cancelling,
    committing,
    draining,
    preparing,
    quarantining,
    retrying,
    runs,
    trusting,
)
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import (
    KillWorker,
    LoadJob,
    LoadJobs,
    Maintain,
    MakeScan,
    ReadRows,
    Stop,
)
from casparian.sentinel.state import JobEntry, WorkerState
from casparian.sentinel.turn import Turn

_STOPPED: Final = control.Failure(
    code="sentinel.stopped",
    message="the sentinel was stopped; queued jobs go on after the next start",
    exit_code=ExitCode.SENTINEL,
    hint="run the same command again",
)
_SMALL_MUTATIONS = control.AddRule | control.RemoveRule | control.TagFiles


def asked(turn: Turn, event: ev.ClientAsked) -> None:
    """Answer, begin or refuse one request."""
    client_id, number, request = event.client_id, event.number, event.request
    ends = control.Shutdown | control.Drain
    if turn.state.stopping and (
        not isinstance(request, control.Hello | ends) or getattr(request, "take_back", False)
    ):
        message = "the sentinel is stopping"
        failure = control.Failure(
            code="sentinel.stopping", message=message, exit_code=ExitCode.SENTINEL
        )
        turn.reply(client_id, number, failure)
        return
    if draining.refuses(turn.state, request):
        turn.reply(client_id, number, draining.DRAINING)
        return
    request_id = getattr(request, "request_id", None)
    if request_id is not None and answering.is_repeated(turn, client_id, number, request_id):
        if (run := turn.state.runs.get(request_id)) is not None:  # it hears the events from now on
            turn.put_run(structs.replace(run, client_id=client_id, number=number))
        return
    match request:
        case control.Hello():
            if request.when_at_rest:
                turn.change(resting=(*turn.state.resting, (client_id, number)))
            else:
                turn.reply(client_id, number, status(turn))
        case control.Run():
            turn.change(starts_failed=0)
            runs.start(turn, client_id, number, request)
        case control.Scan():
            turn.change(planning=turn.state.planning + 1)
            turn.emit(MakeScan(client_id=client_id, number=number, request=request))
        case control.Read() | control.Select() | control.Doctor():
            aborting = tuple(
                j.job_id for j in turn.state.jobs.values() if j.state is JobState.ABORTED
            )
            turn.emit(
                ReadRows(
                    client_id=client_id,
                    number=number,
                    request=request,
                    aborting=aborting,
                    live=tuple(turn.state.jobs),
                    at_rest=not (turn.state.busy or turn.state.catalog_dirty),
                )
            )
        case control.Repair() | control.Backup():
            _maintain(turn, event, request)
        case control.ImportTrust() | control.Deploy() | control.Retire():
            trusting.begin(turn, event, request)
        case control.AddRule() | control.RemoveRule() | control.TagFiles():
            try:
                _mutate(turn, request)
            except CasparianError as error:  # a glob that cannot be used
                _refuse(turn, event, error.code, error.message, error.exit_code)
        case control.CancelJob():
            cancelling.cancel(turn, event, request)
        case control.RetryJob():
            turn.loading(client_id, number)
            turn.emit(LoadJob(client_id=client_id, number=number, request=request))
        case control.RetryJobs():
            turn.loading(client_id, number)
            turn.emit(LoadJobs(client_id=client_id, number=number, request=request))
        case control.ResetParser():
            _reset_parser(turn, event, request)
        case control.PrepareEnvironment():
            preparing.ask(turn, event, request)
        case control.Propose() | control.Decide() | control.Withdraw():
            approvals.asked(turn, event, request)
        case control.LowerLimits():
            _lower_limits(turn, event, request)
        case control.ReopenQuarantine():
            quarantining.reopen(turn, event, request)
        case control.Drain():
            draining.asked(turn, event, request)
        case control.Shutdown():
            if request.if_idle and (turn.state.busy or len(turn.state.clients) > 1):
                turn.reply(client_id, number, control.Done(message="others need it"))
            else:
                turn.change(stop_reply=(client_id, number))
                stop(turn)


def _refuse(
    turn: Turn, event: ev.ClientAsked, code: str, message: str, exit_code: ExitCode
) -> None:
    failure = control.Failure(code=code, message=message, exit_code=exit_code)
    answering.answer_asker(turn, event.client_id, event.number, failure)


def _mutate(turn: Turn, request: _SMALL_MUTATIONS) -> None:
    now = turn.state.now_ns
    operation: InsertRule | DeleteRule | TagPaths
    match request:
        case control.AddRule():
            rules.check_pattern(request.pattern)
            operation = InsertRule(at_ns=now, pattern=request.pattern, tag=request.tag)
            template = "rule {n} added"
        case control.RemoveRule():
            operation = DeleteRule(at_ns=now, rule_id=request.rule_id)
            template = "{n} rules removed"
        case control.TagFiles():
            expression, name_only = rules.expression(request.pattern)
            operation = TagPaths(
                at_ns=now,
                pattern=request.pattern,
                expression=expression,
                name_only=name_only,
                tag=request.tag,
                remove=request.remove,
            )
            template = "{n} files untagged" if request.remove else "{n} files tagged"
    answering.record(turn, request.request_id, (operation,), template=template)


def _reset_parser(turn: Turn, event: ev.ClientAsked, request: control.ResetParser) -> None:
    actor = turn.state.clients.get(event.client_id, "unknown")
    operations = breaking.reset(turn, request.parser, actor)
    message = (
        f"`{request.parser}` is tried again with the next job"
        if operations
        else f"no circuit breaker of `{request.parser}` is open"
    )
    done = control.Done(message=message, count=len(operations))
    answering.record(turn, request.request_id, operations, done)


def _lower_limits(turn: Turn, event: ev.ClientAsked, request: control.LowerLimits) -> None:
    named = {name: value for name, value in request.limits.items() if value is not None}
    unknown = dict.fromkeys(request.limits.keys() - BOUNDS.keys(), 0)
    problem = problem_with(named | unknown) if request.limits else "no limit is named"
    if problem is not None:
        _refuse(turn, event, "limits.invalid", problem, ExitCode.USAGE)
        return
    operation = LowerLimits(
        at_ns=turn.state.now_ns,
        parser=request.parser,
        limits=request.limits,
        actor=turn.state.clients.get(event.client_id, "unknown"),
    )
    done = control.Done(
        message=f"limits of `{request.parser}` are set; jobs planned from now on have them",
        count=len(request.limits),
    )
    answering.record(turn, request.request_id, (operation,), done)


def mutation_recorded(turn: Turn, then: after.AfterMutation, results: tuple[Any, ...]) -> None:
    """A mutation is durable: answer, and stop what it cancelled."""
    answering.recorded(turn, then, results)
    runs.run_recorded(turn, then.request_id)
    for job_id, _ in then.aborted:
        cancelling.aborted(turn, job_id)
    if then.catalog:
        turn.change(catalog_dirty=True)


def _maintain(turn: Turn, event: ev.ClientAsked, request: control.Repair | control.Backup) -> None:
    """Begin a backup at any time, a repair only when nothing else is under way."""
    if isinstance(request, control.Repair) and (turn.state.busy or turn.state.catalog_dirty):
        message = "work is under way in this home: nothing is repaired meanwhile"
        _refuse(turn, event, "doctor.busy", message, ExitCode.CONFLICT)
        return
    turn.change(planning=turn.state.planning + 1)
    actor = turn.state.clients.get(event.client_id, "unknown")
    turn.emit(
        Maintain(client_id=event.client_id, number=event.number, actor=actor, request=request)
    )


def maintained(turn: Turn, event: ev.Maintained) -> None:
    """A repair or backup is over; a failed one may be tried again under the same request id."""
    turn.change(planning=turn.state.planning - 1)
    if event.catalog:
        turn.change(catalog_dirty=True)
    if isinstance(event.reply, control.Done):
        answering.record(turn, event.request_id, (), event.reply)
    else:
        answering.answer(turn, event.request_id, event.reply)


def scanned(turn: Turn, event: ev.Scanned) -> None:
    """A scan is done and recorded."""
    turn.change(planning=turn.state.planning - 1)
    answering.answer(turn, event.request_id, event.result)


def job_loaded(turn: Turn, event: ev.JobLoaded) -> None:
    """A failed or aborted job goes back to the queue, with fresh attempts."""
    ended = turn.loaded(event.client_id, event.number)
    if event.job_id in turn.state.jobs or event.job_id in ended:
        failure = control.Failure(
            code="job.live",
            message=f"job {event.job_id} has not ended"
            if event.job_id not in ended
            else f"job {event.job_id} was tried again by somebody else and has just ended",
            exit_code=ExitCode.CONFLICT,
        )
        answering.answer(turn, event.request_id, failure)
        return
    loaded = ev.LoadedJob(
        job_id=event.job_id,
        state=event.state,
        epoch=event.epoch,
        spec=event.spec,
        has_rows=event.has_rows,
    )
    refusal = retrying.why_not(turn, loaded, set())
    if refusal is not None:
        answering.answer(turn, event.request_id, refusal)
        return
    done = control.Done(message=f"job {event.job_id} queued again", count=1)
    retrying.retry_by_hand(turn, event.request_id, (loaded,), done)


def jobs_loaded(turn: Turn, event: ev.JobsLoaded) -> None:
    """Many jobs go back to the queue together; those that live again by now, or may not, are left out and counted."""
    loaded: list[ev.LoadedJob] = []
    taken: set[str] = set()
    skipped = 0
    ended = turn.loaded(event.client_id, event.number)
    for job in event.jobs:
        if job.job_id in turn.state.jobs or job.job_id in ended:
            continue
        if retrying.why_not(turn, job, taken) is None:
            loaded.append(job)
            taken.update(retrying.keys_of(job.spec))
        else:
            skipped += 1
    count = len(loaded)
    message = f"{count} jobs {'would be ' if event.dry_run else ''}queued again"
    if skipped:
        message += f"; {skipped} left out: other jobs read their files, or their quarantine is kept"
    done = control.Done(
        message=message, count=count, fields={"skipped": skipped} if skipped else {}
    )
    if event.dry_run:
        answering.answer(turn, event.request_id, done)
        return
    retrying.retry_by_hand(turn, event.request_id, loaded, done)


def client_gone(turn: Turn, event: ev.ClientGone) -> None:
    """A client left. Its runs go on: what was asked for was asked for."""
    turn.change(
        clients={k: v for k, v in turn.state.clients.items() if k != event.client_id},
        resting=tuple(who for who in turn.state.resting if who[0] != event.client_id),
        drainers=tuple(who for who in turn.state.drainers if who[0] != event.client_id),
    )
    for run in list(turn.state.runs.values()):
        if run.client_id == event.client_id:
            turn.put_run(structs.replace(run, client_id=None))


def status(turn: Turn) -> control.SentinelStatus:
    """Who answers."""
    state = turn.state
    jobs: dict[str, int] = {}
    for job in state.jobs.values():
        jobs[job.state.value] = jobs.get(job.state.value, 0) + 1
    return control.SentinelStatus(
        version=casparian.__version__,
        protocol=frame.VERSION,
        pid=0,  # filled by `io`, which knows its process
        home_id=state.home_id,
        home=state.home,
        started_at_ns=state.started_ns,
        on_demand=state.on_demand,
        workers=len(state.workers),
        jobs=jobs,
        engine_hash=state.engine_hash,
        at_rest=not (state.busy or state.catalog_dirty),
        draining=state.draining,
    )


def settle_resting(turn: Turn) -> None:
    """Answer who waits for readers to see what is recorded; work that keeps it from them is not waited for."""
    state = turn.state
    if not state.resting:
        return
    is_soon = state.publishing or (state.catalog_dirty and not state.stopping)
    if not is_soon or state.jobs or state.planning:
        turn.change(resting=())
        for client_id, number in state.resting:
            turn.reply(client_id, number, status(turn))


def stop(turn: Turn) -> None:
    """Begin to stop: what commits is finished, what runs goes back to the queue."""
    if turn.state.stopping:
        return
    turn.change(stopping=True)
    for job in list(turn.state.jobs.values()):
        if job.state in (JobState.DISPATCHED, JobState.RUNNING):
            retrying.back_to_queue(turn, job, "the sentinel stopped")
    for worker in list(turn.state.workers.values()):
        turn.put_worker(structs.replace(worker, state=WorkerState.KILLED))
        turn.emit(KillWorker(worker_id=worker.worker_id))


def settle_stop(turn: Turn) -> None:
    """Leave once every worker is reaped and nothing commits any more, but for what waits until its sink can be written."""
    state = turn.state
    if not state.stopping or state.workers or state.publishing:
        return
    left = [job for job in state.jobs.values() if committing.rests(job)]
    at_rest = (JobState.QUEUED, JobState.ABORTED)
    if any(job.state not in at_rest and job not in left for job in state.jobs.values()):
        return
    for run in state.runs.values():
        answering.answer(turn, run.run_id, _STOPPED)
    if state.stop_reply is not None:
        turn.reply(*state.stop_reply, _done("stopped", left))
    for client_id, number in state.drainers:
        turn.reply(client_id, number, _done("drained and stopped", left))
    turn.change(runs={}, jobs={}, stop_reply=None, drainers=(), stopping=True)
    if not any(type(getattr(e, "then", None)) is after.AfterStop for e in turn.effects):
        turn.persist(then=after.AfterStop())


def _done(what: str, left: Sequence[JobEntry]) -> control.Done:
    """The last reply, with the commits that are left to the next sentinel."""
    if not left:
        return control.Done(message=what, count=1)
    named = ", ".join(str(job.job_id) for job in left[: draining.SHOWN_MAX])
    more = f" and {len(left) - draining.SHOWN_MAX} more" if len(left) > draining.SHOWN_MAX else ""
    jobs = f"job {named}" if len(left) == 1 else f"jobs {named}{more}"
    message = f"{what}; {jobs} could not be committed while the sink cannot be written: the next sentinel goes on with it"
    return control.Done(message=message, count=1, fields={"left": len(left)})


def stopped(turn: Turn) -> None:
    """All that was to be written is written: answer who still waits for a scan, a plan or a load, and leave."""
    for request_id in list(turn.state.requests_open):
        answering.answer(turn, request_id, _STOPPED)
    turn.emit(Stop(reason="asked to stop"))
