"""Parse sources inside the guest: a parser's Python, or a decoder of the native module, and its rows over the bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from casparian import _native
from casparian.domain.parsers import ParserKind
from casparian.guest.bridge import Bridge
from casparian.guest.decoders import DECODERS, GROUP_DECODERS
from casparian.guest.importer import load_entry
from casparian.guest.input import Input
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import (
    QUARANTINE_OF,
    QUARANTINE_OUTPUT,
    GroupEnd,
    GuestJob,
    SourceEnd,
)
from casparian.sdk.context import Rejected
from casparian.sdk.rows import OutputError
from casparian.sdk.run import Entry, quarantine_batch, run_parser
from casparian.sdk.source import Source

_NATIVE_QUARANTINE: Final = "@quarantine"
REASON_ROW_TOO_LARGE: Final = "limit.row_bytes"


def parsing(job: GuestJob, bridge: Bridge) -> Callable[[Input], None]:
    """What to do with each source of a job that parses."""
    sender = _Sender(job, bridge)
    if job.kind is ParserKind.NATIVE:
        native = DECODERS[job.entry]

        def decode(given: Input) -> None:
            sender.begin()
            for name, batch in native(given, job):
                sender.native(name, batch)
            sender.end(given.source.index)

        return decode
    entry: Entry = load_entry(job.files, job.entry, job.compiled)

    def parse(given: Input) -> None:
        source = given.source
        companions = {role: Source(fd, size) for role, fd, size in given.logs}
        sender.begin()
        run_parser(
            entry,
            Source(given.descriptor, source.size_bytes, companions),
            display_path=source.display_path,
            config=job.config,
            outputs=job.outputs,
            receiver=sender,
        )
        sender.end(source.index)

    return parse


def parsing_together(job: GuestJob, bridge: Bridge) -> Callable[[list[Input]], None] | None:
    """What to do with several small sources; nothing when the parser takes one at a time."""
    native = GROUP_DECODERS.get(job.entry) if job.kind is ParserKind.NATIVE else None
    if native is None:
        return None
    sender = _Sender(job, bridge)

    def decode(given: list[Input]) -> None:
        sender.begin()
        reader = native(given, job)
        for name, batch in reader:
            sender.native(name, batch)
        sender.end_all(reader.rows)

    return decode


class _Sender:
    """Numbers the outputs, counts what was sent, and sends it."""

    def __init__(self, job: GuestJob, bridge: Bridge) -> None:
        self._bridge = bridge
        self._numbers = {output.table: number for number, output in enumerate(job.outputs, start=1)}
        if job.entry == "evtx" and job.config.get("wide", "none") != "none":
            # Wide tables are numbered behind the job's own outputs, in the order of the list.
            first = len(job.outputs) + 1
            wide = enumerate(_native.evtx_wide_tables(), start=first)
            self._numbers |= {table[0]: number for number, table in wide}
        self._counts: dict[int, int] = {}

    def begin(self) -> None:
        """A new source."""
        self._counts = {}

    def end(self, index: int) -> None:
        """The source is done: say how many rows of each output were sent."""
        self._bridge.send(Opcode.BRIDGE_END, SourceEnd(index=index, rows=self._counts))

    def end_all(self, rows: Iterable[Mapping[str, int]]) -> None:
        """Several sources are done: say how many rows of each output each of them has."""
        numbers = {**self._numbers, _NATIVE_QUARANTINE: QUARANTINE_OUTPUT}
        ends = tuple({numbers[name]: count for name, count in one.items()} for one in rows)
        total: dict[int, int] = {}
        for one in ends:
            for number, count in one.items():
                total[number] = total.get(number, 0) + count
        if total != self._counts:  # one was set aside: the host must learn whose it was
            raise OutputError("a row is larger than may cross the bridge")
        self._bridge.send(Opcode.BRIDGE_END, GroupEnd(rows=ends))

    def rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Send rows of one output."""
        number = self._numbers[table]
        too_large = self._bridge.send_batch(number, batch)
        self._count(number, batch.num_rows - len(too_large))
        for row in too_large:
            offset, length, flags = (row.column(position)[0].as_py() for position in range(3))
            message = f"the row takes {row.nbytes} bytes, more than may cross the bridge"
            rejected = Rejected(offset, length, flags, REASON_ROW_TOO_LARGE, None, message, None)
            self.rejected(table, quarantine_batch([rejected]))

    def rejected(self, table: str | None, batch: pa.RecordBatch) -> None:
        """Send quarantined rows."""
        flags = QUARANTINE_OUTPUT if table is None else QUARANTINE_OF | self._numbers[table]
        if self._bridge.send_batch(flags, batch):
            raise OutputError("a quarantined row is larger than may cross the bridge")
        self._count(flags, batch.num_rows)

    def native(self, name: str, exported: Any) -> None:
        """Send a batch of a native decoder."""
        batch = pa.record_batch(exported)
        if not batch.num_rows:
            return
        if name == _NATIVE_QUARANTINE:
            self.rejected(None, batch)
        elif name in self._numbers:
            self.rows(name, batch)
        else:
            raise OutputError(f"unknown output `{name}`: the contract has {sorted(self._numbers)}")

    def _count(self, number: int, rows: int) -> None:
        if rows:
            self._counts[number] = self._counts.get(number, 0) + rows
