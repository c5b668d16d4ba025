"""What must be true of a disk: at once after any crash, as a reader would see it, and after recovery."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any, Final

import blake3
import msgspec

from casparian.domain.jobs import JobState
from casparian.domain.outputs import QUARANTINE_TABLE, SinkKind
from casparian.protocol import identity
from casparian.protocol.worker import Receipt
from casparian.sinks.promote import final_path
from tests.crash_model import database
from tests.crash_model import scenario as worlds
from tests.crash_model.filesystem import ModelFileSystem
from tests.crash_model.machine import Disk
from tests.crash_model.scenario import DATABASE, OUT, QUARANTINE, STRANGER, Scenario

_REWRITTEN: Final = re.compile(r"_\d+r\d+\.csv\Z")  # without the pairs that are retired
_PAST: Final = {JobState.COMMITTING.value, JobState.COMPLETED.value}


@lru_cache(maxsize=65536)
def _hash(content: bytes) -> str:
    return blake3.blake3(content).hexdigest()


def as_seen(scenario: Scenario, disk: Disk) -> list[str]:
    """Rules that hold whenever somebody looks, also right after a crash."""
    problems = _files(scenario, disk) + _catalog(disk) + _materializations(scenario, disk)
    if scenario.stranger and STRANGER not in disk.files.files(OUT).values():
        problems.append("somebody else's file is gone")
    if scenario.kind is SinkKind.DUCKDB:
        problems += _database(scenario, disk)
    return problems


def after_recovery(scenario: Scenario, disk: Disk) -> list[str]:
    """Rules that hold when the program has come to rest again."""
    problems = [f"after recovery: {problem}" for problem in as_seen(scenario, disk)]
    jobs = disk.store.tables["jobs"]
    if jobs[worlds.job_id(0)].state != scenario.end and not _ended_otherwise(scenario, disk):
        problems.append(f"the job ended as {jobs[worlds.job_id(0)].state}")
    for path, content in disk.files.files().items():
        if "/.casparian-stage/" in path or ".publish-" in path or ".casparian-probe-" in path:
            problems.append("left over: " + _kind_of(path))
        assert content is not None
    for path, _ in disk.files.walk():
        if path.rpartition("/")[0].endswith(f"/.casparian-stage/{worlds.HOME_ID}"):
            problems.append("left over: stage directory")
    listed = {o.path for o in disk.store.tables["outputs"] if o.removed_at_ns is None}
    for path, content in disk.files.files().items():
        ours = path.startswith((OUT, QUARANTINE)) and "/." not in path and content != STRANGER
        if ours and path not in listed:
            problems.append("a file that nothing accounts for")
    if listed - {DATABASE} != disk.catalog:
        problems.append("the catalog does not show what is committed")
    return problems


def may_be_requeued(scenario: Scenario, disk: Disk) -> bool:
    """Whether a committing job may start again: the disk lost both copies of one of its files."""
    if not scenario.may_lose:
        return False
    for job in disk.store.tables["jobs"].values():
        if job.state == JobState.COMMITTING and job.receipt is not None:
            receipt = msgspec.msgpack.decode(job.receipt, type=Receipt)
            for file in receipt.files:
                if file.sink.kind is SinkKind.DUCKDB:
                    continue
                copies = (file.path, final_path(file.sink, file.path))
                if not any(_holds(disk, path, file.blake3) for path in copies):
                    return True
    return False


def _ended_otherwise(scenario: Scenario, disk: Disk) -> bool:
    """A job that a crash took from under its cancel is requeued, and then completed: nobody was told that it was cancelled."""
    state = disk.store.tables["jobs"][worlds.job_id(0)].state
    return scenario.cancel is not None and state == JobState.COMPLETED.value


def _kind_of(path: str) -> str:
    for kind in (".casparian-probe-", ".publish-"):
        if kind in path:
            return kind
    return "staged file"


def _holds(disk: Disk, path: str, digest: str) -> bool:
    content = disk.files.read(path)
    return content is not None and _hash(content) == digest


def _files(scenario: Scenario, disk: Disk) -> list[str]:
    """File sinks: what is recorded is there and whole; what is not past the point of no return is not there at all."""
    problems = []
    tables = disk.store.tables
    outputs = [o for o in tables["outputs"] if o.removed_at_ns is None and o.path != DATABASE]
    living = _living_files(tables)
    for output in outputs:
        if output.path not in living:
            continue  # it may be gone already: it leaves the disk before that is recorded
        found = disk.files.read(output.path)
        if found is None:
            problems.append("completed but missing")
        elif _hash(found) != output.blake3:
            problems.append("completed but torn")
    recorded = {o.path for o in tables["outputs"]}
    states = {str(j.job_id): j for j in tables["jobs"].values()}
    for path, content in disk.files.files().items():
        folder, _, name = path.rpartition("/")
        if folder not in (OUT, QUARANTINE) or name.startswith(".") or content == STRANGER:
            continue
        table, job_id, epoch, _ = name.rsplit(".", 1)[0].rsplit("_", 3)
        job = states.get(job_id)
        if path in recorded:
            continue
        if job is None or job.state not in _PAST:
            problems.append(f"{job.state if job else 'unknown'} but visible")
        elif str(job.epoch) != epoch:
            problems.append("a file of an earlier attempt is visible")
        elif job.state == JobState.COMPLETED.value and not _REWRITTEN.search(name):
            problems.append(f"completed, and {table} has a file too many")
    for job in tables["jobs"].values():
        if job.state != JobState.COMPLETED.value:
            continue
        number = job.job_id - worlds.job_id(0)
        rows: Counter[str] = Counter()
        for output in tables["outputs"]:
            if output.job_id == job.job_id and output.table_name != QUARANTINE_TABLE:
                rows[output.table_name] += 0 if _REWRITTEN.search(output.path) else output.rows
        expected = Counter(r[0] for r in worlds.expected_rows(scenario, number))
        if rows != expected:
            problems.append("completed, and its rows are not all counted once")
    return problems


def _living_files(tables: dict[str, Any]) -> set[str]:
    """Files that hold the rows of a pair that nothing has retired."""
    datasets = {o.path: o.dataset_id for o in tables["outputs"]}
    living = {
        (m.dataset_id, m.job_id, m.source_id)
        for m in tables["materializations"]
        if m.retired_by is None
    }
    return {
        pair.path
        for pair in tables["output_pairs"]
        if (datasets[pair.path], pair.job_id, pair.source_id) in living
    }


def _catalog(disk: Disk) -> list[str]:
    """The published catalog lists only files that are there and whole, of jobs past the point of no return."""
    digests = {o.path: o.blake3 for o in disk.store.tables["outputs"]}
    problems = []
    for path in disk.catalog:
        if path in digests and not _holds(disk, path, digests[path]):
            problems.append("the catalog lists a file that is missing or torn")
    return problems


def _materializations(scenario: Scenario, disk: Disk) -> list[str]:
    """Each (dataset, source) of a completed job is recorded once, of any other job not at all."""
    problems = []
    tables = disk.store.tables
    counted = Counter(
        (m.job_id, m.dataset_id, m.source_id)
        for m in tables["materializations"]
        if m.table_name != QUARANTINE_TABLE
    )
    for job in tables["jobs"].values():
        mine = {pair: n for pair, n in counted.items() if pair[0] == job.job_id}
        if job.state != JobState.COMPLETED.value:
            if mine:
                problems.append(f"{job.state} but recorded")
            continue
        spec = worlds.spec(scenario, job.job_id - worlds.job_id(0))
        pairs = {
            (job.job_id, o.dataset_id, s.source_id) for o in spec.outputs for s in spec.sources
        }
        if mine != dict.fromkeys(pairs, 1):
            problems.append("completed, and not recorded once")
    return problems


def _database(scenario: Scenario, disk: Disk) -> list[str]:
    """DuckDB sinks: rows exactly once in the work file, and the published file a whole copy of some moment."""
    problems = []
    tables = disk.store.tables
    retired = {
        (m.table_name, m.job_id, m.source_id)
        for m in tables["materializations"]
        if m.retired_by is not None
    }
    work = _work_file(disk)
    published = disk.files.read(DATABASE)
    try:
        shown = None if published is None else Counter(database.rows(published))
    except database.NotADatabase:
        return ["the published file is torn"]
    found = Counter(database.rows(work)) if work is not None else Counter()
    for job in tables["jobs"].values():
        number = job.job_id - worlds.job_id(0)
        expected = worlds.expected_rows(scenario, number)
        mine = {row: n for row, n in found.items() if row[1] == job.job_id}
        public = {row: n for row, n in (shown or {}).items() if row[1] == job.job_id}
        living = {row for row in expected if row[:3] not in retired}
        for name, rows in (("work file", mine), ("published file", public)):
            if any(n > 1 for n in rows.values()) or not rows.keys() <= expected:
                problems.append(f"rows are not there once in the {name}")
            if rows and not rows.keys() >= living:
                problems.append(f"rows are there in part in the {name}")
            if job.state not in _PAST and rows:
                problems.append(f"{job.state} but in the {name}")
        if job.state == JobState.COMPLETED.value:
            commit_id = identity.commit_id(worlds.HOME_ID, job.job_id, job.epoch)
            if work is None or not mine.keys() >= living:
                problems.append("completed, and not in the work file")
            elif commit_id not in database.decode(work)["commits"]:
                problems.append("completed, and its commit is not in the work file")
            run = tables["runs"].get(f"run-{number}")
            if run is not None and run.state == "finished" and not public.keys() >= living:
                problems.append("the run is finished, and its rows are not published")
    return problems


def _work_file(disk: Disk) -> bytes | None:
    """The work file with its log taken in."""
    files: ModelFileSystem = disk.files
    content, log = files.read(DATABASE + ".work"), files.read(DATABASE + ".work.wal")
    if content is None:
        return None
    content = content or database.encode(database._EMPTY)
    if log and database.decode(log)["version"] > database.decode(content)["version"]:
        return log
    return content
