"""`casparian verify --sample`: rows drawn at random from every table, proven by their bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from casparian.demo.hive_writer import entry_log, interrupted
from tests.factories.hives import rich_hive
from tests.support.small import small_log, syslog_lines
from tests.support.world import World

HIVE = rich_hive().data


@pytest.fixture
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("sample"))
    world.file("a.evtx", small_log(events=40, seed=1))
    world.file("b.evtx", small_log(events=40, seed=2))
    world.file("syslog", syslog_lines(host="h", count=30, bad=3))
    world.file("NTUSER.DAT", interrupted(HIVE))
    world.file("NTUSER.DAT.LOG1", entry_log([(HIVE, HIVE)], first=8))
    world.run()
    yield world
    world.stop()


def test_every_row_that_is_drawn_is_proven(filled: World) -> None:
    report = filled.json("verify", "--sample", "25", "--seed", "3")
    tables = {table["table"]: table for table in report["tables"]}
    assert report["proven"]
    assert {
        "evtx_events",
        "syslog_events",
        "registry_keys",
        "registry_values",
        "quarantine",
    } <= set(tables)
    for table in tables.values():
        assert table["proven"] == table["drawn"] == min(25, table["rows"])
        assert table["unproven"] == []


def test_rows_of_a_file_that_changed_are_named_and_no_others(filled: World) -> None:
    changed = bytearray(small_log(events=40, seed=2))
    changed[5_000] ^= 1
    (filled.evidence / "b.evtx").write_bytes(changed)
    report = filled.json("verify", "--sample", "1000", code=7)
    tables = {table["table"]: table for table in report["tables"]}
    rows = filled.query("SELECT _cf_source_path, count(*) FROM evtx_events GROUP BY ALL")
    expected = dict(rows)
    assert not report["proven"]
    assert tables["evtx_events"]["proven"] == expected["a.evtx"]
    for row in tables["evtx_events"]["unproven"]:
        assert "source_hash" in {difference["field"] for difference in row["differences"]}
    assert tables["syslog_events"]["proven"] == tables["syslog_events"]["rows"]


def test_only_the_tables_that_are_named_are_drawn_from(filled: World) -> None:
    report = filled.json("verify", "--sample", "5", "--table", "registry_keys")
    assert [table["table"] for table in report["tables"]] == ["registry_keys"]
    refused = filled.call("verify", "--sample", "5", "--table", "nothing")
    assert refused.returncode == 2
    assert "registry_keys" in refused.stderr


def test_a_verification_says_what_with(filled: World) -> None:
    for arguments in ((), ("--sample", "5", "--second-opinion")):
        refused = filled.call("verify", *arguments)
        assert refused.returncode == 2
        assert "--sample 100" in refused.stderr
