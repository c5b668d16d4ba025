"""One life of the program: boot, recover, commit, publish; until everything is done or the power goes.

The sentinel is the real `recover` and the real `step`; its effects are carried out one by one by the real `carry_out`,
`remove_stage` and `Publisher`, the worker's share by the real `Outputs`. Only what is around them is made up: the file system,
the control database (atomic and durable per transaction), the guest's rows and the catalog file (swapped atomically).

After every operation that reaches the disk or the database `observe` is told; a crash can come at each of these moments. A
mutation is a subclass that does one thing in the wrong order, or a file system that forgets one kind of fsync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pyarrow as pa

from casparian.db import operations as op
from casparian.domain.jobs import JobState
from casparian.domain.outputs import SinkKind
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.protocol import control
from casparian.protocol.worker import Abort, Conclude, Dispatch, Heartbeat, Receipt, SourceReceipt
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel import recovery
from casparian.sentinel.io import promoting, publishing
from casparian.sentinel.records import POLICY_CODE
from casparian.sentinel.state import RunEntry, RunState, State
from casparian.sentinel.step import step
from casparian.sinks.promote import prepare, remove_stage
from casparian.sinks.staging import stage_directory
from casparian.worker.outputs import Outputs
from casparian.worker.session import Batch
from tests.crash_model import scenario as worlds
from tests.crash_model.filesystem import ModelFileSystem
from tests.crash_model.interpose import NOW_NS, patched, product_over
from tests.crash_model.scenario import Scenario
from tests.model.control_store import ControlStore, Snapshot

_TICK_NS: Final = 1_000_000
_BACK_OFF_NS: Final = 10_000_000_000
_EVENTS_MAX: Final = 500
_HOME: Any = SimpleNamespace(root="/home", catalog="/home/catalog")
_TRUSTED: Final = TrustRecord(verdict=TrustVerdict.VALID, origin=TrustOrigin.FIRST_PARTY)
_READER: Any = None  # its reads are answered by the store
CLIENT: Final = 1

Task = Callable[[], None]


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """All that a crash leaves."""

    files: Any  # ModelFileSystem
    store: Snapshot
    catalog: frozenset[str]  # files that the published catalog lists

    def key(self) -> tuple[object, ...]:
        """Equal for disks from which everything goes on in the same way."""
        tables = self.store.tables
        return (
            self.files.key(),
            self.catalog,
            tuple((j.job_id, j.state, j.epoch, j.attempts) for j in tables["jobs"].values()),
            tuple((r.run_id, r.state) for r in tables["runs"].values()),
            tuple((m.dataset_id, m.job_id, m.retired_by) for m in tables["materializations"]),
            tuple((o.path, o.removed_at_ns is None) for o in tables["outputs"]),
        )

    def control(self) -> ControlStore:
        """The control database, to read."""
        store = ControlStore()
        store.restore(self.store)
        return store


class Violation(Exception):
    """The run itself showed that a rule is broken."""


class Machine:
    """The program over one disk."""

    def __init__(
        self,
        scenario: Scenario,
        disk: Disk,
        observe: Callable[[str, Disk], None],
        drop_sync: Callable[[str], bool] | None = None,
    ) -> None:
        self.scenario = scenario
        self.files: ModelFileSystem = disk.files.copy()
        self.store = disk.control()
        self.catalog = disk.catalog
        self.requeued = False  # whether a committing job went back to the queue
        self._observe = observe
        self.files.on_step = self.observe
        if drop_sync is not None:
            self.files.drop_sync = drop_sync
        self._monotonic_ns = 0
        self.todo: deque[ev.Event | Task] = deque()
        self._late: list[eff.RemoveStages] = []
        self._outputs: Outputs | None = None

    def disk(self) -> Disk:
        """What a crash would leave now."""
        return Disk(files=self.files.copy(), store=self.store.snapshot(), catalog=self.catalog)

    def observe(self, what: str) -> None:
        """A moment at which a crash can come."""
        self._observe(what, self.disk())

    # -- life

    def run(self) -> None:
        """From boot to the end of all runs.

        Raises:
            Violation: a transaction was refused, or the work does not come to its end.
        """
        with (
            product_over(self.files, self.store, self.scenario),
            patched((publishing, "publish_catalog", self._swap_catalog)),
        ):
            self._recover()
            self._settle()
            for number in range(len(self.scenario.modes)):
                if worlds.job_id(number) not in self.store.jobs:
                    self._start_run(number)
                    self._settle()

    def _recover(self) -> None:
        self.state = State(
            home_id=worlds.HOME_ID,
            home="/home",
            engine_hash="engine",
            workers_max=1,
            on_demand=False,
            started_ns=NOW_NS,
            clients={CLIENT: "examiner(0)"},
        )
        self._publisher = publishing.Publisher(
            _HOME,
            worlds.HOME_ID,
            "",
            _READER,
            record=self.record_housekeeping,
        )
        needed = self._needed_stages()
        reader: Any = SimpleNamespace(
            execute=lambda _: SimpleNamespace(
                fetchall=lambda: [(run_id,) for run_id in self.store.running_runs()]
            )
        )
        writer: Any = SimpleNamespace(apply=self._transact)
        recovered = recovery.recover(
            self.state,
            reader,
            writer,
            worlds.spec(self.scenario, 0).quarantine.sink,
            now_ns=NOW_NS,
        )
        gone = [path for path in needed if self.files.read(path) is None]
        if gone:
            raise Violation("a committing job's stage was swept")
        self.state = msgspec.structs.replace(recovered.state, clients=self.state.clients)
        self._perform(recovered.effects)

    def _needed_stages(self) -> list[str]:
        """Staged files that exist and that a committing job still needs."""
        found = []
        for job in self.store.jobs.values():
            if job.state == JobState.COMMITTING and job.receipt is not None:
                receipt = msgspec.msgpack.decode(job.receipt, type=Receipt)
                found += [f.path for f in receipt.files if self.files.read(f.path) is not None]
        return found

    def _start_run(self, number: int) -> None:
        """What a plan does: sinks are prepared, then the job is recorded and known."""
        spec = worlds.spec(self.scenario, number)
        if self.scenario.bare:
            for sink in {o.sink.uri: o.sink for o in (*spec.outputs, spec.quarantine)}.values():
                prepare(sink, worlds.HOME_ID)
        run_id, row = f"run-{number}", worlds.job_row(self.scenario, number)
        self.commit(
            op.StartRun(at_ns=NOW_NS, run_id=run_id, root="/evidence", actor="", request=""),
            op.SavePlan(
                at_ns=NOW_NS,
                run_id=run_id,
                root="/evidence",
                items=(),
                contracts=(),
                expected=worlds.expected_outputs(spec),
            ),
            op.InsertJobs(at_ns=NOW_NS, jobs=(row,)),
        )
        (entry,) = (self._entry(row_) for row_ in self.store.live_jobs())
        run = RunEntry(
            run_id=run_id,
            request=control.Run(request_id=run_id, evidence=b"/evidence"),
            actor="",
            client_id=None,
            number=0,
            started_ns=NOW_NS,
            root="/evidence",
            state=RunState.RUNNING,
            jobs_open=frozenset({row.job_id}),
        )
        self.state = msgspec.structs.replace(
            self.state,
            jobs={row.job_id: msgspec.structs.replace(entry, run_ids=(run_id,))},
            runs={run_id: run},
        )
        self.todo.append(ev.Tick())

    @staticmethod
    def _entry(row: tuple[Any, ...]) -> Any:
        return recovery._entry(row, order=1)

    def _settle(self) -> None:
        for _ in range(_EVENTS_MAX):
            if self.todo:
                following = self.todo.popleft()
                if callable(following):
                    following()
                else:
                    self._feed(following)
            elif self.state.busy or self.state.catalog_dirty:
                self._monotonic_ns += _BACK_OFF_NS
                self._feed(ev.Tick())
            else:
                self._remove_late()
                return
        raise Violation("the work does not come to its end")

    def _feed(self, event: ev.Event) -> None:
        self._monotonic_ns += _TICK_NS
        self.state, effects = step(
            self.state, event, now_ns=NOW_NS, monotonic_ns=self._monotonic_ns
        )
        self._perform(effects)

    # -- effects

    def _perform(self, effects: Any) -> None:
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: eff.Effect) -> None:
        """Carry out one effect."""
        match effect:
            case eff.Persist():
                results = self.commit(*effect.operations)
                self.todo.append(ev.Persisted(then=effect.then, results=results))
                self._remove_late()
            case eff.StartWorker():
                self.todo.append(ev.WorkerIdentified(worker_id=effect.worker_id))
            case eff.SendWorker(message=Dispatch() as dispatch):
                self._work(effect.worker_id, dispatch)
            case eff.SendWorker(message=Abort() as abort):
                if self._outputs is not None:
                    self._outputs.abort()
                receipt = Receipt(sources=(), files=(), isolation={}, code="job.aborted")
                self.conclude(effect.worker_id, abort.job_id, abort.epoch, receipt)
            case eff.Promote():
                self.todo.append(self.promote(effect))
            case eff.RemoveStages():
                if self.scenario.clean_late:
                    self._late.append(effect)
                else:
                    self.remove_stages(effect)
            case eff.Publish():
                self.todo.append(self._publisher.publish(effect))
            case eff.SendReply() | eff.SendEvent():
                pass
            case _:
                raise Violation(f"the sentinel wants {effect}")

    def _transact(self, groups: Any) -> Any:
        outcomes = self.store.apply(groups)
        for group, outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise Violation(f"a transaction was refused: {outcome!r}")
            self.requeued |= any(
                isinstance(o, op.StepJob) and o.before is JobState.COMMITTING for o in group
            )
        self.observe("transaction")
        return outcomes

    def commit(self, *operations: op.Operation) -> tuple[Any, ...]:
        """One transaction of the control database."""
        return tuple(self._transact([operations])[0])

    def promote(self, effect: eff.Promote) -> ev.Event:
        """P1 and P2, or the sink database's transaction."""
        return promoting.carry_out(effect, home=_HOME, home_id=worlds.HOME_ID, reader=_READER)

    def record_housekeeping(self, operations: Any) -> None:
        """What the publisher records before files leave the disk."""
        self.commit(*operations)

    def remove_stages(self, effect: eff.RemoveStages) -> None:
        """G."""
        for sink in effect.sinks:
            remove_stage(stage_directory(sink, worlds.HOME_ID, effect.job_id, effect.epoch))

    def _remove_late(self) -> None:
        late, self._late = self._late, []
        for effect in late:
            self.remove_stages(effect)

    def _swap_catalog(self, _path: Any, catalog: Any, _tables: Any) -> None:
        datasets = [*catalog.datasets, *filter(None, [catalog.quarantine])]
        self.catalog = frozenset(
            file.path
            for dataset in datasets
            if dataset.sink.kind is not SinkKind.DUCKDB
            for file in dataset.files
        )
        self.observe("catalog")

    # -- the worker

    def _work(self, worker_id: str, dispatch: Dispatch) -> None:
        first = dispatch.job_id == worlds.job_id(0) and dispatch.epoch == 1
        beat = Heartbeat(epoch=dispatch.epoch, job_id=dispatch.job_id)
        self.todo.append(ev.WorkerBeat(worker_id=worker_id, beat=beat))
        if first and self.scenario.cancel == "running":
            self.todo.append(self._cancel(dispatch.job_id))
        else:
            self.todo.append(lambda: self._stage(worker_id, dispatch, first=first))

    def _stage(self, worker_id: str, dispatch: Dispatch, *, first: bool) -> None:
        self._outputs = outputs = Outputs(dispatch, _TRUSTED)
        receipts = []
        for task in dispatch.sources:
            source: Any = SimpleNamespace(task=task, read=lambda _offset, _length: b"x")
            outputs.begin(source)
            for number, output in enumerate(dispatch.outputs):
                outputs.write(_batch(number, worlds.rows(output.contract, task.index)))
            if self.scenario.quarantined and task.index == 0:
                outputs.write(_batch(0, worlds.quarantined_rows(), quarantine=True))
            receipts.append(
                SourceReceipt(index=task.index, rows=outputs.rows, quarantined=outputs.quarantined)
            )
            outputs.commit()
        code = POLICY_CODE if self.scenario.over_policy else None
        files = self.finish_staging(outputs, quarantine_only=code is not None)
        self._outputs = None if self.scenario.cancel is None else outputs
        if first and self.scenario.cancel == "staged":
            self.todo.append(self._cancel(dispatch.job_id))
        elif first and self.scenario.worker_dies:
            self.todo.append(ev.WorkerGone(worker_id=worker_id, reason="signal 9"))
        else:
            receipt = Receipt(sources=tuple(receipts), files=files, isolation={}, code=code)
            self.conclude(worker_id, dispatch.job_id, dispatch.epoch, receipt)

    def finish_staging(self, outputs: Outputs, *, quarantine_only: bool) -> Any:
        """S1, S2."""
        return outputs.finish(quarantine_only=quarantine_only)

    def conclude(self, worker_id: str, job_id: int, epoch: int, receipt: Receipt) -> None:
        """S4."""
        conclude = Conclude(epoch=epoch, job_id=job_id, receipt=receipt)
        self.todo.append(ev.WorkerConcluded(worker_id=worker_id, conclude=conclude))

    @staticmethod
    def _cancel(job: int) -> ev.ClientAsked:
        request = control.CancelJob(request_id="cancel", job_id=job)
        return ev.ClientAsked(client_id=CLIENT, number=1, request=request)


def _batch(output: int, rows: pa.RecordBatch, *, quarantine: bool = False) -> Batch:
    return Batch(output=output, quarantine=quarantine, rows=rows)


def first_disk(scenario: Scenario) -> Disk:
    """A home and a case, with nothing in them or with the sinks that an earlier run has prepared."""
    files = ModelFileSystem(scenario.rename)
    made = [
        path
        for sink in ("/case/out", "/case/db", "/home/quarantine")
        for path in (sink, f"{sink}/.casparian-stage", f"{sink}/.casparian-stage/home")
    ]
    for path in ("/case", "/home", *(() if scenario.bare else made)):
        files.mkdir(path)
    if scenario.stranger:
        inode = files.create(f"{worlds.OUT}/events_{worlds.job_id(0)}_1_0.parquet")
        files.write(inode, worlds.STRANGER, durable=True)
    for path in ("/", "/case", "/home", *(() if scenario.bare else made)):
        files.sync(files.find(path), path)
    return Disk(files=files, store=ControlStore().snapshot(), catalog=frozenset())
