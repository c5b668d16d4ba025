"""The sentinel against a dishonest world: lost workers, late receipts, cancels and crashes at any point.

The pure `step` and the real database writer are driven by a state machine that decides what happens next. After every
rule the database must say one consistent thing.
"""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from casparian.db.connection import ControlDatabase
from casparian.db.records import OutputPairRow, OutputRow
from casparian.db.writer import DatabaseWriter
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.jobs import NEXT, JobState
from casparian.domain.ledger import Ledger
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.domain.parsers import Limits, ParserKind
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.recovery import recover
from casparian.sentinel.state import JobSpec, OutputSpec, State
from casparian.sentinel.step import step
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import stage_directory

TABLE = OutputContract(table="t", main=True, columns=(Column(name="a", type="int64"),))
SECOND = 1_000_000_000


class SentinelMachine(RuleBasedStateMachine):
    """One home, one table, a few sources, two workers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.home = Home.at(self.folder.name)
        self.home.root.mkdir(exist_ok=True)
        self.home.run.mkdir()
        self.database = ControlDatabase(self.home)
        self.now = SECOND
        self.next_job = 1
        self.next_run = 1
        self.told: list[tuple[str, messages.Dispatch]] = []  # every dispatch ever sent
        self.promoted: set[tuple[int, int]] = set()  # (job, epoch) whose files are in place
        self.boot()

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    # -- the world

    def boot(self) -> None:
        """Start, or start again after a crash: memory is gone, the database is not."""
        self.writer = DatabaseWriter(self.database.writer)
        self.persists: deque[eff.Persist] = deque()
        self.tasks: list[eff.Effect] = []
        self.running: dict[str, messages.Dispatch] = {}  # worker -> what it was told
        self.alive: set[str] = set()
        self.stopped = False
        fresh = State(
            home_id=self.database.home_id,
            home=str(self.home.root),
            engine_hash="engine",
            workers_max=2,
            on_demand=False,
            started_ns=self.now,
        )
        recovered = recover(
            fresh, self.database.writer, self.writer, self.sink("quarantine"), now_ns=self.now
        )
        self.state = recovered.state
        self.perform(list(recovered.effects))

    def sink(self, name: str) -> Sink:
        return Sink(kind=SinkKind.PARQUET, location=str(self.home.root / name), settings={})

    def happen(self, event: ev.Event) -> None:
        if self.stopped:
            return
        self.now += SECOND
        before = self.state
        self.state, effects = step(self.state, event, now_ns=self.now, monotonic_ns=self.now)
        if self.state.draining:
            self.a_drain_begins_nothing_and_cuts_nothing_short(before)
        self.perform(effects)

    def a_drain_begins_nothing_and_cuts_nothing_short(self, before: State) -> None:
        after = self.state
        for job in after.jobs.values():
            if job.state is JobState.DISPATCHED:
                assert before.jobs[job.job_id].state is JobState.DISPATCHED
        if after.stopping and not before.stopping:
            assert all(job.state is JobState.QUEUED for job in after.jobs.values())
            under_way = after.planning or after.publishing or after.catalog_dirty
            assert not under_way

    def perform(self, effects: list[eff.Effect]) -> None:
        for effect in effects:
            match effect:
                case eff.Persist():
                    self.persists.append(effect)
                case eff.StartWorker():
                    self.alive.add(effect.worker_id)
                case eff.SendWorker():
                    if isinstance(effect.message, messages.Dispatch):
                        self.running[effect.worker_id] = effect.message
                        self.told.append((effect.worker_id, effect.message))
                case eff.KillWorker() | eff.Promote() | eff.Publish():
                    self.tasks.append(effect)
                case eff.Stop():
                    assert self.state.draining, f"the sentinel stopped: {effect.reason}"
                    self.stopped = True
                case _:
                    continue

    def spec(self, names: list[str], mode: SinkMode) -> JobSpec:
        def output(contract: OutputContract, place: str) -> OutputSpec:
            return OutputSpec(
                contract=contract,
                contract_hash="c",
                schema_hash="s",
                sink=self.sink(place),
                sink_config_hash="k",
                dataset_id=f"dataset-{contract.table}",
            )

        return JobSpec(
            root="/evidence",
            mode=mode,
            parser=messages.ParserTask(
                name="p",
                version="1",
                kind=ParserKind.PYTHON,
                entry="parser.py:parse",
                directory="/parsers/p",
                artifact_hash="artifact",
                account="lines",
                unit="line",
                config={},
                limits=Limits(),
            ),
            env_hash="env",
            engine_hash="engine",
            parser_config_hash="config",
            lineage_version=1,
            sources=tuple(
                messages.SourceTask(
                    index=index,
                    source_id=name,
                    source_hash=name,
                    sha256=name,
                    size_bytes=1,
                    path=name.encode(),
                    display_path=name,
                )
                for index, name in enumerate(names)
            ),
            outputs=(output(TABLE, "out"),),
            quarantine=output(QUARANTINE_CONTRACT, "quarantine"),
        )

    # -- rules: what clients do

    @rule(
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
        mode=st.sampled_from([SinkMode.APPEND, *SinkMode]),
    )
    def plan_a_run(self, names: list[str], mode: SinkMode) -> None:
        run_id = f"run-{self.next_run}"
        self.next_run += 1
        spec = self.spec(names, mode)
        keys = tuple(
            spec.key_parts(spec.main, s.source_id).materialization_key() for s in spec.sources
        )
        request = control.Run(request_id=run_id, evidence=b"/evidence", mode=mode)
        self.happen(ev.ClientAsked(client_id=1, number=1, request=request))
        planned = ev.PlannedJob(job_id=self.next_job, spec=spec, keys=keys)
        self.next_job += 1
        self.happen(
            ev.PlanReady(
                run_id=run_id,
                root="/evidence",
                files=control.FileCounts(seen=len(names), selected=len(names)),
                items=(),
                jobs=(planned,),
                contracts=(),
                expected=(),
                problems=(),
                rejected={},
                by_parser={},
            )
        )

    @precondition(lambda self: self.state.jobs)
    @rule(data=st.data())
    def cancel_a_job(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.state.jobs)))
        request = control.CancelJob(request_id=f"cancel-{self.now}", job_id=job_id)
        self.happen(ev.ClientAsked(client_id=1, number=2, request=request))

    @rule(take_back=st.booleans())
    def drain(self, take_back: bool) -> None:
        request = control.Drain(take_back=take_back)
        self.happen(ev.ClientAsked(client_id=1, number=3, request=request))

    # -- rules: what the world does

    @precondition(lambda self: self.stopped)
    @rule()
    def it_is_started_again(self) -> None:
        """After a drain nothing has to be put right: jobs are in the queue, or have ended."""
        states = {state for (state,) in self.rows("SELECT DISTINCT state FROM cf_processing_queue")}
        assert not states & {"dispatched", "running", "committing"}
        assert not self.rows("SELECT 1 FROM cf_commit_intents")
        self.boot()

    @precondition(lambda self: self.persists)
    @rule()
    def the_disk_catches_up(self) -> None:
        group = [self.persists.popleft() for _ in range(len(self.persists))]
        for effect, outcome in zip(
            group, self.writer.apply([e.operations for e in group]), strict=True
        ):
            if isinstance(outcome, Exception):
                raise outcome
            self.happen(ev.Persisted(then=effect.then, results=tuple(outcome)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_says_hello(self, data: st.DataObject) -> None:
        self.happen(ev.WorkerIdentified(worker_id=data.draw(st.sampled_from(sorted(self.alive)))))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_worker_beats(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.running)))
        told = self.running[worker_id]
        self.happen(
            ev.WorkerBeat(
                worker_id=worker_id, beat=messages.Heartbeat(epoch=told.epoch, job_id=told.job_id)
            )
        )

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        how=st.sampled_from(["good", "good", "good", "partly", "failed", "transient"]),
    )
    def a_worker_concludes(self, data: st.DataObject, how: str) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.running)))
        told = self.running.pop(worker_id)
        receipt = self.receipt(told, how)
        conclude = messages.Conclude(epoch=told.epoch, job_id=told.job_id, receipt=receipt)
        self.happen(ev.WorkerConcluded(worker_id=worker_id, conclude=conclude))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(worker_id)
        self.running.pop(worker_id, None)
        self.happen(ev.WorkerGone(worker_id=worker_id, reason="killed"))

    @precondition(lambda self: self.tasks)
    @rule(lost=st.integers(0, 9))
    def a_task_is_done(self, lost: int) -> None:
        effect = self.tasks.pop(0)
        match effect:
            case eff.Promote():
                self.finish_promotion(effect, lost=lost == 0)
            case eff.Publish():
                self.happen(ev.Published(run_ids=effect.run_ids))
            case eff.KillWorker():
                if effect.worker_id in self.alive:
                    self.alive.discard(effect.worker_id)
                    self.running.pop(effect.worker_id, None)
                    self.happen(ev.WorkerGone(worker_id=effect.worker_id, reason="killed"))

    @rule(rounds=st.integers(1, 8), data=st.data())
    def things_go_well(self, rounds: int, data: st.DataObject) -> None:
        """A quiet stretch: without it two commits of one key would be rare."""
        for _ in range(rounds):
            if self.persists:
                self.the_disk_catches_up()
            for worker_id in sorted(self.alive):
                self.happen(ev.WorkerIdentified(worker_id=worker_id))
            for _ in range(len(self.running)):
                self.a_worker_concludes(data, "good")
            for _ in range(len(self.tasks)):
                self.a_task_is_done(1)

    @rule(copies=st.integers(1, 3), data=st.data())
    def a_receipt_is_doubled_or_late(self, copies: int, data: st.DataObject) -> None:
        """What some earlier dispatch would have said, under an old epoch or for a job that has ended."""
        if not self.told:
            return
        worker_id, told = data.draw(st.sampled_from(self.told))
        conclude = messages.Conclude(
            epoch=told.epoch, job_id=told.job_id, receipt=self.receipt(told, "good")
        )
        job = self.state.jobs.get(told.job_id)
        if job is not None and job.epoch == told.epoch:
            return  # that one is neither doubled nor late
        for _ in range(copies):
            self.happen(ev.WorkerConcluded(worker_id=worker_id, conclude=conclude))

    @rule()
    def time_passes(self) -> None:
        self.now += 60 * SECOND
        self.happen(ev.Tick())

    @rule(written=st.integers(0, 3))
    def everything_crashes(self, written: int) -> None:
        """`kill -9`: the first few queued transactions made it to the disk, unacknowledged; the rest never happened."""
        for _ in range(min(written, len(self.persists))):
            outcome = self.writer.apply([self.persists.popleft().operations])[0]
            if isinstance(outcome, Exception):
                raise outcome
        self.boot()

    # -- helpers

    def receipt(self, told: messages.Dispatch, how: str) -> messages.Receipt:
        ledger = Ledger(
            unit="line",
            declared=None,
            present=1,
            rows=1,
            recovered_live=0,
            recovered_extra=0,
            quarantined=0,
            quarantined_extra=0,
            lost=0,
            blank_units=0,
            blank_bytes=0,
            balanced=True,
        )
        sources = []
        for source in told.sources:
            bad = how == "failed" or (how == "partly" and source.index == 0)
            sources.append(
                messages.SourceReceipt(
                    index=source.index,
                    code="parser.exception" if bad else None,
                    message="it broke" if bad else "",
                    rows={} if bad else {"t": 1},
                    ledger=None if bad else ledger,
                )
            )
        if how == "transient":
            return messages.Receipt(
                sources=(),
                files=(),
                isolation={},
                code="staging.no_space",
                message="full",
                transient=True,
            )
        kept = tuple(s.index for s in sources if s.code is None)
        sink = told.outputs[0].sink
        stage = stage_directory(sink, told.home_id, told.job_id, told.epoch)
        files = (
            messages.StagedFile(
                table="t",
                sink=sink,
                path=f"{stage}/t_{told.job_id}_{told.epoch}_0.parquet",
                size_bytes=1,
                blake3="b",
                rows=len(kept),
                sources=kept,
            ),
        )
        return messages.Receipt(
            sources=tuple(sources), files=files if kept else (), isolation={"level": "test"}
        )

    def finish_promotion(self, effect: eff.Promote, *, lost: bool) -> None:
        place = (effect.job_id, effect.epoch)
        if lost and place not in self.promoted:
            self.happen(
                ev.PromoteFailed(
                    job_id=effect.job_id,
                    epoch=effect.epoch,
                    code="promote.lost",
                    message="gone",
                    lost=True,
                )
            )
            return
        self.promoted.add(place)
        outputs = tuple(
            OutputRow(
                job_id=effect.job_id,
                epoch=effect.epoch,
                table_name=file.table,
                sink=file.sink.uri,
                dataset_id="dataset-t",
                path=f"/out/{Path(file.path).name}",
                rows=file.rows,
                size_bytes=file.size_bytes,
                blake3=file.blake3,
                committed_at_ns=self.now,
            )
            for file in effect.receipt.files
        )
        pairs = tuple(
            OutputPairRow(
                path=output.path,
                job_id=effect.job_id,
                source_id=effect.spec.sources[index].source_id,
            )
            for output, file in zip(outputs, effect.receipt.files, strict=True)
            for index in file.sources
        )
        self.happen(
            ev.Promoted(job_id=effect.job_id, epoch=effect.epoch, outputs=outputs, pairs=pairs)
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.database.writer.execute(sql).fetchall()
        return found

    # -- what must always hold

    @invariant()
    def no_key_is_alive_twice(self) -> None:
        assert not self.rows(
            "SELECT materialization_key FROM cf_materializations WHERE retired_by IS NULL AND table_name = 't' "
            "GROUP BY 1 HAVING count(*) > 1"
        )

    @invariant()
    def only_completed_jobs_have_outputs_or_materializations(self) -> None:
        assert not self.rows(
            "SELECT q.job_id, q.state FROM cf_processing_queue q WHERE q.state <> 'completed' AND "
            "(q.job_id IN (SELECT job_id FROM cf_outputs) OR q.job_id IN (SELECT job_id FROM cf_materializations))"
        )

    @invariant()
    def every_recorded_output_was_promoted_before(self) -> None:
        recorded = set(self.rows("SELECT DISTINCT job_id, epoch FROM cf_outputs"))
        assert recorded <= self.promoted

    @invariant()
    def intents_belong_to_committing_jobs(self) -> None:
        assert not self.rows(
            "SELECT job_id FROM cf_commit_intents WHERE job_id NOT IN "
            "(SELECT job_id FROM cf_processing_queue WHERE state IN ('committing', 'queued', 'failed'))"
        )

    @invariant()
    def every_step_recorded_is_in_the_table(self) -> None:
        for before, after in self.rows(
            "SELECT DISTINCT from_state, to_state FROM cf_job_events WHERE from_state IS NOT NULL"
        ):
            assert JobState(after) in NEXT[JobState(before)]

    @invariant()
    def keys_in_flight_belong_to_live_jobs(self) -> None:
        assert self.state.stopping or set(self.state.keys_in_flight.values()) <= set(
            self.state.jobs
        )

    @invariant()
    def state_is_a_value(self) -> None:
        assert msgspec.structs.replace(self.state) == self.state


TestSentinel = SentinelMachine.TestCase
TestSentinel.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
