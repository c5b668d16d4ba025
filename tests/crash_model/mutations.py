"""The protocol with one thing taken away, or two steps in the wrong order: each is found, or shown to make no difference."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from casparian.db import operations as op
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.protocol.worker import Receipt
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel import recovery
from casparian.sentinel.io import promoting
from casparian.sinks import durable, promote
from casparian.worker import outputs as worker_outputs
from casparian.worker.outputs import Outputs
from tests.crash_model.filesystem import Rename
from tests.crash_model.interpose import patched
from tests.crash_model.machine import Machine
from tests.crash_model.scenario import DATABASE, OUT, Scenario

FILES: Final = Scenario(name="parquet", outputs=1)
TWO: Final = Scenario(name="parquet, two outputs", outputs=2)
STRICT: Final = Scenario(name="parquet, strict", outputs=2, rename=Rename.STRICT)
LINK: Final = Scenario(name="parquet, link", outputs=1, by_link=True)
CANCELLED: Final = Scenario(name="parquet, cancelled", outputs=1, cancel="staged")
BARE: Final = Scenario(name="parquet, new directories", outputs=1, bare=True)
STRANGER: Final = Scenario(name="parquet, a stranger in the way", outputs=1, stranger=True)
DUCKDB: Final = Scenario(name="duckdb", kind=SinkKind.DUCKDB, outputs=1)
CSV_REPLACED: Final = Scenario(
    name="csv, rewritten",
    kind=SinkKind.CSV,
    outputs=1,
    sources=2,
    shared=True,
    modes=(SinkMode.APPEND, SinkMode.REPLACE),
)


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing done wrong.

    Args:
        expect: a violation that it must cause; `None`: it makes no difference, for the reason in `why`.
        crashes: how many crashes in a row it takes.
        first_crash: how the step begins after which the first crash comes, where not any will do.
    """

    name: str
    scenario: Scenario
    expect: str | None
    machine: type[Machine] = Machine
    drop_sync: Callable[[str], bool] | None = None
    crashes: int = 1
    first_crash: str = ""
    why: str = ""


# -- fsyncs that are left out


def _called_by(*names: str) -> bool:
    """Whether one of these functions of the product is on the stack."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in names and "casparian" in frame.f_code.co_filename:
            return True
    return False


def _is_file(path: str) -> bool:
    return path.endswith((".parquet", ".csv"))


def _is_stage(path: str) -> bool:
    return re.search(r"/\.casparian-stage/home/\d+\.\d+\Z", path) is not None


def _is_stage_root(path: str) -> bool:
    return path.endswith("/.casparian-stage/home")


def _in_promotion(path: str) -> bool:
    return path == OUT and _called_by("promote")


def _of_setting_aside(path: str) -> bool:
    return path == OUT and _called_by("_set_aside")


def _of_removal(path: str) -> bool:
    return path == OUT and _called_by("remove_file")


def _in_opened(path: str) -> bool:
    return path == "/case/db" and _called_by("opened")


def _in_publish(path: str) -> bool:
    return path == "/case/db" and _called_by("publish") and not _called_by("opened")


def _is_copy(path: str) -> bool:
    return ".publish-" in path


def _of_new_directory(path: str) -> bool:
    return _called_by("make_directories") and not _called_by("_sync_made")


def _of_found_directory(path: str) -> bool:
    return _called_by("_sync_made")


# -- steps in the wrong order


class _StageSyncAfterConclude(Machine):
    """S4 before S2."""

    def finish_staging(self, outputs: Outputs, *, quarantine_only: bool) -> Any:
        paths: list[str] = []
        self._later = lambda: durable.sync_directories(paths)
        with patched((worker_outputs, "sync_directories", paths.extend)):
            return super().finish_staging(outputs, quarantine_only=quarantine_only)

    def conclude(self, worker_id: str, job_id: int, epoch: int, receipt: Receipt) -> None:
        super().conclude(worker_id, job_id, epoch, receipt)
        self.todo.append(self._later)


def _promote_files(receipt: Receipt) -> None:
    promote.promote([promoting._intent(f) for f in receipt.files])


class _SeedOrder(Machine):
    """The worker promotes, then the sentinel records: the order that the seed describes."""

    def conclude(self, worker_id: str, job_id: int, epoch: int, receipt: Receipt) -> None:
        _promote_files(receipt)
        super().conclude(worker_id, job_id, epoch, receipt)


class _WorkerPromotesAtOnce(Machine):
    """The seed's order, met by a cancel: files are promoted before anybody asks whether the job still runs."""

    def finish_staging(self, outputs: Outputs, *, quarantine_only: bool) -> Any:
        files = super().finish_staging(outputs, quarantine_only=quarantine_only)
        promote.promote([promoting._intent(f) for f in files])
        return files


class _PromoteBeforeBegin(Machine):
    """P before T1."""

    def perform(self, effect: eff.Effect) -> None:
        if (begin := _operation(effect, op.BeginCommit)) is not None:
            _promote_files(msgspec.msgpack.decode(begin.receipt, type=Receipt))
        super().perform(effect)


class _SyncBeforePromote(Machine):
    """P2 before P1."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        self.files.sync(self.files.find(OUT), OUT)
        event: ev.Event = _without_sync(
            self, lambda path: path == OUT, lambda: Machine.promote(self, effect)
        )
        return event


class _SyncAfterFinish(Machine):
    """T2 before P2."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        event: ev.Event = _without_sync(
            self, lambda path: path == OUT, lambda: Machine.promote(self, effect)
        )
        return event

    def perform(self, effect: eff.Effect) -> None:
        super().perform(effect)
        if _operation(effect, op.FinishCommit) is not None:
            self.files.sync(self.files.find(OUT), OUT)


class _RecordBeforePromote(Machine):
    """T2 before P1: record Completed, then rename."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        self._effect = effect
        return promoting._promoted(effect)

    def perform(self, effect: eff.Effect) -> None:
        super().perform(effect)
        if _operation(effect, op.FinishCommit) is not None:
            super().promote(self._effect)


class _RemoveStageBeforeFinish(Machine):
    """G before T2."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        event = super().promote(effect)
        sinks = {o.sink.uri: o.sink for o in (*effect.spec.outputs, effect.spec.quarantine)}
        self.remove_stages(
            eff.RemoveStages(job_id=effect.job_id, epoch=effect.epoch, sinks=tuple(sinks.values()))
        )
        return event


class _RemoveStageBeforePromote(Machine):
    """G before D: rows are loaded from files that are gone."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        self.remove_stages(
            eff.RemoveStages(
                job_id=effect.job_id, epoch=effect.epoch, sinks=(effect.spec.outputs[0].sink,)
            )
        )
        return super().promote(effect)


class _UnlinkBeforeSync(Machine):
    """By link: the old name goes before the new one is durable."""

    def promote(self, effect: eff.Promote) -> ev.Event:
        real = promote._promote_one

        def at_once(intent: promote.Intent) -> promote.Promotion:
            done = real(intent)
            promote._remove_staged(intent)
            return done

        with patched((promote, "_promote_one", at_once)):
            return super().promote(effect)


class _SweepAll(Machine):
    """Recovery sweeps what a committing job still needs."""

    def run(self) -> None:
        def all_of_it(sink: Sink, home_id: str, _keep: set[str]) -> tuple[str, ...]:
            return promote.sweep_stages(sink, home_id, set())

        with patched((recovery, "sweep_stages", all_of_it)):
            super().run()


class _SyncCopyAfterRename(Machine):
    """Publication: the copy is renamed, then synced."""

    def perform(self, effect: eff.Effect) -> None:
        if not isinstance(effect, eff.Publish):
            super().perform(effect)
            return
        _without_sync(self, _is_copy, lambda: Machine.perform(self, effect))
        inode = self.files.lookup(DATABASE)
        if inode is not None:
            self.files.sync(inode, DATABASE)


class _RemoveBeforeRecord(Machine):
    """A rewritten file's old form leaves the disk before the new one is recorded."""

    _unrecorded: Any = ()

    def record_housekeeping(self, operations: Any) -> None:
        self._unrecorded = operations

    def perform(self, effect: eff.Effect) -> None:
        self._unrecorded = ()
        super().perform(effect)
        if isinstance(effect, eff.Publish) and self._unrecorded:
            self.commit(*self._unrecorded)


def _operation(effect: eff.Effect, kind: type[Any]) -> Any:
    operations = effect.operations if isinstance(effect, eff.Persist) else ()
    return next((o for o in operations if isinstance(o, kind)), None)


def _without_sync(machine: Machine, drop: Callable[[str], bool], act: Callable[[], Any]) -> Any:
    before = machine.files.drop_sync
    machine.files.drop_sync = drop
    try:
        return act()
    finally:
        machine.files.drop_sync = before


_LOST: Final = "lost after the point of no return"

MUTATIONS: Final = (
    Mutation(
        name="no fsync of a staged file",
        scenario=FILES,
        drop_sync=_is_file,
        expect="completed but torn",
    ),
    Mutation(name="no fsync of a file to load", scenario=DUCKDB, drop_sync=_is_file, expect=_LOST),
    Mutation(
        name="no fsync of the stage directory", scenario=FILES, drop_sync=_is_stage, expect=_LOST
    ),
    Mutation(
        name="no fsync of the directory of stages",
        scenario=FILES,
        drop_sync=_is_stage_root,
        expect=_LOST,
    ),
    Mutation(
        name="no fsync of the output directory",
        scenario=FILES,
        drop_sync=_in_promotion,
        expect="completed but missing",
    ),
    Mutation(
        name="no fsync after setting a stranger aside",
        scenario=STRANGER,
        drop_sync=_of_setting_aside,
        expect="somebody else's file is gone",
    ),
    Mutation(
        name="no fsync after a withdrawal",
        scenario=STRICT,
        drop_sync=_of_removal,
        expect="queued but visible",
        crashes=2,
        first_crash="rename",
    ),
    Mutation(
        name="no fsync of new directories",
        scenario=BARE,
        drop_sync=_of_new_directory,
        expect=_LOST,
    ),
    Mutation(
        name="no fsync of directories that were found",
        scenario=BARE,
        drop_sync=_of_found_directory,
        expect="completed but missing",
        crashes=2,
        first_crash="mkdir",
    ),
    Mutation(
        name="no fsync of the directory of a new work file",
        scenario=DUCKDB,
        drop_sync=_in_opened,
        expect="completed, and not in the work file",
    ),
    Mutation(
        name="no fsync of the published copy",
        scenario=DUCKDB,
        drop_sync=_is_copy,
        expect="the published file is torn",
    ),
    Mutation(
        name="no fsync of the directory after publication",
        scenario=DUCKDB,
        drop_sync=_in_publish,
        expect="the run is finished, and its rows are not published",
    ),
    Mutation(
        name="no fsync of a rewritten file",
        scenario=CSV_REPLACED,
        drop_sync=lambda path: "/rewrite/" in path,
        expect="completed but torn",
    ),
    Mutation(
        name="conclude, then sync the stage",
        scenario=FILES,
        machine=_StageSyncAfterConclude,
        expect=_LOST,
    ),
    Mutation(
        name="promote, then T1",
        scenario=FILES,
        machine=_PromoteBeforeBegin,
        expect="dispatched but visible",
    ),
    Mutation(
        name="sync the directory, then promote",
        scenario=FILES,
        machine=_SyncBeforePromote,
        expect="completed but missing",
    ),
    Mutation(
        name="T2, then sync the directory",
        scenario=FILES,
        machine=_SyncAfterFinish,
        expect="completed but missing",
    ),
    Mutation(
        name="remove the stage, then T2",
        scenario=FILES,
        machine=_RemoveStageBeforeFinish,
        expect=None,
        why="after P2 the final names are durable and nothing in the stage is needed",
    ),
    Mutation(
        name="remove the stage, then T2 (duckdb)",
        scenario=DUCKDB,
        machine=_RemoveStageBeforeFinish,
        expect=None,
        why="after D the rows and the commit's id are durable, and recovery asks for the id first",
    ),
    Mutation(
        name="remove the stage, then D",
        scenario=DUCKDB,
        machine=_RemoveStageBeforePromote,
        expect=_LOST,
    ),
    Mutation(
        name="by link: remove the old name, then sync the new one",
        scenario=LINK,
        machine=_UnlinkBeforeSync,
        expect=_LOST,
    ),
    Mutation(
        name="rename the published copy, then sync it",
        scenario=DUCKDB,
        machine=_SyncCopyAfterRename,
        expect="the published file is torn",
    ),
    Mutation(
        name="the seed's order: promote, then record",
        scenario=FILES,
        machine=_SeedOrder,
        expect="dispatched but visible",
    ),
    Mutation(
        name="the seed's order, and a cancel",
        scenario=CANCELLED,
        machine=_WorkerPromotesAtOnce,
        expect="aborted but visible",
    ),
    Mutation(
        name="record Completed, then rename",
        scenario=FILES,
        machine=_RecordBeforePromote,
        expect="completed but missing",
    ),
    Mutation(
        name="record Completed, then load",
        scenario=DUCKDB,
        machine=_RecordBeforePromote,
        expect="completed, and not in the work file",
    ),
    Mutation(
        name="recovery sweeps every stage",
        scenario=FILES,
        machine=_SweepAll,
        expect="a committing job's stage was swept",
    ),
    Mutation(
        name="remove the old file, then record the rewritten one",
        scenario=CSV_REPLACED,
        machine=_RemoveBeforeRecord,
        expect="completed but missing",
    ),
)
