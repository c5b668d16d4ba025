"""Thousands of damaged hives: decoder and independent walk agree on each, nothing untouched is lost, nothing is silent.

For every variant:
  * the ledger balances: what the decoder gave is what a walk found that shares no code with it;
  * each key and value whose own bytes were not touched comes out: as a row, as a recovered one outside of the ledger where
    the cell before it claims its bytes, or within a quarantined region, or within bins that a finding says are misplaced;
  * whatever came out otherwise than from the whole hive is told by a finding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from casparian.demo.dice import Dice
from casparian.demo.hive_writer import (
    BASE_BYTES,
    entry_log,
    interrupted,
    seal,
    sector_log,
)
from casparian.domain.lineage import EXTRA_BITS
from tests.factories.hives import KEYS, QUARANTINE, VALUES, Reading, read, rich_hive, rich_root

BUILT = rich_hive()
UNITS = {(cell.offset, cell.length) for cell in BUILT.cells if cell.state != "deleted"}
WHOLE = read(BUILT.data)
SECTOR = 512
Damage = Callable[[bytearray, Dice], None]


def zeroed_sector(data: bytearray, dice: Dice) -> None:
    at = dice.below(len(data) // SECTOR) * SECTOR
    data[at : at + SECTOR] = bytes(SECTOR)


def flipped_bits(data: bytearray, dice: Dice) -> None:
    for _ in range(dice.between(1, 8)):
        data[dice.below(len(data))] ^= 1 << dice.below(8)


def overwritten(data: bytearray, dice: Dice) -> None:
    at, length = dice.below(len(data)), dice.between(1, 3000)
    data[at : at + length] = dice.data(len(data[at : at + length]))


def cut(data: bytearray, dice: Dice) -> None:
    del data[dice.below(len(data)) :]


def swapped_pages(data: bytearray, dice: Dice) -> None:
    one, other = (BASE_BYTES + 4096 * dice.below(len(data) // 4096 - 1) for _ in range(2))
    first, second = data[one : one + 4096], data[other : other + 4096]
    data[one : one + 4096], data[other : other + 4096] = second, first


def lying_cell(data: bytearray, dice: Dice) -> None:
    cell = dice.choice(BUILT.cells)
    size = dice.choice((0, 1, 7, -8, 8, -2048, 4096, 2**31 - 8, -(2**31), dice.below(5000)))
    struct.pack_into("<i", data, cell.offset, size)


def lying_number(data: bytearray, dice: Dice) -> None:
    cell = dice.choice(BUILT.cells)
    field = 4 * dice.between(1, min(19, cell.length // 4 - 1))
    number = dice.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 32, dice.below(len(data))))
    struct.pack_into("<I", data, cell.offset + field, number)


def lying_base(data: bytearray, dice: Dice) -> None:
    field = dice.choice((4, 8, 20, 24, 28, 36, 40))
    number = dice.choice((0, 1, 4096, 0xFFFFFFFF, 0x7FFFF000, dice.below(len(data))))
    struct.pack_into("<I", data, field, number)
    if dice.chance(2):
        seal(data)


def shifted(data: bytearray, dice: Dice) -> None:
    at = dice.below(len(data))
    if dice.chance(2):
        data[at:at] = dice.data(dice.between(1, 5000))
    else:
        del data[at : at + dice.between(1, 5000)]


def garbage_behind(data: bytearray, dice: Dice) -> None:
    data += dice.data(dice.between(1, 9000))
    if dice.chance(2):
        data += BUILT.data[BASE_BYTES : BASE_BYTES + 4096]


DAMAGES: tuple[Damage, ...] = (
    zeroed_sector,
    flipped_bits,
    overwritten,
    cut,
    swapped_pages,
    lying_cell,
    lying_number,
    lying_base,
    shifted,
    garbage_behind,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_nothing_is_lost_in_silence(damage: Damage) -> None:
    for seed in range(150):
        dice = Dice(seed)
        data = bytearray(BUILT.data)
        damage(data, dice)
        check(bytes(data), f"{damage.__name__} {seed}")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("form", ["entries", "sectors"])
def test_damaged_logs_and_hives_balance(damage: Damage, form: str) -> None:
    after = rich_hive(root=rich_root(BUILT.cells[0].key or rich_root()), sequence=8).data
    role = "LOG1" if form == "entries" else "LOG"
    whole = (
        entry_log([(BUILT.data, after)], first=8)
        if form == "entries"
        else sector_log(BUILT.data, after, sequence=8)
    )
    for seed in range(60):
        dice = Dice(seed)
        hive, log = bytearray(interrupted(BUILT.data)), bytearray(whole)
        if damage not in (lying_cell, lying_number) and seed % 3:
            damage(log, dice)
        if seed % 3 != 1:
            damage(hive, dice)
        reading = read(bytes(hive), [(role, bytes(log))])
        assert reading.ledger.balanced, (form, damage.__name__, seed, reading.findings)


def check(data: bytes, what: str) -> Reading:
    reading = read(data)
    assert reading.ledger.balanced, (what, reading.findings)
    given = reading.live_spans()
    aside = [
        (row["@offset"], row["@offset"] + row["@length"])
        for row in reading.rows(QUARANTINE)
        if not row["@flags"] & EXTRA_BITS
    ]
    if given != UNITS:
        assert reading.ledger.findings != WHOLE.findings, what
    recovered = {row["@offset"] for table in (KEYS, VALUES) for row in reading.rows(table)}
    changed = _changed(data)
    for offset, length in UNITS - given:
        touched = any(start < offset + length and offset < end for start, end in changed)
        inside = any(start <= offset < end for start, end in aside)
        misplaced = any(
            finding.offset <= offset < finding.offset + finding.length
            for finding in reading.findings
            if finding.code in ("bin.offset", "hive.bins_behind")
        )
        where = (what, offset, reading.findings)
        assert touched or inside or misplaced or offset in recovered, where
    return reading


def _changed(data: bytes) -> list[tuple[int, int]]:
    """Stretches in which a variant differs from the hive as it was, in steps of 8 bytes."""
    found: list[tuple[int, int]] = []
    for at in range(0, len(BUILT.data), 8):
        if data[at : at + 8] != BUILT.data[at : at + 8]:
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 8)
            else:
                found.append((at, at + 8))
    return found


def test_the_undamaged_hive_gives_every_unit() -> None:
    reading = check(BUILT.data, "undamaged")
    assert reading.live_spans() == UNITS
    assert reading.codes == {"key.unlisted"}
