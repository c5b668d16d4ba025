"""A drain: what runs finishes, nothing is begun, then the sentinel stops; it can be taken back."""

from __future__ import annotations

from msgspec import structs

from casparian.domain.jobs import JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import continuations as after
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.draining import SHOWN_MAX
from casparian.sentinel.scheduling import AHEAD_MAX
from casparian.sentinel.state import RunEntry, RunState, State, WorkerEntry, WorkerState
from tests.support.sentinel_state import conclude, persisted, queued, replies, running, take

DRAIN = ev.ClientAsked(client_id=1, number=9, request=control.Drain())
TAKE_BACK = ev.ClientAsked(client_id=1, number=10, request=control.Drain(take_back=True))
SECOND = 1_000_000_000


def asks(request: control.Request, number: int = 11) -> ev.ClientAsked:
    return ev.ClientAsked(client_id=1, number=number, request=request)


def told(effects: list[eff.Effect]) -> list[control.Draining]:
    """What those who wait are told."""
    return [
        e.event
        for e in effects
        if isinstance(e, eff.SendEvent) and isinstance(e.event, control.Draining)
    ]


def begun(effects: list[eff.Effect]) -> list[eff.Effect]:
    """Everything by which work begins."""
    return [
        e
        for e in effects
        if isinstance(e, eff.StartWorker | eff.MakePlan | eff.MakeScan)
        or (isinstance(e, eff.SendWorker) and not isinstance(e.message, messages.Abort))
    ]


def stops(effects: list[eff.Effect]) -> bool:
    """Whether the last transaction before the end is asked for."""
    return any(isinstance(e, eff.Persist) and type(e.then) is after.AfterStop for e in effects)


def with_queue(state: State) -> State:
    """Two more jobs that wait, and an idle worker that could take one."""
    waiting = {job_id: queued(job_id).jobs[job_id] for job_id in (8, 9)}
    idle = WorkerEntry(worker_id="w2", state=WorkerState.IDLE)
    return structs.replace(
        state,
        workers_max=3,
        jobs={**state.jobs, **waiting},
        workers={**state.workers, "w2": idle},
    )


def test_an_idle_sentinel_is_drained_at_once() -> None:
    state = structs.replace(running(), jobs={}, workers={})
    state, effects = take(state, DRAIN)
    assert stops(effects)
    assert [reply.count for reply in replies(effects) if isinstance(reply, control.Done)] == [1]


def test_what_runs_is_left_alone_and_what_waits_is_not_begun() -> None:
    state, effects = take(with_queue(running()), DRAIN)
    assert not state.stopping
    assert not begun(effects)
    assert not [e for e in effects if isinstance(e, eff.KillWorker)]
    assert {i: job.state for i, job in state.jobs.items()} == {
        7: JobState.RUNNING,
        8: JobState.QUEUED,
        9: JobState.QUEUED,
    }
    (said,) = told(effects)
    assert (said.jobs, said.queued, [job.job_id for job in said.running]) == (1, 2, [7])
    _, effects = take(state, ev.Tick(), at_ns=SECOND)
    assert not begun(effects)


def test_it_stops_when_the_last_job_is_committed_published_and_recorded() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    state, effects = take(state, conclude(3))
    assert state.jobs[7].state is JobState.COMMITTING
    assert not state.stopping
    state, effects = persisted(state, effects)
    assert any(isinstance(e, eff.Promote) for e in effects)
    promoted = ev.Promoted(job_id=7, epoch=3, outputs=(), pairs=())
    state, effects = take(state, promoted)
    state, effects = persisted(state, effects)
    assert 7 not in state.jobs
    assert any(isinstance(e, eff.Publish) for e in effects), "readers are to see it"
    assert not state.stopping
    state, effects = take(state, ev.Published(run_ids=()))
    assert state.stopping
    assert {e.worker_id for e in effects if isinstance(e, eff.KillWorker)} == {"w1", "w2"}
    for worker_id in ("w1", "w2"):
        state, effects = take(state, ev.WorkerGone(worker_id=worker_id, reason="killed"))
    assert stops(effects)
    assert [type(reply) for reply in replies(effects)] == [control.Done]


def test_a_run_whose_jobs_wait_is_told_that_they_go_on_later() -> None:
    run = RunEntry(
        run_id="r",
        request=control.Run(request_id="r", evidence=b"/e"),
        actor="a",
        client_id=1,
        number=3,
        started_ns=0,
        root="/e",
        state=RunState.RUNNING,
        jobs_open=frozenset({8}),
    )
    state = structs.replace(queued(8), workers={}, runs={"r": run}, requests_open={"r": ((1, 3),)})
    _, effects = take(state, DRAIN)
    codes = {reply.code for reply in replies(effects) if isinstance(reply, control.Failure)}
    assert codes == {"sentinel.stopped"}


def test_plans_and_decisions_and_publications_are_waited_for() -> None:
    idle = structs.replace(running(), jobs={}, workers={})
    propose = control.Propose(request_id="p", kind="k", subject="s", content="{}")
    for busy in (
        structs.replace(idle, planning=1),
        structs.replace(idle, considering=(("a", propose),)),
        structs.replace(idle, publishing=True),
    ):
        state, effects = take(busy, DRAIN)
        assert not state.stopping
        assert told(effects)
        state, _ = take(
            structs.replace(state, planning=0, considering=(), publishing=False), ev.Tick()
        )
        assert state.stopping


def test_an_environment_under_way_is_finished_and_a_wanted_one_is_not_begun() -> None:
    busy = WorkerEntry(worker_id="w1", state=WorkerState.BUSY, preparing="e")
    state = structs.replace(running(), jobs={}, workers={"w1": busy})
    state, effects = take(state, DRAIN)
    assert told(effects)[0].environments == 1
    idle = structs.replace(busy, state=WorkerState.IDLE, preparing="")
    state, _ = take(structs.replace(state, workers={"w1": idle}), ev.Tick())
    assert state.stopping


def test_jobs_given_ahead_come_back() -> None:
    jobs = tuple(range(1, 2 * AHEAD_MAX + 4))
    state = structs.replace(queued(*jobs), workers_max=1, many_jobs=2)
    state, effects = take(state, ev.Tick())
    state, _ = persisted(state, effects)
    ahead = [job_id for job_id, _ in state.workers["w1"].ahead]
    assert ahead
    state, effects = take(state, DRAIN)
    asked_back = [
        e.message.job_id
        for e in effects
        if isinstance(e, eff.SendWorker) and isinstance(e.message, messages.Abort)
    ]
    assert asked_back == ahead
    for job_id in ahead:
        receipt = messages.Receipt(sources=(), files=(), isolation={}, code=messages.NOT_DONE)
        state, _ = take(state, conclude(1, receipt, job_id))
    assert {state.jobs[job_id].state for job_id in ahead} == {JobState.QUEUED}
    assert state.jobs[1].state is JobState.DISPATCHED, "the one that it works at goes on"
    assert not state.stopping


def test_what_would_begin_work_is_refused_and_the_rest_is_answered() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    refused: tuple[control.Request, ...] = (
        control.Run(request_id="a", evidence=b"/e"),
        control.Scan(request_id="b", evidence=b"/e"),
        control.RetryJob(request_id="c", job_id=1),
        control.RetryJobs(request_id="d"),
        control.PrepareEnvironment(request_id="e", env_hash="h", requirements=("l",)),
        control.Repair(request_id="f"),
    )
    for request in refused:
        after_it, effects = take(state, asks(request))
        (reply,) = replies(effects)
        assert isinstance(reply, control.Failure)
        assert reply.code == "sentinel.draining"
        assert after_it.requests_open == state.requests_open, "it may be asked again later"
        assert not begun(effects)
    _, effects = take(state, asks(control.Hello()))
    (hello,) = replies(effects)
    assert isinstance(hello, control.SentinelStatus)
    assert hello.draining
    cancelled, _ = take(state, asks(control.CancelJob(request_id="x", job_id=7)))
    assert cancelled.jobs[7].state is JobState.ABORTED


def test_who_asks_again_for_what_is_under_way_waits_for_it() -> None:
    state, _ = take(with_queue(running()), asks(control.Scan(request_id="s", evidence=b"/e"), 5))
    state, _ = take(state, DRAIN)
    _, effects = take(state, asks(control.Scan(request_id="s", evidence=b"/e"), 6))
    assert not replies(effects)


def test_a_second_request_joins_and_hears_at_once_what_runs() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    state, effects = take(state, asks(control.Drain(), 12), at_ns=2)
    assert len(told(effects)) == 2, "both hear it"
    assert state.drainers == ((1, 9), (1, 12))


def test_reports_are_bounded_in_number_and_in_size() -> None:
    jobs = {
        i: structs.replace(running().jobs[7], job_id=i) for i in range(100, 100 + 3 * SHOWN_MAX)
    }
    state, effects = take(structs.replace(running(), jobs=jobs), DRAIN)
    (said,) = told(effects)
    assert said.jobs == 3 * SHOWN_MAX
    assert len(said.running) == SHOWN_MAX
    state, effects = take(state, ev.Tick(), at_ns=2)
    assert not told(effects)
    _, effects = take(state, ev.Tick(), at_ns=SECOND)
    assert told(effects)


def test_a_drain_outlives_who_asked_for_it() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    state, _ = take(state, ev.ClientGone(client_id=1))
    assert state.draining
    assert not state.drainers
    _, effects = take(state, ev.Tick(), at_ns=SECOND)
    assert not begun(effects)


def test_a_drain_that_is_taken_back_begins_jobs_again_and_tells_who_waited() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    state, effects = take(state, TAKE_BACK)
    assert not state.draining
    codes = [r.code if isinstance(r, control.Failure) else r for r in replies(effects)]
    assert codes[0] == "sentinel.resumed"
    assert isinstance(codes[1], control.Done)
    assert codes[1].count == 1
    assert state.jobs[8].state is JobState.DISPATCHED
    _, effects = take(state, TAKE_BACK)
    (reply,) = replies(effects)
    assert isinstance(reply, control.Done)
    assert reply.count == 0


def test_it_is_too_late_to_take_back_a_stop() -> None:
    state, _ = take(running(), DRAIN)
    state, _ = take(state, ev.StopAsked())
    state, effects = take(state, TAKE_BACK)
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert reply.code == "sentinel.stopping"
    assert state.stopping


def test_a_plain_stop_ends_a_drain_and_answers_who_waited() -> None:
    state, _ = take(with_queue(running()), DRAIN)
    state, _ = take(state, asks(control.Shutdown(), 20))
    assert state.jobs[7].state is JobState.QUEUED
    for worker_id in ("w1", "w2"):
        state, effects = take(state, ev.WorkerGone(worker_id=worker_id, reason="killed"))
    assert len([r for r in replies(effects) if isinstance(r, control.Done)]) == 2
