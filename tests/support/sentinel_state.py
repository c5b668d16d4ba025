"""A sentinel's state with one job, and how to take single steps with it."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from casparian.db import operations as op
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.domain.parsers import Limits, ParserKind
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.scheduling import LEASE_NS
from casparian.sentinel.state import JobEntry, JobSpec, OutputSpec, State, WorkerEntry, WorkerState
from casparian.sentinel.step import step
from casparian.sinks.quarantine import QUARANTINE_CONTRACT

CONTRACT = OutputContract(table="t", main=True, columns=(Column(name="a", type="int64"),))


def _output(contract: OutputContract) -> OutputSpec:
    return OutputSpec(
        contract=contract,
        contract_hash="c",
        schema_hash="s",
        sink=Sink(kind=SinkKind.PARQUET, location=f"/sink/{contract.table}"),
        sink_config_hash="k",
        dataset_id=f"d-{contract.table}",
    )


SPEC = JobSpec(
    root="/evidence",
    mode=SinkMode.APPEND,
    parser=messages.ParserTask(
        name="p",
        version="1",
        kind=ParserKind.PYTHON,
        entry="parser.py:parse",
        directory="/p",
        artifact_hash="a",
        account="lines",
        unit="line",
        config={},
        limits=Limits(),
    ),
    env_hash="e",
    engine_hash="n",
    parser_config_hash="f",
    lineage_version=1,
    sources=(
        messages.SourceTask(
            index=0,
            source_id="s",
            source_hash="s",
            sha256="s",
            size_bytes=1,
            path=b"/evidence/s",
            display_path="s",
        ),
    ),
    outputs=(_output(CONTRACT),),
    quarantine=_output(QUARANTINE_CONTRACT),
)
RECEIPT = messages.Receipt(
    sources=(messages.SourceReceipt(index=0, rows={"t": 1}),), files=(), isolation={}
)


def running(*, epoch: int = 3, state: JobState = JobState.RUNNING, attempts: int = 0) -> State:
    """A sentinel with one job that worker w1 runs at epoch 3."""
    job = JobEntry(
        job_id=7,
        run_ids=(),
        spec=SPEC,
        state=state,
        epoch=epoch,
        attempts=attempts,
        worker_id="w1",
        deadline_ns=LEASE_NS,
        receipt=RECEIPT if state is JobState.COMMITTING else None,
    )
    worker = WorkerEntry(worker_id="w1", state=WorkerState.BUSY, job_id=7, epoch=epoch)
    return State(
        home_id="home",
        home="/home",
        engine_hash="n",
        workers_max=1,
        on_demand=False,
        started_ns=0,
        jobs={7: job},
        workers={"w1": worker},
        clients={1: "examiner(0)"},
    )


def queued(*job_ids: int, **changes: Any) -> State:
    """A sentinel with jobs in the queue and one idle worker."""
    jobs = {
        job_id: JobEntry(job_id=job_id, run_ids=(), spec=SPEC, state=JobState.QUEUED, order=order)
        for order, job_id in enumerate(job_ids)
    }
    workers = {"w1": WorkerEntry(worker_id="w1", state=WorkerState.IDLE)}
    return structs.replace(running(), jobs=jobs, workers=workers, **changes)


def take(state: State, event: ev.Event, *, at_ns: int = 1) -> tuple[State, list[eff.Effect]]:
    """One step at a moment of both clocks."""
    return step(state, event, now_ns=at_ns, monotonic_ns=at_ns)


def operations(effects: list[eff.Effect]) -> list[op.Operation]:
    """Everything that is to be made durable, in order."""
    return [o for effect in effects if isinstance(effect, eff.Persist) for o in effect.operations]


def written(effects: list[eff.Effect]) -> ev.Persisted:
    """The event that the one transaction of a step gives when it is durable; its results are those of the real writer."""
    (persist,) = [effect for effect in effects if isinstance(effect, eff.Persist)]
    results = tuple(o.reply if isinstance(o, op.SaveReply) else None for o in persist.operations)
    return ev.Persisted(then=persist.then, results=results)


def conclude(
    epoch: int, receipt: messages.Receipt = RECEIPT, job_id: int = 7
) -> ev.WorkerConcluded:
    """The one worker is done with the one job."""
    return ev.WorkerConcluded(
        worker_id="w1", conclude=messages.Conclude(epoch=epoch, job_id=job_id, receipt=receipt)
    )


def replies(effects: list[eff.Effect]) -> list[control.Reply]:
    """What clients are told."""
    return [effect.reply for effect in effects if isinstance(effect, eff.SendReply)]


def persisted(
    state: State, effects: list[eff.Effect], *, at_ns: int = 1
) -> tuple[State, list[eff.Effect]]:
    """Every transaction of a step becomes durable, in order; the effects of all of them."""
    found: list[eff.Effect] = []
    for effect in [e for e in effects if isinstance(e, eff.Persist)]:
        results = tuple(
            o.reply
            if isinstance(o, op.SaveReply)
            else op.CommitClaims()
            if isinstance(o, op.BeginCommit)
            else None
            for o in effect.operations
        )
        state, more = take(state, ev.Persisted(then=effect.then, results=results), at_ns=at_ns)
        found += more
    return state, found
