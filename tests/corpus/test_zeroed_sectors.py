"""Zeroing any used 512-byte sector of a clean log gives no loss without a finding.

For each damaged copy, against the reading of the undamaged log:

  * A row that is missing, or has another value in any column, needs a finding that the undamaged
    reading does not have; the flags and verdicts are columns like any other.
  * The ledger balances: damage is a unit, quarantined with its bytes, never a loss.

The sampled tests also compare units and flags with the plain reader of the factory, which shares
nothing with the engine. Every sector of every clean log of the corpus:

    CASPARIAN_CORPUS=DIR .venv/bin/python -m pytest tests/corpus/test_zeroed_sectors.py -m slow

`CASPARIAN_TEST_SEED=N` draws another sample. One loss has no trace in the bytes, so nothing can
find it: a record of the slack that lies within one sector, zeroed, with only zeros behind it, when
no other record reaches into that sector.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from casparian.demo import damage
from casparian.demo.evtx_reference import Unit, read_log
from casparian.demo.evtx_writer import EventLog
from casparian.demo.story import tell
from tests.corpus.reading import (
    SECTOR_BYTES,
    Reading,
    event_logs,
    in_memory,
    is_clean,
    read,
    used_sectors,
)
from tests.support.small import small_log
from tests.support.world import World

SEED = int(os.environ.get("CASPARIAN_TEST_SEED", "20240305"))
CORPUS_SAMPLE = 500
FACTORY_SAMPLE = 200
CLEAN_LOGS = 127  # of 134; the other seven have bad checksums, damage or a cut end
USED_SECTORS_MIN = 19_000


@dataclass(frozen=True, slots=True)
class Loss:
    """What a damaged reading lacks, and whether anything says so."""

    rows: tuple[tuple[int, int], ...]
    new_findings: int

    @property
    def is_silent(self) -> bool:
        return bool(self.rows) and not self.new_findings


def loss(before: Reading, after: Reading) -> Loss:
    """Rows of `before` that are not in `after` as they were, and findings that `after` adds."""
    new = len(after.findings - before.findings)
    if before.events == after.events or (
        before.events and after.events and before.events.equals(after.events)
    ):
        return Loss((), new)
    found = after.rows()
    changed = tuple(key for key, row in before.rows().items() if found.get(key) != row)
    return Loss(changed, new)


class Zeroing:
    """A log in memory, its undamaged reading, and readings with one sector zeroed."""

    def __init__(self, name: str, data: bytes, descriptor: int) -> None:
        self.name = name
        self.data = data
        self._descriptor = descriptor
        self.before = read(descriptor, len(data))
        assert self.before.ledger.balanced, f"{name}: the undamaged log does not balance"

    def without(self, sector: int) -> Reading:
        """The reading without the sector at this offset."""
        content = self.data[sector : sector + SECTOR_BYTES]
        os.pwrite(self._descriptor, bytes(len(content)), sector)
        try:
            return read(self._descriptor, len(self.data))
        finally:
            os.pwrite(self._descriptor, content, sector)

    def check(self, sector: int) -> Loss:
        """The promise, for one sector."""
        after = self.without(sector)
        place = f"{self.name}, the sector at {sector}"
        assert after.ledger.balanced, f"{place}: {after.ledger}"
        found = loss(self.before, after)
        assert not found.is_silent, f"{place}: lost without a finding: {found.rows}"
        return found

    def check_against_reference(self, sector: int) -> None:
        """Units and flags of the damaged reading are those that a plain reading gives."""
        after = self.without(sector)
        damaged = self.data[:sector] + bytes(SECTOR_BYTES) + self.data[sector + SECTOR_BYTES :]
        expected = {
            (unit.offset, unit.length): flags
            for unit, flags in _flagged_units(damaged[: len(self.data)])
        }
        found: dict[tuple[int, int], int] = {}
        for table in (after.events, after.quarantine):
            if table is not None:
                columns = [table[name].to_pylist() for name in ("@offset", "@length", "@flags")]
                for offset, length, flags in zip(*columns, strict=True):
                    assert (offset, length) not in found, "a unit came out twice"
                    found[offset, length] = flags & (RECOVERED | SLACK | CRC_BAD)
        assert found == expected, f"{self.name}, the sector at {sector}"


RECOVERED, SLACK, CRC_BAD = 1, 2, 8


def _flagged_units(data: bytes) -> Iterator[tuple[Unit, int]]:
    """Units of a log with the flags that the rules give them; no chunk of these logs is cut."""
    for chunk in read_log(data).chunks:
        for unit in chunk.units:
            if unit.slack:
                yield unit, RECOVERED | SLACK
            else:
                flags = 0 if chunk.data_checksum_ok else CRC_BAD
                yield unit, flags | (RECOVERED if unit.recovered else 0)


def _sample(logs: list[tuple[str, bytes]], size: int) -> dict[str, list[int]]:
    """Sectors drawn from all used sectors of all logs, by log."""
    print(f"CASPARIAN_TEST_SEED={SEED}")
    pool = [(name, sector) for name, data in logs for sector in used_sectors(data)]
    drawn: dict[str, list[int]] = {}
    for name, sector in sorted(random.Random(SEED).sample(pool, size)):
        drawn.setdefault(name, []).append(sector)
    return drawn


def _check_sample(logs: list[tuple[str, bytes]], size: int) -> Counter[str]:
    outcome: Counter[str] = Counter()
    contents = dict(logs)
    for name, sectors in _sample(logs, size).items():
        with in_memory(contents[name]) as descriptor:
            log = Zeroing(name, contents[name], descriptor)
            for sector in sectors:
                found = log.check(sector)
                log.check_against_reference(sector)
                outcome["with loss" if found.rows else "without loss"] += 1
    return outcome


@pytest.fixture(scope="module")
def clean_logs(corpus: Path) -> list[tuple[str, bytes]]:
    logs = [
        (str(path.relative_to(corpus)), data)
        for path in event_logs(corpus)
        if is_clean(data := path.read_bytes())
    ]
    assert len(logs) == CLEAN_LOGS
    return logs


@pytest.fixture(scope="module")
def factory_logs() -> list[tuple[str, bytes]]:
    """Several providers and chunks, template-less events, slack behind free space."""
    logs = {name: EventLog(tuple(events)).to_bytes() for name, events in tell(SEED, 1).logs.items()}
    logs["small"] = small_log(events=40)
    whole = logs["several chunks"] = small_log(events=900)
    last = damage.chunk_count(whole) - 2
    logs["slack"] = damage.leave_slack(whole, last, keep_records=20)
    assert all(is_clean(data) for data in logs.values())
    return sorted(logs.items())


def test_a_zeroed_sector_of_a_made_log_loses_nothing_in_silence(
    factory_logs: list[tuple[str, bytes]],
) -> None:
    outcome = _check_sample(factory_logs, FACTORY_SAMPLE)
    assert outcome["with loss"] > FACTORY_SAMPLE // 2, (
        f"the sample hit nothing that matters: {outcome}"
    )


@pytest.mark.corpus
def test_a_zeroed_sector_of_a_clean_log_loses_nothing_in_silence(
    clean_logs: list[tuple[str, bytes]],
) -> None:
    outcome = _check_sample(clean_logs, CORPUS_SAMPLE)
    assert outcome["with loss"] > CORPUS_SAMPLE // 2, (
        f"the sample hit nothing that matters: {outcome}"
    )


@pytest.mark.corpus
@pytest.mark.slow
def test_no_used_sector_of_any_clean_log_can_be_zeroed_without_a_finding(
    clean_logs: list[tuple[str, bytes]],
) -> None:
    outcome: Counter[str] = Counter()
    silent: list[str] = []
    for name, data in clean_logs:
        with in_memory(data) as descriptor:
            log = Zeroing(name, data, descriptor)
            for sector in used_sectors(data):
                after = log.without(sector)
                if not after.ledger.balanced:
                    silent.append(f"{name}, the sector at {sector}: {after.ledger}")
                elif after.findings - log.before.findings:
                    outcome["a finding"] += 1
                elif lost := loss(log.before, after).rows:
                    silent.append(f"{name}, the sector at {sector}: {len(lost)} rows, {lost[:3]}")
                else:
                    outcome["nothing lost, no finding"] += 1
    print(dict(outcome))
    assert not silent, "\n".join(silent)
    assert sum(outcome.values()) > USED_SECTORS_MIN


def test_the_comparison_sees_a_lost_row_and_a_changed_value() -> None:
    """The promise is only as good as `loss`: a reading with a row less, or a value changed."""
    data = small_log(events=30)
    with in_memory(data) as descriptor:
        log = Zeroing("small", data, descriptor)
        before = log.before
        assert before.events is not None
        shorter = Reading(before.events.slice(1), None, before.ledger)
        assert loss(before, shorter) == Loss(((4096 + 512, 1),), 0)
        ids = before.events["event_id"].to_pylist()
        ids[3] += 1
        index = before.events.schema.get_field_index("event_id")
        field = before.events.schema.field(index)
        changed = before.events.set_column(index, field, pa.array(ids, field.type))
        assert loss(before, Reading(changed, None, before.ledger)).is_silent


# -- end to end


def _damaged_copies(world: World, logs: list[tuple[str, bytes]], count: int) -> list[str]:
    """Put a whole copy of some logs into the evidence, and copies with one sector zeroed."""
    dice = random.Random(SEED)
    names = []
    for number, (_, data) in enumerate(dice.sample(logs, min(count, len(logs)))):
        sector = 0 if number == 0 else dice.choice(used_sectors(data))
        world.file(f"{number}/whole.evtx", data)
        copy = bytearray(data)
        copy[sector : sector + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        world.file(f"{number}/zeroed.evtx", bytes(copy))
        names.append(f"{number}/zeroed.evtx")
    return names


def _check_end_to_end(world: World, names: list[str]) -> None:
    result = world.run()
    assert result["files"]["failed"] == 0
    assert result["ledger"]["balanced"]
    ledgers = {source["source_path"]: source for source in world.json("ledger")["sources"]}
    columns = (
        "header_record_id, record_id, event_id, time_created, computer, data_names, data_values"
    )
    rows = {
        path: {row[0]: row[1:] for row in world.query(
            f"SELECT _cf_offset, {columns} FROM evtx_events WHERE _cf_source_path = '{path}'"
        )}
        for path in ledgers
    }  # fmt: skip
    for name in names:
        whole = name.replace("zeroed", "whole")
        lost = [at for at, row in rows[whole].items() if rows[name].get(at) != row]
        codes = {finding["code"] for finding in ledgers[name]["findings"]}
        codes -= {finding["code"] for finding in ledgers[whole]["findings"]}
        assert codes or not lost, f"{name}: {len(lost)} rows lost without a finding"
        assert ledgers[name]["lost"] == 0
    assert any(ledgers[name]["findings"] for name in names)


def test_zeroed_sectors_are_told_by_the_installed_command(
    world: World, factory_logs: list[tuple[str, bytes]]
) -> None:
    _check_end_to_end(world, _damaged_copies(world, factory_logs, 6))


@pytest.mark.corpus
def test_zeroed_sectors_of_real_logs_are_told_by_the_installed_command(
    world: World, clean_logs: list[tuple[str, bytes]]
) -> None:
    _check_end_to_end(world, _damaged_copies(world, clean_logs, 8))
