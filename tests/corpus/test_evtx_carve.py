"""Carving an image of real logs gives the rows that the logs give, and the accountant counts them on its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from casparian import _native
from casparian.domain.lineage import FLAG_BITS
from casparian.worker.balance import Units, balance
from tests.corpus.reading import event_logs, in_memory, is_clean

pytestmark = pytest.mark.corpus

FILE_HEADER_BYTES: Final = 4_096
LOGS_MIN: Final = 50
LOG_BYTES_MAX: Final = 2 << 20
DIFFERENT: Final = ("@offset", "@flags", "chunk", "chunk_crc_ok")


def rows_of(reader: Any, units: Units | None = None) -> list[dict[str, Any]]:
    """Event rows, times as numbers."""
    found = []
    for name, exported in reader:
        batch = pa.record_batch(exported)
        if units is not None and name == "evtx_events":
            units.add_rows(batch)
        elif units is not None and name == "@quarantine":
            units.add_quarantined(batch)
        if name == "evtx_events":
            for time in ("time_created", "time_written"):
                at = batch.schema.get_field_index(time)
                batch = batch.set_column(at, time, batch.column(at).cast(pa.int64()))
            found += batch.to_pylist()
    return found


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in DIFFERENT}


@pytest.mark.parametrize("with_headers", [True, False])
def test_an_image_of_all_clean_logs_gives_their_rows(corpus: Path, *, with_headers: bool) -> None:
    dice = random.Random(11)
    expected: list[tuple[int, dict[str, Any]]] = []
    image = bytearray()
    logs = 0
    for path in event_logs(corpus):
        if path.stat().st_size > LOG_BYTES_MAX:
            continue
        log = path.read_bytes()
        if not is_clean(log):
            continue
        logs += 1
        image += dice.randbytes(dice.randrange(5_000))
        moved = len(image) - FILE_HEADER_BYTES
        with in_memory(log) as descriptor:
            expected += [
                (row["@offset"] + moved, plain(row))
                for row in rows_of(_native.EvtxReader(descriptor, len(log)))
            ]
        body = bytearray(log[FILE_HEADER_BYTES:])
        if not with_headers:
            for chunk in range(0, len(body), 65_536):
                body[chunk : chunk + 512] = bytes(512)
        image += body
    units = Units("evtx")
    with in_memory(bytes(image)) as descriptor:
        carved = rows_of(_native.EvtxCarveReader(descriptor, len(image)), units)
        account = _native.account_evtx_carved(descriptor, len(image))
    assert all(row["@flags"] & FLAG_BITS["carved"] for row in carved)
    found = {row["@offset"]: plain(row) for row in carved}
    missing = [offset for offset, row in expected if found.get(offset) != row]
    print(f"{logs} logs, {len(image)} bytes, {len(expected)} rows, {len(missing)} missing")
    assert not missing
    assert logs >= LOGS_MIN
    ledger = balance(units, account, "record")
    assert ledger.balanced
    assert ledger.present == 0
    assert ledger.recovered_extra + ledger.quarantined_extra == account.slack_records
    assert "slack.mismatch" not in {finding.code for finding in ledger.findings}
