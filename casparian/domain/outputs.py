"""Where rows go: sinks, modes, and the names of output files."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec


class SinkKind(StrEnum):
    """The three kinds of sink."""

    PARQUET = "parquet"
    DUCKDB = "duckdb"
    CSV = "csv"


class SinkMode(StrEnum):
    """What happens when a (dataset, source) pair is materialized already.

    The scope is always the pair, never the table. APPEND adds unless the very same key is recorded; REPLACE retires the older
    pairs of the source; ERROR refuses the file (exit code 8).
    """

    APPEND = "append"
    REPLACE = "replace"
    ERROR = "error"


class Sink(msgspec.Struct, frozen=True, kw_only=True):
    """One output location.

    Args:
        kind: parquet, duckdb or csv.
        location: absolute path: a directory (parquet, csv) or a file (duckdb).
        settings: writer settings, all of them with their effective values; part of the key, not of the dataset.
    """

    kind: SinkKind
    location: str
    settings: dict[str, str | int | bool] = {}

    @property
    def uri(self) -> str:
        """Canonical URI, without settings: the identity of the place."""
        return f"{self.kind}:{self.location}"


def output_file_name(table: str, job_id: int, epoch: int, ordinal: int, extension: str) -> str:
    """`{table}_{job}_{epoch}_{n}.{extension}`: unique across retries, homes and rewrites."""
    return f"{table}_{job_id}_{epoch}_{ordinal}.{extension}"


# As promotion and rewriting name outputs, and as promotion names a stranger that was in its way.
_OUTPUT_NAME: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*?_(?P<job>\d+)_\d+_\d+(r\d+)?\.(parquet|csv)(\.set-aside-[0-9a-f]{8})?\Z"
)


def job_of_output_name(name: str) -> int | None:
    """The job that a file's name belongs to; `None` when outputs are not named so."""
    match = _OUTPUT_NAME.match(name)
    return int(match["job"]) if match else None


QUARANTINE_TABLE = "quarantine"
RESERVED_TABLES = frozenset({QUARANTINE_TABLE, "materializations", "sources"})
