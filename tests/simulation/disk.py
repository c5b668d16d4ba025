"""Stages, output files and sink databases as values, with the promotion of `sinks.promote` and `sentinel.io.promoting`.

Everything here is durable at once: what an unsynced directory loses is the matter of the crash model. A task is a generator
that pauses after each change, so that a crash can come between any two.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
from typing import Final, NamedTuple

from casparian.db.operations import Operation, RemoveOutput
from casparian.db.records import OutputPairRow, OutputRow
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol.worker import StagedFile
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sinks.promote import final_path
from casparian.sinks.staging import stage_directory, stage_root
from tests.model.control_store import ControlStore
from tests.simulation.jobs import POLICY

FULL: Final = "promote.full"
FSYNC: Final = "promote.fsync"
LOCKED: Final = "promote.locked"
STUCK: Final = "withdraw.fails"


class File(NamedTuple):
    """A file: its content's hash, and which attempt of which job wrote it."""

    blake3: str
    table: str
    job_id: int
    epoch: int


class Loaded(NamedTuple):
    """Rows of one commit in a sink's database."""

    job_id: int
    epoch: int
    files: tuple[str, ...]  # hashes of what was loaded


class Disk:
    """What is on it. `version` grows with every change."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, File]] = {}  # stage directory -> path -> file
        self.finals: dict[str, File] = {}
        self.databases: dict[str, dict[tuple[int, int], Loaded]] = {}  # sink -> (job, epoch)
        self.version = 0

    # -- staging

    def stage(self, job_id: int, epoch: int, files: Collection[StagedFile]) -> None:
        """A worker has written and synced its files."""
        for file in files:
            directory = self.stages.setdefault(os.path.dirname(file.path), {})
            directory[file.path] = File(file.blake3, file.table, job_id, epoch)
        self.version += 1

    def remove_stages(self, sinks: Collection[Sink], home_id: str, job_id: int, epoch: int) -> None:
        """Remove one attempt's staging in these sinks."""
        for sink in sinks:
            self.stages.pop(stage_directory(sink, home_id, job_id, epoch), None)
        self.version += 1

    def sweep(self, sinks: Collection[Sink], home_id: str, keep: Collection[str]) -> None:
        """As `sweep_stages`, for several sinks."""
        roots = {stage_root(sink, home_id) for sink in sinks}
        for directory in list(self.stages):
            if os.path.dirname(directory) in roots and directory not in keep:
                del self.stages[directory]
        self.version += 1

    def staged(self, path: str) -> File | None:
        """The staged file of this name."""
        return self.stages.get(os.path.dirname(path), {}).get(path)

    def unstage(self, path: str) -> None:
        """Remove one staged file."""
        self.stages.get(os.path.dirname(path), {}).pop(path, None)
        self.version += 1

    # -- promotion

    def promote(
        self, effect: eff.Promote, fault: str | None, now_ns: int
    ) -> Generator[None, None, ev.Promoted | ev.PromoteFailed]:
        """P1, P2 and D; after a passing fault to be tried again, else all of it is taken back; idempotent."""
        files = [f for f in effect.receipt.files if f.sink.kind is not SinkKind.DUCKDB]
        lost, code, passing = False, "", True
        missing = [
            file
            for file in files
            if not self._holds(self.finals.get(final_path(file.sink, file.path)), file)
            and not self._holds(self.staged(file.path), file)
        ]
        if missing:
            lost, code, passing = True, "promote.lost", False
        else:
            for number, file in enumerate(files):
                if fault == FULL and number == len(files) - 1:
                    code = "sink.no_space"
                    break
                final = final_path(file.sink, file.path)
                if not self._holds(self.finals.get(final), file):
                    staged = self.staged(file.path)
                    assert staged is not None
                    self.finals[final] = staged
                self.unstage(file.path)
                yield
            if fault == FSYNC and not code:
                code, passing = "sink.refused", False
        if not code:
            lost, code = self._load(effect, fault)
            passing = not lost
            yield
        if not code:
            return promoted(effect, now_ns)
        if passing and not effect.give_up:
            return _failed(effect, code, transient=True)
        for file in files:
            if fault == STUCK:
                return _failed(effect, code, transient=True)  # it cannot be removed now
            self.finals.pop(final_path(file.sink, file.path), None)
            self.unstage(file.path)
            yield
        for database in self.databases.values():
            database.pop((effect.job_id, effect.epoch), None)
        self.version += 1
        return _failed(effect, code, lost=lost)

    @staticmethod
    def _holds(found: File | None, promised: StagedFile) -> bool:
        return found is not None and found.blake3 == promised.blake3

    def _load(self, effect: eff.Promote, fault: str | None) -> tuple[bool, str]:
        """One transaction for each sink database."""
        for uri in database_sinks(effect):
            database = self.databases.setdefault(uri, {})
            if (effect.job_id, effect.epoch) in database:
                continue
            if fault == LOCKED:
                return False, "sink.locked"
            staged = [f for f in effect.receipt.files if f.sink.uri == uri]
            if not all(self._holds(self.staged(f.path), f) for f in staged):
                return True, "output.missing"
            files = tuple(f.blake3 for f in staged)
            database[effect.job_id, effect.epoch] = Loaded(effect.job_id, effect.epoch, files)
            self.version += 1
        return False, ""

    def promote_early(self, file: StagedFile) -> None:
        """A worker moves its own file to where readers look: the order that must not be."""
        staged = self.staged(file.path)
        if staged is not None and file.sink.kind is not SinkKind.DUCKDB:
            self.finals[final_path(file.sink, file.path)] = staged
            self.unstage(file.path)

    # -- publishing

    def publish(
        self, effect: eff.Publish, store: ControlStore, fault: str | None, now_ns: int
    ) -> Generator[None, None, ev.Published]:
        """Files whose pairs are all retired leave the disk; what was done is told to be recorded."""
        if fault is not None:
            return ev.Published(run_ids=effect.run_ids, code="catalog.failed", message=fault)
        gone: list[Operation] = []
        alive = {(m.dataset_id, m.job_id, m.source_id) for m in store.living()}
        pairs: dict[str, list[OutputPairRow]] = {}
        for pair in store.output_pairs:
            pairs.setdefault(pair.path, []).append(pair)
        for output in store.outputs:
            held = pairs.get(output.path)
            if output.removed_at_ns is not None or not held:
                continue
            if not any((output.dataset_id, p.job_id, p.source_id) in alive for p in held):
                gone.append(RemoveOutput(at_ns=now_ns, path=output.path))
                self.finals.pop(output.path, None)
                self.version += 1
                yield
        return ev.Published(run_ids=effect.run_ids, housekeeping=tuple(gone))


def _failed(
    effect: eff.Promote, code: str, *, lost: bool = False, transient: bool = False
) -> ev.PromoteFailed:
    return ev.PromoteFailed(
        job_id=effect.job_id,
        epoch=effect.epoch,
        code=code,
        message=code,
        lost=lost,
        transient=transient,
    )


def database_sinks(effect: eff.Promote) -> dict[str, Sink]:
    """Database sinks that a commit loads; none when a policy failed it."""
    if effect.receipt.code == POLICY:
        return {}
    return {
        output.sink.uri: output.sink
        for output in effect.spec.outputs
        if output.sink.kind is SinkKind.DUCKDB
    }


def promoted(effect: eff.Promote, now_ns: int) -> ev.Promoted:
    """What T2 records about files."""
    specs = {o.contract.table: o for o in (*effect.spec.outputs, effect.spec.quarantine)}
    outputs: list[OutputRow] = []
    pairs: list[OutputPairRow] = []
    for file in effect.receipt.files:
        spec = specs[file.table]
        in_database = file.sink.kind is SinkKind.DUCKDB
        path = file.sink.location if in_database else final_path(file.sink, file.path)
        outputs.append(
            OutputRow(
                job_id=effect.job_id,
                epoch=effect.epoch,
                table_name=file.table,
                sink=file.sink.uri,
                dataset_id=spec.dataset_id,
                path=path,
                rows=file.rows,
                size_bytes=0 if in_database else file.size_bytes,
                blake3="" if in_database else file.blake3,
                committed_at_ns=now_ns,
            )
        )
        if not in_database:
            pairs += [
                OutputPairRow(
                    path=path,
                    job_id=effect.job_id,
                    source_id=effect.spec.sources[index].source_id,
                )
                for index in file.sources
            ]
    return ev.Promoted(
        job_id=effect.job_id, epoch=effect.epoch, outputs=tuple(outputs), pairs=tuple(pairs)
    )
