"""Write a job's rows to its stage so that a source's rows are all there or not at all.

A shared part file holds many sources. A source's rows wait in memory (up to 32 MiB) and reach the
shared part only with `commit_source`. A source that outgrows the buffer continues in a part file of
its own, which `rollback_source` deletes. So a source that fails leaves no row in any file, whatever
its size, and memory stays bounded.

Files are Parquet for parquet and duckdb sinks, CSV for csv sinks. A table without rows makes no
file. Once a call has raised a `StagingFault` the stage is unusable: `abort` it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa

from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind, output_file_name
from casparian.protocol.worker import StagedFile
from casparian.sinks.durable import make_directories, sync_directories
from casparian.sinks.faults import staging_errors
from casparian.sinks.lineage import stored_schema
from casparian.sinks.part import EXTENSIONS, Part
from casparian.sinks.times import check_times

__all__ = ["STAGE_DIRECTORY", "OutputStage", "stage_directory", "stage_root", "sync_directories"]

STAGE_DIRECTORY: Final = ".casparian-stage"
SOURCE_BUFFER_BYTES_MAX: Final = 32 << 20  # a source that needs more gets a part of its own
ROW_GROUP_BYTES_MAX: Final = 32 << 20  # Arrow bytes that wait for one row group
_ROW_GROUP_ROWS: Final = 131_072


def stage_root(sink: Sink, home_id: str) -> str:
    """Directory of all stages of one home in one sink, on the sink's own file system."""
    directory = os.path.dirname(sink.location) if sink.kind is SinkKind.DUCKDB else sink.location
    return os.path.join(directory, STAGE_DIRECTORY, home_id)


def stage_directory(sink: Sink, home_id: str, job_id: int, epoch: int) -> str:
    """Where one attempt of one job stages its files: `…/.casparian-stage/<home_id>/<job>.<epoch>`."""
    return os.path.join(stage_root(sink, home_id), f"{job_id}.{epoch}")


class _Buffer:
    """Batches that wait to be written, with their weight."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.size_bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.size_bytes += batch.nbytes

    def take(self) -> list[pa.RecordBatch]:
        batches, self.batches = self.batches, []
        self.rows = self.size_bytes = 0
        return batches


class OutputStage:
    """Stage of one output of one job.

    `begin_source`, any number of `write`s, then `commit_source` or `rollback_source`; for each
    source in turn. At the end `finish`, or `abort` at any time.

    Args:
        stage: absolute directory, as `stage_directory` gives it; made when the first file is.
    """

    def __init__(
        self, output: OutputContract, sink: Sink, stage: str, job_id: int, epoch: int
    ) -> None:
        self._output = output
        self._schema = stored_schema(output)
        self._sink = sink
        self._stage = stage
        self._job_id = job_id
        self._epoch = epoch
        self._row_group_rows = int(sink.settings.get("row_group_rows", _ROW_GROUP_ROWS))
        self._next_ordinal = 0
        self._source: int | None = None
        self._source_rows = 0
        self._uncommitted = _Buffer()
        self._pending = _Buffer()  # committed rows that wait for a whole row group
        self._shared_sources: list[int] = []  # of the pending rows
        self._shared: Part | None = None
        self._own: Part | None = None
        self._complete: list[StagedFile] = []

    def begin_source(self, index: int) -> None:
        """Start a source; the one before has been committed or rolled back."""
        if self._source is not None:
            raise RuntimeError(f"source {self._source} is still open")
        self._source = index
        self._source_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows of the open source.

        Args:
            batch: what `lineage.add` returned.

        Raises:
            SinkFault: `sink.range`, a value no sink can hold: the source fails, the stage stays
                usable.
            StagingFault: the disk is full or failing.
        """
        if self._source is None:
            raise RuntimeError("no source is open")
        if batch.schema != self._schema:
            batch = pa.RecordBatch.from_arrays(
                [
                    column.cast(field.type)
                    for column, field in zip(batch.columns, self._schema, strict=True)
                ],
                schema=self._schema,
            )
        if batch.num_rows == 0:
            return
        check_times(batch)
        self._source_rows += batch.num_rows
        self._uncommitted.add(batch)
        if self._own is not None:
            if self._is_row_group(self._uncommitted):
                self._own.write(self._uncommitted.take())
        elif self._uncommitted.size_bytes > SOURCE_BUFFER_BYTES_MAX:
            self._own = self._open_part()
            self._own.sources[self._source] = None
            self._own.write(self._uncommitted.take())

    def commit_source(self) -> int:
        """Keep the open source's rows; how many there are."""
        if self._source is None:
            raise RuntimeError("no source is open")
        index, rows = self._source, self._source_rows
        if self._own is not None:
            if self._uncommitted.rows:
                self._own.write(self._uncommitted.take())
            self._complete.append(self._own.finish())
            self._own = None
        elif rows:
            waiting = self._uncommitted
            if self._pending.rows and self._would_overflow(waiting.rows, waiting.size_bytes):
                self._flush_pending()
            for batch in self._uncommitted.take():
                self._pending.add(batch)
            self._shared_sources.append(index)
            if self._is_row_group(self._pending):
                self._flush_pending()
        self._source = None
        return rows

    def add_sources(self, batch: pa.RecordBatch, indexes: Sequence[int]) -> None:
        """Keep all rows of these sources, none of which is open, at once.

        Args:
            batch: what `lineage.add_together` returned; `times.check_times` has passed it.
            indexes: sources that have rows in it.

        Raises:
            StagingFault: the disk is full or failing.
        """
        if self._source is not None:
            raise RuntimeError(f"source {self._source} is still open")
        if self._pending.rows and self._would_overflow(batch.num_rows, batch.nbytes):
            self._flush_pending()
        self._pending.add(batch)
        self._shared_sources.extend(indexes)
        if self._is_row_group(self._pending):
            self._flush_pending()

    def rollback_source(self) -> None:
        """Forget the open source: none of its rows is in any file."""
        self._uncommitted.take()
        if self._own is not None:
            self._own.abort()
            self._own = None
        self._source = None

    def finish(self) -> tuple[StagedFile, ...]:
        """Complete and fsync all files. The caller syncs the directory (`sync_directories`).

        Raises:
            StagingFault: with code `staging.fsync` what is on disk is unknown; never try again.
        """
        if self._source is not None:
            raise RuntimeError(f"source {self._source} is still open")
        if self._pending.rows:
            self._flush_pending()
        if self._shared is not None:
            self._complete.append(self._shared.finish())
            self._shared = None
        return tuple(sorted(self._complete, key=lambda file: file.path))

    def abort(self) -> None:
        """Close everything and remove every file this stage made."""
        self._source = None
        self._uncommitted.take()
        self._pending.take()
        for part in (self._own, self._shared):
            if part is not None:
                part.abort()
        self._own = self._shared = None
        for file in self._complete:
            if os.path.lexists(file.path):
                os.unlink(file.path)
        self._complete.clear()

    def _is_row_group(self, buffer: _Buffer) -> bool:
        return buffer.rows >= self._row_group_rows or buffer.size_bytes >= ROW_GROUP_BYTES_MAX

    def _would_overflow(self, rows: int, size_bytes: int) -> bool:
        """Whether so much more is too much for one row group."""
        return self._pending.size_bytes + size_bytes > ROW_GROUP_BYTES_MAX or (
            self._pending.rows + rows > self._row_group_rows
        )

    def _flush_pending(self) -> None:
        if self._shared is None:
            self._shared = self._open_part()
        self._shared.sources.update(dict.fromkeys(self._shared_sources))
        self._shared_sources.clear()
        self._shared.write(self._pending.take())

    def _open_part(self) -> Part:
        self._make_stage()
        name = output_file_name(
            self._output.table,
            self._job_id,
            self._epoch,
            self._next_ordinal,
            EXTENSIONS[self._sink.kind],
        )
        self._next_ordinal += 1
        return Part(os.path.join(self._stage, name), self._output, self._sink)

    def _make_stage(self) -> None:
        """Make the stage's directory. Its own entry becomes durable with the files in it (`sync_directories`)."""
        if os.path.isdir(self._stage):
            return
        parent = os.path.dirname(self._stage)
        if not os.path.isdir(parent):
            make_directories(parent)
        with staging_errors(self._stage), suppress(FileExistsError):
            os.mkdir(self._stage)
