"""The single writer: many jobs in one transaction behave as if each had one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from casparian.db import operations as op
from casparian.db.connection import ControlDatabase
from casparian.db.records import ContractRow, JobRow, MaterializationRow
from casparian.db.writer import DatabaseWriter, StaleStep
from casparian.domain.jobs import JobState
from casparian.domain.outputs import SinkMode
from casparian.paths import Home
from casparian.tape.chain import TapeEntry, first_break

QUEUED, DISPATCHED, RUNNING = JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ControlDatabase]:
    home = Home.at(tmp_path / "home")
    home.run.mkdir(parents=True)
    with ControlDatabase(home) as found:
        yield found


@pytest.fixture
def writer(database: ControlDatabase) -> DatabaseWriter:
    """A writer over a database with jobs 1 to 5, queued."""
    made = DatabaseWriter(database.writer)
    rows = tuple(
        JobRow(
            job_id=number, run_id="r", state="queued", epoch=0, attempts=0, parser="p@1", sources=1,
            size_bytes=1, spec=b"spec", created_at_ns=1, updated_at_ns=1,
        )
        for number in range(1, 6)
    )  # fmt: skip
    ok(made.apply([[op.InsertJobs(at_ns=1, jobs=rows)]]))
    return made


def ok(outcomes: list[list[Any] | Exception]) -> list[list[Any]]:
    for outcome in outcomes:
        assert not isinstance(outcome, Exception), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, list)]


def move(job_id: int, before: JobState, after: JobState, epoch: int = 0, **more: Any) -> op.StepJob:
    return op.StepJob(at_ns=2, job_id=job_id, before=before, after=after, epoch=epoch, **more)


def table(database: ControlDatabase, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = database.writer.execute(sql).fetchall()
    return found


def test_one_jobs_steps_follow_from_each_other_within_a_transaction(
    database: ControlDatabase, writer: DatabaseWriter
) -> None:
    ok(
        writer.apply(
            [
                [move(1, QUEUED, DISPATCHED, new_epoch=1, attempts=2)],
                [move(1, DISPATCHED, RUNNING, epoch=1)],
                [move(1, RUNNING, JobState.FAILED, epoch=1, code="c", message="m")],
            ]
        )
    )
    sql = "SELECT state, epoch, attempts, code, spec FROM cf_processing_queue WHERE job_id = 1"
    assert table(database, sql) == [("failed", 1, 2, "c", b"spec")]
    events = table(database, "SELECT to_state FROM cf_job_events WHERE job_id = 1 ORDER BY rowid")
    assert [state for (state,) in events] == ["queued", "dispatched", "running", "failed"]


@pytest.mark.parametrize(
    "stale",
    [
        move(2, RUNNING, JobState.FAILED),
        move(2, QUEUED, DISPATCHED, epoch=7, new_epoch=8),
        move(99, QUEUED, DISPATCHED, new_epoch=1),
    ],
    ids=["state", "epoch", "no such job"],
)
def test_a_stale_step_undoes_its_own_group_and_no_other(
    database: ControlDatabase, writer: DatabaseWriter, stale: op.StepJob
) -> None:
    first, second, third = writer.apply(
        [
            [move(1, QUEUED, DISPATCHED, new_epoch=1)],
            [move(4, QUEUED, DISPATCHED, new_epoch=1), stale],
            [move(3, QUEUED, DISPATCHED, new_epoch=1)],
        ]
    )
    assert isinstance(second, StaleStep)
    assert isinstance(first, list)
    assert isinstance(third, list)
    moved = table(
        database, "SELECT job_id FROM cf_processing_queue WHERE state = 'dispatched' ORDER BY 1"
    )
    assert moved == [(1,), (3,)]
    assert table(database, "SELECT count(*) FROM cf_job_events WHERE to_state = 'dispatched'") == [
        (2,)
    ]
    assert chain_is_whole(database)


def test_a_second_step_that_does_not_follow_from_the_first_is_stale(writer: DatabaseWriter) -> None:
    outcomes = writer.apply(
        [[move(1, QUEUED, DISPATCHED, new_epoch=1)], [move(1, DISPATCHED, RUNNING, epoch=5)]]
    )
    assert isinstance(outcomes[0], list)
    assert isinstance(outcomes[1], StaleStep)


def chain_is_whole(database: ControlDatabase) -> bool:
    rows = table(database, "SELECT seq, prev_hash, hash, entry FROM cf_tape ORDER BY seq")
    entries = (TapeEntry(seq=s, prev_hash=p, hash=h, entry=e) for s, p, h, e in rows)
    return bool(rows) and first_break(entries) is None


def begin(job_id: int, mode: SinkMode = SinkMode.APPEND, key: str = "k") -> op.BeginCommit:
    claim = op.PairClaim(dataset_id="d", source_id="s", materialization_key=key)
    return op.BeginCommit(
        at_ns=3, job_id=job_id, epoch=1, mode=mode.value, claims=(claim,), receipt=b"r", intents=b"i"
    )  # fmt: skip


def finish(job_id: int, key: str = "k", retire: tuple[Any, ...] = ()) -> op.FinishCommit:
    texts = {
        name: "x" for name, kind in MaterializationRow.__annotations__.items() if kind == "str"
    }
    materialization = MaterializationRow(
        **{
            **texts, "dataset_id": "d", "source_id": "s", "materialization_key": key, "job_id": job_id,
            "sequence": 0, "epoch": 1, "lineage_version": 1, "rows": 1, "quarantined": 0, "committed_at_ns": 3,
        }
    )  # fmt: skip
    return op.FinishCommit(
        at_ns=4, job_id=job_id, epoch=1, after=JobState.COMPLETED, code=None, message=None, rows=1,
        quarantined=0, materializations=(materialization,), documents=(), outputs=(), output_pairs=(),
        ledgers=(), findings=(), dispositions=(), retire=retire, log="", isolation="",
    )  # fmt: skip


def to_running(writer: DatabaseWriter, *job_ids: int) -> None:
    for job_id in job_ids:
        ok(
            writer.apply(
                [
                    [
                        move(job_id, QUEUED, DISPATCHED, new_epoch=1),
                        move(job_id, DISPATCHED, RUNNING, epoch=1),
                    ]
                ]
            )
        )


def test_a_commit_that_begins_sees_those_that_ended_in_the_same_transaction(
    database: ControlDatabase, writer: DatabaseWriter
) -> None:
    to_running(writer, 1, 2, 3)
    ok(writer.apply([[begin(1)]]))
    _, same, other = ok(
        writer.apply([[finish(1)], [begin(2)], [begin(3, SinkMode.REPLACE, key="other")]])
    )
    assert same[0].conflicts == ("s",), "the very key is recorded: nothing is left to do"
    assert [pair.job_id for pair in other[0].retire] == [1]
    assert table(database, "SELECT state FROM cf_processing_queue ORDER BY job_id LIMIT 3") == [
        ("completed",),
        ("running",),
        ("committing",),
    ]
    ok(writer.apply([[finish(3, "other", retire=other[0].retire)]]))
    assert table(database, "SELECT job_id, retired_by FROM cf_materializations ORDER BY 1") == [(1, 3), (3, None)]  # fmt: skip


def sparse(
    begun: op.BeginCommit, *, rows: bool, datasets: tuple[str, ...] = ("wide",)
) -> op.BeginCommit:
    """The same commit with a sparse output, which is claimed only with rows in it."""
    key = begun.claims[0].materialization_key
    wide = op.PairClaim(dataset_id="wide", source_id="s", materialization_key=key)
    claims = (*begun.claims, wide) if rows else begun.claims
    return structs.replace(begun, claims=claims, sparse=datasets, sources=("s",))


def finish_wide(job_id: int, key: str) -> op.FinishCommit:
    done = finish(job_id, key)
    (main,) = done.materializations
    return structs.replace(
        done, materializations=(main, structs.replace(main, dataset_id="wide", rows=1))
    )


SPARSE = {  # mode of a later commit without rows: conflicts, retired datasets, left empty
    SinkMode.APPEND: ((), [], (("wide", "s"),)),
    SinkMode.REPLACE: ((), ["d", "wide"], ()),
    SinkMode.ERROR: (("s",), [], ()),
}


@pytest.mark.parametrize("mode", SPARSE)
def test_rows_of_a_sparse_output_give_way_to_a_reading_without_any(
    mode: SinkMode, writer: DatabaseWriter
) -> None:
    to_running(writer, 1, 2)
    ok(writer.apply([[sparse(begin(1), rows=True)]]))
    ok(writer.apply([[finish_wide(1, "k")]]))
    ((claims,),) = ok(writer.apply([[sparse(begin(2, mode, key="k2"), rows=False)]]))
    conflicts, retired, empty = SPARSE[mode]
    assert claims.conflicts == conflicts
    assert sorted(pair.dataset_id for pair in claims.retire) == retired
    assert claims.empty == empty


def test_a_sparse_output_that_a_commit_is_not_about_is_left_alone(writer: DatabaseWriter) -> None:
    to_running(writer, 1, 2, 3)
    ok(writer.apply([[sparse(begin(1), rows=True)]]))
    ok(writer.apply([[finish_wide(1, "k")]]))
    elsewhere = sparse(begin(2, SinkMode.REPLACE, key="k2"), rows=False, datasets=("other",))
    ((claims,),) = ok(writer.apply([[elsewhere]]))
    assert [pair.dataset_id for pair in claims.retire] == ["d"]
    assert claims.empty == ()


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
def test_commits_with_sparse_outputs_of_one_source_follow_one_another(
    rows: bool, restarted: bool, database: ControlDatabase, writer: DatabaseWriter
) -> None:
    to_running(writer, 1, 2)
    ok(writer.apply([[sparse(begin(1), rows=rows)]]))
    if restarted:
        writer = DatabaseWriter(database.writer)
    ((claims,),) = ok(writer.apply([[sparse(begin(2, key="k2"), rows=not rows)]]))
    assert claims.waits_for == (1,)


def test_intents_live_as_long_as_the_commit(
    database: ControlDatabase, writer: DatabaseWriter
) -> None:
    to_running(writer, 1, 2)
    intents = "SELECT job_id FROM cf_commit_intents ORDER BY 1"
    ok(writer.apply([[begin(1)], [begin(2, key="k2")]]))
    assert table(database, intents) == [(1,), (2,)]
    ok(writer.apply([[finish(1)], [move(2, JobState.COMMITTING, JobState.FAILED, epoch=1)]]))
    assert table(database, intents) == [], "a commit that was taken back has none either"
    again = [
        move(2, JobState.FAILED, QUEUED, epoch=1),
        move(2, QUEUED, DISPATCHED, epoch=1, new_epoch=1),
        move(2, DISPATCHED, RUNNING, epoch=1),
    ]
    ok(writer.apply([again, [begin(2, key="k2")]]))
    assert table(database, intents) == [(2,)]


def test_a_note_leaves_the_job_alone_and_needs_one(
    database: ControlDatabase, writer: DatabaseWriter
) -> None:
    note = op.NoteJob(at_ns=5, job_id=1, epoch=1, state="queued", detail="fenced: x")
    ok(writer.apply([[note], [structs.replace(note, job_id=77)]]))
    sql = "SELECT job_id, from_state, detail FROM cf_job_events WHERE detail LIKE 'fenced%'"
    assert table(database, sql) == [(1, None, "fenced: x")]
    assert table(database, "SELECT state FROM cf_processing_queue WHERE job_id = 1") == [
        ("queued",)
    ]


WAITS = {  # modes of the first and of the second commit, whether they claim the same key
    (SinkMode.APPEND, SinkMode.APPEND, False): False,
    (SinkMode.APPEND, SinkMode.APPEND, True): True,
    (SinkMode.APPEND, SinkMode.REPLACE, False): True,
    (SinkMode.REPLACE, SinkMode.APPEND, False): True,
    (SinkMode.REPLACE, SinkMode.REPLACE, True): True,
    (SinkMode.ERROR, SinkMode.APPEND, False): True,
    (SinkMode.ERROR, SinkMode.ERROR, False): True,
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("first", "second", "same"), WAITS)
def test_a_commit_waits_for_one_that_decides_what_it_may_do(
    first: SinkMode,
    second: SinkMode,
    same: bool,
    restarted: bool,
    database: ControlDatabase,
    writer: DatabaseWriter,
) -> None:
    to_running(writer, 1, 2)
    ok(writer.apply([[begin(1, first)]]))
    if restarted:
        writer = DatabaseWriter(database.writer)
    ((claims,),) = ok(writer.apply([[begin(2, second, key="k" if same else "k2")]]))
    waits = WAITS[first, second, same]
    assert claims.waits_for == ((1,) if waits else ())
    states = table(database, "SELECT state FROM cf_processing_queue ORDER BY job_id LIMIT 2")
    assert states == [("committing",), ("running",) if waits else ("committing",)]


@pytest.mark.parametrize("mode", [SinkMode.ERROR, SinkMode.REPLACE, SinkMode.APPEND])
def test_what_waited_is_decided_by_how_the_other_commit_ended(
    mode: SinkMode, writer: DatabaseWriter
) -> None:
    to_running(writer, 1, 2, 3)
    _, (waits,) = ok(writer.apply([[begin(1, mode)], [begin(2, mode)]]))
    assert waits.waits_for == (1,), "also in one transaction"
    failed = [move(1, JobState.COMMITTING, JobState.FAILED, epoch=1)]
    _, (after_failure,) = ok(writer.apply([failed, [begin(2, mode)]]))
    assert after_failure == op.CommitClaims(), "nothing came of the first: the second commits"
    _, (after_end,) = ok(writer.apply([[finish(2)], [begin(3, mode)]]))
    assert after_end.conflicts == ("s",), "the very key is recorded"


def test_two_plans_of_one_transaction_register_a_contract_once(
    database: ControlDatabase, writer: DatabaseWriter
) -> None:
    contract = ContractRow(
        parser="p", table_name="t", contract_hash="c", schema_hash="s", document="{}", origin="parser"
    )  # fmt: skip
    saved = op.SavePlan(
        at_ns=1, run_id="r", root="/e", items=(), contracts=(contract,), expected=()
    )
    ok(writer.apply([[saved], [structs.replace(saved, root="/f")]]))
    assert table(database, "SELECT revision FROM schema_contracts") == [(1,)]
