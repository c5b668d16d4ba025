"""Database sinks, opened and counted: one thing wrong at a time."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from casparian.appliance.doctor import home_checks
from casparian.appliance.doctor_check import Check
from casparian.protocol import identity
from casparian.sinks.duckdb import DuckDbSink
from tests.factories.committed import VALUES, CommittedHome

NAME = "database out.duckdb"


@pytest.fixture
def world(tmp_path: Path) -> CommittedHome:
    made = CommittedHome(tmp_path)
    sink = made.sink("duckdb:out.duckdb")
    made.commit(sink, 7, [(made.source("a.log", b"x" * 30), VALUES)])
    made.commit(sink, 8, [(made.source("b.log", b"y" * 30), VALUES)])
    for stage in (made.home.root / ".casparian-stage").rglob("*.1"):
        for file in stage.iterdir():
            file.unlink()
        stage.rmdir()
    made.publish(sink.uri)
    return made


def answer(world: CommittedHome) -> Check:
    (check,) = [check for check in home_checks(world.home) if check.check == NAME]
    return check


def change(world: CommittedHome, sql: str, *, work: bool = False) -> None:
    path = str(world.home.root / ("out.duckdb.work" if work else "out.duckdb"))
    with duckdb.connect(path) as connection:
        connection.execute(sql)


def test_a_whole_database_is_well(world: CommittedHome) -> None:
    check = answer(world)
    assert (check.status, check.details) == ("ok", ())
    assert "2 commits" in check.message
    assert {c.status for c in home_checks(world.home)} == {"ok"}


DAMAGE = {
    "rows": ("DELETE FROM lines__all WHERE _cf_job_id = 7 AND number IS NULL", "fail"),
    "missing commit": ("DELETE FROM _cf_commits WHERE commit_id LIKE '%:8:1'", "fail"),
    "orphan commit": ("INSERT INTO _cf_commits VALUES ('{home}:99:1', 0, 0)", "fail"),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_each_damage_is_named(problem: str, world: CommittedHome) -> None:
    sql, status = DAMAGE[problem]
    for work in (False, True):
        change(world, sql.format(home=world.home_id), work=work)
    check = answer(world)
    assert check.status == status
    assert [detail["problem"] for detail in check.details] == [problem]
    assert check.details[0]["path"].endswith("out.duckdb")


def test_doubled_rows_are_counted(world: CommittedHome) -> None:
    change(
        world,
        "INSERT INTO lines__all BY NAME SELECT * EXCLUDE (_cf_row_id) FROM lines__all WHERE _cf_job_id = 8",
    )
    detail = answer(world).details[0]
    assert (detail["found"], detail["recorded"], detail["job_id"]) == (6, 3, 8)


def test_other_homes_commits_and_retirements_are_none_of_ours(world: CommittedHome) -> None:
    change(world, "INSERT INTO _cf_commits VALUES ('another-home:1:1', 5, 0)")
    change(world, f"INSERT INTO _cf_commits VALUES ('{'a' * 64}', 0, 0)")
    assert answer(world).status == "ok"


def test_a_published_copy_that_is_behind_is_said(world: CommittedHome) -> None:
    sink = DuckDbSink(world.sink("duckdb:out.duckdb"))
    sink.commit(identity.commit_id("another", 3, 1), [])
    check = answer(world)
    assert check.status == "warn"
    assert check.details[0]["problem"] == "unpublished"
    sink.publish()
    assert answer(world).status == "ok"


def test_a_work_file_that_is_in_use_is_left_alone(world: CommittedHome) -> None:
    import fcntl

    sink = DuckDbSink(world.sink("duckdb:out.duckdb"))
    sink.commit(identity.commit_id("another", 3, 1), [])
    with open(str(world.home.root / "out.duckdb.lock"), "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert answer(world).status == "ok"


def test_a_database_that_does_not_open_is_an_answer(world: CommittedHome) -> None:
    (world.home.root / "out.duckdb").write_bytes(os.urandom(20_000))
    check = answer(world)
    assert check.status == "fail"
    assert check.details[0]["problem"] == "unreadable"


def test_a_lost_database_is_told_once(world: CommittedHome) -> None:
    (world.home.root / "out.duckdb").unlink()
    found = [check for check in home_checks(world.home) if check.status == "fail"]
    assert [check.check for check in found] == ["outputs"]
    assert len(found[0].details) == 1
    assert found[0].asides == ()


def test_a_copy_that_a_crash_left_beside_it_is_an_orphan(world: CommittedHome) -> None:
    left = world.home.root / "out.duckdb.publish-0123456789ab"
    left.touch()
    (check,) = [c for c in home_checks(world.home) if c.check == "orphans"]
    assert [aside.path for aside in check.asides] == [str(left)]
