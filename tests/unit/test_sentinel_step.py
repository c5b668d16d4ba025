"""Single steps of the sentinel: fencing, cancel, leases, stopping. Values in, values out."""

from __future__ import annotations

from msgspec import structs

from casparian.db import operations as op
from casparian.domain.jobs import ATTEMPTS_MAX, JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import continuations as after
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.scheduling import LEASE_NS
from casparian.sentinel.state import State
from tests.support.sentinel_state import RECEIPT, SPEC, conclude, operations, running, take, written


def test_a_receipt_of_the_present_epoch_begins_the_commit() -> None:
    state, effects = take(running(), conclude(3))
    assert state.jobs[7].state is JobState.COMMITTING
    assert [type(o) for o in operations(effects)] == [op.BeginCommit]


def test_a_receipt_of_an_earlier_epoch_changes_nothing() -> None:
    state, effects = take(running(), conclude(2))
    assert state.jobs[7] == running().jobs[7]
    (note,) = operations(effects)
    assert isinstance(note, op.NoteJob), "it only leaves a line in the job's history"
    assert (note.epoch, note.detail[:6]) == (2, "fenced")
    assert [e.epoch for e in effects if isinstance(e, eff.RemoveStages)] == [2]


def test_nothing_is_promoted_before_its_intents_are_durable() -> None:
    _, effects = take(running(), conclude(3))
    assert not any(isinstance(effect, eff.Promote) for effect in effects)
    committing, _ = take(running(), conclude(3))
    done = ev.Persisted(then=after.AfterBegin(job_id=7, epoch=3), results=(op.CommitClaims(),))
    _, effects = take(committing, done)
    assert [type(e) for e in effects] == [eff.Promote]


def test_a_lost_race_sends_the_job_back_and_leaves_nothing_staged() -> None:
    committing, _ = take(running(), conclude(3))
    lost = op.CommitClaims(conflicts=("s",))
    done = ev.Persisted(then=after.AfterBegin(job_id=7, epoch=3), results=(lost,))
    state, effects = take(committing, done)
    assert any(isinstance(e, eff.RemoveStages) for e in effects)
    (step_job,) = operations(effects)
    assert isinstance(step_job, op.StepJob)
    assert step_job.after is JobState.FAILED, "its only source was materialized by another job"
    assert step_job.code == "sink.exists"
    assert state.jobs[7].state is JobState.FAILED


def cancel() -> ev.ClientAsked:
    return ev.ClientAsked(
        client_id=1, number=9, request=control.CancelJob(request_id="r", job_id=7)
    )


def test_cancel_fences_first_and_stops_the_guest_only_then() -> None:
    state, effects = take(running(), cancel())
    assert [o.after for o in operations(effects) if isinstance(o, op.StepJob)] == [JobState.ABORTED]
    assert not any(isinstance(e, eff.SendWorker) for e in effects)
    _, effects = take(state, written(effects))
    (sent,) = [e for e in effects if isinstance(e, eff.SendWorker)]
    assert isinstance(sent.message, messages.Abort)


def test_an_aborted_job_stays_aborting_until_its_worker_lets_go_and_cannot_commit() -> None:
    state, _ = take(running(), cancel())
    state, effects = take(state, conclude(3))
    assert 7 not in state.jobs
    assert not any(isinstance(o, op.BeginCommit) for o in operations(effects))
    assert any(isinstance(e, eff.RemoveStages) for e in effects)


def test_cancel_is_too_late_once_the_job_commits() -> None:
    state, effects = take(running(state=JobState.COMMITTING), cancel())
    (reply,) = [e.reply for e in effects if isinstance(e, eff.SendReply)]
    assert isinstance(reply, control.Failure)
    assert reply.code == "job.too_late"
    assert state.jobs[7].state is JobState.COMMITTING


def test_a_cancel_that_is_repeated_after_a_crash_acts_once() -> None:
    state, first = take(running(), cancel())
    state, effects = take(state, cancel())
    assert effects == [], "it waits for the same transaction"
    state, effects = take(state, written(first))
    assert [type(e) for e in effects if isinstance(e, eff.SendReply)] == [eff.SendReply] * 2
    _, effects = take(state, cancel())
    assert operations(effects) == []
    assert [type(e) for e in effects] == [eff.SendReply]


def test_a_silent_worker_is_killed_when_its_lease_is_over() -> None:
    _, effects = take(running(), ev.Tick(), at_ns=LEASE_NS - 1)
    assert effects == []
    _, effects = take(running(), ev.Tick(), at_ns=LEASE_NS + 1)
    assert [type(e) for e in effects] == [eff.KillWorker]


def test_a_lost_worker_sends_its_job_back_until_the_attempts_are_used_up() -> None:
    gone = ev.WorkerGone(worker_id="w1", reason="signal SIGKILL")
    state, _ = take(running(), gone)
    assert state.jobs[7].state is JobState.QUEUED
    assert state.jobs[7].not_before_ns > 1, "after a pause"
    _, effects = take(running(attempts=ATTEMPTS_MAX - 1), gone)
    (step_job,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert (step_job.after, step_job.code) == (JobState.FAILED, "worker.lost")


def test_stopping_requeues_what_runs_and_waits_for_what_commits() -> None:
    state, effects = take(running(), ev.StopAsked())
    assert state.jobs[7].state is JobState.QUEUED
    assert any(isinstance(e, eff.KillWorker) for e in effects)
    state, effects = take(running(state=JobState.COMMITTING), ev.StopAsked())
    state, effects = take(state, ev.WorkerGone(worker_id="w1", reason="killed"))
    assert state.jobs[7].state is JobState.COMMITTING
    assert not any(isinstance(e, eff.Stop) for e in effects)


def test_a_polite_shutdown_leaves_a_busy_sentinel_alone() -> None:
    asked = ev.ClientAsked(client_id=1, number=1, request=control.Shutdown(if_idle=True))
    state, _ = take(running(), asked)
    assert not state.stopping
    idle = structs.replace(running(), jobs={}, workers={})
    state, _ = take(idle, asked)
    assert state.stopping


def test_a_receipt_that_names_a_file_outside_the_stage_is_refused() -> None:
    file = messages.StagedFile(
        table="t",
        sink=SPEC.outputs[0].sink,
        path="/etc/passwd",
        size_bytes=1,
        blake3="b",
        rows=1,
        sources=(0,),
    )
    event = ev.WorkerConcluded(
        worker_id="w1",
        conclude=messages.Conclude(
            epoch=3, job_id=7, receipt=structs.replace(RECEIPT, files=(file,))
        ),
    )
    _, effects = take(running(), event)
    (step_job,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert (step_job.after, step_job.code) == (JobState.FAILED, "worker.receipt")


# -- two commits of the same pairs


def held() -> State:
    """Job 8 commits; job 7 has asked for the same pairs."""
    state = running()
    first = structs.replace(state.jobs[7], job_id=8, state=JobState.COMMITTING, worker_id=None)
    state = structs.replace(state, jobs={7: state.jobs[7], 8: first})
    state, _ = take(state, conclude(3))
    waits = op.CommitClaims(waits_for=(8,))
    state, effects = take(
        state, ev.Persisted(then=after.AfterBegin(job_id=7, epoch=3), results=(waits,))
    )
    assert not any(isinstance(e, eff.Promote) for e in effects)
    assert operations(effects) == []
    return state


def test_a_commit_waits_for_another_of_the_same_pairs_and_asks_again_after_its_end() -> None:
    state = held()
    assert state.jobs[7].state is JobState.RUNNING, "as the database has it"
    state, effects = take(state, ev.Tick(), at_ns=LEASE_NS * 2)
    assert effects == [], "no lease runs out: its worker has let go of it"
    _, effects = take(state, ev.Persisted(then=after.AfterFailure(job_ids=(8,)), results=()))
    assert [type(o) for o in operations(effects)] == [op.BeginCommit]


def test_a_commit_that_waits_can_be_cancelled_and_is_forgotten() -> None:
    state, effects = take(held(), cancel())
    state, effects = take(state, written(effects))
    assert 7 not in state.jobs
    assert state.held == {}
    assert [e.job_id for e in effects if isinstance(e, eff.RemoveStages)] == [7]


def test_a_commit_that_waits_goes_back_to_the_queue_when_the_sentinel_stops() -> None:
    state, _ = take(held(), ev.StopAsked())
    assert state.jobs[7].state is JobState.QUEUED
    state, effects = take(state, ev.Persisted(then=after.AfterFailure(job_ids=(8,)), results=()))
    assert state.held == {}
    assert not any(isinstance(o, op.BeginCommit) for o in operations(effects))


def test_a_receipt_of_another_job_or_epoch_frees_no_busy_worker() -> None:
    for late in (conclude(2), conclude(3, job_id=99)):
        state, _ = take(running(), late)
        assert state.workers == running().workers
        assert state.jobs[7] == running().jobs[7]
