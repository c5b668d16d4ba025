"""Numbered SQL migrations, applied in order, each in one transaction, with a checkpoint after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from casparian import installation
from casparian.db.rows import scalar
from casparian.errors import UsageError

if TYPE_CHECKING:
    import duckdb

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql\Z")


def migrations() -> list[tuple[int, str, str]]:
    """(number, file name, SQL) of every migration, in order."""
    found = []
    for entry in (installation.package() / "db" / "migrations").iterdir():
        match = _NAME.match(entry.name)
        if match:
            found.append((int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def newest() -> int:
    """The schema that this version writes."""
    return migrations()[-1][0]


def schema_number(connection: duckdb.DuckDBPyConnection) -> int:
    """The schema a database has; 0 for a new one."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS cf_schema_version (number BIGINT PRIMARY KEY, name VARCHAR NOT NULL)"
    )
    return scalar(connection, "SELECT coalesce(max(number), 0) FROM cf_schema_version")


def migrate(connection: duckdb.DuckDBPyConnection) -> int:
    """Bring the database to the newest schema and return its number.

    Raises:
        UsageError: the database was written by a newer Casparian.
    """
    current = schema_number(connection)
    known = migrations()
    last = known[-1][0]
    if current > last:
        raise UsageError(
            f"this home was written by a newer Casparian (schema {current}, this one knows {last})",
            code="db.newer_schema",
            hint="use the newer version, or another --home",
        )
    for number, name, sql in known:
        if number <= current:
            continue
        connection.execute("BEGIN")
        connection.execute(sql)
        connection.execute("INSERT INTO cf_schema_version VALUES (?, ?)", [number, name])
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
    return last
