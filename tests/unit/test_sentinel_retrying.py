"""Passing and lasting faults: pauses, attempts, dead letters, promotions that are tried again."""

from __future__ import annotations

import pytest
from msgspec import structs

from casparian.db import operations as op
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.committing import PROMOTES_MAX
from casparian.sentinel.retrying import BACK_OFF_NS, back_off
from casparian.sentinel.state import RunEntry, RunState, State
from tests.support.sentinel_state import (
    RECEIPT,
    conclude,
    operations,
    persisted,
    replies,
    running,
    take,
)

FAR = 10**12


def failed(*, transient: bool, code: str = "staging.io") -> messages.Receipt:
    return messages.Receipt(
        sources=(), files=(), isolation={}, code=code, message="m", transient=transient
    )


def test_the_pause_doubles_and_differs_between_jobs_but_not_for_one_job() -> None:
    for attempts in (1, 2, 3):
        base = BACK_OFF_NS << (attempts - 1)
        pauses = {back_off(job_id, attempts) for job_id in range(50)}
        assert all(base <= pause <= base + base // 4 for pause in pauses)
        assert len(pauses) > 40
        assert back_off(7, attempts) == back_off(7, attempts)


def test_the_flag_decides_and_not_the_code() -> None:
    state, _ = take(running(), conclude(3, failed(transient=True, code="anything.at_all")))
    assert state.jobs[7].state is JobState.QUEUED
    state, effects = take(running(), conclude(3, failed(transient=False, code="staging.io")))
    assert state.jobs[7].state is JobState.FAILED
    (step,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert step.code == "staging.io"


def test_a_transient_fault_is_tried_again_at_a_later_epoch_and_then_a_dead_letter() -> None:
    state, at = running(), 1
    states = []
    for _ in range(ATTEMPTS_MAX):
        job = state.jobs[7]
        state, effects = take(state, conclude(job.epoch, failed(transient=True)), at_ns=at)
        states.append(state.jobs[7].state)
        if state.jobs[7].state is not JobState.QUEUED:
            break
        assert state.jobs[7].not_before_ns - at >= BACK_OFF_NS
        assert any(isinstance(e, eff.RemoveStages) for e in effects)
        before, _ = take(state, ev.Tick(), at_ns=state.jobs[7].not_before_ns - 1)
        assert before.jobs[7].state is JobState.QUEUED, "not before its time"
        at = state.jobs[7].not_before_ns + 1
        state, effects = take(state, ev.Tick(), at_ns=at)
        assert state.jobs[7].state is JobState.DISPATCHED
        assert state.jobs[7].epoch == job.epoch + 1
    assert states == [JobState.QUEUED] * (ATTEMPTS_MAX - 1) + [JobState.FAILED]
    step = [o for o in operations(effects) if isinstance(o, op.StepJob)][-1]
    assert step.attempts == ATTEMPTS_MAX
    assert not any(d.permanent for d in step.dispositions), "the next run may try it again"


def test_a_lasting_fault_is_recorded_under_the_key() -> None:
    _, effects = take(running(), conclude(3, failed(transient=False, code="parser.load")))
    (step,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert (step.after, step.attempts) == (JobState.FAILED, 0)
    assert all(d.permanent and d.failure_key for d in step.dispositions)


def committing() -> State:
    state = running(state=JobState.COMMITTING)
    job = structs.replace(state.jobs[7], receipt=RECEIPT)
    return structs.replace(state, jobs={7: job}, workers={})


def fault(*, transient: bool = True, lost: bool = False) -> ev.PromoteFailed:
    return ev.PromoteFailed(
        job_id=7, epoch=3, code="sink.locked", message="m", lost=lost, transient=transient
    )


def test_a_locked_sink_keeps_the_job_committing_and_is_tried_again_after_a_pause() -> None:
    state, effects = take(committing(), fault())
    assert state.jobs[7].state is JobState.COMMITTING
    assert not any(isinstance(e, eff.RemoveStages | eff.Promote) for e in effects)
    (note,) = operations(effects)
    assert isinstance(note, op.NoteJob)
    due = state.jobs[7].not_before_ns
    _, effects = take(state, ev.Tick(), at_ns=due - 1)
    assert effects == []
    state, effects = take(state, ev.Tick(), at_ns=due)
    assert [type(e) for e in effects] == [eff.Promote]
    _, effects = take(state, ev.Tick(), at_ns=due + FAR)
    assert effects == [], "one promotion at a time"


def test_the_last_promotion_gives_up() -> None:
    state, at, given_up = committing(), 1, []
    for _ in range(PROMOTES_MAX - 1):
        state, _ = take(state, fault(), at_ns=at)
        at += FAR
        state, effects = take(state, ev.Tick(), at_ns=at)
        given_up += [e.give_up for e in effects if isinstance(e, eff.Promote)]
    assert given_up == [False] * (PROMOTES_MAX - 2) + [True]
    state, effects = take(state, fault(transient=False), at_ns=at)
    assert state.jobs[7].state is JobState.FAILED
    state, effects = persisted(state, effects)
    assert 7 not in state.jobs


def test_who_waits_for_the_run_hears_why_it_is_not_committed() -> None:
    run = RunEntry(
        run_id="r",
        request=control.Run(request_id="q", evidence=b"/evidence"),
        actor="examiner(0)",
        client_id=1,
        number=4,
        started_ns=0,
        root="/evidence",
        state=RunState.RUNNING,
        jobs_open=frozenset({7}),
    )
    state = committing()
    job = structs.replace(state.jobs[7], run_ids=("r",))
    state, effects = take(structs.replace(state, jobs={7: job}, runs={"r": run}), fault())
    (told,) = [e.event for e in effects if isinstance(e, eff.SendEvent)]
    assert isinstance(told, control.CommitWaits)
    assert (told.job_id, told.code, told.tried) == (7, "sink.locked", 1)
    assert told.pause_ns == state.jobs[7].not_before_ns - 1


def shut_down(state: State) -> tuple[State, list[eff.Effect]]:
    return take(state, ev.ClientAsked(client_id=1, number=1, request=control.Shutdown()))


def test_who_stops_the_sentinel_does_not_wait_for_a_sink_that_cannot_be_written() -> None:
    state, _ = take(committing(), fault())
    state, effects = shut_down(state)
    (done,) = replies(effects)
    _, effects = persisted(state, effects)
    assert any(isinstance(e, eff.Stop) for e in effects)
    assert isinstance(done, control.Done)
    assert done.fields == {"left": 1}
    assert "job 7" in done.message
    assert "next sentinel" in done.message


def test_a_promotion_under_way_is_waited_for_and_left_when_it_fails() -> None:
    state, effects = shut_down(committing())
    assert effects == []
    state, effects = take(state, fault())
    assert state.jobs == {}, "the database has it, committing"
    assert any(isinstance(o, op.NoteJob) for o in operations(effects))
    _, effects = persisted(state, effects)
    assert any(isinstance(e, eff.Stop) for e in effects)


def test_no_promotion_begins_after_the_stop_was_asked_for() -> None:
    state, _ = take(structs.replace(committing(), stopping=True, publishing=True), fault())
    state, effects = take(state, ev.Tick(), at_ns=FAR)
    assert not any(isinstance(e, eff.Promote) for e in effects)


def test_a_drain_waits_for_promotions_until_one_could_not_be_taken_back() -> None:
    state, at = structs.replace(committing(), draining=True), 1
    for _ in range(PROMOTES_MAX):
        assert not state.stopping
        state, _ = take(state, fault(), at_ns=at)
        at += FAR
        if not state.stopping:
            state, _ = take(state, ev.Tick(), at_ns=at)
    assert state.stopping


def test_any_other_fault_of_a_promotion_fails_the_job_at_once() -> None:
    state, effects = take(committing(), fault(transient=False))
    assert state.jobs[7].state is JobState.FAILED
    assert not any(isinstance(e, eff.Promote) for e in effects)


def test_staged_files_that_vanish_again_and_again_are_a_dead_letter() -> None:
    state, _ = take(committing(), fault(transient=False, lost=True))
    assert (state.jobs[7].state, state.jobs[7].attempts) == (JobState.QUEUED, 1)
    assert state.jobs[7].receipt is None
    state = committing()
    job = structs.replace(state.jobs[7], attempts=ATTEMPTS_MAX - 1)
    state, _ = take(structs.replace(state, jobs={7: job}), fault(transient=False, lost=True))
    assert state.jobs[7].state is JobState.FAILED


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_late_receipt_leaves_a_line_and_its_stage_goes(epoch: int) -> None:
    state, effects = take(running(), conclude(epoch))
    assert state.workers["w1"].job_id == 7, "the worker is still busy with the present epoch"
    (note,) = operations(effects)
    assert isinstance(note, op.NoteJob)
    assert note.detail.startswith("fenced")
    assert [e.epoch for e in effects if isinstance(e, eff.RemoveStages)] == [epoch]
