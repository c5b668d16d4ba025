"""Conversations with a guest: one that parses, one that accounts.

The accounting runs in a guest of its own, so that a parser cannot forge it. Both go through the
same steps: JOB and READY, then for each source SOURCE and its answer, then FINISH. A guest that
broke the protocol or died is closed by `fault`, which says why as the host sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from casparian import _native
from casparian.domain.contracts import OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.numbers import INTEGER_MAX
from casparian.errors import ProtocolError
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import (
    JOB_INDEX,
    QUARANTINE_OF,
    QUARANTINE_OUTPUT,
    Companion,
    Compiled,
    GroupEnd,
    GuestJob,
    GuestSource,
    GuestSources,
    Ready,
    SourceEnd,
    SourceFailed,
)
from casparian.protocol.payload import decode
from casparian.protocol.worker import SourceTask
from casparian.worker import isolation
from casparian.worker.bridge import GuestClosed, HostBridge, Received
from casparian.worker.cancel import Cancellation
from casparian.worker.evidence import Evidence
from casparian.worker.faults import Exit, GuestFault, JobFault, SourceExcluded, classify
from casparian.worker.guest_process import GuestProcess, Guests, Needs, Program
from casparian.worker.ipc import check_spans_by_source, read_batch
from casparian.worker.sparse import SparseOutputs

_GRACE_SECONDS: Final = 2.0  # between the end of a stream and the end of its process
_FINISH_SECONDS: Final = 10.0
_READ_BYTES_PER_SECOND_MIN: Final = 20_000_000  # a guest may be silent while it reads on
_MEBIBYTE: Final = 1024 * 1024
GROUP_OUTPUT_BYTES_MAX: Final = (
    96 * _MEBIBYTE
)  # what waits in memory until all of a group's sources are done
_CODE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.")
_CODE_CHARACTERS_MAX: Final = 64
_MESSAGE_CHARACTERS_MAX: Final = 4_096
_NOT_STARTED: Final = ("guest.exit", "guest.crash", "bridge.truncated")
_GUEST_CODES: Final = ("parser.", "limit.", "source.")
_CONTRACT_CODES: Final = frozenset({"contract.document", "contract.drift"})

T = TypeVar("T")


class Batch(NamedTuple):
    """Rows of one output (`output` is its position in the job), or quarantined rows (of an output or of none)."""

    output: int | None
    quarantine: bool
    rows: pa.RecordBatch


class Together(NamedTuple):
    """Rows of several sources by output number as the bridge has it, and how many of them each source has, in order."""

    rows: dict[int, pa.RecordBatch]
    counts: dict[int, list[int]]


class Session:
    """A guest with one job. Any `GuestFault` leaves it closed.

    Args:
        guests: where to fork it.
        job: what it is told first.
        epoch: number of every frame.
        cancellation: kills it and wakes the host.
        keep: given what the guest printed and how it ended, once, when it is closed.
        outcomes: of the self-attacks of this worker; part of the isolation record.
        minimum: a guest that is confined less is of no use to this job.
        needs: what the parser needs beyond what every guest has.
        program: the parser itself, when it is one.

    Raises:
        JobFault: the parser cannot be loaded (`parser.load`), or `isolation.too_low`.
    """

    def __init__(
        self,
        guests: Guests,
        job: GuestJob,
        *,
        epoch: int,
        cancellation: Cancellation,
        keep: Callable[[str, Exit | None], None],
        outcomes: Mapping[str, str],
        minimum: IsolationLevel,
        needs: Needs = Needs(),  # noqa: B008 - a frozen value
        program: Program | None = None,
    ) -> None:
        self._job = job
        self._keep = keep
        self._outcomes = outcomes
        self._minimum = minimum
        self._cancellation = cancellation
        self._program = program
        self._process: GuestProcess = guests.fork(
            memory_bytes=job.limits.memory_mb * _MEBIBYTE,
            cpu_seconds=job.limits.cpu_seconds,
            log_bytes_max=job.limits.log_kb_max * 1024,
            cancellation=cancellation,
            needs=Needs(lean=True) if program is not None or job.task != "parse" else needs,
            program=program,
        )
        self._bridge = HostBridge(self._process.channel, epoch, cancellation)
        self.open = True  # it can take another source
        self.isolation: dict[str, str] = {}
        self.busy = False  # a source was given and not answered to its end
        self.given = 0  # sources
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        idle = self._job.limits.idle_seconds
        self._guarded(lambda: self._bridge.send(Opcode.BRIDGE_JOB, self._job, idle_seconds=idle))
        answer = self._first_answer(idle)
        if answer.opcode is Opcode.BRIDGE_FAILED:
            failed = self._decoded(answer, SourceFailed)
            if failed.index != JOB_INDEX:
                raise self.fault(_protocol("a failure of a source it was never given"))
            raise JobFault(
                "parser.load", f"the parser could not be loaded: {_text(failed.message)}"
            )
        if answer.opcode is not Opcode.BRIDGE_READY:
            raise self.fault(_protocol(f"{answer.opcode.name} instead of READY"))
        claimed = self._process.isolation or self._decoded(answer, Ready).isolation
        verdict, self.isolation = isolation.judged(
            claimed, isolation.observe(self._process.pid), self._outcomes
        )
        isolation.require(verdict, self._minimum)

    def _first_answer(self, idle_seconds: float) -> Received:
        try:
            return self._guarded(lambda: self._bridge.receive(idle_seconds))
        except GuestFault as fault:
            if self._program is None or fault.code not in _NOT_STARTED:
                raise
            raise JobFault(
                "parser.executable", f"the parser's program did not begin to speak: {fault.message}"
            ) from fault

    @property
    def pid(self) -> int:
        """Process id of the guest."""
        return self._process.pid

    def fault(self, fault: GuestFault) -> GuestFault:
        """Close the guest and return why it is of no use any more, as the host sees it."""
        if isinstance(fault, GuestClosed):
            exit_ = self._process.wait(_GRACE_SECONDS)
            if exit_ is None:
                self._process.kill()
                exit_ = self._process.wait(_FINISH_SECONDS)
            if self._process.flooded:
                mebibytes = self._job.limits.log_mb_max
                fault = GuestFault(
                    "limit.log", f"the parser printed more than {mebibytes} MiB for one source"
                )
            elif exit_ is not None:
                fault = classify(exit_, self._job.limits.cpu_seconds)
        self.close()
        self._cancellation.check()
        return fault

    def finish(self) -> None:
        """No more sources: let it end, and reap it."""
        if self.open:
            try:
                self._bridge.send(Opcode.BRIDGE_FINISH, idle_seconds=_FINISH_SECONDS)
                self._process.wait(_FINISH_SECONDS)
            except GuestFault:
                self.close()  # it died after its last answer, which was whole
        self.close()

    def close(self) -> None:
        """Kill the guest if it lives, and reap it; what it printed and how it ended goes to `keep`."""
        if self.open:
            self.open = False
            self._keep(self._process.close(), self._process.end)
            self._cancellation.forget(self._process.kill)

    def _give(self, source: Evidence) -> None:
        """Send one source and its companions, each with a descriptor of its own."""
        message = _described(source.task)
        idle = self._job.limits.idle_seconds
        self._begin(1)
        with source.duplicates() as descriptors:
            self._guarded(
                lambda: self._bridge.send(
                    Opcode.BRIDGE_SOURCE, message, idle_seconds=idle, descriptors=descriptors
                )
            )

    def _give_all(self, sources: Sequence[Evidence]) -> None:
        """Send several small sources at once."""
        message = GuestSources(sources=tuple(_described(source.task) for source in sources))
        self._begin(len(sources))
        with ExitStack() as stack:
            descriptors = [fd for one in sources for fd in stack.enter_context(one.duplicates())]
            self._guarded(
                lambda: self._bridge.send(
                    Opcode.BRIDGE_SOURCES,
                    message,
                    idle_seconds=self._job.limits.idle_seconds,
                    descriptors=descriptors,
                )
            )

    def _begin(self, sources: int) -> None:
        """From here on the limits of a source count anew."""
        self._guarded(self._bridge.check_quiet)
        self.busy = True
        self.given += sources
        self._bridge.begin_source(self._job.limits.wall_seconds)
        self._process.limit_log(self._job.limits.log_mb_max * _MEBIBYTE)

    def _answer(self, source: Evidence) -> Received:
        """Next frame about a source."""
        patience = self._job.limits.idle_seconds
        patience += source.size_bytes // _READ_BYTES_PER_SECOND_MIN
        return self._guarded(lambda: self._bridge.receive(patience))

    def _guarded(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except GuestFault as fault:
            raise self.fault(fault) from fault

    def _decoded(self, received: Received, kind: type[T]) -> T:
        try:
            return decode(msgspec.msgpack.Decoder(kind), received.payload, kind.__name__)
        except ProtocolError as error:
            raise self.fault(_protocol(f"a {error.message}")) from error

    def _failed(self, received: Received, index: int) -> SourceExcluded:
        """The exclusion that a guest's own failure message stands for."""
        failed = self._decoded(received, SourceFailed)
        if failed.index != index:
            raise self.fault(_protocol(f"a failure of source {failed.index}"))
        self.busy = False
        code = failed.code
        if not (
            (code.startswith(_GUEST_CODES) or code in _CONTRACT_CODES)
            and len(code) <= _CODE_CHARACTERS_MAX
            and _CODE_CHARACTERS.issuperset(code)
        ):
            code = "parser.failed"
        if code == "limit.memory":  # what it holds may be what earlier sources left behind
            raise self.fault(GuestFault(code, _text(failed.message)))
        return SourceExcluded(code, _text(failed.message))


class ParseSession(Session):
    """A guest that turns sources into batches.

    Args:
        sparse: contracts of the outputs that are numbered behind the job's own; without it there are none.
    """

    def __init__(
        self, guests: Guests, job: GuestJob, *, sparse: SparseOutputs | None = None, **rest: Any
    ) -> None:
        self._sparse = sparse
        super().__init__(guests, job, **rest)

    def batches(self, source: Evidence) -> Iterator[Batch]:
        """Give a source and yield its batches, each checked, until the guest says it is done.

        Raises:
            SourceExcluded: the parser gave up on the source, or crossed a limit.
            GuestFault: the guest died or broke the protocol; it is closed.
            Cancelled: the job was cancelled.
        """
        limits = self._job.limits
        counts: dict[int, int] = {}
        rows_max = limits.rows_allowed(source.size_bytes)
        self._give(source)
        while True:
            received = self._answer(source)
            if received.opcode is Opcode.BRIDGE_END:
                end = self._decoded(received, SourceEnd)
                if end.index != source.task.index or end.rows != counts:
                    raise self.fault(_protocol("other counts than the rows that came"))
                self._guarded(self._bridge.check_quiet)
                self.busy = False
                return
            if received.opcode is Opcode.BRIDGE_FAILED:
                raise self._failed(received, source.task.index)
            if received.opcode is not Opcode.BRIDGE_BATCH:
                raise self.fault(_protocol(f"{received.opcode.name} in the middle of a source"))
            batch = self._batch(received, source.extent_bytes)
            counts[received.flags] = counts.get(received.flags, 0) + batch.rows.num_rows
            if sum(counts.values()) > rows_max:
                what = f"more than {rows_max} rows"
                if rows_max < limits.rows_max:
                    what += f" from {source.size_bytes} bytes"
                raise self._over("limit.rows", what)
            if self._bridge.received_bytes > limits.output_mb_max * _MEBIBYTE:
                raise self._over("limit.output", f"more than {limits.output_mb_max} MiB of rows")
            yield batch

    def together(self, sources: Sequence[Evidence]) -> Together:
        """Give several small sources at once; their rows, each batch checked.

        Raises:
            SourceExcluded: one of them is not like the others: give them one by one. The guest may still send.
            GuestFault: the guest died or broke the protocol; it is closed.
            Cancelled: the job was cancelled.
        """
        largest = max(source.task.size_bytes for source in sources)
        found: dict[int, list[pa.RecordBatch]] = {}
        self._give_all(sources)
        while True:
            received = self._answer(sources[0])
            if received.opcode is Opcode.BRIDGE_END:
                break
            if received.opcode is Opcode.BRIDGE_FAILED:
                raise self._failed(received, sources[0].task.index)
            if received.opcode is not Opcode.BRIDGE_BATCH:
                raise self.fault(_protocol(f"{received.opcode.name} in the middle of sources"))
            if self._bridge.received_bytes > GROUP_OUTPUT_BYTES_MAX:
                raise SourceExcluded("limit.output", "these sources give too much at once")
            batch = self._batch(received, largest)
            found.setdefault(received.flags, []).append(batch.rows)
        end = self._decoded(received, GroupEnd)
        self._guarded(self._bridge.check_quiet)
        self.busy = False
        rows = {number: _joined(batches) for number, batches in found.items()}
        counts = {number: [one.get(number, 0) for one in end.rows] for number in rows}
        named = {number for one in end.rows for number in one}
        sums = {number: sum(counts[number]) for number in rows}
        if (
            len(end.rows) != len(sources)
            or not named <= rows.keys()
            or any(count < 0 for one in end.rows for count in one.values())
            or sums != {number: batch.num_rows for number, batch in rows.items()}
        ):
            raise self.fault(_protocol("other counts than the rows that came"))
        sizes = [source.task.size_bytes for source in sources]
        for number, batch in rows.items():
            try:
                check_spans_by_source(batch, counts[number], sizes)
            except GuestFault as fault:
                raise self.fault(fault) from fault
        for one, source in zip(end.rows, sources, strict=True):
            if sum(one.values()) > self._job.limits.rows_allowed(source.task.size_bytes):
                raise SourceExcluded("limit.rows", "one of these sources gives too many rows")
        return Together(rows, counts)

    def _batch(self, received: Received, source_bytes: int) -> Batch:
        number = received.flags & ~QUARANTINE_OF
        quarantine = received.flags == QUARANTINE_OUTPUT or bool(received.flags & QUARANTINE_OF)
        contract = self._contract(number)
        if contract is None and received.flags != QUARANTINE_OUTPUT:
            raise self.fault(_protocol(f"a batch of the unknown output {received.flags}"))
        if quarantine:
            contract = None
        try:
            rows = read_batch(received.payload, bridge_schema(contract), source_bytes)
        except GuestFault as fault:
            raise self.fault(fault) from fault
        return Batch(number - 1 if number else None, quarantine, rows)

    def _contract(self, number: int) -> OutputContract | None:
        """The contract of an output by its number, which begins with 1; `None` when there is no such output."""
        own = len(self._job.outputs)
        if 1 <= number <= own:
            return self._job.outputs[number - 1]
        if number > own and self._sparse is not None:
            return self._sparse.contract(number - own - 1)
        return None

    def _over(self, code: str, what: str) -> SourceExcluded:
        return SourceExcluded(code, f"the parser gave {what} for one source")


class AccountSession(Session):
    """A guest that walks sources and says what units are there."""

    def begin(self, source: Evidence) -> None:
        """Give a source; the walk goes on while the parser works."""
        self._give(source)

    def begin_all(self, sources: Sequence[Evidence]) -> None:
        """Give several small sources at once: ask for the `result` of each, in their order."""
        self._give_all(sources)

    def result(self, source: Evidence, *, last: bool = True) -> _native.Account:
        """The account of the source that was given last; `last` is whether no other is due.

        Raises:
            SourceExcluded: the walk gave up.
            GuestFault: the guest died or broke the protocol; it is closed.
        """
        received = self._answer(source)
        if received.opcode is Opcode.BRIDGE_FAILED:
            raise self._failed(received, source.task.index)
        if received.opcode is not Opcode.BRIDGE_ACCOUNT:
            raise self.fault(_protocol(f"{received.opcode.name} instead of an account"))
        if last:
            self._guarded(self._bridge.check_quiet)
            self.busy = False
        try:
            account = _native.Account.from_bytes(received.payload.to_pybytes())
            _check_figures(account, source.size_bytes)
        except (ValueError, _native.SourceError) as error:
            fault = GuestFault("bridge.invalid_account", f"the guest sent a bad account: {error}")
            raise self.fault(fault) from error
        return account


class CompileSession(Session):
    """A guest that compiles a parser's modules and sees no evidence."""

    def result(self) -> dict[str, bytes]:
        """Marshalled code by path; to be given to guests only.

        Raises:
            GuestFault: the guest died or broke the protocol; it is closed.
        """
        received = self._guarded(lambda: self._bridge.receive(self._job.limits.idle_seconds))
        if received.opcode is not Opcode.BRIDGE_COMPILED:
            raise self.fault(_protocol(f"{received.opcode.name} instead of code"))
        modules = self._decoded(received, Compiled).modules
        if not modules.keys() <= self._job.files.keys():
            raise self.fault(_protocol("code of a file that the parser does not have"))
        return modules


def _check_figures(account: _native.Account, size_bytes: int) -> None:
    """Every unit has a byte at least. What the evidence claims of itself (`declared`) may be any number."""
    figures = (account.present, account.slack_records, account.blank_units, account.blank_bytes)
    places = [place for _, offset, length, _ in account.findings for place in (offset, length)]
    if max(figures) > size_bytes or max(places, default=0) > INTEGER_MAX:
        raise ValueError(f"it counts more than {size_bytes} bytes can hold")


def _described(task: SourceTask) -> GuestSource:
    return GuestSource(
        index=task.index,
        size_bytes=task.size_bytes,
        display_path=task.display_path,
        companions=tuple(
            Companion(role=companion.role, size_bytes=companion.size_bytes)
            for companion in task.companions
        ),
    )


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _protocol(what: str) -> GuestFault:
    return GuestFault("bridge.protocol", f"the guest sent {what}")


def _text(message: str) -> str:
    return message[:_MESSAGE_CHARACTERS_MAX]
