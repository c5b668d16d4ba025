"""`query` reads committed tables and nothing else, with the catalog alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from casparian.errors import CasparianError, IntegrityError, Refused
from casparian.paths import Home
from casparian.query import engine
from casparian.query.engine import Query
from tests.factories.committed import VALUES, CommittedHome


@pytest.fixture
def world(tmp_path: Path) -> CommittedHome:
    made = CommittedHome(tmp_path)
    sink = made.sink("parquet:out")
    made.commit(sink, 7, [(made.source("a.log", b"x" * 30), VALUES)])
    made.publish(sink.uri)
    return made


def test_a_home_without_outputs_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(CasparianError) as caught:
        Query(Home.at(tmp_path / "none"))
    assert caught.value.code == "query.no_outputs"
    assert "casparian run DIR" in str(caught.value.hint)


def test_a_broken_catalog_is_an_integrity_error(world: CommittedHome) -> None:
    world.home.catalog.write_bytes(b"not a database" * 1000)
    with pytest.raises(IntegrityError):
        Query(world.home)


def test_duckdbs_message_reaches_the_user(world: CommittedHome) -> None:
    with Query(world.home) as query:
        for sql in (
            "SELECT nothing FROM lines",
            "SELECT * FROM absent",
            "SELECT 1 +",
            "SELECT 'x'::INT",
        ):
            with pytest.raises(CasparianError) as caught:
                query.run(sql).to_json()
            assert caught.value.code == "query.sql"
            assert caught.value.exit_code == 1
        with pytest.raises(CasparianError, match="absent") as caught:
            query.run("SELECT * FROM absent")
        assert "lines" in str(caught.value.hint)
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[3]]


def test_an_error_in_a_late_row_is_an_sql_error(world: CommittedHome) -> None:
    with Query(world.home) as query:
        result = query.run(
            "SELECT CASE WHEN range > 100000 THEN 'x' ELSE '1' END::INT FROM range(200000)"
        )
        with pytest.raises(CasparianError) as caught:
            sum(batch.num_rows for batch in result.batches())
    assert caught.value.code == "query.sql"


def test_parameters_are_values_never_sql(world: CommittedHome) -> None:
    with Query(world.home) as query:
        hostile = "x' OR 1=1 --"
        sql = "SELECT count(*) FROM lines WHERE _cf_source_path = ?"
        assert query.run(sql, [hostile]).to_json()["rows"] == [[0]]
        assert query.run(sql, ("a.log",)).to_json()["rows"] == [[3]]
        named = "SELECT $n AS v"
        assert query.run(named, {"n": hostile}).to_json()["rows"] == [[hostile]]


def test_duplicate_column_names_are_kept(world: CommittedHome) -> None:
    with Query(world.home) as query:
        document = query.run("SELECT 1 AS a, 2 AS a").to_json()
    assert [column["name"] for column in document["columns"]] == ["a", "a"]
    assert document["rows"] == [[1, 2]]


def test_a_committed_file_cannot_be_written_through_a_query(world: CommittedHome) -> None:
    path = Path(next(iter(world.files.values()))[0].path)
    before = path.read_bytes()
    writing = f"COPY (SELECT 1) TO '{path}' (FORMAT parquet, use_tmp_file false)"
    with Query(world.home) as query:
        for sql in (
            writing,
            f"WITH a AS ({writing}) SELECT * FROM a",
            f"EXPLAIN ANALYZE {writing}",
            f"FROM query('WITH a AS ({writing.replace(chr(39), chr(39) * 2)}) FROM a')",
        ):
            with pytest.raises(Refused):
                query.run(sql)
    assert path.read_bytes() == before


def test_the_lock_down_holds_without_the_guard(world: CommittedHome, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with Query(world.home) as query:
        attempts = [
            f"SELECT * FROM read_csv('{secret}')",
            f"SELECT * FROM read_text('{world.home.root}/out/../../secret.csv')",
            f"SELECT * FROM glob('{tmp_path}/*')",
            f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
            f"ATTACH '{tmp_path}/new.duckdb'",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "INSTALL httpfs",
            "CREATE TABLE main.x(a INT)",
            "SELECT * FROM world",
        ]
        for sql in attempts:
            with pytest.raises(Exception, match=r"disabled|locked|read-only|does not exist|Error"):
                query.fetch(sql)
    assert sorted(os.listdir(tmp_path)) == ["evidence", "home", "secret.csv"]


def test_the_catalog_may_be_replaced_while_it_is_read(world: CommittedHome) -> None:
    with Query(world.home) as query:
        world.commit(world.sink("parquet:out"), 8, [(world.source("b", b"b"), VALUES)])
        world.publish(None)
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[3]]
    with Query(world.home) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[6]]


def test_a_publication_that_fails_leaves_the_old_catalog(
    world: CommittedHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casparian.sinks import catalog

    before = world.home.catalog.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog, "_sync", fail)
    with pytest.raises(OSError, match="No space"):
        world.publish(None)
    assert world.home.catalog.read_bytes() == before


@pytest.mark.parametrize("rows", ["count(*)", "a"])
def test_ctrl_c_ends_a_statement(world: CommittedHome, rows: str) -> None:
    with Query(world.home) as query:
        sql = f"SELECT {rows} FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 1"
        result = query.run(sql)

        def press() -> None:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in result.batches():
                pass
        thread.join()
        assert query.run("SELECT 1").to_json()["rows"] == [[1]]


def test_spill_space_is_removed(world: CommittedHome) -> None:
    dead = world.home.run / "query-999999999-0"
    with Query(world.home):
        dead.mkdir()
        assert any(world.home.run.glob(f"query-{os.getpid()}-*"))
    with Query(world.home):
        assert not dead.exists()
    assert not list(world.home.run.glob("query-*"))


def test_a_read_only_home_can_be_queried(
    world: CommittedHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(engine.scratch, "make", refuse)
    with Query(world.home) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[3]]


def test_a_large_sort_stays_within_its_memory(world: CommittedHome) -> None:
    with Query(world.home, memory_limit_mb=96) as query:
        result = query.run(
            "SELECT a, repeat('x', 60) || a FROM range(2000000) t(a) ORDER BY hash(a) DESC"
        )
        assert sum(batch.num_rows for batch in result.batches()) == 2_000_000


def test_a_statement_that_runs_out_of_memory_is_run_again_with_more(world: CommittedHome) -> None:
    sql = "SELECT a, list_transform(range(40), lambda n: a || '-' || n) AS l FROM range(60000) t(a)"
    with Query(world.home, memory_limit_mb=24) as query:
        rows = sum(batch.num_rows for batch in query.run(f"{sql} ORDER BY hash(a)").batches())
        assert rows == 60_000
        assert query._memory_limit_mb == engine.MEMORY_LIMIT_MB_MAX
        with pytest.raises(Refused):
            query.run("SET memory_limit = '1TB'")
