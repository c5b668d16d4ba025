"""What must hold when it is calm again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from casparian.appliance import doctor_truth
from casparian.appliance.doctor import home_checks
from casparian.appliance.doctor_check import Check, from_sentinel
from casparian.cli.app import read
from casparian.control import autostart
from casparian.paths import Home
from casparian.protocol import control
from casparian.query.engine import Query
from tests.storm.history import History
from tests.support.world import World

LIVE = ("queued", "dispatched", "running", "committing")
_VOLATILE = "_cf_row_id, _cf_job_id, _cf_processed_at"
_CHECKS = ("catalog", "outputs", "orphans", "staging", "ledgers", "tape", "intents", "sentinel")


class Violation(AssertionError):
    """Something that must never be."""


class Rows(NamedTuple):
    """Rows of one source in one view."""

    rows: int
    texts: int  # different rows, whatever job made them
    identities: int  # different `_cf_row_id`s
    digest: str  # of the rows as a bag

    def doubled(self, view: str) -> bool:
        """Whether a row is there twice; `T__all` may hold what two settings made of the same line."""
        return self.rows != self.identities or (
            not view.endswith("__all") and self.rows != self.texts
        )


Key = tuple[str, str, str]  # view, hash of the source, its path
Fingerprint = dict[Key, Rows]


def fingerprint(world: World, *arguments: str) -> Fingerprint:
    """Every row of every table and of every `T__all`, by source, order aside."""
    with Query(Home.at(world.home), _sink(arguments)) as query:
        tables = [name for name in query.tables if name not in ("materializations", "sources")]
        return _fingerprint(query, tables)


def _fingerprint(query: Query, tables: list[str]) -> Fingerprint:
    parts = [
        f"SELECT '{table}' AS v, h, p, count(*) AS n, count(DISTINCT t) AS t, count(DISTINCT i) AS i, "
        "sum(hash(t)::HUGEINT)::VARCHAR AS d FROM (SELECT _cf_source_hash AS h, _cf_source_path AS p, _cf_row_id AS i, "
        f"json_array(*COLUMNS(* EXCLUDE ({_VOLATILE})))::VARCHAR AS t FROM {table}) GROUP BY ALL"
        for table in tables
    ]
    if not parts:
        return {}
    return {
        (row["v"], row["h"], row["p"]): Rows(row["n"], row["t"], row["i"], row["d"])
        for row in query.fetch(" UNION ALL ".join(parts))
    }


def rows_by_job(world: World, tables: set[str], *arguments: str) -> Counter[int]:
    """How many rows each job has in all tables."""
    sql = " UNION ALL ".join(
        f"SELECT _cf_job_id AS j, count(*) AS n FROM {table} GROUP BY ALL"
        for table in sorted(tables)
    )
    counted: Counter[int] = Counter()
    if tables:
        with Query(Home.at(world.home), _sink(arguments)) as query:
            for row in query.fetch(sql):
                counted[int(row["j"])] += int(row["n"])
    return counted


def _sink(arguments: tuple[str, ...]) -> str | None:
    return arguments[arguments.index("--sink") + 1] if "--sink" in arguments else None


def compare(found: Fingerprint, expected: Fingerprint, history: History) -> list[str]:
    """What differs from an undisturbed world, moments of moving files aside."""
    problems = []
    for key, rows in expected.items():
        if found.get(key) != rows:
            problems.append(f"{_name(key)}: {found.get(key)}, undisturbed {rows}")
    now = history.moving_paths
    for key, rows in found.items():
        view, source, path = key
        if rows.doubled(view):
            problems.append(f"{_name(key)}: doubled rows, {rows}")
        if key in expected:
            continue
        if path not in now or source not in history.lines_of:
            problems.append(f"{_name(key)}: {rows}, none in an undisturbed world")
        elif rows.rows % history.lines_of[source]:
            problems.append(f"{_name(key)}: {rows.rows} of {history.lines_of[source]} rows")
        elif not view.endswith("__all") and rows.rows != history.lines_of[source]:
            problems.append(f"{_name(key)}: shown {rows.rows // history.lines_of[source]} times")
        elif not view.endswith("__all") and now[path] not in (None, source):
            problems.append(f"{_name(key)}: shown, though other content lies at the path")
    return problems


class Control(NamedTuple):
    """Control-plane truth."""

    jobs: list[dict[str, Any]]
    events: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    checks: list[Check]


def wait_until_quiet(world: World) -> Control:
    """Let the sentinel finish what is left, then read what it knows and what its doctor finds."""
    home = Home.at(world.home)
    with autostart.connect(home) as client:
        for _ in range(12_000):
            status = client.hello()
            if status.at_rest and not any(status.jobs.values()):
                jobs = read(client, "jobs")
                if not any(job["state"] in LIVE or job["aborting"] for job in jobs):
                    break
            time.sleep(0.02)
        else:
            raise Violation(f"jobs do not end: {Counter(job['state'] for job in jobs)}")
        truth = doctor_truth.of_sentinel(
            home,
            lambda view, filters, limit: read(client, view, filters, limit=limit),
            home_id=status.home_id,
            at_rest=True,
        )
        checks = list(home_checks(home, truth, verify=True))
        reply = client.ask(control.Doctor(), control.Rows)
        checks += [from_sentinel(dict(zip(reply.columns, row, strict=True))) for row in reply.rows]
        return Control(
            jobs=jobs,
            events=read(client, "job_events"),
            outputs=read(client, "outputs"),
            checks=checks,
        )


def judge(world: World, known: Control, sink: Path, *, is_database: bool) -> list[str]:
    """Control-plane truth against what lies on disk; the sentinel is stopped."""
    problems = []
    completed = {job["job_id"] for job in known.jobs if job["state"] == "completed"}
    live = [output for output in known.outputs if output["live"]]
    for output in known.outputs:
        if output["job_id"] not in completed:
            problems.append(f"output of job {output['job_id']}, which is not completed")
    with_outputs = {output["job_id"] for output in known.outputs}
    for job in known.jobs:
        if job["state"] == "completed" and job["rows"] and job["job_id"] not in with_outputs:
            problems.append(f"completed job {job['job_id']} has {job['rows']} rows and no output")
    recorded = {output["path"] for output in live}
    places = [world.home / "quarantine"] + ([] if is_database else [sink])
    on_disk = {
        str(path) for place in places for path in place.glob("*.*") if not path.name.startswith(".")
    }
    if missing := recorded - on_disk - ({str(sink / "out.duckdb")} if is_database else set()):
        problems.append(f"recorded, not on disk: {sorted(missing)[:3]}")
    if stray := on_disk - recorded:
        problems.append(f"on disk, not recorded: {sorted(stray)[:3]}")
    for place in (world.home, sink):
        for path in place.rglob(".casparian-stage/*/*"):
            problems.append(f"left in the stage: {path}")
        for pattern in ("*.new", "*.publish-*", "*.wal", "*.set-aside-*", ".casparian-probe-*"):
            problems += [f"left behind: {path}" for path in place.glob(pattern)]
    problems += [
        f"doctor: {check.check} {check.status}: {check.message}"
        for check in known.checks
        if check.status != "ok" and check.check.startswith(_CHECKS)
    ]
    problems += [f"process {pid} ({role}) is still there" for pid, role in world.alive()]
    return problems


def _name(key: Key) -> str:
    return f"{key[0]} {key[2]} ({key[1][:10]})"
