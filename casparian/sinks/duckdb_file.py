"""The work file of a DuckDB sink: locked, opened, closed, copied; never shared with an open connection.

DuckDB's own lock on a file is lost when the process that holds it opens and closes the file by
another path. So every use is under a `flock` of our own, the file is opened for one use and closed,
and copies are made by a child process.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import duckdb

from casparian import clock, installation
from casparian.domain.outputs import Sink
from casparian.errors import SinkFault
from casparian.processes import host_environment
from casparian.sinks.duckdb_schema import literal
from casparian.sinks.durable import sync_directory
from casparian.sinks.faults import StagingFault, staging_errors

LOCK_SECONDS_MAX: Final = 120.0
MEMORY_LIMIT: Final = "96MB"
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


class WorkFile:
    """`FILE.work` beside `FILE`. Holds no connection and no lock between calls.

    Args:
        sink: a duckdb sink.
        home: names the home in the command line of the copying child.
    """

    def __init__(self, sink: Sink, home: str | None) -> None:
        self._sink = sink
        self._home = home
        self.file = sink.location
        self.work = sink.location + ".work"
        self._published: tuple[int, int] | None = None

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """A connection, under the lock; what was committed is durable when the block is left."""
        with self._locked():
            self._adopt()
            with self._connected() as connection:
                yield connection
            # Closing has taken the log in and removed it; the work file itself may be new.
            sync_directory(os.path.dirname(self.work))

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
        command = [installation.interpreter(), "-I", "-S", "-c", _COPY, source, target]
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
                ours = "_cf_commits" in tables(connection)
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


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # it may be rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def tables(connection: Any) -> set[str]:
    """Names of the tables of the open file."""
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    return {name for (name,) in rows}


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
