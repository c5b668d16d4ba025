"""The heart: `step(state, event) -> state, effects`. Pure: same state and event, same result; no clock, disk, database or chance.

Each family of events has a module of handlers; after every event the scheduler looks for work to give out, and runs whose
last job has ended are brought to their end.
"""

from __future__ import annotations

from msgspec import structs

from casparian.sentinel import (
    answering,
    approvals,
    committing,
    draining,
    leases,
    preparing,
    requests,
    runs,
    scheduling,
    trusting,
)
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import Effect, Stop
from casparian.sentinel.state import State
from casparian.sentinel.turn import Turn


def step(
    state: State, event: ev.Event, *, now_ns: int, monotonic_ns: int
) -> tuple[State, list[Effect]]:
    """Take one event.

    Args:
        state: what is known.
        event: what happened.
        now_ns: wall clock of this moment, for records.
        monotonic_ns: clock for deadlines; never goes back.
    """
    turn = Turn(structs.replace(state, now_ns=now_ns, monotonic_ns=monotonic_ns))
    _handle(turn, event)
    if turn.state.held:
        committing.begin_held(turn)
    scheduling.schedule(turn)
    if turn.state.environments:
        preparing.schedule(turn)
        preparing.forget_failed(turn)
    leases.settle_stuck(turn)
    runs.settle(turn)
    requests.settle_resting(turn)
    if turn.state.draining:
        draining.report(turn)
        if draining.is_over(turn.state):
            requests.stop(turn)
    requests.settle_stop(turn)
    return turn.state, turn.effects


def _handle(turn: Turn, event: ev.Event) -> None:
    match event:
        case ev.ClientConnected():
            turn.change(clients={**turn.state.clients, event.client_id: event.actor})
        case ev.ClientGone():
            requests.client_gone(turn, event)
        case ev.ClientAsked():
            requests.asked(turn, event)
        case ev.RowsRead():
            if turn.state.loads:
                turn.loaded(event.client_id, event.number)
            answering.answer_asker(turn, event.client_id, event.number, event.reply)
        case ev.Maintained():
            requests.maintained(turn, event)
        case ev.TrustChanged():
            trusting.changed(turn, event)
        case ev.Considered():
            approvals.considered(turn, event)
        case ev.JobLoaded():
            requests.job_loaded(turn, event)
        case ev.JobsLoaded():
            requests.jobs_loaded(turn, event)
        case ev.WorkerIdentified():
            scheduling.worker_ready(turn, event.worker_id)
        case ev.WorkerBeat():
            scheduling.worker_beat(turn, event)
        case ev.WorkerConcluded():
            scheduling.worker_concluded(turn, event)
        case ev.WorkerPrepared():
            preparing.heard(turn, event)
        case ev.WorkerGone():
            scheduling.worker_gone(turn, event)
        case ev.Tick():
            leases.check(turn)
        case ev.StopAsked():
            requests.stop(turn)
        case ev.Discovering():
            turn.tell(event.client_id, event.number, event.progress)
        case ev.Scanned():
            requests.scanned(turn, event)
        case ev.PlanReady():
            runs.plan_ready(turn, event)
        case ev.PlanFailed():
            runs.plan_failed(turn, event)
        case ev.Promoted():
            committing.promoted(turn, event)
        case ev.PromoteFailed():
            committing.promote_failed(turn, event)
        case ev.Published():
            runs.published(turn, event)
        case ev.Persisted():
            _continue(turn, event)
        case ev.PersistFailed():
            turn.emit(Stop(reason=f"{event.code}: {event.message}"))


def _continue(turn: Turn, event: ev.Persisted) -> None:
    then = event.then
    match then:
        case after.AfterDispatch():
            scheduling.dispatched(turn, then)
        case after.AfterBegin():
            committing.begun(turn, then, event.results[-1])
        case after.AfterFinish():
            committing.finished(turn, then)
        case after.AfterFailure():
            committing.failure_recorded(turn, then)
        case after.AfterApproval():
            approvals.recorded(turn, then, event.results)
        case after.AfterMutation():
            requests.mutation_recorded(turn, then, event.results)
        case after.AfterStop():
            requests.stopped(turn)
        case _:
            return
