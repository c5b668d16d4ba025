"""DuckDB as the sink uses it, over a `ModelFileSystem`: a transaction is atomic, and its log is a file like any other.

    COMMIT       writes the log `FILE.work.wal` durably; the log's own directory entry may be lost in a power cut
    CHECKPOINT   puts all that is committed into `FILE.work` in one durable step, then removes the log
    open         takes in a log that is newer than the file, ignores an older one (a removal that was lost)
    close        is a checkpoint

Statements are recognised by how they begin; one that the sink does not use today is refused, so that nothing is modelled by
chance. Rows are read from the staged Parquet files' real bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import duckdb
import pyarrow.parquet as pq

from tests.crash_model.filesystem import ModelFileSystem

Row = tuple[int, str, int]  # job, source, ordinal
_MAGIC: Final = b"model database "
_EMPTY: Final[dict[str, Any]] = {"version": 0, "commits": {}, "hidden": [], "tables": {}}


class NotADatabase(Exception):
    """A file that should be a whole database and is none."""


def decode(content: bytes) -> dict[str, Any]:
    """What a database file holds."""
    if not content.startswith(_MAGIC):
        raise NotADatabase
    found: dict[str, Any] = json.loads(content[len(_MAGIC) :])
    return found


def encode(database: dict[str, Any]) -> bytes:
    """The file of a database."""
    return _MAGIC + json.dumps(database, sort_keys=True).encode()


def rows(content: bytes) -> list[tuple[str, int, str, int]]:
    """(table, job, source, ordinal) of all rows of a database file."""
    tables = decode(content)["tables"]
    return [
        (name.removesuffix("__all"), *row)
        for name, table in tables.items()
        for row in table["rows"]
    ]


@lru_cache(maxsize=4096)
def staged_rows(content: bytes) -> tuple[Row, ...]:
    """Rows of a staged Parquet file; a torn one raises, as DuckDB would."""
    wanted = ["_cf_job_id", "_cf_source_id", "_cf_ordinal"]
    table = pq.read_table(io.BytesIO(content), columns=wanted)
    return tuple(tuple(row.values()) for row in table.select(wanted).to_pylist())


@lru_cache(maxsize=64)
def _columns(ddl: str, table: str) -> tuple[tuple[str, str], ...]:
    with duckdb.connect() as connection:
        connection.execute(ddl)
        return tuple(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? "
                "AND column_name <> '_cf_row_id'",
                [table],
            ).fetchall()
        )


class ModelConnection:
    """A connection to one work file."""

    def __init__(self, files: ModelFileSystem, path: str) -> None:
        self._files = files
        self._path = path
        self._wal = f"{path}.wal"
        content, log = files.read(path), files.read(self._wal)
        if content is None:
            inode = files.create(path)
            content = encode(_EMPTY)
            files.write(inode, content, durable=True)
        self._now = decode(content or encode(_EMPTY))
        if log and decode(log)["version"] > self._now["version"]:
            self._now = decode(log)
        self._in_transaction = False
        self._result: list[tuple[Any, ...]] = []

    def execute(self, sql: str, parameters: Any = None) -> ModelConnection:
        """Carry out one of the sink's statements."""
        text = " ".join(sql.split())
        for beginning, statement in _STATEMENTS.items():
            if text.startswith(beginning):
                before = encode(self._now)
                self._result = statement(self, text, parameters) or []
                if not self._in_transaction and encode(self._now) != before:
                    self._commit()
                return self
        raise NotImplementedError(text)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._result[0] if self._result else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._result

    def close(self) -> None:
        """Take the log in."""
        self.checkpoint()

    def checkpoint(self, *_: object) -> None:
        if self._files.lookup(self._wal) is not None:
            self._files.write(self._files.find(self._path), encode(self._now), durable=True)
            self._files.unlink(self._wal)

    def _commit(self) -> None:
        self._now["version"] += 1
        inode = self._files.lookup(self._wal)
        if inode is None:
            inode = self._files.create(self._wal)
        self._files.write(inode, encode(self._now), durable=True)

    # -- statements

    def _begin(self, _sql: str, _: Any) -> None:
        self._before = encode(self._now)
        self._in_transaction = True

    def _end(self, _sql: str, _: Any) -> None:
        self._in_transaction = False
        if encode(self._now) != self._before:
            self._commit()

    def _roll_back(self, _sql: str, _: Any) -> None:
        self._in_transaction = False
        self._now = decode(self._before)

    def _nothing(self, _sql: str, _: Any) -> None:
        return

    def _has_commit(self, _sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return [(1,)] if parameters[0] in self._now["commits"] else []

    def _add_commit(self, _sql: str, parameters: list[Any]) -> None:
        commit_id, rows_loaded, _ = parameters
        if commit_id in self._now["commits"]:
            raise duckdb.ConstraintException(f"commit {commit_id} exists")
        self._now["commits"][commit_id] = rows_loaded

    def _drop_commit(self, _sql: str, parameters: list[Any]) -> None:
        del self._now["commits"][parameters[0]]

    def _tables(self, _sql: str, _: Any) -> list[tuple[Any, ...]]:
        return [(name,) for name in ("_cf_commits", "_cf_hidden", *self._now["tables"])]

    def _table_columns(self, _sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        table = self._now["tables"].get(parameters[0])
        return [tuple(column) for column in table["columns"]] if table else []

    def _create_table(self, sql: str, _: Any) -> None:
        name = sql.split('"')[1]
        self._now["tables"][name] = {"columns": _columns(sql, name), "rows": []}

    def _load(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        loaded: list[Row] = []
        for path in parameters[0]:
            content = self._files.read(path)
            if content is None:
                raise duckdb.IOException(f"no file {path}")
            loaded += staged_rows(content)
        self._now["tables"][sql.split('"')[1]]["rows"] += [list(row) for row in loaded]
        return [(len(loaded),)]

    def _delete_job(self, sql: str, parameters: list[Any]) -> None:
        self._delete(sql, lambda row: row[0] == parameters[0])

    def _delete_pairs(self, sql: str, parameters: list[Any]) -> None:
        gone = set(zip(*parameters, strict=True))
        self._delete(sql, lambda row: (row[0], row[1]) in gone)

    def _delete(self, sql: str, is_gone: Any) -> None:
        table = self._now["tables"][sql.split('"')[1]]
        table["rows"] = [row for row in table["rows"] if not is_gone(row)]

    def _hidden(self, _sql: str, _: Any) -> list[tuple[Any, ...]]:
        return [tuple(triple) for triple in self._now["hidden"]]

    def _hide(self, _sql: str, parameters: list[Any]) -> None:
        triple = parameters[:3]
        if triple not in self._now["hidden"]:
            self._now["hidden"].append(triple)

    def _unhide(self, _sql: str, parameters: list[Any]) -> None:
        self._now["hidden"] = [t for t in self._now["hidden"] if t != list(parameters)]


def _delete_rows(connection: ModelConnection, sql: str, parameters: list[Any]) -> None:
    if sql.endswith("WHERE _cf_job_id = ?"):
        connection._delete_job(sql, parameters)
    elif "(_cf_job_id, _cf_source_id) IN (SELECT unnest" in sql:
        connection._delete_pairs(sql, parameters)
    else:
        raise NotImplementedError(sql)


_STATEMENTS: Final[dict[str, Callable[[ModelConnection, str, Any], Any]]] = {
    "CREATE TABLE IF NOT EXISTS _cf_commits": ModelConnection._nothing,
    "BEGIN TRANSACTION": ModelConnection._begin,
    "COMMIT": ModelConnection._end,
    "ROLLBACK": ModelConnection._roll_back,
    "CHECKPOINT": ModelConnection.checkpoint,
    "SELECT 1 FROM _cf_commits WHERE commit_id = ?": ModelConnection._has_commit,
    "INSERT INTO _cf_commits VALUES (?, ?, ?)": ModelConnection._add_commit,
    "DELETE FROM _cf_commits WHERE commit_id = ?": ModelConnection._drop_commit,
    "SELECT table_name FROM duckdb_tables()": ModelConnection._tables,
    "SELECT column_name, data_type FROM duckdb_columns()": ModelConnection._table_columns,
    'CREATE TABLE "': ModelConnection._create_table,
    "CREATE OR REPLACE VIEW": ModelConnection._nothing,
    'INSERT INTO "': ModelConnection._load,
    'DELETE FROM "': _delete_rows,
    "SELECT table_name, job_id, source_id FROM _cf_hidden": ModelConnection._hidden,
    "INSERT INTO _cf_hidden SELECT ?, ?, ? WHERE NOT EXISTS": ModelConnection._hide,
    "DELETE FROM _cf_hidden WHERE table_name = ?": ModelConnection._unhide,
}


def connected(files: ModelFileSystem) -> Any:
    """What takes the place of `WorkFile._connected`."""

    @contextmanager
    def open_work_file(work_file: Any) -> Iterator[ModelConnection]:
        connection = ModelConnection(files, work_file.work)
        try:
            yield connection
        finally:
            connection.close()

    return open_work_file
