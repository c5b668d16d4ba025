"""What time does to workers: silence, a start that never ends, an abort that is not obeyed."""

from __future__ import annotations

from msgspec import structs

from casparian.db import operations as op
from casparian.domain.jobs import JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.leases import START_NS
from casparian.sentinel.scheduling import LEASE_NS
from casparian.sentinel.state import STARTS_MAX, RunEntry, RunState, State, WorkerState
from tests.support.sentinel_state import operations, persisted, queued, replies, running, take

SECOND = 1_000_000_000


def kills(effects: list[eff.Effect]) -> list[str]:
    return [e.worker_id for e in effects if isinstance(e, eff.KillWorker)]


def test_a_heartbeat_renews_the_lease_in_memory_only() -> None:
    beat = ev.WorkerBeat(worker_id="w1", beat=messages.Heartbeat(epoch=3, job_id=7))
    state, effects = take(running(), beat, at_ns=LEASE_NS // 2)
    assert operations(effects) == []
    _, effects = take(state, ev.Tick(), at_ns=LEASE_NS + 1)
    assert kills(effects) == []


def test_a_silent_worker_is_killed_once_and_its_job_waits_for_the_reaping() -> None:
    state, effects = take(running(), ev.Tick(), at_ns=LEASE_NS + 1)
    assert kills(effects) == ["w1"]
    assert state.jobs[7].state is JobState.RUNNING, "it goes back only when the worker is reaped"
    state, effects = take(state, ev.Tick(), at_ns=LEASE_NS + 2)
    assert kills(effects) == []
    state, _ = take(state, ev.WorkerGone(worker_id="w1", reason="killed"), at_ns=LEASE_NS + 3)
    assert state.jobs[7].state is JobState.QUEUED


def starting() -> State:
    state = structs.replace(queued(1, 2), workers={}, workers_max=1)
    state, effects = take(state, ev.Tick())
    assert [type(e) for e in effects] == [eff.StartWorker]
    return state


def test_a_worker_that_never_says_who_it_is_is_killed() -> None:
    state, effects = take(starting(), ev.Tick(), at_ns=START_NS)
    assert kills(effects) == []
    state, effects = take(state, ev.Tick(), at_ns=START_NS + 2)
    assert kills(effects) == ["w1"]
    assert state.starts_failed == 1


def waiting_run(state: State) -> State:
    run = RunEntry(
        run_id="run",
        request=control.Run(request_id="run", evidence=b"/e"),
        actor="examiner",
        client_id=1,
        number=3,
        started_ns=0,
        root="/e",
        state=RunState.RUNNING,
        jobs_open=frozenset(state.jobs),
    )
    return structs.replace(state, runs={"run": run}, requests_open={"run": ((1, 3),)})


def stuck() -> tuple[State, list[eff.Effect]]:
    """After `STARTS_MAX` workers that ended before they said who they are."""
    state, everything = waiting_run(starting()), []
    for number in range(1, STARTS_MAX + 1):
        state, effects = take(state, ev.WorkerGone(worker_id=f"w{number}", reason="exit code 1"))
        everything += effects
    return state, everything


def test_after_three_failed_starts_none_is_made_and_the_run_is_told() -> None:
    state, effects = stuck()
    started = [e for e in effects if isinstance(e, eff.StartWorker)]
    assert len(started) == STARTS_MAX - 1, "the first one was started before"
    (failure,) = replies(effects)
    assert isinstance(failure, control.Failure)
    assert failure.code == "worker.unstartable"
    assert {job.state for job in state.jobs.values()} == {JobState.QUEUED}
    assert state.runs == {}
    assert not state.busy, "a sentinel on demand may end: the jobs wait in the database"


def test_a_new_run_tries_again() -> None:
    state, _ = stuck()
    request = control.Run(request_id="again", evidence=b"/e")
    _, effects = take(state, ev.ClientAsked(client_id=1, number=5, request=request))
    assert any(isinstance(e, eff.StartWorker) for e in effects)


def test_one_good_worker_forgets_the_failed_starts() -> None:
    state = starting()
    state, _ = take(state, ev.WorkerGone(worker_id="w1", reason="exit code 1"))
    assert state.starts_failed == 1
    state, _ = take(state, ev.WorkerIdentified(worker_id="w2"))
    assert state.starts_failed == 0


def cancelled() -> State:
    request = control.CancelJob(request_id="r", job_id=7)
    state, effects = take(running(), ev.ClientAsked(client_id=1, number=9, request=request))
    state, effects = persisted(state, effects)
    assert [type(e) for e in effects if isinstance(e, eff.SendWorker)] == [eff.SendWorker]
    return state


def test_a_worker_that_does_not_abort_within_two_seconds_is_killed_and_aborting_until_reaped() -> (
    None
):
    state, effects = take(cancelled(), ev.Tick(), at_ns=2 * SECOND - 1)
    assert kills(effects) == []
    state, effects = take(state, ev.Tick(), at_ns=2 * SECOND + 2)
    assert kills(effects) == ["w1"]
    assert state.jobs[7].state is JobState.ABORTED
    state, effects = take(state, ev.WorkerGone(worker_id="w1", reason="killed"))
    assert 7 not in state.jobs
    assert any(isinstance(e, eff.RemoveStages) for e in effects)


def test_a_job_that_is_cancelled_before_its_worker_was_told_frees_the_worker() -> None:
    state, dispatch = take(queued(7), ev.Tick())
    request = control.CancelJob(request_id="r", job_id=7)
    state, cancel = take(state, ev.ClientAsked(client_id=1, number=9, request=request))
    state, told = persisted(state, dispatch)
    assert not any(isinstance(e, eff.SendWorker) for e in told)
    state, told = persisted(state, cancel)
    assert not any(isinstance(e, eff.SendWorker) for e in told)
    assert 7 not in state.jobs
    assert state.workers["w1"].state is WorkerState.IDLE


def test_dispatches_of_one_step_are_one_transaction() -> None:
    workers = {
        name: structs.replace(queued().workers["w1"], worker_id=name) for name in ("w1", "w2", "w3")
    }
    state = structs.replace(queued(*range(10)), workers=workers, workers_max=3)
    state, effects = take(state, ev.Tick())
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    assert [o.job_id for o in persist.operations if isinstance(o, op.StepJob)] == [0, 1, 2]
    _, effects = persisted(state, effects)
    assert [e.worker_id for e in effects if isinstance(e, eff.SendWorker)] == ["w1", "w2", "w3"]


def test_an_acceptance_and_the_commit_that_follows_are_one_transaction() -> None:
    receipt = messages.Receipt(
        sources=(messages.SourceReceipt(index=0, rows={"t": 1}),), files=(), isolation={}
    )
    concluded = ev.WorkerConcluded(
        worker_id="w1", conclude=messages.Conclude(epoch=3, job_id=7, receipt=receipt)
    )
    _, effects = take(running(state=JobState.DISPATCHED), concluded)
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    assert [type(o) for o in persist.operations] == [op.StepJob, op.BeginCommit]


def test_an_acceptance_is_recorded_at_the_next_tick_or_before_whatever_else_is_recorded() -> None:
    beat = ev.WorkerBeat(worker_id="w1", beat=messages.Heartbeat(epoch=3, job_id=7))
    accepted, effects = take(running(state=JobState.DISPATCHED), beat)
    assert operations(effects) == []
    assert accepted.jobs[7].state is JobState.RUNNING
    state, effects = take(accepted, ev.Tick())
    (step,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert (step.before, step.after) == (JobState.DISPATCHED, JobState.RUNNING)
    _, effects = take(state, ev.Tick())
    assert operations(effects) == [], "once"
    for event in (
        ev.WorkerGone(worker_id="w1", reason="killed"),
        ev.StopAsked(),
        ev.ClientAsked(client_id=1, number=9, request=control.CancelJob(request_id="r", job_id=7)),
    ):
        _, effects = take(accepted, event)
        steps = [o for o in operations(effects) if isinstance(o, op.StepJob)]
        assert (steps[0].before, steps[0].after) == (JobState.DISPATCHED, JobState.RUNNING)
        assert steps[1].before is JobState.RUNNING
