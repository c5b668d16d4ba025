"""Check committed outputs on disk against what was recorded, and look for files nobody recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from casparian.appliance.evidence import file_blake3
from casparian.domain.outputs import Sink, SinkKind
from casparian.query.engine import Query
from casparian.sinks.catalog import numbered
from casparian.sinks.staging import stage_root

_OUTPUT_NAME: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*?_(?P<job>\d+)_\d+_\d+(r\d+)?\.(parquet|csv)\Z"
)


class OutputProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded output that is not as it was committed."""

    path: str
    message: str


def recorded_outputs(query: Query) -> list[dict[str, Any]]:
    """Lines of `outputs` whose files should be there."""
    if not query.has_control("outputs"):
        return []
    return query.fetch(f"SELECT * FROM {query.control('outputs')} WHERE live ORDER BY path")


def check_output(line: dict[str, Any], *, verify: bool) -> OutputProblem | None:
    """Compare one output with its record: existence and size, with `verify` its hash.

    A database file holds many jobs and has no recorded size or hash: it must exist.
    """
    path = line["path"]
    try:
        size_bytes = os.stat(path).st_size
        if line["size_bytes"] and size_bytes != line["size_bytes"]:
            message = f"has {size_bytes} bytes, was committed with {line['size_bytes']}"
            return OutputProblem(path=path, message=message)
        if verify and line["blake3"] and file_blake3(path) != line["blake3"]:
            return OutputProblem(path=path, message="does not have the hash it was committed with")
    except FileNotFoundError:
        return OutputProblem(path=path, message="is missing")
    except OSError as error:
        return OutputProblem(path=path, message=f"cannot be read: {error.strerror}")
    return None


def sinks_of(query: Query) -> list[Sink]:
    """Every sink of the catalog, quarantine's included."""
    return list({dataset.sink.uri: dataset.sink for _, dataset in numbered(query.catalog)}.values())


def orphans(query: Query, sinks: list[Sink]) -> Iterator[str]:
    """Files in sinks that carry the number of one of our jobs and that nobody recorded.

    The commit protocol never leaves one; another home's files carry other job numbers.
    """
    jobs = {line["job_id"] for line in recorded_jobs(query)}
    known = set()
    if query.has_control("outputs"):
        known = {
            line["path"] for line in query.fetch(f"SELECT path FROM {query.control('outputs')}")
        }
    for sink in sinks:
        if sink.kind is SinkKind.DUCKDB or not os.path.isdir(sink.location):
            continue
        for name in sorted(os.listdir(sink.location)):
            match = _OUTPUT_NAME.match(name)
            path = os.path.join(sink.location, name)
            if match and int(match["job"]) in jobs and path not in known:
                yield path


def leftover_stages(query: Query, sinks: list[Sink]) -> Iterator[str]:
    """Stages of this home that are still there."""
    for sink in sinks:
        root = stage_root(sink, query.catalog.home_id)
        if os.path.isdir(root):
            for name in sorted(os.listdir(root)):
                yield os.path.join(root, name)


def recorded_jobs(query: Query) -> list[dict[str, Any]]:
    """Numbers of the jobs this home knows."""
    table = "jobs" if query.has_control("jobs") else "materializations"
    return query.fetch(f"SELECT DISTINCT job_id FROM {query.control(table)}")
