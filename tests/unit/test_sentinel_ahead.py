"""Jobs given ahead: who gets them, how they come back, and that nothing of them is lost or done twice."""

from __future__ import annotations

from msgspec import structs

from casparian.db import operations as op
from casparian.domain.jobs import JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.scheduling import AHEAD_MAX, LEASE_NS, RECALL_NS, SMALL_BYTES
from casparian.sentinel.state import State, WorkerEntry, WorkerState
from tests.support.sentinel_state import operations, persisted, queued, take

JOBS = tuple(range(1, 2 * AHEAD_MAX + 4))
FIRST = tuple(
    (job, 1) for job in range(1, AHEAD_MAX + 2)
)  # (job, epoch) of all that one worker is given


def sent(effects: list[eff.Effect]) -> list[tuple[str, int]]:
    """Kind and job of what workers are told."""
    return [
        (type(e.message).__name__, e.message.job_id)
        for e in effects
        if isinstance(e, eff.SendWorker)
    ]


def given() -> tuple[State, list[eff.Effect]]:
    """One worker with a job and as many ahead as it can have, and what it was told."""
    state = structs.replace(queued(*JOBS), workers_max=1, many_jobs=2)
    state, effects = take(state, ev.Tick())
    return persisted(state, effects)


def concluded(job_id: int, epoch: int = 1, code: str | None = None) -> ev.WorkerConcluded:
    receipt = messages.Receipt(sources=(), files=(), isolation={}, code=code)
    conclude = messages.Conclude(epoch=epoch, job_id=job_id, receipt=receipt)
    return ev.WorkerConcluded(worker_id="w1", conclude=conclude)


def test_a_worker_is_given_small_jobs_ahead_in_order_each_with_its_epoch() -> None:
    state, effects = given()
    assert state.workers["w1"].held == FIRST
    assert sent(effects) == [("Dispatch", job) for job, _ in FIRST]
    assert [state.jobs[job].state for job, _ in FIRST] == [JobState.DISPATCHED] * len(FIRST)
    assert state.jobs[len(FIRST) + 1].state is JobState.QUEUED


def test_few_jobs_are_left_for_whoever_is_idle_first() -> None:
    state = structs.replace(queued(*JOBS), workers_max=1, many_jobs=len(JOBS))
    state, _ = take(state, ev.Tick())
    assert state.workers["w1"].held == ((1, 1),)


def test_nothing_is_given_ahead_behind_or_in_front_of_a_large_job() -> None:
    base = structs.replace(queued(*JOBS), workers_max=1, many_jobs=2)
    for large in (1, 2):
        job = base.jobs[large]
        source = structs.replace(job.spec.sources[0], size_bytes=SMALL_BYTES + 1)
        spec = structs.replace(job.spec, sources=(source,))
        jobs = {**base.jobs, large: structs.replace(job, spec=spec)}
        state, _ = take(structs.replace(base, jobs=jobs), ev.Tick())
        assert state.workers["w1"].held == ((1, 1),), large


def test_the_lease_of_a_job_given_ahead_begins_when_the_worker_comes_to_it() -> None:
    state, _ = given()
    late = LEASE_NS - 1
    state, _ = take(state, concluded(1, code="parser.exception"), at_ns=late)
    assert state.workers["w1"].job_id == 2
    assert state.jobs[2].deadline_ns > LEASE_NS
    _, effects = take(state, ev.Tick(), at_ns=LEASE_NS + 1)
    assert not [e for e in effects if isinstance(e, eff.KillWorker)]


def test_when_a_worker_is_lost_only_the_job_it_worked_at_counts_as_tried() -> None:
    state, _ = given()
    state, effects = take(state, ev.WorkerGone(worker_id="w1", reason="signal SIGKILL"))
    tried = [job for job, _ in FIRST if state.jobs[job].attempts]
    assert tried == [1]
    steps = {o.job_id: o for o in operations(effects) if isinstance(o, op.StepJob)}
    assert set(steps) == {job for job, _ in FIRST}
    assert {step.after for step in steps.values()} == {JobState.QUEUED}
    assert steps[2].code is None


def test_a_cancelled_job_that_waits_is_called_off_and_the_others_stay() -> None:
    state, _ = given()
    asked = ev.ClientAsked(
        client_id=1, number=1, request=control.CancelJob(request_id="r", job_id=3)
    )
    state, effects = take(state, asked)
    state, effects = persisted(state, effects)
    assert sent(effects) == [("Abort", 3)]
    state, effects = take(state, concluded(3, code=messages.NOT_DONE))
    assert 3 not in state.jobs
    assert (3, 1) not in state.workers["w1"].held
    assert state.workers["w1"].job_id == 1


def test_a_worker_that_does_not_call_off_a_waiting_job_is_killed() -> None:
    state, _ = given()
    asked = ev.ClientAsked(
        client_id=1, number=1, request=control.CancelJob(request_id="r", job_id=3)
    )
    state, effects = take(state, asked)
    state, effects = persisted(state, effects)
    _, effects = take(state, ev.Tick(), at_ns=LEASE_NS - 1)
    assert [e.worker_id for e in effects if isinstance(e, eff.KillWorker)] == ["w1"]


def test_a_worker_that_stays_with_one_job_gives_back_the_others_untried() -> None:
    state, _ = given()
    state, effects = take(state, ev.Tick(), at_ns=RECALL_NS + 1)
    waiting = [job for job, _ in FIRST[1:]]
    assert sent(effects) == [("Abort", job) for job in waiting]
    _, effects = take(state, ev.Tick(), at_ns=RECALL_NS + 2)
    assert sent(effects) == [], "once is enough"
    idle = WorkerEntry(worker_id="w2", state=WorkerState.IDLE)
    state = structs.replace(state, workers={**state.workers, "w2": idle}, workers_max=2)
    state, effects = take(state, concluded(2, code=messages.NOT_DONE), at_ns=RECALL_NS + 3)
    steps = [o for o in operations(effects) if isinstance(o, op.StepJob) and o.job_id == 2]
    assert [(step.before, step.after) for step in steps] == [
        (JobState.DISPATCHED, JobState.QUEUED),
        (JobState.QUEUED, JobState.DISPATCHED),
    ]
    assert (state.jobs[2].worker_id, state.jobs[2].epoch, state.jobs[2].attempts) == ("w2", 2, 0)


def test_a_job_that_was_done_before_the_word_came_counts() -> None:
    state, _ = given()
    state, _ = take(state, ev.Tick(), at_ns=RECALL_NS + 1)
    state, _ = take(state, concluded(1, code="parser.exception"), at_ns=RECALL_NS + 2)
    state, _ = take(state, concluded(2, code="parser.exception"), at_ns=RECALL_NS + 3)
    assert state.jobs[2].state is JobState.FAILED, "its own end, not a return to the queue"


def test_a_dispatch_that_was_recalled_before_it_was_recorded_is_not_sent() -> None:
    state = structs.replace(queued(*JOBS), workers_max=1, many_jobs=2)
    state, effects = take(state, ev.Tick())
    state, _ = take(state, ev.Tick(), at_ns=RECALL_NS + 1)
    state, effects = persisted(state, effects)
    told = [job for kind, job in sent(effects) if kind == "Dispatch"]
    assert told == [1]
    assert state.jobs[2].attempts == 0


def test_only_what_nobody_waits_for_is_patient() -> None:
    state, _ = given()
    base = structs.replace(queued(*JOBS), workers_max=1, many_jobs=2)
    _, effects = take(base, ev.Tick())
    persists = [e for e in effects if isinstance(e, eff.Persist)]
    assert [p.patient for p in persists] == [False, True], (
        "an idle worker waits, a busy one does not"
    )
    asked = ev.ClientAsked(
        client_id=1, number=1, request=control.CancelJob(request_id="r", job_id=3)
    )
    _, effects = take(state, asked)
    assert [e.patient for e in effects if isinstance(e, eff.Persist)] == [False]
