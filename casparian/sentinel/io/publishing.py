"""Show readers what is committed: database sinks, the catalog, and the files that nothing alive is in any more.

Order: database sinks are published, the catalog is swapped, what became of the files is recorded, and only then files leave the
disk. So no reader of the newest catalog meets a missing file, and no file is gone while the record still says that rows live in
it. What is done here is derived from committed truth alone, so it can be done again after any crash.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import duckdb
import msgspec

from casparian import clock
from casparian.db import visible
from casparian.db.operations import Operation, RemoveOutput
from casparian.db.records import OutputPairRow, OutputRow
from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import QUARANTINE_TABLE, Sink, SinkKind
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.sentinel.effects import Publish
from casparian.sentinel.events import Published
from casparian.sinks import retire
from casparian.sinks.catalog import publish as publish_catalog
from casparian.sinks.catalog_model import Catalog, CatalogDataset, CatalogFile
from casparian.sinks.csv import rewrite_without
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.durable import make_directories
from casparian.sinks.promote import (
    REWRITE_STAGE,
    Intent,
    final_path,
    promote,
    remove_file,
    remove_stage,
)
from casparian.sinks.staging import stage_root

_LOG = logging.getLogger(__name__)

Triple = tuple[str, int, str]  # table, job, source


class Publisher:
    """Belongs to one thread; remembers what each database sink hid the last time."""

    def __init__(
        self,
        home: Home,
        home_id: str,
        default_sink: str,
        reader: duckdb.DuckDBPyConnection,
        record: Callable[[Sequence[Operation]], object],
    ) -> None:
        """`record` makes operations durable before it returns, or raises."""
        self._home = home
        self._home_id = home_id
        self._default_sink = default_sink
        self._reader = reader
        self._record = record
        self._swept = False  # whether files that a crash kept from leaving the disk are gone
        self._generation = clock.now_ns()
        self._shown: dict[str, tuple[set[Triple], set[Triple]]] = {}  # sink -> hidden, retired

    def publish(self, effect: Publish) -> Published:
        """Publish everything that is committed now."""
        try:
            datasets = visible.datasets(self._reader)
            self._publish_databases(datasets, effect.sinks)
            housekeeping = self._retire_files(datasets)
            if housekeeping:  # the catalog must list the rewritten files, not the old ones
                datasets = _after(datasets, housekeeping)
            self._publish_catalog(datasets)
            if housekeeping:
                self._record(housekeeping)
            gone = [operation.path for operation in housekeeping]
            for path in gone if self._swept else visible.removed_outputs(self._reader):
                remove_file(path)
            self._swept = True
        except (CasparianError, OSError, duckdb.Error) as error:
            code = error.code if isinstance(error, CasparianError) else "catalog.failed"
            _LOG.exception("publishing failed")
            return Published(run_ids=effect.run_ids, code=code, message=str(error))
        return Published(run_ids=effect.run_ids)

    # -- database sinks

    def _publish_databases(
        self, datasets: Sequence[visible.Dataset], sinks: Sequence[Sink]
    ) -> None:
        hidden: dict[str, set[Triple]] = {}
        retired: dict[str, set[Triple]] = {}
        jobs: dict[str, set[int]] = {}  # ours: other homes may write to the same file
        for dataset in datasets:
            if dataset.sink.startswith(f"{SinkKind.DUCKDB}:"):
                hidden.setdefault(dataset.sink, set()).update(
                    (dataset.table, *p) for p in dataset.hidden
                )
                retired.setdefault(dataset.sink, set()).update(
                    (dataset.table, *p) for p in dataset.retired
                )
                jobs.setdefault(dataset.sink, set()).update(job for _, job, *_ in dataset.files)
        asked = {sink.uri for sink in sinks}
        for uri, now_hidden in hidden.items():
            before = self._shown.get(uri)
            if uri not in asked and before == (now_hidden, retired[uri]):
                continue
            location = uri.partition(":")[2]
            if not os.path.exists(location) and not os.path.exists(location + ".work"):
                continue  # the user took the file away; `doctor` says so
            _, was_retired = before or (set(), set())
            sink = DuckDbSink(
                Sink(kind=SinkKind.DUCKDB, location=location), home=str(self._home.root)
            )
            gone = sorted(retired[uri] - was_retired)
            if gone:  # named by what it deletes, so that a restart does not delete again
                fields = [self._home_id, *(f"{t}:{j}:{s}" for t, j, s in gone)]
                sink.commit(identity.derive("casparian.retire.v1", *fields), [], retire=gone)
            # The file itself says what it hides: an earlier sentinel may have hidden what is to be seen again.
            was_hidden = {t for t in sink.hidden() if t[1] in jobs[uri]}
            if now_hidden != was_hidden:
                sink.change_hidden(
                    hide=sorted(now_hidden - was_hidden), unhide=sorted(was_hidden - now_hidden)
                )
            sink.publish()
            self._shown[uri] = (now_hidden, retired[uri])

    # -- files whose pairs are retired

    def _retire_files(self, datasets: Sequence[visible.Dataset]) -> list[RemoveOutput]:
        held = visible.output_pairs(self._reader)
        operations: list[RemoveOutput] = []
        for dataset in datasets:
            sink = _sink(dataset)
            if sink.kind is SinkKind.DUCKDB:
                continue
            files = [
                retire.OutputFile(path=path, kind=sink.kind, pairs=frozenset(held[path]))
                for path, *_ in dataset.files
                if path in held
            ]
            plan = retire.plan(files, dataset.retired)
            operations += [RemoveOutput(at_ns=clock.now_ns(), path=path) for path in plan.delete]
            for rewrite in plan.rewrite:
                operations.append(self._rewrite(dataset, sink, rewrite, held[rewrite.path]))
        return operations

    def _rewrite(
        self,
        dataset: visible.Dataset,
        sink: Sink,
        rewrite: retire.Rewrite,
        pairs: set[tuple[int, str]],
    ) -> RemoveOutput:
        """Write a CSV file again without retired pairs, under a name that follows from the old one."""
        output = msgspec.json.decode(dataset.contract, type=OutputContract)
        job_id, epoch = next(
            (job, epoch) for path, job, epoch, _ in dataset.files if path == rewrite.path
        )
        stage = os.path.join(stage_root(sink, self._home_id), REWRITE_STAGE)
        make_directories(stage)
        staged = os.path.join(stage, next_rewrite_name(os.path.basename(rewrite.path)))
        remove_file(staged)
        written = rewrite_without(rewrite.path, output, set(rewrite.drop), staged, sink=sink)
        if written is None:
            remove_stage(stage)
            return RemoveOutput(at_ns=clock.now_ns(), path=rewrite.path)
        final = final_path(sink, staged)
        intent = Intent(
            table=dataset.table,
            sink=sink,
            staged=staged,
            final=final,
            blake3=written.blake3,
            size_bytes=written.size_bytes,
            rows=written.rows,
        )
        promote([intent])
        remove_stage(stage)
        now = clock.now_ns()
        row = OutputRow(
            job_id=job_id,
            epoch=epoch,
            table_name=dataset.table,
            sink=dataset.sink,
            dataset_id=dataset.dataset_id,
            path=final,
            rows=written.rows,
            size_bytes=written.size_bytes,
            blake3=written.blake3,
            committed_at_ns=now,
        )
        kept = sorted(pairs - rewrite.drop)
        return RemoveOutput(
            at_ns=now,
            path=rewrite.path,
            replaced_by=row,
            pairs=tuple(
                OutputPairRow(path=final, job_id=job, source_id=source) for job, source in kept
            ),
        )

    # -- catalog

    def _publish_catalog(self, datasets: Sequence[visible.Dataset]) -> None:
        self._generation = max(self._generation + 1, clock.now_ns())
        quarantine = [_catalog_dataset(d) for d in datasets if d.table == QUARANTINE_TABLE]
        others = [_catalog_dataset(d) for d in datasets if d.table != QUARANTINE_TABLE]
        publish_catalog(
            self._home.catalog,
            Catalog(
                home_id=self._home_id,
                generation=self._generation,
                default_sink=self._default_sink,
                datasets=tuple(others),
                quarantine=quarantine[0] if quarantine else None,
            ),
            visible.tables(self._reader),
        )


def next_rewrite_name(name: str) -> str:
    """`T_job_epoch_3.csv` -> `T_job_epoch_3r1.csv` -> `…r2.csv`: never a name that was used before."""
    stem, extension = os.path.splitext(name)
    head, mark, count = stem.rpartition("r")
    if mark and count.isdigit() and head and head[-1].isdigit():
        return f"{head}r{int(count) + 1}{extension}"
    return f"{stem}r1{extension}"


def _after(
    datasets: Sequence[visible.Dataset], operations: Sequence[RemoveOutput]
) -> list[visible.Dataset]:
    changed = {operation.path: operation.replaced_by for operation in operations}
    result = []
    for dataset in datasets:
        files = []
        for file in dataset.files:
            if file[0] not in changed:
                files.append(file)
            elif (row := changed[file[0]]) is not None:
                files.append((row.path, row.job_id, row.epoch, row.rows))
        result.append(msgspec.structs.replace(dataset, files=files))
    return result


def _sink(dataset: visible.Dataset) -> Sink:
    kind, _, location = dataset.sink.partition(":")
    return Sink(
        kind=SinkKind(kind), location=location, settings=msgspec.json.decode(dataset.settings)
    )


def _catalog_dataset(dataset: visible.Dataset) -> CatalogDataset:
    return CatalogDataset(
        table=dataset.table,
        sink=_sink(dataset),
        output=msgspec.json.decode(dataset.contract, type=OutputContract),
        files=tuple(
            CatalogFile(path=path, job_id=job_id, epoch=epoch, rows=rows)
            for path, job_id, epoch, rows in dataset.files
        ),
        retired=tuple(dataset.retired),
        hidden=tuple(dataset.hidden),
    )
