"""Registry hives through the installed command: tables, ledgers, quarantine, proof, and a second run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from casparian.demo.dice import Dice
from casparian.demo.hive_writer import entry_log, interrupted
from tests.factories.hives import rich_hive
from tests.support.world import World

BUILT = rich_hive()
LIVE = [cell for cell in BUILT.cells if cell.state == "live"]
ALLOCATED = [cell for cell in BUILT.cells if cell.state != "deleted"]
SECTOR = 512


def zeroed(at: int) -> bytes:
    data = bytearray(BUILT.data)
    data[at : at + SECTOR] = bytes(SECTOR)
    return bytes(data)


def damaged() -> bytes:
    """A sector with keys and values of services is lost."""
    return zeroed(BUILT.key(r"\Services\service030").offset // SECTOR * SECTOR)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("registry"))
    world.file("config/SYSTEM", BUILT.data)
    world.file("Copy of SYSTEM", BUILT.data)
    world.file("no name of a hive.bin", damaged())
    world.file("dirty/NTUSER.DAT", interrupted(BUILT.data))
    world.file("alone.LOG1", entry_log([(BUILT.data, damaged())], first=8))
    world.run()
    yield world
    world.stop()


def ledgers(world: World) -> dict[str, dict[str, Any]]:
    return {source["source_path"]: source for source in world.json("ledger")["sources"]}


def test_content_decides_what_is_a_hive(filled: World) -> None:
    assert set(ledgers(filled)) == {
        "Copy of SYSTEM",
        "dirty/NTUSER.DAT",
        "no name of a hive.bin",
    }
    log = filled.json("explain", str(filled.evidence / "alone.LOG1"))
    assert "registry-log" in str(log)


def test_every_ledger_balances_over_both_tables(filled: World) -> None:
    for path, ledger in ledgers(filled).items():
        assert ledger["unit"] == "cell", path
        assert ledger["balanced"], path
        assert ledger["lost"] == 0, path
        live = ledger["rows"] + ledger["recovered_live"] + ledger["quarantined"]
        assert live == ledger["present"], path
    whole = ledgers(filled)["Copy of SYSTEM"]
    assert (whole["present"], whole["quarantined"]) == (len(ALLOCATED), 0)
    counted = filled.query(
        "SELECT (SELECT count(*) FROM registry_keys WHERE _cf_source_path LIKE 'Copy%'"
        " AND NOT list_contains(_cf_flags, 'slack')),"
        " (SELECT count(*) FROM registry_values WHERE _cf_source_path LIKE 'Copy%'"
        " AND NOT list_contains(_cf_flags, 'slack'))"
    )
    keys = sum(cell.key is not None for cell in ALLOCATED)
    assert counted == [[keys, len(ALLOCATED) - keys]]


def test_rows_have_the_place_of_their_cells(filled: World) -> None:
    rows = filled.query(
        "SELECT key_path, _cf_offset, _cf_length FROM registry_keys"
        " WHERE state = 'live' AND _cf_source_path LIKE 'Copy%'"
    )
    expected = [[cell.path, cell.offset, cell.length] for cell in LIVE if cell.key]
    assert sorted(rows) == sorted(expected)


def test_deleted_keys_are_rows_outside_of_the_ledger(filled: World) -> None:
    rows = filled.query(
        "SELECT name, _cf_flags FROM registry_keys WHERE state = 'deleted'"
        " AND _cf_source_path LIKE 'Copy%' ORDER BY name"
    )
    assert [name for name, _ in rows] == ["Below", "Gone"]
    assert all({"recovered", "slack"} <= set(flags) for _, flags in rows)
    extra = ledgers(filled)["Copy of SYSTEM"]["recovered_extra"]
    assert extra == 3  # two keys and a value


def test_damage_is_set_aside_with_its_bytes_and_told(filled: World) -> None:
    ledger = ledgers(filled)["no name of a hive.bin"]
    codes = {finding["code"] for finding in ledger["findings"]}
    assert "cell.damaged" in codes
    assert ledger["quarantined"] > 0
    rows = filled.query(
        "SELECT reason, table_name, _cf_offset, _cf_length, raw_length FROM quarantine"
        " WHERE _cf_source_path LIKE 'no name%'"
    )
    assert len(rows) == ledger["quarantined"]
    for reason, table, _, length, raw_length in rows:
        assert reason == "cell.damaged"
        assert table == "registry_keys"
        assert raw_length == length
    orphaned = filled.column(
        "SELECT count(*) FROM registry_values WHERE state = 'orphaned'"
        " AND _cf_source_path LIKE 'no name%'"
    )
    assert orphaned[0] > 0


def test_a_dirty_hive_without_its_logs_says_so(filled: World) -> None:
    ledger = ledgers(filled)["dirty/NTUSER.DAT"]
    assert "hive.dirty" in {finding["code"] for finding in ledger["findings"]}
    rows = filled.query(
        "SELECT is_dirty, is_recovered FROM registry_hives WHERE _cf_source_path LIKE 'dirty%'"
    )
    assert rows == [[True, False]]


@pytest.mark.parametrize(
    "row",
    [
        "SELECT _cf_row_id FROM registry_keys WHERE name = 'Run' AND state = 'live' LIMIT 1",
        "SELECT _cf_row_id FROM registry_values WHERE value_name = 'Big' LIMIT 1",
        "SELECT _cf_row_id FROM registry_keys WHERE state = 'deleted' LIMIT 1",
        "SELECT _cf_row_id FROM registry_keys WHERE state = 'orphaned' LIMIT 1",
        "SELECT _cf_row_id FROM registry_hives LIMIT 1",
        "SELECT _cf_row_id FROM quarantine LIMIT 1",
    ],
)
def test_rows_are_proven_from_the_bytes(filled: World, row: str) -> None:
    (row_id,) = filled.column(row)
    proof = filled.json("why", str(row_id))
    assert proof["proven"] is True, proof["differences"]


def test_a_second_run_does_nothing(filled: World) -> None:
    again = filled.run()
    assert again["files"]["selected"] == 0
    assert again["outputs"] == []


def test_zeroed_sectors_turn_findings_on(world: World) -> None:
    """Sectors in which a key or value begins; a hive has no checksum over its bins that would tell of others."""
    dice = Dice(4)
    sectors = sorted({cell.offset // SECTOR * SECTOR for cell in LIVE})
    chosen = {dice.choice(sectors) for _ in range(25)}
    for at in chosen:
        world.file(f"{at}.hive", zeroed(at))
    world.run()
    found = ledgers(world)
    assert len(found) == len(chosen)
    for path, ledger in found.items():
        assert ledger["balanced"], path
        codes = {finding["code"] for finding in ledger["findings"]}
        assert codes & {"cell.damaged", "bin.damaged"}, (path, codes)


def test_a_hive_that_is_cut_anywhere_is_read_as_far_as_it_goes(world: World) -> None:
    dice = Dice(11)
    for _ in range(12):
        length = dice.between(1, len(BUILT.data) - 1)
        world.file(f"{length}.hive", BUILT.data[:length])
    summary = world.run()
    assert summary["files"]["failed"] == 0
    for path, ledger in ledgers(world).items():
        assert ledger["balanced"], path
        codes = {finding["code"] for finding in ledger["findings"]}
        assert codes & {"source.truncated", "hive.too_short"}, (path, codes)
