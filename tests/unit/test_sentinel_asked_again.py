"""A run whose client lost its connection and asked again is answered where it waits now."""

from __future__ import annotations

from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import State
from casparian.sentinel.step import step

FAILURE = control.Failure(code="evidence.missing", message="gone", exit_code=2)
RUN = control.Run(request_id="r", evidence=b"/gone", dry_run=True)


def take(state: State, *events: ev.Event) -> tuple[State, list[eff.Effect]]:
    effects: list[eff.Effect] = []
    for event in events:
        state, more = step(state, event, now_ns=1, monotonic_ns=1)
        effects += more
    return state, effects


def test_a_plan_that_fails_is_told_to_the_client_that_waits_now() -> None:
    state = State(
        home_id="h", home="/h", engine_hash="e", workers_max=1, on_demand=False, started_ns=0
    )
    state, _ = take(
        state,
        ev.ClientConnected(client_id=1, actor="a"),
        ev.ClientAsked(client_id=1, number=4, request=RUN),
        ev.ClientGone(client_id=1),
        ev.ClientConnected(client_id=2, actor="a"),
        ev.ClientAsked(client_id=2, number=9, request=RUN),
    )
    (run_id,) = state.runs
    failed = ev.PlanFailed(run_id=run_id, client_id=1, number=4, failure=FAILURE)
    state, effects = take(state, failed)
    replies = [e for e in effects if isinstance(e, eff.SendReply)]
    assert [(e.client_id, e.number, e.reply) for e in replies] == [(2, 9, FAILURE)]
    assert not state.runs
    assert state.planning == 0
