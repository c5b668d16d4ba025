"""Dirty hives with their transaction logs through the installed command."""

from __future__ import annotations

import struct
from typing import Any

from casparian.demo.hive_writer import Key, entry_log, interrupted, sector_log, text
from tests.factories.hives import rich_hive, rich_root
from tests.support.world import World

BINS_BYTES = 200_000
BEFORE = rich_hive(bins_bytes_min=BINS_BYTES)
AFTER = rich_hive(
    root=rich_root(Key(name="Zeta", values=(text("New", "from the log"),))),
    sequence=8,
    bins_bytes_min=BINS_BYTES,
)


def ledger(world: World) -> dict[str, Any]:
    (found,) = world.json("ledger")["sources"]
    assert found["balanced"]
    assert found["lost"] == 0
    return dict(found)


def prove(world: World, condition: str) -> None:
    (row_id,) = world.column(f"SELECT _cf_row_id FROM registry_values WHERE {condition}")
    proof = world.json("why", str(row_id))
    assert proof["proven"] is True, proof["differences"]


def test_a_dirty_hive_is_read_with_its_logs(world: World) -> None:
    world.file("config/SYSTEM", interrupted(BEFORE.data))
    world.file("config/system.log1", entry_log([(BEFORE.data, AFTER.data)], first=8))
    world.file("config/SYSTEM.LOG2", b"")
    world.run()
    found = ledger(world)
    assert found["present"] == sum(cell.state != "deleted" for cell in AFTER.cells)
    assert "hive.recovered" in {finding["code"] for finding in found["findings"]}
    rows = world.query(
        "SELECT key_path, value_text, from_log, _cf_offset FROM registry_values WHERE value_name = 'New'"
    )
    place = AFTER.value(r"\Zeta", "New").offset
    assert rows == [[r"\Zeta", "from the log", "LOG1", place]]
    changes = world.query("SELECT change, subject, key_path FROM registry_changes ORDER BY subject")
    assert changes == [["added", "key", r"\Zeta"], ["added", "value", r"\Zeta"]]
    prove(world, "value_name = 'New'")


def test_another_log_is_another_source_and_the_same_one_is_not(world: World) -> None:
    world.file("NTUSER.DAT", interrupted(BEFORE.data))
    world.run()
    assert world.query("SELECT is_recovered FROM registry_hives") == [[False]]
    world.file("NTUSER.DAT.LOG", sector_log(BEFORE.data, AFTER.data, sequence=8))
    assert world.run()["files"]["selected"] == 1
    assert world.run()["files"]["selected"] == 0
    logs = world.query("SELECT logs, log_verdicts FROM registry_hives WHERE is_recovered")
    assert logs == [[["LOG"], ["log.applied"]]]


def test_a_log_that_reaches_far_behind_the_end_of_a_cut_hive_is_applied(world: World) -> None:
    last = bytearray(AFTER.data)
    name = b"Late"
    value = b"vk" + struct.pack("<HIIIHH", len(name), 0x8000_0004, 7, 4, 1, 0) + name
    page = len(last) - 4096 + 32
    struct.pack_into("<i", last, page, -32)
    last[page + 4 : page + 32] = value.ljust(28, b"\0")
    struct.pack_into("<i", last, page + 32, 4096 - 32 - 32)
    world.file("SYSTEM", interrupted(BEFORE.data)[:12_288])
    world.file("SYSTEM.LOG1", entry_log([(AFTER.data, bytes(last))], first=8))
    world.run()
    ledger(world)
    rows = world.query("SELECT _cf_offset, state FROM registry_values WHERE value_name = 'Late'")
    assert rows == [[page, "orphaned"]]
    prove(world, "value_name = 'Late'")
