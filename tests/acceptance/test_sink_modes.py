"""Every sink in every mode: the unit of life is the (job, source) pair."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.support.small import small_log, syslog_lines
from tests.support.world import World

SINKS = ("parquet", "duckdb", "csv")


def sink_uri(kind: str, world: World) -> str:
    suffix = "out.duckdb" if kind == "duckdb" else f"out-{kind}"
    return f"{kind}:{world.directory / suffix}"


def fill(world: World, files: int) -> None:
    for number in range(files):
        world.file(f"host{number:03}/syslog", syslog_lines(host=f"h{number:03}", count=4))


@pytest.mark.parametrize("kind", SINKS)
def test_rows_are_the_same_through_every_sink(kind: str, world: World) -> None:
    fill(world, 3)
    uri = sink_uri(kind, world)
    result = world.run("--sink", uri)
    assert [o["rows"] for o in result["outputs"] if o["table"] == "syslog_events"] == [12]
    rows = world.query(
        "SELECT hostname, message, time, _cf_ordinal, _cf_offset, _cf_flags FROM syslog_events "
        "ORDER BY _cf_source_path, _cf_ordinal",
        "--sink",
        uri,
    )
    assert len(rows) == 12
    assert rows[0][:4] == ["h000", "message 0 of h000", "2024-03-05T08:00:00.000000000Z", 0]
    assert rows[0][5] == []
    row_id = world.column("SELECT _cf_row_id FROM syslog_events LIMIT 1", "--sink", uri)[0]
    assert world.json("why", row_id)["proven"] is True


@pytest.mark.parametrize("kind", SINKS)
def test_replacing_one_of_256_sources_leaves_the_other_255_untouched(
    kind: str, world: World
) -> None:
    fill(world, 256)
    uri = sink_uri(kind, world)
    world.run("--sink", uri, "--mode", "replace")
    before = rows_by_source(world, uri)
    assert len(before) == 256
    world.file("host007/syslog", syslog_lines(host="changed", count=9))
    # Same path, other content: a new source. Its old rows leave the view, nothing else moves.
    world.run("--sink", uri, "--mode", "replace")
    after = rows_by_source(world, uri)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert len(changed) == 2, "one source left, one came"
    # The same source again under another setting: replaced, pair by pair.
    world.run(
        "--sink",
        uri,
        "--mode",
        "replace",
        "--set",
        "linux.syslog.timezone=+01:00",
        "--include",
        "host009/**",
    )
    again = rows_by_source(world, uri)
    assert {key for key in after | again if after.get(key) != again.get(key)} <= {
        key for key in after if key[0] == "host009/syslog"
    }
    counted = world.query("SELECT count(*) FROM syslog_events__all", "--sink", uri)
    assert counted == [[256 * 4 + 9]], (
        "the replaced rows of host009 are gone; the old content of host007 is kept"
    )


def rows_by_source(world: World, uri: str) -> dict[tuple[str, str], list[tuple[int, int]]]:
    rows = world.query(
        "SELECT _cf_source_path, _cf_source_id, _cf_job_id, _cf_ordinal FROM syslog_events ORDER BY 1, 4",
        "--sink",
        uri,
    )
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for path, source, job, ordinal in rows:
        found.setdefault((path, source), []).append((job, ordinal))
    return found


@pytest.mark.parametrize("kind", SINKS)
def test_error_mode_finds_what_append_mode_wrote(kind: str, world: World) -> None:
    fill(world, 2)
    uri = sink_uri(kind, world)
    world.run("--sink", uri)
    refused = world.run("--sink", uri, "--mode", "error", code=8)
    assert refused["rejected"] == {"sink.exists": 2}
    assert refused["jobs"]["rejected"] == 2
    assert refused["outputs"] == []
    world.file("new/syslog", syslog_lines(host="new", count=1))
    mixed = world.run("--sink", uri, "--mode", "error", code=8)
    assert mixed["files"]["selected"] == 1
    assert world.query("SELECT count(*) FROM syslog_events", "--sink", uri) == [[9]]


@pytest.mark.parametrize("kind", SINKS)
def test_append_keeps_both_and_the_view_shows_the_newest(kind: str, world: World) -> None:
    fill(world, 2)
    uri = sink_uri(kind, world)
    world.run("--sink", uri)
    world.run("--sink", uri, "--set", "linux.syslog.timezone=+01:00")
    assert world.query("SELECT count(*) FROM syslog_events", "--sink", uri) == [[8]]
    assert world.query("SELECT count(*) FROM syslog_events__all", "--sink", uri) == [[16]]


@pytest.mark.parametrize("kind", SINKS)
def test_two_homes_share_one_sink_without_harm(kind: str, world: World, tmp_path: Path) -> None:
    fill(world, 4)
    uri = sink_uri(kind, world)
    other = (
        World(tmp_path / "other", evidence=world.evidence)
        if (tmp_path / "other").mkdir() is None
        else None
    )
    assert other is not None
    try:
        first = world.run("--sink", uri)
        second = other.run("--sink", uri)
        assert first["outputs"][0]["rows"] == second["outputs"][0]["rows"] == 16
        assert first["jobs"]["completed"] + second["jobs"]["completed"] >= 2
        world.run("--sink", uri, "--mode", "replace", "--set", "linux.syslog.timezone=+01:00")
        mine = world.query(
            "SELECT count(DISTINCT _cf_job_id) FROM syslog_events__all", "--sink", uri
        )
        assert mine[0][0] >= 1
        theirs = {
            row[0] for row in other.query("SELECT _cf_row_id FROM syslog_events", "--sink", uri)
        }
        assert len(theirs) >= 16, "the other home's rows are all still there"
    finally:
        other.stop()


def test_each_output_can_have_its_own_sink(world: World) -> None:
    world.file("App.evtx", small_log(events=30))
    chunks = world.directory / "chunks.duckdb"
    events = world.directory / "events"
    result = world.run(
        "--sink", f"evtx_chunks=duckdb:{chunks}", "--sink", f"evtx_events=csv:{events}"
    )
    assert {(o["table"], o["sink"].split(":")[0]) for o in result["outputs"]} == {
        ("evtx_chunks", "duckdb"),
        ("evtx_events", "csv"),
    }
    assert world.query("SELECT count(*) FROM evtx_events", "--sink", f"csv:{events}") == [[30]]
    with duckdb.connect(str(chunks), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM evtx_chunks").fetchall() == [(1,)]


def test_what_one_database_took_is_given_back_when_the_next_one_fails(world: World) -> None:
    world.file("App.evtx", small_log(events=30))
    events, chunks = world.directory / "events.duckdb", world.directory / "chunks.duckdb"
    arguments = ("--sink", f"evtx_events=duckdb:{events}", "--mode", "replace")
    world.run(*arguments, "--sink", f"evtx_chunks=duckdb:{chunks}")
    before = world.query(
        "SELECT _cf_row_id FROM evtx_events ORDER BY 1", "--sink", f"duckdb:{events}"
    )
    assert len(before) == 30
    stranger = world.directory / "stranger.duckdb"
    stranger.write_bytes(b"this is no database" * 1000)
    failed = world.run(*arguments, "--sink", f"evtx_chunks=duckdb:{stranger}", code=1)
    assert failed["jobs"]["failed"] == 1
    with duckdb.connect(f"{events}.work", read_only=True) as connection:
        for name in ("evtx_events", "evtx_events__all"):
            rows = connection.execute(f"SELECT _cf_row_id FROM {name} ORDER BY 1").fetchall()
            assert [list(row) for row in rows] == before, name
    stranger.unlink()
    again = world.run(*arguments, "--sink", f"evtx_chunks=duckdb:{stranger}")
    assert again["jobs"]["completed"] == 1


def test_moving_one_output_to_another_sink_doubles_no_row_of_the_others(world: World) -> None:
    world.file("App.evtx", small_log(events=30))
    world.run()
    moved = f"evtx_chunks=csv:{world.directory / 'chunks'}"
    assert world.run("--sink", moved)["jobs"]["completed"] == 1
    for table in ("evtx_events", "evtx_events__all"):
        assert world.query(
            f"SELECT count(*) FROM {table}", "--sink", f"parquet:{world.home}/outputs"
        ) == [[30]]
    assert world.run("--sink", moved)["reasons"] == {"done": 1}
    assert world.run()["reasons"] == {"done": 1}


@pytest.mark.parametrize("kind", SINKS)
def test_what_an_earlier_sentinel_hid_is_shown_again_when_nothing_displaces_it(
    kind: str, world: World
) -> None:
    uri = sink_uri(kind, world)
    count = "SELECT count(*) FROM syslog_events"
    moving = world.file("host/syslog", syslog_lines(host="first", count=4))
    world.file("other/syslog", syslog_lines(host="other", count=1))
    world.run("--sink", uri)
    moving.write_bytes(syslog_lines(host="second", count=2))
    world.run("--sink", uri)
    assert world.column(count, "--sink", uri) == [3]
    world.stop()
    moving.unlink()  # no other content lies at the path any more
    world.run("--sink", uri)
    assert world.column(count, "--sink", uri) == [7]
