"""What a crash left: the plan of recovery as values, and the sweep over real stages and the real database."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec
import pytest

from casparian.db import operations as op
from casparian.db import reads
from casparian.db.migrate import migrate
from casparian.db.records import ExpectedOutputRow, JobRow
from casparian.db.writer import DatabaseWriter
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import IntegrityError
from casparian.protocol.worker import Receipt
from casparian.sentinel import effects as eff
from casparian.sentinel.recovery import Left, Recovered, plan_recovery, recover
from casparian.sentinel.state import JobSpec, State
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import stage_directory
from tests.simulation import jobs as sim

FRESH = State(
    home_id="home",
    home="/home",
    engine_hash=sim.ENGINE,
    workers_max=1,
    on_demand=False,
    started_ns=1,
)
RECEIPT = Receipt(sources=(), files=(), isolation={})


class Crashed:
    """A home after a crash: a database, and stages in real directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        migrate(self.connection)
        self.writer = DatabaseWriter(self.connection)
        self.quarantine = self.sink("quarantine")
        self.spec = sim.spec(
            "ab",
            outputs=(
                sim.output(sim.MAIN, self.sink("main")),
                sim.output(sim.SIDE, self.sink("side")),
            ),
            quarantine=sim.output(QUARANTINE_CONTRACT, self.quarantine),
        )

    def sink(self, name: str) -> Sink:
        return Sink(kind=SinkKind.PARQUET, location=str(self.folder / name))

    def write(self, *operations: op.Operation) -> None:
        (outcome,) = self.writer.apply([operations])
        assert not isinstance(outcome, Exception), outcome

    def job(self, job_id: int, state: JobState, *, spec: JobSpec | None = None) -> None:
        """A job as it was when everything ended, at epoch 1 (or still queued at 0)."""
        row = JobRow(
            job_id=job_id,
            run_id="r",
            state="queued",
            epoch=0,
            attempts=0,
            parser="p@1",
            sources=2,
            size_bytes=2,
            spec=msgspec.msgpack.encode(spec or self.spec),
            created_at_ns=job_id,
            updated_at_ns=job_id,
        )
        self.write(op.InsertJobs(at_ns=1, jobs=(row,)))
        way = [JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING]
        steps = way.index(state) if state in way else 2
        for number, (before, after) in enumerate(pairwise(way[: steps + 1])):
            self.write(
                op.StepJob(
                    at_ns=1, job_id=job_id, before=before, after=after, epoch=number, new_epoch=1
                )
            )
        if state is JobState.COMMITTING:
            self.write(
                op.BeginCommit(
                    at_ns=1,
                    job_id=job_id,
                    epoch=1,
                    mode="append",
                    claims=(),
                    receipt=msgspec.msgpack.encode(RECEIPT),
                    intents=b"",
                )
            )
        elif state not in way:
            self.write(
                op.StepJob(at_ns=1, job_id=job_id, before=JobState.RUNNING, after=state, epoch=1)
            )

    def stage(self, sink: Sink, job_id: int, epoch: int = 1) -> Path:
        stage = Path(stage_directory(sink, "home", job_id, epoch))
        stage.mkdir(parents=True)
        (stage / "t.parquet").write_bytes(b"rows")
        return stage

    def recover(self) -> Recovered:
        return recover(FRESH, self.connection, self.writer, self.quarantine, now_ns=9)

    def state_of(self, job_id: int) -> str:
        return reads.jobs_for_retry(self.connection, [job_id])[job_id][0]


@pytest.fixture
def crashed(tmp_path: Path) -> Crashed:
    return Crashed(tmp_path)


def test_staging_of_a_committing_job_survives_the_sweep_in_every_sink(crashed: Crashed) -> None:
    crashed.job(1, JobState.COMMITTING)
    stages = [crashed.stage(crashed.sink(name), 1) for name in ("main", "side", "quarantine")]
    recovered = crashed.recover()
    assert all((stage / "t.parquet").read_bytes() == b"rows" for stage in stages)
    (effect,) = recovered.effects
    assert isinstance(effect, eff.Promote)
    assert (effect.job_id, effect.epoch, effect.receipt) == (1, 1, RECEIPT)
    assert recovered.state.jobs[1].state is JobState.COMMITTING


def test_an_older_epoch_of_a_committing_job_is_swept(crashed: Crashed) -> None:
    crashed.job(1, JobState.COMMITTING)
    old = crashed.stage(crashed.sink("main"), 1, epoch=0)
    crashed.recover()
    assert not old.exists()


@pytest.mark.parametrize("state", [JobState.DISPATCHED, JobState.RUNNING])
def test_a_job_that_had_not_begun_to_commit_is_queued_and_its_staging_goes(
    crashed: Crashed, state: JobState
) -> None:
    crashed.job(1, state)
    stages = [crashed.stage(crashed.sink(name), 1) for name in ("main", "side", "quarantine")]
    recovered = crashed.recover()
    assert crashed.state_of(1) == "queued"
    assert recovered.state.jobs[1].state is JobState.QUEUED
    assert recovered.state.jobs[1].epoch == 1
    assert not any(stage.exists() for stage in stages)
    assert recovered.effects == ()


def test_the_quarantine_that_a_live_job_names_is_swept_wherever_it_is(crashed: Crashed) -> None:
    elsewhere = crashed.sink("old-quarantine")
    spec = msgspec.structs.replace(
        crashed.spec, quarantine=sim.output(QUARANTINE_CONTRACT, elsewhere)
    )
    crashed.job(1, JobState.RUNNING, spec=spec)
    stage = crashed.stage(elsewhere, 1)
    crashed.recover()
    assert not stage.exists()


def test_the_sink_of_a_job_that_ended_without_rows_is_swept(crashed: Crashed) -> None:
    """ABORTED was recorded, its staging was not removed yet, and the sink never held anything."""
    sink = crashed.sink("main")
    expected = ExpectedOutputRow(
        parser="p@1",
        artifact_hash="a",
        table_name="t",
        main=True,
        contract_hash="c",
        sink=sink.uri,
        declared_at_ns=1,
    )
    crashed.write(
        op.SavePlan(at_ns=1, run_id="r", root="/e", items=(), contracts=(), expected=(expected,))
    )
    crashed.job(1, JobState.ABORTED)
    stage = crashed.stage(sink, 1)
    crashed.recover()
    assert not stage.exists()
    assert crashed.state_of(1) == "aborted"


def test_a_job_of_another_engine_is_aborted_and_its_staging_goes(crashed: Crashed) -> None:
    spec = msgspec.structs.replace(crashed.spec, engine_hash="older")
    crashed.job(1, JobState.RUNNING, spec=spec)
    stage = crashed.stage(crashed.sink("side"), 1)
    recovered = crashed.recover()
    assert crashed.state_of(1) == "aborted"
    assert recovered.state.jobs == {}
    assert recovered.state.keys_in_flight == {}
    assert not stage.exists()


def test_a_committing_job_of_another_engine_is_finished_all_the_same(crashed: Crashed) -> None:
    spec = msgspec.structs.replace(crashed.spec, engine_hash="older")
    crashed.job(1, JobState.COMMITTING, spec=spec)
    assert len(crashed.recover().effects) == 1


def test_a_sink_that_cannot_be_swept_does_not_keep_the_sentinel_from_starting(
    crashed: Crashed,
) -> None:
    """Somebody put a link where a stage should be: it is left alone, and the other sinks are swept."""
    crashed.job(1, JobState.RUNNING)
    root = Path(stage_directory(crashed.sink("main"), "home", 1, 1)).parent
    root.mkdir(parents=True)
    (root / "1.1").symlink_to(crashed.folder)
    other = crashed.stage(crashed.sink("side"), 1)
    crashed.recover()
    assert (root / "1.1").is_symlink()
    assert not other.exists()


def test_recovery_that_was_cut_short_is_done_again_to_the_same_end(crashed: Crashed) -> None:
    crashed.job(1, JobState.COMMITTING)
    crashed.job(2, JobState.RUNNING)
    first = crashed.recover()
    again = crashed.recover()
    assert again.effects == first.effects
    assert again.state == first.state


def test_unended_runs_are_interrupted(crashed: Crashed) -> None:
    crashed.write(op.StartRun(at_ns=1, run_id="r", root="/e", actor="me", request="{}"))
    crashed.recover()
    rows = crashed.connection.execute("SELECT state, finished_at_ns FROM cf_runs").fetchall()
    assert rows == [("interrupted", 9)]


def test_the_plan_is_pure_and_remembers_replies_and_keys(crashed: Crashed) -> None:
    crashed.job(1, JobState.QUEUED)
    left = Left(
        jobs=tuple(reads.live_jobs(crashed.connection)),
        runs=(),
        sinks=("duckdb:/somewhere/out.duckdb",),
        replies={"q": b"reply"},
        has_outputs=True,
    )
    plan = plan_recovery(FRESH, left, crashed.quarantine, now_ns=9)
    assert plan == plan_recovery(FRESH, left, crashed.quarantine, now_ns=9)
    assert plan.groups == ()
    assert plan.state.replies == {"q": b"reply"}
    assert plan.state.catalog_dirty
    assert set(plan.state.keys_in_flight.values()) == {1}
    assert len(plan.state.keys_in_flight) == 2
    assert {sink.uri for sink in plan.sinks} == {
        "duckdb:/somewhere/out.duckdb",
        *(crashed.sink(name).uri for name in ("main", "side", "quarantine")),
    }


def test_recovered_jobs_are_of_their_run_and_come_in_the_same_order_every_time(
    crashed: Crashed,
) -> None:
    for job_id in (3, 1, 2):
        crashed.job(job_id, JobState.QUEUED)
    crashed.connection.execute("UPDATE cf_processing_queue SET created_at_ns = 5")
    jobs = crashed.recover().state.jobs
    assert list(jobs) == [1, 2, 3]
    assert [job.order for job in jobs.values()] == [1, 2, 3]
    assert {job.run_ids for job in jobs.values()} == {("r",)}


@pytest.mark.parametrize(
    "gone",
    [
        "DELETE FROM cf_commit_intents",
        "UPDATE cf_processing_queue SET receipt = NULL",
        "UPDATE cf_commit_intents SET document = 'x'::BLOB",
    ],
)
def test_a_committing_job_that_cannot_be_finished_is_told_with_what_helps(
    gone: str, crashed: Crashed
) -> None:
    crashed.job(1, JobState.COMMITTING)
    stage = crashed.stage(crashed.sink("main"), 1)
    crashed.connection.execute(gone)
    with pytest.raises(IntegrityError, match="job 1 is committing") as raised:
        crashed.recover()
    assert raised.value.code == "db.corrupt"
    assert "casparian sentinel backups" in (raised.value.hint or "")
    assert stage.exists(), "nothing is swept while it is not known what the job needs"
