"""`min_isolation` travels from the run to the worker, and lowering it is a decision on the tape."""

from __future__ import annotations

import msgspec
import pytest
from test_sentinel_step import RECEIPT, SPEC, operations, running, take

from casparian.db import operations as op
from casparian.domain.isolation import IsolationLevel
from casparian.domain.jobs import JobState
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import events as ev
from casparian.sentinel.scheduling import dispatch_message
from casparian.sentinel.state import JobSpec, RunEntry, State
from casparian.sentinel.turn import Turn


def planning(minimum: IsolationLevel, *, dry_run: bool = False) -> State:
    """A sentinel whose only run waits for its plan."""
    run = RunEntry(
        run_id="r1",
        request=control.Run(
            request_id="r1", evidence=b"/evidence", min_isolation=minimum, dry_run=dry_run
        ),
        actor="examiner(0)",
        client_id=1,
        number=1,
        started_ns=0,
        root="",
    )
    return msgspec.structs.replace(running(), jobs={}, workers={}, runs={"r1": run})


def plan(minimum: IsolationLevel, *, jobs: bool = True) -> ev.PlanReady:
    spec = msgspec.structs.replace(SPEC, min_isolation=minimum)
    return ev.PlanReady(
        run_id="r1",
        root="/evidence",
        files=control.FileCounts(seen=1, selected=1),
        items=(),
        jobs=(ev.PlannedJob(job_id=8, spec=spec, keys=("k",)),) if jobs else (),
        contracts=(),
        expected=(),
        problems=(),
        rejected={},
        by_parser={},
    )


def decisions(minimum: IsolationLevel, **changes: bool) -> list[op.RecordDecision]:
    dry_run = changes.get("dry_run", False)
    jobs = changes.get("jobs", True)
    _, effects = take(planning(minimum, dry_run=dry_run), plan(minimum, jobs=jobs))
    return [o for o in operations(effects) if isinstance(o, op.RecordDecision)]


@pytest.mark.parametrize("minimum", [IsolationLevel.REDUCED, IsolationLevel.NONE])
def test_a_lower_minimum_is_a_decision_on_the_tape(minimum: IsolationLevel) -> None:
    (decision,) = decisions(minimum)
    assert decision.kind == "isolation.lowered"
    assert decision.fields == {
        "run_id": "r1",
        "actor": "examiner(0)",
        "min_isolation": minimum.value,
    }


def test_nothing_is_recorded_for_what_is_not_lowered_or_not_run() -> None:
    assert decisions(IsolationLevel.FULL) == []
    assert decisions(IsolationLevel.REDUCED, dry_run=True) == []
    assert decisions(IsolationLevel.REDUCED, jobs=False) == []


@pytest.mark.parametrize("minimum", IsolationLevel)
def test_the_worker_is_told_the_minimum(minimum: IsolationLevel) -> None:
    state = running()
    job = msgspec.structs.replace(
        state.jobs[7], spec=msgspec.structs.replace(SPEC, min_isolation=minimum)
    )
    assert dispatch_message(Turn(state), job).min_isolation is minimum


def test_a_job_recorded_before_there_was_a_policy_asks_for_full() -> None:
    """A crash between two versions must not lower anything."""
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(SPEC))
    del stored["min_isolation"]
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=JobSpec)
    assert again.min_isolation is IsolationLevel.FULL


def test_guests_that_are_confined_too_little_fail_the_job_and_are_not_held_against_the_evidence() -> (
    None
):
    receipt = msgspec.structs.replace(
        RECEIPT, sources=(), code="isolation.too_low", message="missing: seccomp"
    )
    conclude = messages.Conclude(epoch=3, job_id=7, receipt=receipt)
    state, effects = take(running(), ev.WorkerConcluded(worker_id="w1", conclude=conclude))
    assert state.jobs[7].state is JobState.FAILED
    (stepped,) = [o for o in operations(effects) if isinstance(o, op.StepJob)]
    assert stepped.code == "isolation.too_low"
    assert stepped.dispositions
    assert not any(row.permanent for row in stepped.dispositions)
