"""One staged file being written: Parquet or CSV, hashed as it is written, durable when it is finished.

Bounded memory: what is written is encoded at once, a row group (Parquet) or its lines (CSV) at a time.
"""

from __future__ import annotations

import os
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol.arrow import table_schema
from casparian.protocol.worker import StagedFile
from casparian.sinks import csv
from casparian.sinks.faults import StagingFault, staging_errors
from casparian.sinks.hashed import HashingFile
from casparian.sinks.lineage import stored_schema

EXTENSIONS: Final = {SinkKind.PARQUET: "parquet", SinkKind.DUCKDB: "parquet", SinkKind.CSV: "csv"}

_ZSTD_LEVEL: Final = 1  # level 3 costs a third more and saves nothing: encodings have done the work


class _TableWriter(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class Part:
    """A staged file under construction. `write` takes what one row group is to hold."""

    def __init__(self, path: str, output: OutputContract, sink: Sink) -> None:
        self.path = path
        self.rows = 0
        self.sources: dict[int, None] = {}
        self._output = output
        self._sink = sink
        with staging_errors(path):
            self._file = HashingFile(path)
        self._writer: _TableWriter = (
            _CsvWriter(self._file, output, sink)
            if sink.kind is SinkKind.CSV
            else _ParquetWriter(self._file, output, sink)
        )

    def write(self, batches: list[pa.RecordBatch]) -> None:
        """Append the batches as one row group (Parquet) or as lines (CSV)."""
        table = pa.Table.from_batches(batches)
        try:
            with staging_errors(self.path):
                self._writer.write_table(table)
        except pa.ArrowException as error:
            raise StagingFault(
                f"rows of `{self._output.table}` could not be written: {error}",
                transient=False,
                code="staging.encode",
                path=self.path,
            ) from error
        self.rows += table.num_rows

    def finish(self) -> StagedFile:
        """Complete the file and make it durable."""
        with staging_errors(self.path):
            self._writer.close()
        digest = self._file.sync()
        return StagedFile(
            table=self._output.table,
            sink=self._sink,
            path=self.path,
            size_bytes=self._file.size_bytes,
            blake3=digest,
            rows=self.rows,
            sources=tuple(sorted(self.sources)),
        )

    def abort(self) -> None:
        """Close without completing and remove the file."""
        self._file.discard()
        try:
            self._writer.close()
        except (OSError, pa.ArrowException):  # it failed before; its bytes go nowhere
            self.rows = 0
        self._file.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return


class _ParquetWriter:
    """Parquet with plain types: dictionary-typed columns are stored as what they mean.

    What `docs/explanation/measured.md` measures decides: 64-bit integers and times are numbers of things, positions and moments,
    which grow or stay, so differences are small and a dictionary only costs; all else repeats itself. Columns that a query
    filters by have statistics, so that row groups are skipped; lists and bytes are not among them.
    """

    def __init__(self, file: HashingFile, output: OutputContract, sink: Sink) -> None:
        settings = sink.settings if sink.kind is SinkKind.PARQUET else {}
        compression = str(settings.get("compression", "zstd"))
        self._row_group_rows = int(settings.get("row_group_rows", 131_072))
        self._schema = table_schema(output)
        growing = [field.name for field in self._schema if _is_growing(field.type)]
        self._writer = pq.ParquetWriter(
            file,
            stored_schema(output),
            compression=compression,
            compression_level=int(settings.get("level", _ZSTD_LEVEL))
            if compression == "zstd"
            else None,
            use_dictionary=[path for path in _leaf_paths(self._schema) if path not in growing],
            column_encoding=dict.fromkeys(growing, "DELTA_BINARY_PACKED"),
            write_statistics=[field.name for field in self._schema if _is_filtered_by(field.type)],
            write_page_index=True,
            store_schema=False,  # it would make readers restore the dictionaries
        )

    def write_table(self, table: pa.Table) -> None:
        if table.column(0).num_chunks > _CHUNKS_MAX:
            table = table.combine_chunks()
        # One dictionary a row group; with several the writer would fall back to plain text.
        self._writer.write_table(table.unify_dictionaries(), row_group_size=self._row_group_rows)

    def close(self) -> None:
        self._writer.close()


_CHUNKS_MAX: Final = 64  # beyond it, one copy is cheaper than the per-chunk work


def _is_growing(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_int64(kind)
        or pa.types.is_uint64(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_time64(kind)
    )


def _is_filtered_by(kind: pa.DataType) -> bool:
    return not (pa.types.is_list(kind) or pa.types.is_binary(kind))


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Parquet paths of the columns that may be dictionary-encoded."""
    paths = []
    for field in schema:
        path, kind = field.name, field.type
        while pa.types.is_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if not pa.types.is_boolean(kind):
            paths.append(path)
    return paths


class _CsvWriter:
    """CSV lines with a header."""

    def __init__(self, file: HashingFile, output: OutputContract, sink: Sink) -> None:
        self._output = output
        self._writer: Any = arrow_csv.CSVWriter(
            file, csv.physical_schema(output), write_options=csv.write_options(sink.settings)
        )

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(csv.encode(table, self._output))

    def close(self) -> None:
        self._writer.close()
