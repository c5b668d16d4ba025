"""Open the control database, alone.

DuckDB's own lock is lost when its process opens and closes the file by another path, so the home is held by a separate `flock`
on `run/sentinel.lock` for as long as the sentinel lives; nothing else in the process may open files of the home's database.

Before a migration the database is copied (`snapshot`); a migration that fails is undone from that copy. What cannot be opened is
left exactly as it is, and the error says why.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import duckdb

from casparian import ids
from casparian.db import snapshot
from casparian.db.migrate import migrate, newest, schema_number
from casparian.db.rows import first_row
from casparian.errors import CasparianError, Conflict, IntegrityError
from casparian.paths import Home

_MEMORY_LIMIT: Final = "96MB"
_HOLDER: Final = re.compile(r"held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_DENIED: Final = tuple(os.strerror(n) for n in (errno.EACCES, errno.EPERM, errno.EROFS))
_RESTORE: Final = (
    "`casparian sentinel backups` lists copies, `casparian sentinel restore FILE` brings one back"
)


class HomeLock:
    """The one sentinel of a home holds this."""

    def __init__(self, home: Home) -> None:
        try:
            home.run.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(home, error.strerror or str(error)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Conflict(
                f"another sentinel (process {holder or 'unknown'}) holds this home",
                code="sentinel.running",
                hint="`casparian sentinel status` shows it",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another sentinel take the home."""
        os.close(self._descriptor)


class ControlDatabase:
    """One connection for the writer; `reader()` gives cursors for other threads."""

    def __init__(self, home: Home) -> None:
        snapshot.finish_restore(home)
        _check_present(home)
        self._connection = _connect(home)
        try:
            self.schema_number = self._migrated(home)
            self.home_id = _home_id(home, self._connection)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, duckdb.Error):
                raise open_fault(home, error) from error
            raise

    def _migrated(self, home: Home) -> int:
        """The newest schema, with a copy of the database taken before it is changed."""
        before = schema_number(self._connection)
        if before in (0, newest()):
            return migrate(self._connection)
        self._connection.execute("CHECKPOINT")
        self._connection.close()
        copy = snapshot.take(home, reason="migration") if before < newest() else None
        self._connection = _connect(home)
        try:
            return migrate(self._connection)
        except duckdb.Error as error:
            assert copy is not None  # a newer schema is a `UsageError`
            self._connection.close()
            restored = snapshot.restore(
                home, home.backups / copy.file, why="a migration of the schema failed"
            )
            raise IntegrityError(
                f"the control database could not be brought from schema {before} to {newest()}; it was put back as it was:"
                f" {str(error).splitlines()[0]}",
                code="db.migration_failed",
                hint=f"use the version that wrote it; what the migration left lies in `{restored.aside}`",
            ) from error

    @property
    def writer(self) -> duckdb.DuckDBPyConnection:
        """The connection of the single writer thread."""
        return self._connection

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same instance, for one thread."""
        return self._connection.cursor()

    def close(self) -> None:
        """Checkpoint and close."""
        self._connection.execute("CHECKPOINT")
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(value, duckdb.Error):  # a checkpoint of damaged tables would fail again
            self._connection.close()
        else:
            self.close()


def unwritable(home: Home, reason: str) -> CasparianError:
    """Nothing can be written to this home, so no sentinel can work on it."""
    return CasparianError(
        f"the home `{home.root}` cannot be written: {reason}",
        code="home.unwritable",
        hint="mend its permissions, mount it writable, or choose another with `--home DIR`",
        path=str(home.root),
    )


def open_fault(home: Home, error: duckdb.Error) -> CasparianError:
    """What a fault of DuckDB on the control database means. The files are as they were."""
    reason = str(error).splitlines()[0]
    path = str(home.control_database)
    if "Conflicting lock" in reason:
        found = _HOLDER.search(reason)
        program = Path(found["program"].strip()).name if found else ""
        who = f"process {found['pid']}{f', `{program}`' if program else ''}" if found else "unknown"
        return Conflict(
            f"the control database is open in another program ({who})",
            code="db.locked",
            hint="close it there, then try again; nothing was changed",
            path=path,
            pid=int(found["pid"]) if found else None,
        )
    if any(text in reason for text in _DENIED):
        return unwritable(home, reason)
    if os.strerror(errno.ENOSPC) in reason:
        return CasparianError(
            f"no space left for the control database `{path}`",
            code="db.no_space",
            hint="make room, then try again; what was committed is kept",
            path=path,
        )
    return IntegrityError(
        f"the control database cannot be read: {reason}",
        code="db.corrupt",
        hint=f"it was left as it is; {_RESTORE}",
        path=path,
    )


def _connect(home: Home) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(
            str(home.control_database),
            config={
                "memory_limit": _MEMORY_LIMIT,
                "threads": 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": str(home.run / "spill"),
            },
        )
    except duckdb.Error as error:
        raise open_fault(home, error) from error


def _check_present(home: Home) -> None:
    """Refuse to begin a new database in the place of one that was lost."""
    database = home.control_database
    if home.home_id_file.exists():
        if not database.exists():
            raise IntegrityError(
                f"the control database of this home is gone: there is no `{database}`",
                code="db.missing",
                hint=f"{_RESTORE}; to begin anew, use another --home",
                path=str(database),
            )
    elif database.exists() and not database.stat().st_size:
        database.unlink()  # a crash in the very first moment: nothing was ever in it


def _home_id(home: Home, connection: duckdb.DuckDBPyConnection) -> str:
    row = first_row(connection, "SELECT value FROM cf_meta WHERE name = 'home_id'")
    home_id = str(row[0]) if row is not None else ids.new_home_id()
    if row is None:
        connection.execute("INSERT INTO cf_meta VALUES ('home_id', ?)", [home_id])
    if not home.home_id_file.exists():  # also when a crash came between the two
        home.home_id_file.write_text(home_id + "\n", encoding="ascii")
    return home_id
