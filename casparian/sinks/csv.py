"""The CSV sink's files: RFC 4180, UTF-8, one header line, readable back without loss given the contract.

Null is empty and unquoted, the empty string is `""`. `csv_values` has the text of each type. The
file's columns are the contract's, then lineage. In replace mode a file is rewritten without the
retired (job, source) pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import IntegrityError
from casparian.protocol.arrow import table_schema
from casparian.protocol.worker import StagedFile
from casparian.sinks.csv_values import from_text, is_native, to_text
from casparian.sinks.faults import staging_errors
from casparian.sinks.hashed import HashingFile
from casparian.sinks.uri import DELIMITERS, NEWLINES, default_settings

Settings = Mapping[str, str | int | bool]
_HEADER_BYTES_MAX: Final = 1 << 20
_BLOCK_BYTES: Final = 4 << 20
_BLOCK_BYTES_MAX: Final = (1 << 31) - 1


def physical_schema(output: OutputContract) -> pa.Schema:
    """What the file holds: numbers and booleans as they are, all else as text."""
    return pa.schema(
        [
            pa.field(field.name, field.type if is_native(field.type) else pa.utf8())
            for field in table_schema(output)
        ]
    )


def write_options(settings: Settings) -> arrow_csv.WriteOptions:
    """Writer options for a sink's settings. Every text is quoted, so that an empty one is not a null."""
    effective = {**default_settings(SinkKind.CSV), **settings}
    return arrow_csv.WriteOptions(
        include_header=True,
        delimiter=DELIMITERS[str(effective["delimiter"])],
        eol=NEWLINES[str(effective["newline"])],
        quoting_style="needed",
    )


def encode(table: pa.Table, output: OutputContract) -> pa.Table:
    """Stored rows in the file's own types."""
    columns = []
    for name, field in zip(table.schema.names, table_schema(output), strict=True):
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(field.type)
        if not is_native(field.type):
            column = pa.chunked_array([to_text(chunk) for chunk in column.chunks], pa.utf8())
        columns.append(column)
    return pa.table(columns, schema=physical_schema(output))


def decode(batch: pa.RecordBatch, output: OutputContract) -> pa.RecordBatch:
    """Rows of a file in the contract's types."""
    schema = table_schema(output)
    columns = [
        column if is_native(field.type) else from_text(column, field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def read_back(path: str, output: OutputContract) -> pa.Table:
    """All rows of a file, with `table_schema(output)`. The file's header tells its dialect.

    Raises:
        IntegrityError: the file is not what this sink writes for this contract.
    """
    return pa.Table.from_batches(list(read_batches(path, output)), table_schema(output))


def read_batches(path: str, output: OutputContract) -> Iterator[pa.RecordBatch]:
    """Rows of a file, batch by batch, with `table_schema(output)`; memory is bounded by the longest row."""
    schema = physical_schema(output)
    for batch in _physical_batches(path, schema, dialect(path)):
        try:
            decoded = decode(batch, output)
        except pa.ArrowInvalid as error:
            raise _not_ours(path, error) from error
        yield decoded


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one file was written, whatever the sink's settings are today."""

    names: tuple[str, ...]
    settings: dict[str, str]


def dialect(path: str) -> Dialect:
    """Read a file's header: every name in it is quoted, so what follows the first one is the delimiter.

    Raises:
        IntegrityError: the file does not begin as this sink's files do.
    """
    with open(path, "rb") as file:
        line = file.readline(_HEADER_BYTES_MAX)
    newline = "crlf" if line.endswith(b"\r\n") else "lf"
    for name, delimiter in DELIMITERS.items():
        quoted = line.decode("utf-8", "replace").rstrip("\r\n").split(f'"{delimiter}"')
        if len(quoted) > 1 and quoted[0].startswith('"') and quoted[-1].endswith('"'):
            names = [*quoted]
            names[0], names[-1] = names[0][1:], names[-1][:-1]
            return Dialect(
                names=tuple(text.replace('""', '"') for text in names),
                settings={"delimiter": name, "newline": newline},
            )
    raise _not_ours(path, ValueError("no header"))


def rewrite_without(
    path: str,
    output: OutputContract,
    drop: set[tuple[int, str]],
    new_path: str,
    *,
    sink: Sink | None = None,
) -> StagedFile | None:
    """Write the file again without the rows of the dropped (job, source) pairs; the old file is left alone.

    Values and dialect are kept as they stand: the rows that stay are byte for byte what they were.

    Args:
        path: a file of this sink.
        output: the dataset's contract; an older one may have written the file.
        drop: (job_id, source_id) of the rows to leave out.
        new_path: a new file, made and fsynced; its directory exists. The caller promotes it.
        sink: where the new file is to go; by default the old file's directory.

    Returns:
        The new file, or `None` (and no file) when no row is left.

    Raises:
        StagingFault: the new file could not be written; it is removed.
    """
    found = dialect(path)
    sink = sink or Sink(
        kind=SinkKind.CSV,
        location=os.path.dirname(path),
        settings={**default_settings(SinkKind.CSV), **found.settings},
    )
    native = {field.name: field.type for field in physical_schema(output)}
    schema = pa.schema([(name, native.get(name, pa.utf8())) for name in found.names])
    try:
        return _copy_without(path, schema, found, drop, new_path, output.table, sink)
    except IntegrityError:  # written under an older contract, with other types: text fits them all
        schema = pa.schema([(name, pa.utf8()) for name in found.names])
        return _copy_without(path, schema, found, drop, new_path, output.table, sink)


def _copy_without(
    path: str,
    schema: pa.Schema,
    found: Dialect,
    drop: set[tuple[int, str]],
    new_path: str,
    table: str,
    sink: Sink,
) -> StagedFile | None:
    dropped = pa.array([f"{job}:{source}" for job, source in drop], pa.utf8())
    rows = 0
    with staging_errors(new_path):
        file = HashingFile(new_path)
        done = False
        try:
            writer: Any = arrow_csv.CSVWriter(
                file, schema, write_options=write_options(found.settings)
            )
            for batch in _physical_batches(path, schema, found):
                pairs = pc.binary_join_element_wise(
                    batch.column("_cf_job_id").cast(pa.utf8()), batch.column("_cf_source_id"), ":"
                )
                kept = batch.filter(pc.invert(pc.is_in(pairs, dropped)))
                rows += kept.num_rows
                writer.write_batch(kept)
            writer.close()
            digest = file.sync()
            done = rows > 0
        finally:
            file.close()
            if not done:
                os.unlink(new_path)
    if not done:
        return None
    return StagedFile(
        table=table,
        sink=sink,
        path=new_path,
        size_bytes=file.size_bytes,
        blake3=digest,
        rows=rows,
        sources=(),
    )


def _physical_batches(path: str, schema: pa.Schema, found: Dialect) -> Iterator[pa.RecordBatch]:
    """Batches in the file's own types. A row longer than a block makes the block grow."""
    block_bytes, given = _BLOCK_BYTES, 0
    while True:
        try:
            skip = given
            for batch in _open(path, schema, found, block_bytes):
                fresh = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - fresh.num_rows
                given += fresh.num_rows
                if fresh.num_rows:
                    yield fresh
            return
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block_bytes >= _BLOCK_BYTES_MAX:
                raise _not_ours(path, error) from error
            block_bytes = min(block_bytes * 4, _BLOCK_BYTES_MAX)


def _open(path: str, schema: pa.Schema, found: Dialect, block_bytes: int) -> Any:
    reader = arrow_csv.open_csv(
        path,
        read_options=arrow_csv.ReadOptions(block_size=block_bytes, use_threads=False),
        parse_options=arrow_csv.ParseOptions(
            delimiter=DELIMITERS[found.settings["delimiter"]], newlines_in_values=True
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=schema,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["true"],
            false_values=["false"],
        ),
    )
    if reader.schema.names != schema.names:
        raise pa.ArrowInvalid("the header does not name the contract's columns")
    return reader


def _not_ours(path: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"`{path}` is not a file that this sink wrote for this contract: {error}",
        code="csv.unreadable",
        path=path,
    )
