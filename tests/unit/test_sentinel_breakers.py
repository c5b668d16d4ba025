"""The circuit breaker of a parser: five failures of its own making open it, one success closes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from casparian.db import operations as op
from casparian.db import reads
from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.domain import breakers
from casparian.domain.breakers import (
    CIRCUIT_OPEN,
    COOL_DOWN_NS,
    FAILURES_MAX,
    Breaker,
    BreakerFailure,
    BreakerState,
)
from casparian.domain.faults import speaks_against_parser
from casparian.domain.files import Decision, PlanReason
from casparian.domain.jobs import JobState
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import RunEntry, State
from tests.support.sentinel_state import (
    SPEC,
    conclude,
    operations,
    persisted,
    queued,
    replies,
    take,
)

KEY = (SPEC.label, SPEC.parser.artifact_hash)


def crash(code: str = "guest.crash") -> messages.Receipt:
    return messages.Receipt(
        sources=(messages.SourceReceipt(index=0, code=code, message="signal 11"),),
        files=(),
        isolation={},
    )


def settle(state: State, effects: list[eff.Effect], at_ns: int) -> tuple[State, list[eff.Effect]]:
    """Let everything become durable until nothing is to be written any more."""
    everything = list(effects)
    while any(isinstance(e, eff.Persist) for e in effects):
        state, effects = persisted(state, effects, at_ns=at_ns)
        everything += effects
    return state, everything


def one_job(
    state: State, receipt: messages.Receipt, *, at_ns: int = 1
) -> tuple[State, list[eff.Effect]]:
    """The next job goes to the worker and ends so."""
    state, effects = take(state, ev.Tick(), at_ns=at_ns)
    state, first = settle(state, effects, at_ns)
    job = next(j for j in state.jobs.values() if j.state is JobState.DISPATCHED)
    state, effects = take(state, conclude(job.epoch, receipt, job.job_id), at_ns=at_ns)
    state, rest = settle(state, effects, at_ns)
    return state, [*first, *rest]


def opened(*job_ids: int) -> tuple[State, list[eff.Effect]]:
    """A breaker that five jobs have opened; more jobs were waiting."""
    state, everything = queued(*range(100, 100 + FAILURES_MAX), *job_ids), []
    for _ in range(FAILURES_MAX):
        state, effects = one_job(state, crash())
        everything += effects
    return state, everything


def test_five_failures_in_a_row_open_it_and_end_what_waits() -> None:
    state, effects = opened(1, 2, 3)
    assert state.breakers[KEY].state is BreakerState.OPEN
    assert state.jobs == {}
    ends = {
        o.job_id: o
        for o in operations(effects)
        if isinstance(o, op.StepJob) and o.after is JobState.FAILED
    }
    for job_id in (1, 2, 3):
        assert ends[job_id].code == CIRCUIT_OPEN
        assert "guest.crash" in (ends[job_id].message or "")
        assert "parser reset p" in (ends[job_id].message or "")
        assert not any(d.permanent for d in ends[job_id].dispositions)


def test_each_failure_is_stored_in_the_transaction_of_the_job_that_failed() -> None:
    _, effects = opened()
    for persist in [e for e in effects if isinstance(e, eff.Persist)]:
        failed = [
            o for o in persist.operations if isinstance(o, op.StepJob) and o.code == "guest.crash"
        ]
        saved = [o for o in persist.operations if isinstance(o, op.SaveBreaker)]
        assert len(failed) == len(saved)


def test_a_success_forgets_the_failures() -> None:
    state = queued(*range(10))
    for _ in range(FAILURES_MAX - 1):
        state, _ = one_job(state, crash())
    assert len(state.breakers[KEY].failures) == FAILURES_MAX - 1
    good = messages.Receipt(
        sources=(messages.SourceReceipt(index=0, rows={"t": 1}),), files=(), isolation={}
    )
    state, effects = one_job(state, good)
    (promote,) = [e for e in effects if isinstance(e, eff.Promote)]
    done = ev.Promoted(job_id=promote.job_id, epoch=promote.epoch, outputs=(), pairs=())
    state, effects = take(state, done)
    assert state.breakers == {}
    (saved,) = [o for o in operations(effects) if isinstance(o, op.SaveBreaker)]
    assert saved.failures == ()


OTHERS = ("source.changed", "staging.no_space", "worker.lost", "guest.killed", "sink.exists", CIRCUIT_OPEN)  # fmt: skip
OWN = ("parser.exception", "guest.crash", "limit.memory", "confinement.violation", "bridge.protocol")  # fmt: skip


def test_only_the_parsers_own_making_counts() -> None:
    assert all(speaks_against_parser(code) for code in OWN)
    assert not any(speaks_against_parser(code) for code in OTHERS)
    state, _ = one_job(queued(1), crash("source.changed"))
    assert state.breakers == {}


def planned(state: State, *, retry_failed: bool, at_ns: int = 2) -> tuple[State, list[eff.Effect]]:
    from casparian.db.records import PlanItemRow

    request = control.Run(request_id="run", evidence=b"/e", retry_failed=retry_failed)
    run = RunEntry(
        run_id="run", request=request, actor="examiner", client_id=1, number=3, started_ns=0, root="/e"
    )  # fmt: skip
    state = structs.replace(state, runs={"run": run}, requests_open={"run": ((1, 3),)}, planning=1)
    item = PlanItemRow(
        run_id="run", root="/e", path=b"s", display_path="s", parser=SPEC.label, decision="selected",
        reason="new", detail="", source_id="s", job_id=50,
    )  # fmt: skip
    plan = ev.PlanReady(
        run_id="run", root="/e", files=control.FileCounts(seen=1, selected=1), items=(item,),
        jobs=(ev.PlannedJob(job_id=50, spec=SPEC, keys=("k",)),), contracts=(), expected=(), problems=(),
        rejected={}, by_parser={SPEC.label: 1},
    )  # fmt: skip
    return take(state, plan, at_ns=at_ns)


def test_new_jobs_of_the_artifact_are_rejected_at_planning_with_the_reason() -> None:
    state, effects = planned(opened()[0], retry_failed=False)
    assert 50 not in state.jobs
    (plan,) = [o for o in operations(effects) if isinstance(o, op.SavePlan)]
    (item,) = plan.items
    assert (item.decision, item.reason) == (Decision.REJECTED, PlanReason.CIRCUIT_OPEN)
    assert state.runs["run"].rejected == {CIRCUIT_OPEN: 1}
    assert state.runs["run"].files.selected == 0
    assert state.runs["run"].problems[0].code == CIRCUIT_OPEN


def test_another_artifact_of_the_same_parser_is_not_refused() -> None:
    state = opened()[0]
    other = structs.replace(state.breakers[KEY], artifact_hash="other")
    state = structs.replace(state, breakers={(SPEC.label, "other"): other})
    state, _ = planned(state, retry_failed=False)
    assert 50 in state.jobs


def test_retry_failed_lets_one_through_and_is_recorded_with_the_actor() -> None:
    state, effects = planned(opened()[0], retry_failed=True)
    assert 50 in state.jobs
    (saved,) = [o for o in operations(effects) if isinstance(o, op.SaveBreaker)]
    assert (saved.kind, saved.actor) == ("breaker.retried", "examiner")


def test_after_the_cool_down_one_job_is_tried_and_the_others_wait_for_it() -> None:
    state = opened()[0]
    waiting = structs.replace(
        queued(1, 2, 3, breakers=state.breakers),
        workers={n: structs.replace(queued().workers["w1"], worker_id=n) for n in ("w1", "w2")},
    )
    early, effects = take(waiting, ev.Tick(), at_ns=COOL_DOWN_NS - 1)
    assert {job.state for job in early.jobs.values()} == {JobState.FAILED}
    state, effects = take(waiting, ev.Tick(), at_ns=COOL_DOWN_NS + 2)
    assert [j.state for j in state.jobs.values()].count(JobState.DISPATCHED) == 1
    assert state.breakers[KEY].probe == 1
    state, _ = take(state, ev.Tick(), at_ns=COOL_DOWN_NS + 3)
    assert [j.state for j in state.jobs.values()].count(JobState.DISPATCHED) == 1
    # Its failure opens again, and ends the others.
    state, effects = take(state, conclude(1, crash(), 1), at_ns=COOL_DOWN_NS + 4)
    state, effects = settle(state, effects, COOL_DOWN_NS + 4)
    assert state.breakers[KEY].state is BreakerState.OPEN
    assert state.jobs == {}


def test_a_reset_by_hand_is_recorded_on_the_tape_with_the_actor(database: ControlDatabase) -> None:
    request = control.ResetParser(request_id="r", parser="p")
    state = opened()[0]
    state, effects = take(state, ev.ClientAsked(client_id=1, number=9, request=request))
    assert state.breakers[KEY].state is BreakerState.HALF_OPEN
    writer = DatabaseWriter(database.writer)
    (outcome,) = writer.apply([operations(effects)])
    assert isinstance(outcome, list)
    (entry,) = database.writer.execute(
        "SELECT entry FROM cf_tape ORDER BY seq DESC LIMIT 1"
    ).fetchall()
    assert "breaker.reset" in entry[0]
    assert "examiner(0)" in entry[0]
    _, effects = persisted(state, effects)
    (done,) = replies(effects)
    assert isinstance(done, control.Done)
    assert done.count == 1


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ControlDatabase]:
    home = Home.at(tmp_path / "home")
    home.run.mkdir(parents=True)
    with ControlDatabase(home) as found:
        yield found


def test_it_survives_a_restart_with_what_is_left_of_its_cool_down(
    database: ControlDatabase,
) -> None:
    state, effects = opened()
    saved = [o for o in operations(effects) if isinstance(o, op.SaveBreaker)]
    (outcome,) = DatabaseWriter(database.writer).apply([saved])
    assert isinstance(outcome, list)
    (stored,) = reads.breakers(database.writer)
    assert stored == structs.replace(state.breakers[KEY], half_open_at_ns=0)
    assert stored.opened_at_ns is not None
    third = stored.opened_at_ns + COOL_DOWN_NS // 3
    back = breakers.restored(stored, now_ns=third, monotonic_ns=1000)
    assert back.half_open_at_ns == 1000 + COOL_DOWN_NS - COOL_DOWN_NS // 3
    for clock_jump in (-(10**18), 10**18):
        jumped = breakers.restored(stored, now_ns=third + clock_jump, monotonic_ns=1000)
        assert 1000 <= jumped.half_open_at_ns <= 1000 + COOL_DOWN_NS


def test_no_more_failures_are_kept_than_open_it() -> None:
    breaker = Breaker(parser="p@1", artifact_hash="a")
    for number in range(3 * FAILURES_MAX):
        failure = BreakerFailure(job_id=number, code="parser.x", message="m", at_ns=number)
        breaker = breakers.failed(breaker, failure, monotonic_ns=number)
    assert [f.job_id for f in breaker.failures] == list(range(2 * FAILURES_MAX, 3 * FAILURES_MAX))
