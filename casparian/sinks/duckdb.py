"""The DuckDB sink: rows in `FILE.work`, published to `FILE` by copy and rename.

    FILE                what readers open: complete, checkpointed, replaced by rename
    FILE.work           what is written; each commit is one transaction that also records its `commit_id`
    FILE.lock           `flock` held for each transaction, so that several homes can share one sink

In the file: `T__all` holds the rows of table T, `_cf_hidden` the (table, job, source) triples that
view `T` leaves out, `_cf_commits` the commits that are in. `_cf_row_id` is a virtual column of
`T__all`, so views have it too.

Rules:
  * Open, transact, close, all under the lock (`duckdb_file`).
  * Schema changes are a transaction of their own, followed by a checkpoint, before any row is
    written.
  * No extension is needed, memory and threads are bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from casparian import clock
from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import SinkFault
from casparian.sinks.duckdb_file import WorkFile, tables, transaction
from casparian.sinks.duckdb_schema import ROW_ID, column_types, identifier, table_ddl, view_sql
from casparian.sinks.promote import PromoteLost

Load = tuple[str, OutputContract, Sequence[str]]  # table, contract, staged Parquet files
Triple = tuple[str, int, str]  # table, job_id, source_id


class DuckDbSink:
    """One DuckDB file that holds outputs. Objects are cheap and hold no connection between calls."""

    def __init__(self, sink: Sink, *, home: str | None = None) -> None:
        """`home` names the home in the command line of the copying child."""
        if sink.kind is not SinkKind.DUCKDB:
            raise ValueError(f"not a duckdb sink: {sink.uri}")
        self._work_file = WorkFile(sink, home)
        self.file = self._work_file.file
        self.work = self._work_file.work

    def commit(
        self,
        commit_id: str,
        loads: Sequence[Load],
        retire: Iterable[Triple] = (),
        hide: Iterable[Triple] = (),
        unhide: Iterable[Triple] = (),
    ) -> bool:
        """Load staged files, delete retired pairs and change what views hide, in one transaction.

        Args:
            commit_id: names the commit; when it is in the file already, nothing is done.
            loads: tables, their contracts and the staged Parquet files to insert.
            retire: pairs whose rows are deleted.
            hide: pairs that stay in `T__all` and leave view `T`.
            unhide: pairs that come back into it.

        Returns:
            Whether the commit was made now; `False`: it had been made before.

        Raises:
            PromoteLost: a staged file is gone and the commit is not in the file.
            SinkFault: the schema does not fit (`sink.schema`), the file is someone else's
                (`sink.foreign`), the lock is not to be had (`sink.locked`, transient), the disk is
                full (`staging.no_space`, transient).
        """
        with self._open() as connection:
            if _has_commit(connection, commit_id):
                return False
            missing = [p for _, _, paths in loads for p in paths if not os.path.isfile(p)]
            if missing:
                raise PromoteLost(missing)
            for table, output, _ in loads:
                self._fit_schema(connection, table, output)
            with transaction(connection):
                _retire(connection, retire)
                rows = sum(
                    _load(connection, table, output, paths) for table, output, paths in loads
                )
                _change_hidden(connection, hide, unhide)
                connection.execute(
                    "INSERT INTO _cf_commits VALUES (?, ?, ?)", [commit_id, rows, clock.now_ns()]
                )
            return True

    def check(self) -> None:
        """Open the work file, if there is one, and close it again.

        Raises:
            SinkFault: `sink.locked`, another program holds it; `sink.duckdb`, it is no database.
        """
        if os.path.exists(self.work):
            with self._work_file.opened():
                pass

    def hidden(self) -> set[Triple]:
        """What views hide now, whatever home hid it."""
        with self._open() as connection:
            return {
                (str(table), int(job_id), str(source_id))
                for table, job_id, source_id in connection.execute(_HIDDEN).fetchall()
            }

    def change_hidden(self, hide: Iterable[Triple] = (), unhide: Iterable[Triple] = ()) -> None:
        """Change what views hide; idempotent, so it needs no commit of its own."""
        with self._open() as connection, transaction(connection):
            _change_hidden(connection, hide, unhide)

    def withdraw(self, commit_id: str, job_id: int) -> bool:
        """Take a commit back whose job cannot be completed; `False` when it is not in the file.

        Its rows go, and what it hid is shown again by the next `change_hidden`. Rows that it
        retired cannot be brought back.
        """
        with self._open() as connection, transaction(connection):
            if not _has_commit(connection, commit_id):
                return False
            for name in tables(connection):
                if name.endswith("__all"):
                    connection.execute(
                        f"DELETE FROM {identifier(name)} WHERE _cf_job_id = ?", [job_id]
                    )
            connection.execute("DELETE FROM _cf_commits WHERE commit_id = ?", [commit_id])
            return True

    def has_commit(self, commit_id: str) -> bool:
        """Whether a commit is in the work file."""
        if not os.path.exists(self.work) and not os.path.exists(self.file):
            return False
        with self._open() as connection:
            return _has_commit(connection, commit_id)

    def publish(self) -> bool:
        """Make `FILE` a complete, durable copy of the work file; `False` when it is one already.

        Readers that have the old file open keep it; new ones see the new one.

        Raises:
            SinkFault: the copy could not be made; the published file is as it was.
        """
        return self._work_file.publish()

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._work_file.opened() as connection:
            connection.execute(_BASE)
            yield connection

    def _fit_schema(self, connection: Any, table: str, output: OutputContract) -> None:
        """Make the table fit the contract: created, or widened by new nullable columns."""
        wanted = column_types(output)
        found = dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() "
                "WHERE database_name = 'work' AND table_name = ? AND column_name <> ?",
                [f"{table}__all", ROW_ID],
            ).fetchall()
        )
        if not found:
            with transaction(connection):
                connection.execute(table_ddl(table, wanted))
                connection.execute(view_sql(table))
        else:
            folded = {name.casefold(): kind for name, kind in found.items()}
            missing = []
            for name, kind in wanted.items():
                present = folded.get(name.casefold())
                if present is None:
                    missing.append((name, kind))
                elif present != kind:
                    raise SinkFault(
                        f"column `{name}` of `{table}` is {present} in `{self.file}` and {kind} in the contract",
                        code="sink.schema",
                        hint="choose another duckdb file for this version of the parser",
                        table=table,
                        column=name,
                    )
            if not missing:
                return
            with transaction(connection):
                for name, kind in missing:
                    connection.execute(
                        f"ALTER TABLE {identifier(table + '__all')} ADD COLUMN {identifier(name)} {kind}"
                    )
                connection.execute(view_sql(table))
        connection.execute("CHECKPOINT")


_BASE: Final = """
CREATE TABLE IF NOT EXISTS _cf_commits (
    commit_id VARCHAR PRIMARY KEY, rows BIGINT NOT NULL, committed_at_ns BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS _cf_hidden (
    table_name VARCHAR NOT NULL, job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL
);
"""
_HIDE: Final = """
INSERT INTO _cf_hidden SELECT ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM _cf_hidden WHERE table_name = ? AND job_id = ? AND source_id = ?)
"""
_HIDDEN: Final = "SELECT table_name, job_id, source_id FROM _cf_hidden"
_UNHIDE: Final = "DELETE FROM _cf_hidden WHERE table_name = ? AND job_id = ? AND source_id = ?"


def _load(connection: Any, table: str, output: OutputContract, paths: Sequence[str]) -> int:
    """Insert the rows of staged files; columns that this contract does not have stay null."""
    if not paths:
        return 0
    columns = ", ".join(identifier(name) for name in column_types(output))
    inserted = connection.execute(
        f"INSERT INTO {identifier(table + '__all')} ({columns}) "
        f"SELECT {columns} FROM read_parquet(?, union_by_name => false)",
        [list(paths)],
    ).fetchone()
    return int(inserted[0])


def _retire(connection: Any, pairs: Iterable[Triple]) -> None:
    """Delete the rows of pairs, one pass a table."""
    by_table: dict[str, list[tuple[int, str]]] = {}
    for table, job_id, source_id in pairs:
        by_table.setdefault(table, []).append((job_id, source_id))
        connection.execute(_UNHIDE, [table, job_id, source_id])
    present = tables(connection)
    for table, gone in by_table.items():
        if f"{table}__all" in present:
            connection.execute(
                f"DELETE FROM {identifier(table + '__all')} WHERE (_cf_job_id, _cf_source_id) IN "
                "(SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]))",
                [[job_id for job_id, _ in gone], [source_id for _, source_id in gone]],
            )


def _change_hidden(connection: Any, hide: Iterable[Triple], unhide: Iterable[Triple]) -> None:
    for triple in hide:
        connection.execute(_HIDE, [*triple, *triple])
    for triple in unhide:
        connection.execute(_UNHIDE, list(triple))


def _has_commit(connection: Any, commit_id: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM _cf_commits WHERE commit_id = ?", [commit_id]
    ).fetchone()
    return found is not None
