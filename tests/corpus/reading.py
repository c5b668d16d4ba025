"""Read event logs in this process: the decoder, the independent walk and the balance of both.

As the product does it, without its processes: thousands of variants of a log are read in seconds.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from casparian import _native
from casparian.demo.evtx_reference import FILE_HEADER_BYTES, read_log
from casparian.domain.ledger import Finding, Ledger
from casparian.worker.balance import Units, balance

SECTOR_BYTES: Final = 512
EVENTS: Final = "evtx_events"
QUARANTINE: Final = "@quarantine"
CHUNKS: Final = "evtx_chunks"


@dataclass(frozen=True, slots=True)
class Reading:
    """What came out of one log."""

    events: pa.Table | None  # None when there is no row
    quarantine: pa.Table | None
    ledger: Ledger

    @property
    def findings(self) -> frozenset[Finding]:
        """The findings, comparable."""
        return frozenset(self.ledger.findings)

    def rows(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Event rows by offset and header record id; times as nanoseconds."""
        if self.events is None:
            return {}
        table = self.events
        for name in ("time_created", "time_written"):
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, table[name].cast(pa.int64()))
        return {(row["@offset"], row["header_record_id"]): row for row in table.to_pylist()}


@contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    """A descriptor of a file that holds `data` and has no name."""
    descriptor = os.memfd_create("log")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, size: int) -> Reading:
    """Decode, walk, balance."""
    units = Units("evtx")
    batches: dict[str, list[pa.RecordBatch]] = {EVENTS: [], QUARANTINE: [], CHUNKS: []}
    for name, exported in _native.EvtxReader(descriptor, size):
        batch = pa.record_batch(exported)
        batches[name].append(batch)
        if name == EVENTS:
            units.add_rows(batch)
        elif name == QUARANTINE:
            units.add_quarantined(batch)
    account = _native.account_evtx(descriptor, size)
    return Reading(
        events=_table(batches[EVENTS]),
        quarantine=_table(batches[QUARANTINE]),
        ledger=balance(units, account, "record"),
    )


def read_bytes(data: bytes) -> Reading:
    """The reading of a log that is in memory."""
    with in_memory(data) as descriptor:
        return read(descriptor, len(data))


def is_clean(data: bytes) -> bool:
    """Whether every checksum is good and nothing is damaged, by the plain reader of the factory."""
    header, found = data[:FILE_HEADER_BYTES], read_log(data)
    return (
        len(data) > FILE_HEADER_BYTES
        and header.startswith(b"ElfFile\0")
        and int.from_bytes(header[124:128], "little") == zlib.crc32(header[:120])
        and all(
            chunk.magic_ok and chunk.header_checksum_ok and chunk.data_checksum_ok
            for chunk in found.chunks
        )
        and not found.damaged
    )


def used_sectors(data: bytes) -> list[int]:
    """Offsets of the 512-byte sectors that are not all zeros."""
    return [
        offset
        for offset in range(0, len(data), SECTOR_BYTES)
        if any(data[offset : offset + SECTOR_BYTES])
    ]


def event_logs(corpus: Path) -> list[Path]:
    """Every event log of the corpus, in a stable order."""
    return sorted((corpus / "evtx").rglob("*.evtx"))


def _table(batches: list[pa.RecordBatch]) -> pa.Table | None:
    return pa.Table.from_batches(batches) if batches else None
