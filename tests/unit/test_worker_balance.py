"""The ledger: what the walk found against what came out, window by window."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from casparian import _native
from casparian.domain.ledger import Ledger
from casparian.domain.lineage import FLAG_BITS
from casparian.worker.balance import Units, balance
from tests.factories.hives import rich_hive, walk

TEXT = b"".join(b"line %d\n" % n for n in range(300_000)) + b"\n \nlast"
RECOVERED, SLACK = FLAG_BITS["recovered"], FLAG_BITS["slack"]


def account(content: bytes = TEXT) -> _native.Account:
    descriptor = os.memfd_create("text")
    try:
        os.write(descriptor, content)
        return _native.account_lines(descriptor, len(content))
    finally:
        os.close(descriptor)


def spans(content: bytes = TEXT) -> list[tuple[int, int]]:
    found, offset = [], 0
    for line in content.splitlines(keepends=True):
        if line.strip():
            found.append((offset, len(line)))
        offset += len(line)
    return found


def rows(units: list[tuple[int, int]], flags: int = 0) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "@offset": pa.array([offset for offset, _ in units], pa.uint64()),
            "@length": pa.array([length for _, length in units], pa.uint64()),
            "@flags": pa.array([flags] * len(units), pa.uint32()),
        }
    )


def ledger(*batches: pa.RecordBatch, quarantined: pa.RecordBatch | None = None) -> Ledger:
    units = Units("lines")
    for batch in batches:
        units.add_rows(batch)
    if quarantined is not None:
        units.add_quarantined(quarantined)
    return balance(units, account(), "line")


def test_every_line_accounted_for_balances() -> None:
    lines = spans()
    found = ledger(
        rows(lines[:100]),
        rows(lines[100:200], RECOVERED),
        rows(lines[300:]),
        quarantined=rows(lines[200:300]),
    )
    assert found.balanced
    assert found.present == len(lines) == 300_001
    assert (found.rows, found.recovered_live, found.quarantined) == (299_801, 100, 100)
    assert found.present == found.rows + found.recovered_live + found.quarantined + found.lost
    assert (found.blank_units, found.blank_bytes) == (2, 3)
    assert found.findings == ()


def test_one_lost_line_is_a_finding_that_says_where() -> None:
    lines = spans()
    at = 200_000
    found = ledger(rows(lines[:at] + lines[at + 1 :]))
    assert not found.balanced
    assert found.lost == 1
    (finding,) = found.findings
    assert finding.code == "line.lost"
    assert finding.offset <= lines[at][0] < finding.offset + finding.length


def test_a_lost_line_is_not_hidden_by_a_doubled_one() -> None:
    lines = spans()
    doubled_elsewhere = [lines[0], *lines[:-1]]
    found = ledger(rows(doubled_elsewhere))
    assert {finding.code for finding in found.findings} == {"line.lost", "ledger.surplus"}
    assert found.lost == 1
    doubled_beside = [lines[0], lines[0], *lines[2:]]
    found = ledger(rows(doubled_beside))
    assert [finding.code for finding in found.findings] == ["ledger.mismatch"]
    assert found.lost == 1
    assert not found.balanced


def test_a_line_with_the_wrong_length_is_a_mismatch() -> None:
    lines = spans()
    lines[5] = (lines[5][0], lines[5][1] - 1)
    found = ledger(rows(lines))
    assert [finding.code for finding in found.findings] == ["ledger.mismatch"]


def test_a_unit_beyond_all_windows_is_a_surplus() -> None:
    found = ledger(rows([*spans(), (1 << 50, 1)]))
    assert [finding.code for finding in found.findings] == ["ledger.surplus"]
    assert not found.balanced


def test_slack_is_outside_of_the_balance() -> None:
    lines = spans()
    found = ledger(
        rows(lines), rows(lines[:7], RECOVERED | SLACK), quarantined=rows(lines[:3], SLACK)
    )
    assert found.balanced
    assert (found.recovered_extra, found.quarantined_extra) == (7, 3)
    assert found.recovered == 7


def test_mixed_flags_in_one_batch_are_told_apart() -> None:
    lines = spans()
    mixed = rows(lines)
    flags = [SLACK if n % 3 == 0 else RECOVERED if n % 3 == 1 else 0 for n in range(len(lines))]
    mixed = mixed.set_column(2, "@flags", pa.array(flags, pa.uint32()))
    units = Units("lines")
    units.add_rows(mixed.slice(1))
    assert units.recovered_extra == flags[1:].count(SLACK)
    assert units.recovered_live == flags.count(RECOVERED)
    assert units.rows == flags.count(0)


def test_without_an_account_nothing_is_proven() -> None:
    units = Units("lines")
    units.add_rows(rows(spans()[:10]))
    found = balance(units, None, "line", "the guest crashed")
    assert not found.balanced
    assert found.rows == 10
    assert [finding.code for finding in found.findings] == ["ledger.unavailable"]
    assert "the guest crashed" in found.findings[0].message


def test_account_of_another_kind_is_no_account() -> None:
    found = balance(Units("evtx"), account(), "record")
    assert [finding.code for finding in found.findings] == ["ledger.unavailable"]


def test_findings_of_the_walk_are_kept() -> None:
    descriptor = os.memfd_create("log")
    os.write(descriptor, b"ElfFile\0")
    walked = _native.account_evtx(descriptor, 8)
    os.close(descriptor)
    found = balance(Units("evtx"), walked, "record")
    assert [finding.code for finding in found.findings] == ["file.too_short"]
    assert found.balanced


@pytest.mark.parametrize("batch", [rows([]), rows([(0, 1)]).slice(1)])
def test_empty_batches_count_nothing(batch: pa.RecordBatch) -> None:
    units = Units("lines")
    units.add_rows(batch)
    units.add_quarantined(batch)
    assert units.live == 0


def test_keys_found_in_free_cells_are_no_disagreement_of_the_walk() -> None:
    hive = rich_hive()
    walked = walk(hive.data)
    cells = [(cell.offset, cell.length) for cell in hive.cells if cell.state != "deleted"]
    units = Units("hive")
    units.add_rows(rows(cells[:50]))
    units.add_rows(rows(cells[50:]))
    units.add_rows(rows([(5_000, 88)], RECOVERED | SLACK))
    found = balance(units, walked, "cell")
    assert found.balanced
    assert (found.unit, found.rows, found.recovered_extra) == ("cell", len(cells), 1)
    assert {finding.code for finding in found.findings} == {"key.unlisted"}


def test_a_lost_cell_is_a_finding_that_says_where() -> None:
    hive = rich_hive()
    cells = [(cell.offset, cell.length) for cell in hive.cells if cell.state != "deleted"]
    lost = cells.pop(70)
    units = Units("hive")
    units.add_rows(rows(cells))
    found = balance(units, walk(hive.data), "cell")
    assert (found.balanced, found.lost) == (False, 1)
    (finding,) = [finding for finding in found.findings if finding.code == "cell.lost"]
    assert finding.offset <= lost[0] < finding.offset + finding.length
