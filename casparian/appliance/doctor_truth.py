"""What is on record about outputs: from the sentinel, or from the catalog when none can be asked.

Both give the same value, so that every check of files is made the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from casparian.domain.outputs import Sink, SinkKind
from casparian.paths import Home
from casparian.query.engine import Query
from casparian.sinks.catalog import numbered

PAGE_ROWS: Final = 20_000  # of one reply: it has a largest size

Read = Callable[[str, dict[str, str | int | bool | None], int | None], list[dict[str, Any]]]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `outputs`. A database sink has no size and no hash of its own."""

    path: str
    sink: str
    table_name: str
    job_id: int
    epoch: int
    rows: int
    size_bytes: int
    blake3: str
    live: bool

    @property
    def in_database(self) -> bool:
        """Whether it is rows of a database file."""
        return self.sink.startswith(f"{SinkKind.DUCKDB}:")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one job in one table of one sink, by their materializations."""

    sink: str
    table_name: str
    job_id: int
    epoch: int
    rows: int
    rows_alive: int
    retired: int  # pairs


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence and sink mode of a job."""

    root: str
    sink_mode: str


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """All that files are compared with. `at_rest`: nothing is under way that could be half done."""

    home_id: str
    from_sentinel: bool
    at_rest: bool
    outputs: tuple[Recorded, ...]
    loads: tuple[Load, ...]
    jobs: frozenset[int]
    origins: dict[int, Origin]
    sinks: tuple[Sink, ...]

    @property
    def live(self) -> tuple[Recorded, ...]:
        """Outputs that should be there."""
        return tuple(output for output in self.outputs if output.live)


def of_sentinel(home: Home, read: Read, *, home_id: str, at_rest: bool) -> Truth:
    """Ask for it.

    Args:
        home: its own sinks are looked through, whatever is on record.
        read: a named read of the Control API: view, filters, limit.
        home_id: who answered.
        at_rest: whether anything is under way there.
    """
    outputs = [_convert(line, Recorded) for line in _pages(read, "doctor_files", "number")]
    loads = [_convert(line, Load) for line in read("doctor_loads", {}, None)]
    origins = {
        line["job_id"]: Origin(root=line["root"], sink_mode=line["sink_mode"])
        for line in read("doctor_jobs", {}, None)
    }
    jobs = {line["job_id"] for line in _pages(read, "doctor_known_jobs", "job_id")}
    jobs |= _jobs_before_restores(home)
    sinks = {sink.uri: sink for sink in _own_sinks(home)}
    for uri in {load.sink for load in loads}:
        sinks[uri] = sink_at(uri)
    return Truth(
        home_id=home_id,
        from_sentinel=True,
        at_rest=at_rest,
        outputs=tuple(outputs),
        loads=tuple(loads),
        jobs=frozenset(jobs | origins.keys()),
        origins=origins,
        sinks=tuple(sinks[uri] for uri in sorted(sinks)),
    )


def of_catalog(query: Query, *, at_rest: bool) -> Truth:
    """What the catalog says of it."""
    outputs: list[Recorded] = []
    loads: list[Load] = []
    origins: dict[int, Origin] = {}
    if query.has_control("outputs"):
        lines = query.fetch(f"SELECT * FROM {query.control('outputs')} ORDER BY path")
        outputs = [_convert(line, Recorded) for line in lines]
    if query.has_control("materializations"):
        recorded = query.control("materializations")
        lines = query.fetch(
            "SELECT sink, table_name, job_id, epoch, sum(rows)::BIGINT AS rows, "
            "coalesce(sum(rows) FILTER (NOT retired), 0)::BIGINT AS rows_alive, "
            f"count(*) FILTER (retired) AS retired FROM {recorded} GROUP BY ALL ORDER BY ALL"
        )
        loads = [_convert(line, Load) for line in lines]
        for line in query.fetch(f"SELECT DISTINCT job_id, root, sink_mode FROM {recorded}"):
            origins[line["job_id"]] = Origin(root=line["root"], sink_mode=line["sink_mode"])
    jobs = set(origins) | _jobs_before_restores(query.home)
    if query.has_control("jobs"):
        jobs |= {
            line["job_id"] for line in query.fetch(f"SELECT job_id FROM {query.control('jobs')}")
        }
    sinks = {sink.uri: sink for sink in _own_sinks(query.home)}
    sinks |= {dataset.sink.uri: dataset.sink for _, dataset in numbered(query.catalog)}
    return Truth(
        home_id=query.catalog.home_id,
        from_sentinel=False,
        at_rest=at_rest,
        outputs=tuple(outputs),
        loads=tuple(loads),
        jobs=frozenset(jobs),
        origins=origins,
        sinks=tuple(sinks[uri] for uri in sorted(sinks)),
    )


def sink_at(uri: str) -> Sink:
    """The sink of a canonical URI."""
    kind, _, location = uri.partition(":")
    return Sink(kind=SinkKind(kind), location=location)


def _jobs_before_restores(home: Home) -> set[int]:
    """Jobs of databases that a restore took the place of: what they committed since the copy has no record any more."""
    jobs: set[int] = set()
    for path in home.backups.glob("aside-*/jobs.json"):
        try:
            jobs.update(msgspec.json.decode(path.read_bytes(), type=list[int]))
        except (OSError, msgspec.DecodeError):
            continue
    return jobs


def _own_sinks(home: Home) -> tuple[Sink, ...]:
    return tuple(
        Sink(kind=SinkKind.PARQUET, location=str(directory))
        for directory in (home.outputs, home.quarantine)
    )


def _pages(read: Read, view: str, key: str) -> Iterator[dict[str, Any]]:
    after = -1
    while lines := read(view, {"after": after}, PAGE_ROWS):
        yield from lines
        after = lines[-1][key]


def _convert(line: dict[str, Any], kind: type[Any]) -> Any:
    return kind(**{name: line[name] for name in kind.__struct_fields__})
