"""Database sinks against what is on record: which commits are in them, how many rows of each job, and the published copy.

Only the published file is read while others may write; the work file is looked at under its lock, and left out when that is
held. Nothing is changed.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb

from casparian.appliance.doctor_check import Check, Detail
from casparian.appliance.doctor_truth import Load, Truth
from casparian.display import show
from casparian.domain.outputs import SinkKind
from casparian.protocol import identity
from casparian.sinks.duckdb_schema import identifier

_NAMED_MAX: Final = 3


def check_databases(truth: Truth) -> Iterator[Check]:
    """One answer for each database sink whose file is there; a missing one is told with the outputs."""
    for sink in truth.sinks:
        if sink.kind is SinkKind.DUCKDB and os.path.exists(sink.location):
            loads = [load for load in truth.loads if load.sink == sink.uri]
            yield _check(truth, sink.location, loads)


def _check(truth: Truth, path: str, loads: list[Load]) -> Check:
    name = f"database {show(os.path.basename(path))}"
    try:
        with _opened(path) as connection:
            commits = _commits(connection)
            rows = _rows(connection)
        behind = _behind(path, commits) if truth.at_rest else set()
    except duckdb.Error as error:
        return Check(
            check=name,
            status="fail",
            message=f"`{show(path)}` cannot be read: {show(str(error).splitlines()[0])}",
            hint="close it where it is open, or restore it; its rows come back with the evidence",
            details=({"path": path, "problem": "unreadable"},),
        )
    problems = [*_commit_problems(truth, loads, commits), *_row_problems(loads, rows)]
    if behind:
        problem = f"{len(behind)} commits of the work file are not published"
        problems.append({"problem": "unpublished", "message": problem, "commits": sorted(behind)})
    if not problems:
        message = f"`{show(path)}` holds all {len(_expected(truth, loads))} commits, row by row"
        return Check(check=name, status="ok", message=message)
    worst = any(problem["problem"] != "unpublished" for problem in problems)
    told = "; ".join(p["message"] for p in problems[:_NAMED_MAX])
    more = f"; and {len(problems) - _NAMED_MAX} more" if len(problems) > _NAMED_MAX else ""
    return Check(
        check=name,
        status="fail" if worst and truth.at_rest else "warn",
        message=f"`{show(path)}`: {told}{more}",
        hint="move the file aside and run the evidence again with another sink, or restore it"
        if worst
        else "the next run publishes it",
        details=tuple({"path": path, **problem} for problem in problems),
    )


def _expected(truth: Truth, loads: list[Load]) -> dict[str, Load]:
    return {identity.commit_id(truth.home_id, load.job_id, load.epoch): load for load in loads}


def _commit_problems(truth: Truth, loads: list[Load], commits: set[str]) -> Iterator[Detail]:
    expected = _expected(truth, loads)
    for commit_id in sorted(expected.keys() - commits):
        job_id = expected[commit_id].job_id
        yield {
            "problem": "missing commit",
            "commit_id": commit_id,
            "job_id": job_id,
            "message": f"the commit of job {job_id} is not in it",
        }
    ours = {commit for commit in commits if commit.startswith(f"{truth.home_id}:")}
    for commit_id in sorted(ours - expected.keys()):
        yield {
            "problem": "orphan commit",
            "commit_id": commit_id,
            "message": f"commit {commit_id.partition(':')[2]} of this home is in it without a record",
        }


def _row_problems(loads: list[Load], rows: dict[tuple[str, int], int]) -> Iterator[Detail]:
    wanted: dict[tuple[str, int], int] = defaultdict(int)
    for load in loads:
        wanted[load.table_name, load.job_id] += load.rows_alive
    for (table, job_id), count in sorted(wanted.items()):
        found = rows.get((table, job_id), 0)
        if found != count:
            yield {
                "problem": "rows",
                "table": table,
                "job_id": job_id,
                "found": found,
                "recorded": count,
                "message": f"`{table}` has {found} rows of job {job_id}, {count} are recorded",
            }


def _behind(path: str, published: set[str]) -> set[str]:
    """Commits of the work file that the published one lacks; none when somebody works on it now."""
    work, lock = path + ".work", path + ".lock"
    if not os.path.exists(work) or not os.path.exists(lock):
        return set()
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _opened(work) as connection:
            return _commits(connection) - published
    except BlockingIOError:
        return set()
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    connection = duckdb.connect(
        path,
        read_only=True,
        config={
            "memory_limit": "192MB",
            "threads": min(2, os.cpu_count() or 1),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        yield connection
    finally:
        connection.close()


def _commits(connection: Any) -> set[str]:
    return {c for (c,) in connection.execute("SELECT commit_id FROM _cf_commits").fetchall()}


def _rows(connection: Any) -> dict[tuple[str, int], int]:
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '%\\_\\_all' ESCAPE '\\'"
    ).fetchall()
    found = {}
    for (name,) in names:
        for job_id, count in connection.execute(
            f"SELECT _cf_job_id, count(*) FROM {identifier(name)} GROUP BY 1"
        ).fetchall():
            found[name.removesuffix("__all"), job_id] = count
    return found
