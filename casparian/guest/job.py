"""One job inside the guest: load the parser, take sources one by one, answer each with batches or an account.

A parser's exception ends its source, not the guest. Its message (type, text, line) goes to the host
as text; the traceback goes to the log pipe. Running out of memory ends the source with
`limit.memory`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from casparian import _native
from casparian.domain.parsers import ParserKind
from casparian.guest.bridge import Bridge, HostGone
from casparian.guest.descriptors import close_all
from casparian.guest.importer import compiled_modules, load_entry
from casparian.guest.self_attack import attack
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import (
    JOB_INDEX,
    QUARANTINE_OF,
    QUARANTINE_OUTPUT,
    Attacked,
    Compiled,
    GuestJob,
    GuestSource,
    Ready,
    SourceEnd,
    SourceFailed,
)
from casparian.sdk.context import Rejected
from casparian.sdk.rows import OutputError
from casparian.sdk.run import Entry, quarantine_batch, run_parser
from casparian.sdk.source import Source

_MESSAGE_CHARACTERS_MAX: Final = 2_000
_NATIVE_QUARANTINE: Final = "@quarantine"
REASON_ROW_TOO_LARGE: Final = "limit.row_bytes"

Work = Callable[[int, GuestSource], None]


def run_job(bridge: Bridge, isolation: dict[str, str]) -> None:
    """Serve one job until the host says FINISH or goes away."""
    opcode, payload, descriptors = bridge.receive()
    close_all(descriptors)
    if opcode is not Opcode.BRIDGE_JOB:
        raise RuntimeError(f"expected a job, got {opcode.name}")
    job = msgspec.msgpack.decode(payload, type=GuestJob)
    try:
        work = _prepare(job, bridge)
    except Exception as error:  # noqa: BLE001 - the border to a parser's code: recorded with the job
        traceback.print_exc()
        bridge.send(Opcode.BRIDGE_FAILED, _failure(JOB_INDEX, error, code="parser.load"))
        return
    bridge.send(Opcode.BRIDGE_READY, Ready(isolation=isolation))
    if job.task == "compile":
        bridge.send(Opcode.BRIDGE_COMPILED, Compiled(modules=compiled_modules(job.files)))
    while True:
        opcode, payload, descriptors = bridge.receive()
        if opcode is Opcode.BRIDGE_FINISH:
            return
        if opcode is not Opcode.BRIDGE_SOURCE or len(descriptors) != 1:
            raise RuntimeError(
                f"expected one source, got {opcode.name} with {len(descriptors)} descriptors"
            )
        source = msgspec.msgpack.decode(payload, type=GuestSource)
        try:
            work(descriptors[0], source)
        except HostGone:
            raise
        except BaseException as error:  # noqa: BLE001 - as above; a parser may even raise SystemExit
            failure = _failure(source.index, error)
            traceback.print_exception(error)
            bridge.send(Opcode.BRIDGE_FAILED, failure)
        finally:
            close_all(descriptors)
            sys.stdout.flush()


def _prepare(job: GuestJob, bridge: Bridge) -> Work:
    """What to do with each source."""
    if job.task == "account":
        return _accounting(job, bridge)
    if job.task == "self_attack":
        return _attacking(job, bridge)
    if job.task == "compile":
        return _no_source
    sender = _Sender(job, bridge)
    if job.kind is ParserKind.NATIVE:
        native = _NATIVE_ENTRIES[job.entry]

        def decode(descriptor: int, source: GuestSource) -> None:
            sender.begin()
            for name, batch in native(descriptor, source.size_bytes, job):
                sender.native(name, batch)
            sender.end(source.index)

        return decode
    entry: Entry = load_entry(job.files, job.entry, job.compiled)

    def parse(descriptor: int, source: GuestSource) -> None:
        sender.begin()
        run_parser(
            entry,
            Source(descriptor, source.size_bytes),
            display_path=source.display_path,
            config=job.config,
            outputs=job.outputs,
            receiver=sender,
        )
        sender.end(source.index)

    return parse


def _no_source(descriptor: int, source: GuestSource) -> None:
    raise RuntimeError(f"source {source.index} ({descriptor}) for a guest that only compiles")


def _accounting(job: GuestJob, bridge: Bridge) -> Work:
    walk = {"evtx": _native.account_evtx, "lines": _native.account_lines}[job.account]

    def account(descriptor: int, source: GuestSource) -> None:
        bridge.send(Opcode.BRIDGE_ACCOUNT, walk(descriptor, source.size_bytes).to_bytes())

    return account


def _attacking(job: GuestJob, bridge: Bridge) -> Work:
    def try_it(descriptor: int, source: GuestSource) -> None:
        name = source.display_path
        outcome = attack(name, job.config, descriptor)
        bridge.send(Opcode.BRIDGE_ATTACKED, Attacked(name=name, outcome=outcome))

    return try_it


def _evtx(descriptor: int, size_bytes: int, job: GuestJob) -> Iterator[tuple[str, Any]]:
    # A fault is taken only by a build made to prove that the ledger sees it; every other build refuses.
    fault = job.config.get("fault")
    return _native.EvtxReader(descriptor, size_bytes, fault=None if fault is None else str(fault))


_NATIVE_ENTRIES: Final[dict[str, Callable[[int, int, GuestJob], Iterator[tuple[str, Any]]]]] = {
    "evtx": _evtx
}


class _Sender:
    """Numbers the outputs, counts what was sent, and sends it."""

    def __init__(self, job: GuestJob, bridge: Bridge) -> None:
        self._bridge = bridge
        self._numbers = {output.table: number for number, output in enumerate(job.outputs, start=1)}
        self._counts: dict[int, int] = {}

    def begin(self) -> None:
        """A new source."""
        self._counts = {}

    def end(self, index: int) -> None:
        """The source is done: say how many rows of each output were sent."""
        self._bridge.send(Opcode.BRIDGE_END, SourceEnd(index=index, rows=self._counts))

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


def _failure(index: int, error: BaseException, *, code: str = "parser.exception") -> SourceFailed:
    """The host's view of an exception: a code, and one line of text."""
    match error:
        case MemoryError():
            code = "limit.memory"
        case OutputError():
            code = "parser.output"
        case _native.SourceError():
            code = str(error.code)
    place = ""
    for step in traceback.extract_tb(error.__traceback__):
        if step.filename.startswith("parser:"):
            place = f" ({step.filename.removeprefix('parser:')} line {step.lineno})"
    text = f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS_MAX] + place
    return SourceFailed(
        index=index, code=code, message=text.encode("utf-8", "backslashreplace").decode()
    )


def leave(status: int) -> None:
    """End the guest without the interpreter's shutdown: Arrow's pools may hang in it, and nothing needs it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the log pipe is closed: nobody reads
            continue
    os._exit(status)
