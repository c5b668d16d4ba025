"""The DuckDB sink: rows in `FILE.work`, published to `FILE` by copy and rename.

    FILE                what readers open: complete, checkpointed, replaced by rename
    FILE.work           what is written; each commit is one transaction that also records its `commit_id`
    FILE.lock           `flock` held for each transaction, so that several homes can share one sink

In the file: `T__all` holds the rows of table T, `_cf_hidden` the (table, job, source) triples that view `T` leaves out,
`_cf_commits` the commits that are in. `_cf_row_id` is a virtual column of `T__all`, so views have it too.

Rules:
  * Open, transact, close, all under the lock: nothing else may open `FILE.work` meanwhile, and DuckDB's own lock is lost when
    a process opens and closes the file by another path. The copy is made by a child process for the same reason.
  * Schema changes are a transaction of their own, followed by a checkpoint, before any row is written.
  * No extension is needed, memory and threads are bounded.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import duckdb

from casparian import clock
from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import SinkFault
from casparian.processes import host_environment
from casparian.sinks.duckdb_schema import (
    ROW_ID,
    column_types,
    identifier,
    literal,
    table_ddl,
    view_sql,
)
from casparian.sinks.durable import sync_directory
from casparian.sinks.faults import StagingFault, staging_errors

Load = tuple[str, OutputContract, Sequence[str]]  # table, contract, staged Parquet files
Triple = tuple[str, int, str]  # table, job_id, source_id

LOCK_SECONDS_MAX: Final = 120.0
MEMORY_LIMIT: Final = "160MB"
_THREADS_MAX: Final = 2
_LOCK_STEP_SECONDS: Final = 0.05
_COPY_TAG: Final = ".publish-"

# Runs in a child: copy, make durable, and nothing else.
_COPY: Final = """
import fcntl, os, sys
source = os.open(sys.argv[1], os.O_RDONLY)
target = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
try:
    fcntl.ioctl(target, 0x40049409, source)  # FICLONE: shares the blocks where the file system can
except OSError:
    while block := os.read(source, 1 << 20):
        while block:
            block = block[os.write(target, block):]
os.fsync(target)
"""


class DuckDbSink:
    """One DuckDB file that holds outputs. Objects are cheap and hold no connection between calls."""

    def __init__(self, sink: Sink, *, home: str | None = None) -> None:
        """`home` names the home in the command line of the copying child."""
        if sink.kind is not SinkKind.DUCKDB:
            raise ValueError(f"not a duckdb sink: {sink.uri}")
        self._sink = sink
        self._home = home
        self.file = sink.location
        self.work = sink.location + ".work"
        self._published: tuple[int, int] | None = None

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
            retire: pairs whose rows are deleted.
            hide: pairs that stay in `T__all` and leave view `T`; `unhide` is the opposite.

        Returns:
            Whether the commit was made now; `False`: it had been made before.

        Raises:
            SinkFault: the schema does not fit (`sink.schema`), the file is someone else's (`sink.foreign`), the lock is not
                to be had (`sink.locked`, transient), the disk is full (`staging.no_space`, transient).
        """
        with self._open() as connection:
            if _has_commit(connection, commit_id):
                return False
            for table, output, _ in loads:
                self._fit_schema(connection, table, output)
            tables = _tables(connection)
            with _transaction(connection):
                for table, job_id, source_id in retire:
                    if f"{table}__all" in tables:
                        connection.execute(
                            f'DELETE FROM "{table}__all" WHERE _cf_job_id = ? AND _cf_source_id = ?',
                            [job_id, source_id],
                        )
                    connection.execute(_UNHIDE, [table, job_id, source_id])
                rows = sum(
                    _load(connection, table, output, paths) for table, output, paths in loads
                )
                _change_hidden(connection, hide, unhide)
                connection.execute(
                    "INSERT INTO _cf_commits VALUES (?, ?, ?)", [commit_id, rows, clock.now_ns()]
                )
            return True

    def change_hidden(self, hide: Iterable[Triple] = (), unhide: Iterable[Triple] = ()) -> None:
        """Change what views hide; idempotent, so it needs no commit of its own."""
        with self._open() as connection, _transaction(connection):
            _change_hidden(connection, hide, unhide)

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
        with self._locked():
            if not os.path.exists(self.work):
                return False
            with self._connected() as connection:
                connection.execute("CHECKPOINT")
            if os.path.exists(self.work + ".wal"):
                raise SinkFault(
                    f"`{self.work}` did not take its log in", code="sink.publish", path=self.work
                )
            mark = _mark(self.work)
            if mark == self._published and os.path.exists(self.file):
                return False
            for leftover in glob.glob(glob.escape(self.file + _COPY_TAG) + "*"):
                os.unlink(leftover)
            copy = self.file + _COPY_TAG + secrets.token_hex(6)
            self._copy(self.work, copy)
            with staging_errors(self.file):
                os.replace(copy, self.file)
            sync_directory(os.path.dirname(self.file))
            self._published = mark
            return True

    def _copy(self, source: str, target: str) -> None:
        command = [sys.executable, "-I", "-S", "-c", _COPY, source, target]
        if self._home is not None:
            command += ["--home", self._home]
        done = subprocess.run(
            command,
            env=host_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            if os.path.lexists(target):
                os.unlink(target)
            lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines() or [
                "no reason given"
            ]
            raise SinkFault(
                f"`{source}` could not be copied: {lines[-1]}", code="sink.publish", path=self.file
            )

    # opening

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._locked():
            self._adopt()
            with self._connected() as connection:
                connection.execute(_BASE)
                yield connection

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.file + ".lock"
        with staging_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait_for_lock(descriptor, path)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection to the work file, with DuckDB's errors as `SinkFault`s."""
        connection = None
        try:
            connection = duckdb.connect(
                config={
                    "memory_limit": MEMORY_LIMIT,
                    "threads": min(_THREADS_MAX, os.cpu_count() or 1),
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "temp_directory": self.work + ".tmp",
                }
            )
            rows = int(self._sink.settings.get("row_group_rows", 122_880))
            connection.execute(f"ATTACH {literal(self.work)} AS work (ROW_GROUP_SIZE {rows})")
            connection.execute("USE work")
            yield connection
        except duckdb.Error as error:
            raise _fault(error, self.work) from error
        finally:
            if connection is not None:
                connection.close()

    def _adopt(self) -> None:
        """A published file without its work file: continue from it if it is ours, refuse it otherwise."""
        if os.path.exists(self.work) or not os.path.exists(self.file):
            return
        try:
            with duckdb.connect(self.file, read_only=True) as connection:
                ours = "_cf_commits" in _tables(connection)
        except duckdb.Error:
            ours = False
        if not ours:
            raise SinkFault(
                f"`{self.file}` exists and was not made by Casparian; it is left alone",
                code="sink.foreign",
                hint="choose another file for the duckdb sink",
                path=self.file,
            )
        temporary = self.file + _COPY_TAG + secrets.token_hex(6)
        with staging_errors(self.work):
            self._copy(self.file, temporary)
            os.rename(temporary, self.work)
        sync_directory(os.path.dirname(self.work))

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
            with _transaction(connection):
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
            with _transaction(connection):
                for name, kind in missing:
                    connection.execute(
                        f'ALTER TABLE "{table}__all" ADD COLUMN {identifier(name)} {kind}'
                    )
                connection.execute(view_sql(table))
        connection.execute("CHECKPOINT")


_BASE: Final = """
CREATE TABLE IF NOT EXISTS _cf_commits (commit_id VARCHAR PRIMARY KEY, rows BIGINT NOT NULL, committed_at_ns BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS _cf_hidden (table_name VARCHAR NOT NULL, job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL);
"""
_HIDE: Final = """
INSERT INTO _cf_hidden SELECT ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM _cf_hidden WHERE table_name = ? AND job_id = ? AND source_id = ?)
"""
_UNHIDE: Final = "DELETE FROM _cf_hidden WHERE table_name = ? AND job_id = ? AND source_id = ?"


@contextmanager
def _transaction(connection: Any) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _load(connection: Any, table: str, output: OutputContract, paths: Sequence[str]) -> int:
    """Insert the rows of staged files; columns that this contract does not have stay null."""
    if not paths:
        return 0
    columns = ", ".join(identifier(name) for name in column_types(output))
    inserted = connection.execute(
        f"INSERT INTO {identifier(table + '__all')} ({columns}) "
        f"SELECT {columns} FROM read_parquet(?, union_by_name => false)",
        [[glob.escape(path) for path in paths]],
    ).fetchone()
    return int(inserted[0])


def _change_hidden(connection: Any, hide: Iterable[Triple], unhide: Iterable[Triple]) -> None:
    for triple in hide:
        connection.execute(_HIDE, [*triple, *triple])
    for triple in unhide:
        connection.execute(_UNHIDE, list(triple))


def _tables(connection: Any) -> set[str]:
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    return {name for (name,) in rows}


def _has_commit(connection: Any, commit_id: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM _cf_commits WHERE commit_id = ?", [commit_id]
    ).fetchone()
    return found is not None


def _wait_for_lock(descriptor: int, path: str) -> None:
    deadline = clock.monotonic_ns() + int(LOCK_SECONDS_MAX * 1e9)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock.monotonic_ns() > deadline:
                raise StagingFault(
                    f"`{path}` was held by another process for {LOCK_SECONDS_MAX:.0f} s",
                    transient=True,
                    code="sink.locked",
                    hint="another home is writing to this sink; try again when it is done",
                    path=path,
                ) from None
            time.sleep(_LOCK_STEP_SECONDS)


def _fault(error: duckdb.Error, path: str) -> SinkFault:
    text = str(error).splitlines()[0]
    if os.strerror(errno.ENOSPC) in text:
        return StagingFault(
            f"no space left for `{path}`",
            transient=True,
            code="staging.no_space",
            hint="free space on the sink's file system, then run again",
            path=path,
        )
    if "Conflicting lock" in text:
        return StagingFault(
            f"`{path}` is open in another program",
            transient=True,
            code="sink.locked",
            hint=f"close it; readers open `{path.removesuffix('.work')}`",
            path=path,
        )
    return SinkFault(f"`{path}`: {text}", code="sink.duckdb", path=path)


def _mark(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns
