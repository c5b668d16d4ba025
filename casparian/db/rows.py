"""Fetch results whole: DuckDB 2 refuses other work on a connection whose last result was not read to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


def first_row(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()
) -> tuple[Any, ...] | None:
    """The first row of a result, or `None`; nothing is left unread."""
    rows: list[tuple[Any, ...]] = connection.execute(sql, list(parameters)).fetchall()
    return rows[0] if rows else None


def scalar(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> int:
    """The one integer of a result; 0 when there is none."""
    row = first_row(connection, sql, parameters)
    return int(row[0]) if row and row[0] is not None else 0
