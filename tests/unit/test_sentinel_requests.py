"""Mutations act once: whatever is repeated, lost or asked twice at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from casparian.db import operations as op
from casparian.db import reads
from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.domain.jobs import JobState
from casparian.errors import ExitCode
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import RunEntry, RunState, State
from tests.support.sentinel_state import (
    SPEC,
    operations,
    persisted,
    queued,
    replies,
    running,
    take,
    written,
)

RULE = control.AddRule(request_id="r1", pattern="*.log", tag="syslog")


def asked(request: control.Request, *, client_id: int = 1, number: int = 9) -> ev.ClientAsked:
    return ev.ClientAsked(client_id=client_id, number=number, request=request)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ControlDatabase]:
    home = Home.at(tmp_path / "home")
    home.run.mkdir(parents=True)
    with ControlDatabase(home) as opened:
        yield opened


MUTATIONS: dict[str, tuple[State, control.Request]] = {
    "rule": (running(), RULE),
    "tag": (running(), control.TagFiles(request_id="r1", pattern="*.log", tag="x")),
    "remove rule": (running(), control.RemoveRule(request_id="r1", rule_id=1)),
    "cancel": (running(), control.CancelJob(request_id="r1", job_id=7)),
    "cancel all": (running(), control.CancelJob(request_id="r1", everything=True)),
    "reset": (running(), control.ResetParser(request_id="r1", parser="p")),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutation_and_its_reply_are_one_transaction_and_the_reply_waits_for_it(what: str) -> None:
    state, request = MUTATIONS[what]
    state, effects = take(state, asked(request))
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    assert isinstance(persist.operations[-1], op.SaveReply)
    assert replies(effects) == [], "nobody is told before it is durable"


@pytest.mark.parametrize("what", ["cancel", "cancel all"])
def test_two_equal_requests_at_a_time_act_once_and_are_both_answered(what: str) -> None:
    state, request = MUTATIONS[what]
    state = structs.replace(state, clients={1: "a", 2: "b"})
    state, first = take(state, asked(request))
    state, second = take(state, asked(request, client_id=2, number=4))
    assert second == []
    state, effects = take(state, written(first))
    sent = [e for e in effects if isinstance(e, eff.SendReply)]
    assert [(e.client_id, e.number) for e in sent] == [(1, 9), (2, 4)]
    assert len({e.reply.message for e in sent if isinstance(e.reply, control.Done)}) == 1
    assert state.requests_open == {}


def test_the_writer_gives_the_stored_reply_again_and_does_not_act(
    database: ControlDatabase,
) -> None:
    writer = DatabaseWriter(database.writer)
    _, effects = take(running(), asked(RULE))
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    for _ in range(2):
        (outcome,) = writer.apply([persist.operations])
        assert isinstance(outcome, list)
        reply = control.decode_reply(outcome[-1])
        assert reply == control.Done(message="rule 1 added", count=1)
    assert database.writer.execute("SELECT count(*) FROM scout_rules").fetchall() == [(1,)]


def test_two_equal_mutations_in_one_transaction_act_once(database: ControlDatabase) -> None:
    writer = DatabaseWriter(database.writer)
    _, effects = take(running(), asked(RULE))
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    first, second = writer.apply([persist.operations, persist.operations])
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert first[-1] == second[-1]
    assert database.writer.execute("SELECT count(*) FROM scout_rules").fetchall() == [(1,)]


def test_an_answered_request_is_known_after_a_restart(database: ControlDatabase) -> None:
    writer = DatabaseWriter(database.writer)
    _, effects = take(running(), asked(RULE))
    writer.apply([operations(effects)])
    restarted = structs.replace(running(), replies=reads.recent_replies(database.writer, 1000))
    _, effects = take(restarted, asked(RULE))
    assert operations(effects) == []
    assert replies(effects) == [control.Done(message="rule 1 added", count=1)]


def test_a_refused_mutation_may_be_asked_again() -> None:
    request = control.CancelJob(request_id="r1", job_id=7)
    state, effects = take(running(state=JobState.COMMITTING), asked(request))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert "1 rows of 1 files will be kept" in reply.message
    assert state.requests_open == {}
    assert state.replies == {}


def test_cancelling_a_job_that_is_over_asks_how_it_ended_and_answers_all_who_wait() -> None:
    request = control.CancelJob(request_id="r1", job_id=99)
    state, effects = take(running(), asked(request))
    assert effects == [eff.FindEnd(client_id=1, number=9, job_id=99)]
    done = control.Done(message="job 99 is cancelled already")
    state, effects = take(state, ev.RowsRead(client_id=1, number=9, reply=done))
    assert replies(effects) == [done]
    assert state.requests_open == {}


def ended(job_id: int, *, source: str = "s", has_rows: bool = False) -> ev.LoadedJob:
    """A failed job over one source."""
    spec = structs.replace(SPEC, sources=(structs.replace(SPEC.sources[0], source_id=source),))
    return ev.LoadedJob(job_id=job_id, state=JobState.FAILED, epoch=2, spec=spec, has_rows=has_rows)


def retried(state: State, job: ev.LoadedJob) -> tuple[State, list[eff.Effect]]:
    """One job was asked for and is loaded."""
    state, _ = take(state, asked(control.RetryJob(request_id="r1", job_id=job.job_id)))
    return take(
        state,
        ev.JobLoaded(client_id=1, number=9, request_id="r1", **structs.asdict(job)),
    )


def test_a_job_whose_sources_another_job_reads_is_not_retried() -> None:
    idle = structs.replace(running(), jobs={}, workers={}, workers_max=0)
    state, effects = retried(idle, ended(11))
    state, _ = persisted(state, effects)
    state, effects = retried(structs.replace(state, replies={}), ended(12))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert (reply.code, reply.exit_code) == ("job.in_flight", ExitCode.CONFLICT)
    assert "job 11" in reply.message
    assert "casparian jobs show 11" in (reply.hint or "")
    assert operations(effects) == []
    assert list(state.jobs) == [11]
    aborted = {11: structs.replace(state.jobs[11], state=JobState.ABORTED)}
    state, effects = retried(structs.replace(state, jobs=aborted), ended(12))
    assert 12 in state.jobs, "a cancelled job reads nothing any more"


def test_a_job_whose_quarantine_is_kept_is_not_retried_under_its_own_number() -> None:
    idle = structs.replace(running(), jobs={}, workers={}, workers_max=0)
    state, effects = retried(idle, ended(11, has_rows=True))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert reply.code == "job.keeps_quarantine"
    assert "--retry-failed" in (reply.hint or "")
    assert state.jobs == {}


def test_what_was_read_of_a_job_before_somebody_else_tried_it_again_is_too_old() -> None:
    """Its step would be stale, and a stale step ends the sentinel."""
    idle = structs.replace(running(), jobs={}, workers={}, workers_max=0)
    for number, name in ((1, "r1"), (2, "r2")):
        request = control.RetryJob(request_id=name, job_id=11)
        idle, _ = take(idle, asked(request, number=number))
    job = structs.asdict(ended(11))
    state, effects = take(idle, ev.JobLoaded(client_id=1, number=1, request_id="r1", **job))
    state, _ = persisted(state, effects)
    state, effects = take(state, asked(control.CancelJob(request_id="c", job_id=11), number=3))
    state, _ = persisted(state, effects)
    assert state.jobs == {}, "it has ended again"
    state, effects = take(state, ev.JobLoaded(client_id=1, number=2, request_id="r2", **job))
    assert operations(effects) == []
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert "just ended" in reply.message
    assert (state.loads, state.ended) == (frozenset(), frozenset())
    _, effects = retried(structs.replace(state, replies={}), ended(11))
    assert operations(effects), "asked again, it is read anew"


def test_retrying_all_leaves_out_and_counts_what_may_not_be_retried() -> None:
    idle = structs.replace(running(), jobs={}, workers={}, workers_max=0)
    state, _ = take(idle, asked(control.RetryJobs(request_id="r1")))
    jobs = (
        ended(11),
        ended(12),  # the source of the one before
        ended(13, source="x"),
        ended(14, source="y", has_rows=True),
    )
    loaded = ev.JobsLoaded(client_id=1, number=9, request_id="r1", jobs=jobs)
    state, effects = take(state, loaded)
    assert sorted(state.jobs) == [11, 13]
    _, effects = take(state, written(effects))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Done)
    assert (reply.count, reply.fields) == (2, {"skipped": 2})
    assert "2 left out" in reply.message


def test_retrying_many_is_one_transaction_with_the_count() -> None:
    request = control.RetryJobs(request_id="r1")
    idle = structs.replace(running(), jobs={}, workers={}, workers_max=0)
    state, effects = take(idle, asked(request))
    assert [type(e) for e in effects] == [eff.LoadJobs]
    jobs = tuple(ended(n, source=f"s{n}") for n in (11, 12, 13))
    loaded = ev.JobsLoaded(client_id=1, number=9, request_id="r1", jobs=jobs)
    state, effects = take(state, loaded)
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    assert [type(o) for o in persist.operations] == [op.StepJob] * 3 + [op.SaveReply]
    assert {job.state for job in state.jobs.values()} == {JobState.QUEUED}
    state, effects = take(state, written(effects))
    assert replies(effects) == [control.Done(message="3 jobs queued again", count=3)]


def test_a_dry_retry_only_counts() -> None:
    state, _ = take(running(), asked(control.RetryJobs(request_id="r1", dry_run=True)))
    jobs = (ev.LoadedJob(job_id=11, state=JobState.FAILED, epoch=2, spec=SPEC),)
    loaded = ev.JobsLoaded(client_id=1, number=9, request_id="r1", jobs=jobs, dry_run=True)
    state, effects = take(state, loaded)
    assert 11 not in state.jobs
    assert operations(effects) == []
    assert replies(effects) == [control.Done(message="1 jobs would be queued again", count=1)]


# -- runs


def in_run(state: State, *, run_state: RunState = RunState.RUNNING) -> State:
    run = RunEntry(
        run_id="run",
        request=control.Run(request_id="run", evidence=b"/e"),
        actor="examiner",
        client_id=1,
        number=3,
        started_ns=0,
        root="/e",
        state=run_state,
        jobs_open=frozenset(state.jobs),
    )
    jobs = {k: structs.replace(job, run_ids=("run",)) for k, job in state.jobs.items()}
    return structs.replace(state, jobs=jobs, runs={"run": run}, requests_open={"run": ((1, 3),)})


def test_a_runs_cancel_covers_every_job_and_what_is_still_planned() -> None:
    state = in_run(queued(1, 2, 3, workers_max=0))
    state, effects = take(state, asked(control.CancelJob(request_id="c", run_id="run")))
    steps = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert [o.after for o in steps] == [JobState.ABORTED] * 3
    state, effects = take(state, written(effects))
    assert state.jobs == {}
    planning = in_run(structs.replace(queued(), planning=1), run_state=RunState.PLANNING)
    planning, _ = take(planning, asked(control.CancelJob(request_id="c", run_id="run")))
    planned = ev.PlannedJob(job_id=5, spec=SPEC, keys=("k",))
    planning, effects = take(
        planning,
        ev.PlanReady(
            run_id="run", root="/e", files=control.FileCounts(), items=(), jobs=(planned,),
            contracts=(), expected=(), problems=(), rejected={}, by_parser={},
        ),
    )  # fmt: skip
    assert planning.jobs == {}
    assert not any(isinstance(o, op.InsertJobs) for o in operations(effects))


def test_a_jobs_second_run_keeps_it_alive_when_the_first_is_cancelled() -> None:
    state = in_run(queued(1, workers_max=0))
    other = structs.replace(state.runs["run"], run_id="other")
    job = structs.replace(state.jobs[1], run_ids=("run", "other"))
    state = structs.replace(state, jobs={1: job}, runs={**state.runs, "other": other})
    state, _ = take(state, asked(control.CancelJob(request_id="c", run_id="run")))
    assert state.jobs[1].state is not JobState.ABORTED
    assert state.jobs[1].run_ids == ("other",)


def test_the_end_of_a_run_and_its_reply_are_one_transaction() -> None:
    state = structs.replace(in_run(queued()), publishing=True)
    state = structs.replace(
        state, runs={"run": structs.replace(state.runs["run"], state=RunState.PUBLISHING)}
    )
    state, effects = take(state, ev.Published(run_ids=("run",)))
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    assert [type(o) for o in persist.operations] == [op.FinishRun, op.SaveReply]
    state, effects = persisted(state, effects)
    (reply,) = replies(effects)
    assert isinstance(reply, control.RunResult)
    assert state.runs == {}
    _, effects = take(state, asked(control.Run(request_id="run", evidence=b"/e")))
    assert replies(effects) == [reply], (
        "a run that is asked for again after its end is not run again"
    )


def test_a_run_is_taken_up_again_after_a_crash_under_its_own_row(database: ControlDatabase) -> None:
    writer = DatabaseWriter(database.writer)
    start = op.StartRun(at_ns=1, run_id="run", root="/e", actor="a", request="{}")
    interrupted = op.FinishRun(at_ns=2, run_id="run", state="interrupted", result="{}")
    finished = op.FinishRun(at_ns=4, run_id="run", state="finished", result="{}")
    states = []
    for operation in (start, interrupted, structs.replace(start, at_ns=3), finished, start):
        (outcome,) = writer.apply([[operation]])
        assert isinstance(outcome, list)
        states += database.writer.execute("SELECT state FROM cf_runs").fetchall()
    assert [state for (state,) in states] == [
        "running", "interrupted", "running", "finished", "finished",
    ]  # fmt: skip


# -- a stop in the middle


def plan(run_id: str = "run") -> ev.PlanReady:
    return ev.PlanReady(
        run_id=run_id, root="/e", files=control.FileCounts(), items=(),
        jobs=(ev.PlannedJob(job_id=5, spec=SPEC, keys=("k",)),),
        contracts=(), expected=(), problems=(), rejected={}, by_parser={},
    )  # fmt: skip


def test_a_plan_that_is_ready_after_the_stop_began_is_dropped_and_its_client_was_told() -> None:
    idle = structs.replace(running(), jobs={}, workers={}, planning=1)
    state = in_run(idle, run_state=RunState.PLANNING)
    state, effects = take(state, ev.StopAsked())
    assert [r.code for r in replies(effects) if isinstance(r, control.Failure)] == [
        "sentinel.stopped"
    ]
    for event in (
        plan(),
        ev.PlanFailed(
            run_id="run", client_id=1, number=3,
            failure=control.Failure(code="x", message="x", exit_code=1),
        ),
    ):  # fmt: skip
        after, effects = take(state, event)
        assert after.jobs == {}
        assert not replies(effects), "each question has one answer"
        assert not any(isinstance(o, op.InsertJobs) for o in operations(effects))


def test_whoever_waits_for_a_scan_is_told_when_the_sentinel_stops() -> None:
    idle = structs.replace(running(), jobs={}, workers={})
    state, _ = take(idle, asked(control.Scan(request_id="s", evidence=b"/e")))
    state, effects = take(state, ev.StopAsked())
    assert replies(effects) == []
    (persist,) = [e for e in effects if isinstance(e, eff.Persist)]
    _, effects = take(state, ev.Persisted(then=persist.then, results=()))
    assert [r.code for r in replies(effects) if isinstance(r, control.Failure)] == [
        "sentinel.stopped"
    ]
    assert any(isinstance(e, eff.Stop) for e in effects)


def test_a_run_that_is_asked_for_again_finds_its_recovered_job_once() -> None:
    state = queued(1, workers_max=0)
    job = structs.replace(state.jobs[1], run_ids=("run",), keys=("k",))
    state = structs.replace(state, jobs={1: job}, keys_in_flight={"k": 1}, planning=1)
    waiting = in_run(state, run_state=RunState.PLANNING)
    run = structs.replace(waiting.runs["run"], jobs_open=frozenset())
    state, _ = take(structs.replace(waiting, runs={"run": run}), plan())
    assert state.jobs[1].run_ids == ("run",)
    assert state.runs["run"].jobs_open == frozenset({1})
