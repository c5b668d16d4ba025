"""The rows a query gives back, read once, in bounded memory: Arrow batches, JSON or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.csv

from casparian.errors import CasparianError
from casparian.query.guard import sql_error
from casparian.query.values import json_rows, text_column

BATCH_ROWS = 8192

# Types whose Arrow form has no reading of its own here.
_UNSHOWN = ("BIT", "BIGNUM", "TIME WITH TIME ZONE", "UNION", "VARIANT", "GEOMETRY")


class ResultColumn(msgspec.Struct, frozen=True, kw_only=True):
    """Name and DuckDB type of one column."""

    name: str
    type: str


class Result:
    """One query's rows.

    Exactly one of `batches`, `to_json`, `write_json` and `write_csv` may be used, once.

    Errors that appear while rows are read (a cast that fails in row 1,000,000) are
    `CasparianError` with code `query.sql`, like those at its start; ctrl-C is `KeyboardInterrupt`.
    """

    def __init__(
        self,
        relation: duckdb.DuckDBPyRelation,
        connection: duckdb.DuckDBPyConnection,
        again: Callable[[], duckdb.DuckDBPyRelation | None] = lambda: None,
    ) -> None:
        self.columns = tuple(
            ResultColumn(name=name, type=str(kind).strip('"'))
            for name, kind in zip(relation.columns, relation.types, strict=True)
        )
        for column in self.columns:
            if any(part in column.type.split("(")[0] for part in _UNSHOWN):
                raise CasparianError(
                    f"column `{column.name}` has type {column.type}, which has no text form here",
                    code="query.sql",
                    hint="cast it to VARCHAR",
                )
        self._relation = relation
        self._connection = connection
        self._again = again

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Arrow batches, as they are computed."""
        with ThreadPoolExecutor(1, "query") as thread:

            def call(work: Callable[[], Any]) -> Any:
                # DuckDB's own answer to ctrl-C does not always end a statement: it runs on a thread
                # of its own, and this one waits where a signal reaches it
                future = thread.submit(work)
                try:
                    return future.result()
                except KeyboardInterrupt:
                    self._connection.interrupt()
                    raise

            started = False
            while True:
                try:
                    reader = call(lambda: self._relation.to_arrow_reader(BATCH_ROWS))
                    while (batch := call(partial(next, reader, None))) is not None:
                        started = True
                        yield batch
                    return
                except duckdb.InterruptException as error:
                    raise KeyboardInterrupt from error
                except (duckdb.Error, RuntimeError, OSError, pa.ArrowException) as error:
                    if "interrupt" in str(error).casefold():
                        raise KeyboardInterrupt from error
                    more = None
                    if "Out of Memory" in str(error) and not started:
                        more = self._again()
                    if more is None:
                        raise sql_error(error) from error
                    self._relation = more

    def to_json(self) -> dict[str, Any]:
        """`{"columns": [{name, type}], "rows": [[…]]}`, all in memory; `write_json` streams."""
        rows: list[list[Any]] = []
        for batch in self.batches():
            rows += json_rows(batch)
        return {"columns": [msgspec.to_builtins(column) for column in self.columns], "rows": rows}

    def write_json(self, stream: BinaryIO, *, schema_version: int = 1) -> int:
        """Write one JSON document batch by batch; the number of rows."""
        encode = msgspec.json.encode
        stream.write(
            b'{"schema_version":%d,"columns":%s,"rows":[' % (schema_version, encode(self.columns))
        )
        count = 0
        for batch in self.batches():
            for row in json_rows(batch):
                stream.write((b",\n" if count else b"\n") + encode(row))
                count += 1
        stream.write(b"\n]}\n")
        return count

    def write_csv(self, stream: BinaryIO) -> int:
        """Write CSV with a header, UTF-8, batch by batch; the number of rows."""
        count = 0
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
        names = [column.name for column in self.columns]
        header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
        stream.write(header.encode() + b"\n")
        for batch in self.batches():
            columns = [text_column(column) for column in batch.columns]
            texts = pa.RecordBatch.from_arrays(columns, names=names)
            pyarrow.csv.write_csv(texts, stream, options)
            count += batch.num_rows
        return count
