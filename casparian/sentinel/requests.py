"""What clients ask: reads, small mutations, runs, cancel, retry, stop. Every mutation acts once per request id."""

from __future__ import annotations

from typing import Any

from msgspec import structs

import casparian
from casparian.db.operations import DeleteRule, InsertRule, SaveReply, TagPaths
from casparian.domain.jobs import JobState
from casparian.errors import CasparianError, ExitCode
from casparian.protocol import control, frame
from casparian.scout import rules
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel import runs, scheduling
from casparian.sentinel.effects import KillWorker, LoadJob, Maintain, MakeScan, ReadRows
from casparian.sentinel.state import WorkerState
from casparian.sentinel.turn import Turn

_SMALL_MUTATIONS = control.AddRule | control.RemoveRule | control.TagFiles


def asked(turn: Turn, event: ev.ClientAsked) -> None:
    """Answer, begin or refuse one request."""
    client_id, number, request = event.client_id, event.number, event.request
    request_id = getattr(request, "request_id", None)
    if request_id is not None and (stored := turn.state.replies.get(request_id)) is not None:
        turn.reply(client_id, number, control.decode_reply(stored))
        return
    if turn.state.stopping and not isinstance(request, control.Hello | control.Shutdown):
        _refuse(turn, event, "sentinel.stopping", "the sentinel is stopping", ExitCode.SENTINEL)
        return
    match request:
        case control.Hello():
            turn.reply(client_id, number, status(turn))
        case control.Run():
            _run(turn, event, request)
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
        case control.AddRule() | control.RemoveRule() | control.TagFiles():
            try:
                _mutate(turn, event, request)
            except CasparianError as error:  # a glob that cannot be used
                _refuse(turn, event, error.code, error.message, error.exit_code)
        case control.CancelJob():
            _cancel(turn, event, request)
        case control.RetryJob():
            turn.emit(LoadJob(client_id=client_id, number=number, request=request))
        case control.Shutdown():
            if request.if_idle and (turn.state.busy or len(turn.state.clients) > 1):
                turn.reply(client_id, number, control.Done(message="others need it"))
            else:
                turn.change(stop_reply=(client_id, number))
                stop(turn)


def _refuse(
    turn: Turn, event: ev.ClientAsked, code: str, message: str, exit_code: ExitCode
) -> None:
    turn.reply(
        event.client_id,
        event.number,
        control.Failure(code=code, message=message, exit_code=exit_code),
    )


def _run(turn: Turn, event: ev.ClientAsked, request: control.Run) -> None:
    run = turn.state.runs.get(request.request_id)
    if run is not None:  # the same client asks again after a lost connection
        turn.put_run(structs.replace(run, client_id=event.client_id, number=event.number))
        return
    runs.start(turn, event.client_id, event.number, request)


def _mutate(turn: Turn, event: ev.ClientAsked, request: _SMALL_MUTATIONS) -> None:
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
    turn.persist(
        operation,
        then=after.AfterMutation(
            client_id=event.client_id,
            number=event.number,
            request_id=request.request_id,
            template=template,
        ),
    )


def mutation_recorded(turn: Turn, then: after.AfterMutation, results: tuple[Any, ...]) -> None:
    """A small mutation is durable: keep its reply under the request id, and answer."""
    count = int(results[0] or 0)
    reply = control.Done(message=then.template.format(n=count), count=count)
    remember(turn, then.request_id, reply)
    turn.reply(then.client_id, then.number, reply)


def remember(turn: Turn, request_id: str, reply: control.Reply) -> None:
    """Keep the reply to a mutation, in memory and in the database."""
    encoded = control.encode(reply)
    turn.change(replies={**turn.state.replies, request_id: encoded})
    turn.persist(
        SaveReply(
            at_ns=turn.state.now_ns, request_id=request_id, kind=type(reply).__name__, reply=encoded
        ),
        then=after.Nothing(),
    )


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
        remember(turn, event.request_id, event.reply)
    turn.reply(event.client_id, event.number, event.reply)


def scanned(turn: Turn, event: ev.Scanned) -> None:
    """A scan is done and recorded."""
    turn.change(planning=turn.state.planning - 1)
    turn.reply(event.client_id, event.number, event.result)


def _cancel(turn: Turn, event: ev.ClientAsked, request: control.CancelJob) -> None:
    if request.run_id is not None:
        _cancel_run(turn, event, request.request_id, request.run_id)
        return
    job = turn.state.jobs.get(request.job_id) if request.job_id is not None else None
    if job is None:
        message = f"job {request.job_id} is not live: there is nothing to cancel"
        _refuse(turn, event, "job.not_live", message, ExitCode.CONFLICT)
    elif not scheduling.cancel(turn, job):
        message = f"job {job.job_id} is committing: too late to cancel"
        _refuse(turn, event, "job.too_late", message, ExitCode.CONFLICT)
    else:
        reply = control.Done(message=f"job {job.job_id} cancelled", count=1)
        remember(turn, request.request_id, reply)
        turn.reply(event.client_id, event.number, reply)


def _cancel_run(turn: Turn, event: ev.ClientAsked, request_id: str, run_id: str) -> None:
    """Cancel the jobs of a run, except those that another live run waits for as well."""
    run = turn.state.runs.get(run_id)
    if run is None:
        _refuse(turn, event, "run.unknown", f"no live run `{run_id}`", ExitCode.USAGE)
        return
    cancelled, left = 0, set()
    for job in [turn.state.jobs[j] for j in run.jobs_open if j in turn.state.jobs]:
        others = tuple(r for r in job.run_ids if r != run_id and r in turn.state.runs)
        if others:
            left.add(job.job_id)
            turn.put_job(structs.replace(job, run_ids=others))
        else:
            cancelled += scheduling.cancel(turn, job)
    run = turn.state.runs[run_id]
    turn.put_run(structs.replace(run, cancelled=True, jobs_open=run.jobs_open - left))
    reply = control.Done(message=f"{cancelled} jobs cancelled", count=cancelled)
    remember(turn, request_id, reply)
    turn.reply(event.client_id, event.number, reply)


def job_loaded(turn: Turn, event: ev.JobLoaded) -> None:
    """A failed or aborted job goes back to the queue, with fresh attempts."""
    if event.job_id in turn.state.jobs:
        turn.reply(
            event.client_id,
            event.number,
            control.Failure(
                code="job.live",
                message=f"job {event.job_id} has not ended",
                exit_code=ExitCode.CONFLICT,
            ),
        )
        return
    scheduling.requeue_ended(turn, event)
    reply = control.Done(message=f"job {event.job_id} queued again", count=1)
    remember(turn, event.request_id, reply)
    turn.reply(event.client_id, event.number, reply)


def client_gone(turn: Turn, event: ev.ClientGone) -> None:
    """A client left. Its runs go on: what was asked for was asked for."""
    turn.change(clients={k: v for k, v in turn.state.clients.items() if k != event.client_id})
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
    )


def stop(turn: Turn) -> None:
    """Begin to stop: what commits is finished, what runs goes back to the queue."""
    if turn.state.stopping:
        return
    turn.change(stopping=True)
    for job in list(turn.state.jobs.values()):
        if job.state in (JobState.DISPATCHED, JobState.RUNNING):
            scheduling.requeue_for_stop(turn, job)
    for worker in list(turn.state.workers.values()):
        turn.put_worker(structs.replace(worker, state=WorkerState.KILLED))
        turn.emit(KillWorker(worker_id=worker.worker_id))


def settle_stop(turn: Turn) -> None:
    """Leave once nothing commits any more and every worker is reaped."""
    state = turn.state
    if not state.stopping or state.workers or state.publishing:
        return
    if any(job.state not in (JobState.QUEUED, JobState.ABORTED) for job in state.jobs.values()):
        return
    for run in state.runs.values():
        turn.reply(
            run.client_id,
            run.number,
            control.Failure(
                code="sentinel.stopped",
                message="the sentinel was stopped; queued jobs go on after the next start",
                exit_code=ExitCode.SENTINEL,
                hint="run the same command again",
            ),
        )
    if state.stop_reply is not None:
        turn.reply(*state.stop_reply, control.Done(message="stopped", count=1))
    turn.change(runs={}, jobs={}, stop_reply=None, stopping=True)
    if not any(type(getattr(e, "then", None)) is after.AfterStop for e in turn.effects):
        turn.persist(then=after.AfterStop())
