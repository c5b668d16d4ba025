"""Open the control database, alone.

DuckDB's own lock is lost when its process opens and closes the file by another path, so the home is held by a separate `flock`
on `run/sentinel.lock` for as long as the sentinel lives; nothing else in the process may open files of the home's database.
"""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Final, Self

import duckdb

from casparian import ids
from casparian.db.migrate import migrate
from casparian.db.rows import first_row
from casparian.errors import Conflict
from casparian.paths import Home

_MEMORY_LIMIT: Final = "96MB"


class HomeLock:
    """The one sentinel of a home holds this."""

    def __init__(self, home: Home) -> None:
        home.run.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        self._connection = duckdb.connect(
            str(home.control_database),
            config={
                "memory_limit": _MEMORY_LIMIT,
                "threads": 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": str(home.run / "spill"),
            },
        )
        self.schema_number = migrate(self._connection)
        self.home_id = _home_id(home, self._connection)

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
        self.close()


def _home_id(home: Home, connection: duckdb.DuckDBPyConnection) -> str:
    row = first_row(connection, "SELECT value FROM cf_meta WHERE name = 'home_id'")
    if row is not None:
        return str(row[0])
    home_id = ids.new_home_id()
    connection.execute("INSERT INTO cf_meta VALUES ('home_id', ?)", [home_id])
    home.home_id_file.write_text(home_id + "\n", encoding="ascii")
    return home_id
