"""Execute one dispatch: parser and sources in, staged files and a receipt out.

Each source is hashed by the host, parsed in one confined guest and accounted for in another, at the
same time. Its rows are kept only when all three are done and the bytes are the recorded ones.
  * The guests of a worker attack themselves before its first job. Guests that are confined less than
    the job asks for never see a byte of it.
  * A guest that dies or breaks the protocol: the source is rolled back and, when the fault's kind allows
    it, tried once more, alone, in a fresh guest; after a second failure it is excluded with its code. A
    violation of the confinement is never tried again, and the receipt names it.
  * A source that changed, cannot be read, or whose parser gave up is excluded; the others go on.
  * Both guests are reaped before any file is finished; files are fsynced before the receipt is
    given. A cancelled job leaves no guest and no stage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from typing import Final

import msgspec

from casparian import _native
from casparian.display import show
from casparian.domain.ledger import Finding, Ledger
from casparian.domain.limits import LIMITS_RAISED, raised_text
from casparian.domain.parsers import ParserKind
from casparian.domain.trust import TrustRecord
from casparian.errors import SinkFault
from casparian.paths import Home
from casparian.protocol.guest import GuestJob
from casparian.protocol.worker import (
    Dispatch,
    Receipt,
    SourceProgress,
    SourceReceipt,
    SourceTask,
)
from casparian.sinks.faults import is_transient
from casparian.worker import background, guest_job, isolation, parser_files, policy, self_attack
from casparian.worker.background import in_background
from casparian.worker.balance import balance
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.compiled import CompiledParsers
from casparian.worker.environments import Environments
from casparian.worker.evidence import Evidence, all_intact
from casparian.worker.faults import (
    Exit,
    GuestFault,
    JobFault,
    JobViolation,
    SourceExcluded,
)
from casparian.worker.group import groups
from casparian.worker.guest_process import Guests, Needs, Program
from casparian.worker.isolation import Measured
from casparian.worker.outputs import Outputs
from casparian.worker.programs import program_of
from casparian.worker.session import AccountSession, CompileSession, ParseSession
from casparian.worker.sparse import SparseOutputs

_log = logging.getLogger(__name__)
_ATTEMPTS: Final = 2
_FINDINGS_PER_JOB_MAX: Final = 100_000
_LOG_CHARACTERS_MAX: Final = 128 * 1024
_VIOLATIONS_NAMED_MAX: Final = 8

ReportProgress = Callable[[SourceProgress], None]


class Services:
    """What outlives a job: the zygote, what its guests could do to us, and who says whether a parser may run.

    Use it from one thread that lives as long as the process.
    """

    def __init__(self, home: Home, judge: parser_files.Judge | None = None) -> None:
        self.home = home
        self.guests = Guests(home)
        self.judge = judge or parser_files.judge_of(home)
        self.compiled = CompiledParsers()
        self.environments = Environments(home)
        self._measured: dict[tuple[Needs, bool], Measured] = {}

    def measured(
        self,
        cancellation: Cancellation,
        needs: Needs = Needs(),  # noqa: B008 - a frozen value
        *,
        program: bool = False,
    ) -> Measured:
        """What the self-attacks showed; they run when it is asked for first.

        Args:
            cancellation: of the job that waits.
            needs: what the guests' zygote has loaded: other modules, other zygote, other guests.
            program: the guests become programs: other filters.

        Raises:
            JobFault: no guest could be had.
            Cancelled: the job was cancelled meanwhile.
        """
        found = self._measured.get((needs, program))
        if found is None:
            found = self._measured[needs, program] = self_attack.measure(
                self.guests, cancellation, needs, program=program
            )
            verdict = found.verdict
            fields = {"level": verdict.level.value, "missing": ", ".join(verdict.missing)}
            _log.info("self-attacks", extra={"fields": fields})
        return found

    def close(self) -> None:
        """End the zygotes; environments may be removed then."""
        self.guests.close()
        self.environments.close()


def execute(
    dispatch: Dispatch, services: Services, progress: ReportProgress, cancellation: Cancellation
) -> Receipt:
    """Run one job to its end.

    Args:
        dispatch: the job; its stages do not exist yet.
        services: the zygote to fork guests from.
        progress: called on this thread, often; must return quickly.
        cancellation: may be set from any thread; guests are killed at once.

    Raises:
        Cancelled: the guests are reaped and the stage is removed.
    """
    execution = _Execution(dispatch, services, progress, cancellation)
    try:
        return execution.run()
    except (JobFault, SinkFault) as error:
        execution.abandon()
        cancellation.check()
        return Receipt(
            sources=(),
            files=(),
            isolation=execution.record(),
            trust=execution.trust,
            guest_log=execution.log,
            code=error.code,
            message=error.message,
            transient=is_transient(error),
        )
    except BaseException:
        execution.abandon()
        raise


class _Execution:
    """State of one job while it runs."""

    def __init__(
        self,
        dispatch: Dispatch,
        services: Services,
        progress: ReportProgress,
        cancellation: Cancellation,
    ) -> None:
        self._dispatch = dispatch
        self._services = services
        self._guests = services.guests
        self._sparse = SparseOutputs(dispatch)
        self._outcomes: dict[str, str] = {}
        self._needs = Needs(dispatch.parser.preload)
        self._program: Program | None = None
        self._fresh = True  # the parser's guest had seen no source before the one in work
        self._violations: list[str] = []
        self._ends: list[Exit] = []
        self._report = progress
        self._cancellation = cancellation
        self._findings_left = _FINDINGS_PER_JOB_MAX
        self._files: dict[str, bytes] = {}
        self.trust: TrustRecord | None = None
        self._compiled: Mapping[str, bytes] = {}
        self._parser: ParseSession | None = None
        self._accountant: AccountSession | None = None
        self._outputs: Outputs | None = None
        self._done = SourceProgress()
        self._logs: list[str] = []
        self.isolation: dict[str, str] = {}

    def run(self) -> Receipt:
        """All sources, then the files, then the receipt."""
        self._files, self.trust = parser_files.load(self._dispatch.parser, self._services.judge)
        if self._dispatch.parser.requirements:
            environment = self._services.environments.of(
                self._files, self._dispatch.parser, self._cancellation
            )
            self._needs = self._needs._replace(environment=environment.site)
        if self._dispatch.parser.kind is ParserKind.EXECUTABLE:
            self._program = Program(program_of(self._files, self._dispatch.parser, self.trust))
        measured = self._services.measured(
            self._cancellation, self._needs, program=self._program is not None
        )
        self._outcomes = measured.outcomes
        verdict, self.isolation = isolation.judged(
            measured.claimed, measured.observed, measured.outcomes
        )
        isolation.require(verdict, self._dispatch.min_isolation)  # before any parser's code runs
        if self._dispatch.parser.kind is ParserKind.PYTHON:
            self._compiled = self._services.compiled.of(
                self._dispatch.parser.artifact_hash,
                guest_job.to_parse(self._dispatch.parser, self._dispatch.outputs, self._files),
                self._compiling,
                self._cancellation,
            )
        outputs = self._outputs = Outputs(self._dispatch, self.trust, self._sparse)
        receipts = []
        for tasks in groups(self._dispatch):
            self._cancellation.check()
            together = self._together(tasks, outputs) if len(tasks) > 1 else None
            for position, task in enumerate(tasks):
                self._cancellation.check()
                receipts.append(together[position] if together else self._source(task, outputs))
                if self.trust.is_unsigned:  # a guest of its own for each file
                    self._end_parser()
                self._count(receipts[-1], task.size_bytes)
        for session in (self._parser, self._accountant):
            if session is not None:
                session.finish()
        self._retire_sessions()
        self._cancellation.check()
        message = policy.over(
            self._dispatch, receipts, outputs.rows_total, outputs.quarantined_total
        )
        files = outputs.finish(quarantine_only=message is not None)
        self._cancellation.check()
        return Receipt(
            sources=tuple(receipts),
            files=files,
            isolation=self.record(),
            trust=self.trust,
            guest_log=self.log,
            code=None if message is None else "quarantine.limit",
            message=message or "",
        )

    def _together(
        self, tasks: Sequence[SourceTask], outputs: Outputs
    ) -> list[SourceReceipt] | None:
        """Several small sources at once; `None`, and nothing is done, when they must be taken one by one."""
        with ExitStack() as stack:
            try:
                sources = [stack.enter_context(Evidence(task)) for task in tasks]
                verdict = in_background(lambda: all_intact(sources))
                stack.callback(wait, (verdict,))  # it reads what is closed behind it
                accountant = self._accounting()
                accountant.begin_all(sources)
                parsed = self._parsing().together(sources)
                accounts = [
                    accountant.result(source, last=source is sources[-1]) for source in sources
                ]
            except (SourceExcluded, GuestFault) as error:
                for session in (self._parser, self._accountant):
                    if session is not None and session.busy:
                        session.close()
                if isinstance(error, GuestFault):
                    self._flag(error, sources[0])
                return None
            finally:
                self._forget_closed()
            if not background.result(verdict, self._cancellation) or any(
                source.touched() for source in sources
            ):
                return None
            kept = outputs.keep_together(sources, parsed)
        if kept is None:
            return None
        unit = self._dispatch.parser.unit
        return [
            SourceReceipt(
                index=task.index,
                rows=one.rows,
                quarantined=one.quarantined,
                ledger=self._bounded(balance(one.units, account, unit)),
            )
            for task, one, account in zip(tasks, kept, accounts, strict=True)
        ]

    def _source(self, task: SourceTask, outputs: Outputs) -> SourceReceipt:
        try:
            with Evidence(task) as source:
                return self._open_source(source, outputs)
        except SourceExcluded as error:
            return _excluded(task, error)

    def _open_source(self, source: Evidence, outputs: Outputs) -> SourceReceipt:
        task = source.task
        verdict = in_background(source.verify)
        why_no_account = self._begin_account(source)
        excluded: SourceExcluded | GuestFault | None = None
        try:
            self._parse(source, outputs)
        except (SourceExcluded, GuestFault) as error:
            excluded = error
        # The host's own word on the evidence comes before what a guest made of it.
        excluded = background.result(verdict, self._cancellation) or source.touched() or excluded
        if excluded is not None:
            outputs.rollback()
            self._retire_accountant()
            if isinstance(excluded, JobViolation):
                message = f"{show(task.display_path)}: {excluded.message}"
                raise JobFault(excluded.code, message)
            return _excluded(task, excluded)
        account, why = self._end_account(source, why_no_account)
        ledger = self._bounded(balance(outputs.units, account, self._dispatch.parser.unit, why))
        receipt = SourceReceipt(
            index=task.index, rows=outputs.rows, quarantined=outputs.quarantined, ledger=ledger
        )
        outputs.commit()
        return receipt

    def _bounded(self, ledger: Ledger) -> Ledger:
        """Keep the receipt of the whole job within one frame; what is left out is said."""
        if len(ledger.findings) <= self._findings_left:
            self._findings_left -= len(ledger.findings)
            return ledger
        kept = ledger.findings[: self._findings_left]
        self._findings_left = 0
        message = f"{len(ledger.findings)} findings, {len(kept)} of them kept: the job has too many"
        capped = Finding(code="findings.capped", offset=0, length=0, message=message)
        return msgspec.structs.replace(ledger, findings=(*kept, capped))

    def _parse(self, source: Evidence, outputs: Outputs) -> None:
        """Parse one source into the stages; a guest's death is forgiven once."""
        for attempt in range(1, _ATTEMPTS + 1):
            outputs.begin(source)
            try:
                self._stream(source, outputs)
            except GuestFault as fault:
                outputs.rollback()
                self._retire_parser()
                self._flag(fault, source)
                if attempt == _ATTEMPTS or not fault.retry_alone(fresh=self._fresh):
                    raise
            else:
                if attempt > 1:  # it was alone with its guest, and stays alone
                    self._retire_parser()
                return

    def _stream(self, source: Evidence, outputs: Outputs) -> None:
        session = self._parsing()
        self._fresh = session.given == 0
        try:
            for batch in session.batches(source):
                outputs.write(batch)
                if batch.output is None or batch.output < len(self._dispatch.outputs):
                    self._tell(outputs, batch.rows.column(0)[-1].as_py())
        finally:
            if session.busy:  # it still sends what nobody wants any more
                self._retire_parser()

    def _parsing(self) -> ParseSession:
        if self._parser is None:
            dispatch = self._dispatch
            self._parser = ParseSession(
                self._guests,
                guest_job.to_parse(
                    dispatch.parser,
                    dispatch.outputs,
                    self._files,
                    self._compiled,
                    threads=dispatch.threads,
                ),
                epoch=dispatch.epoch,
                cancellation=self._cancellation,
                keep=self._keep,
                outcomes=self._outcomes,
                minimum=dispatch.min_isolation,
                needs=self._needs,
                program=self._program,
                sparse=self._sparse,
            )
            self.isolation = self._parser.isolation
        return self._parser

    def _compiling(self, job: GuestJob) -> CompileSession:
        return CompileSession(
            self._guests,
            job,
            epoch=self._dispatch.epoch,
            cancellation=self._cancellation,
            keep=lambda _log, _end: None,  # it is no guest of this job: it saw none of its evidence
            outcomes=self._outcomes,
            minimum=self._dispatch.min_isolation,
        )

    def _begin_account(self, source: Evidence) -> str:
        """Let the other guest walk the source meanwhile; why it cannot, if it cannot."""
        try:
            self._accounting().begin(source)
        except GuestFault as fault:
            self._retire_accountant()
            self._flag(fault, source)
            return fault.message
        return ""

    def _accounting(self) -> AccountSession:
        if self._accountant is None:
            self._accountant = AccountSession(
                self._guests,
                guest_job.to_account(self._dispatch.parser),
                epoch=self._dispatch.epoch,
                cancellation=self._cancellation,
                keep=self._keep,
                outcomes=self._outcomes,
                minimum=self._dispatch.min_isolation,
            )
        return self._accountant

    def _end_account(self, source: Evidence, why: str) -> tuple[_native.Account | None, str]:
        """The account, or why there is none; a guest's death is forgiven once here as well."""
        for attempt in range(1, _ATTEMPTS + 1):
            if self._accountant is None:
                why = self._begin_account(source)
            if self._accountant is None:
                continue
            try:
                return self._accountant.result(source), ""
            except SourceExcluded as error:
                return None, error.message
            except GuestFault as fault:
                why = fault.message
                fresh = self._accountant.given == 1
                self._retire_accountant()
                self._flag(fault, source)
                _log.warning("accounting failed, attempt %d: %s", attempt, why)
                if not fault.retry_alone(fresh=fresh):
                    break
        return None, why

    def _tell(self, outputs: Outputs, position: int) -> None:
        """Progress in the middle of a source."""
        self._report(
            msgspec.structs.replace(
                self._done,
                bytes_done=self._done.bytes_done + position,
                rows=self._done.rows + sum(outputs.rows.values()),
                quarantined=self._done.quarantined + outputs.quarantined,
            )
        )

    def _count(self, receipt: SourceReceipt, size_bytes: int) -> None:
        self._done = SourceProgress(
            sources_done=self._done.sources_done + 1,
            bytes_done=self._done.bytes_done + size_bytes,
            rows=self._done.rows + sum(receipt.rows.values()),
            quarantined=self._done.quarantined + receipt.quarantined,
        )
        self._report(self._done)

    def _end_parser(self) -> None:
        if self._parser is not None:
            self._parser.finish()
        self._retire_parser()

    def _retire_parser(self) -> None:
        if self._parser is not None:
            self._parser.close()
            self._parser = None

    def _retire_accountant(self) -> None:
        if self._accountant is not None:
            self._accountant.close()
            self._accountant = None

    def _forget_closed(self) -> None:
        """Sessions whose guest is gone are of no use any more."""
        if self._parser is not None and not self._parser.open:
            self._parser = None
        if self._accountant is not None and not self._accountant.open:
            self._accountant = None

    def _retire_sessions(self) -> None:
        self._retire_parser()
        self._retire_accountant()

    def _keep(self, log: str, end: Exit | None) -> None:
        """A guest ended."""
        self._logs.append(log)
        if end is not None:
            self._ends.append(end)

    def _flag(self, fault: GuestFault, source: Evidence) -> None:
        """Remember a violation: the receipt flags the artifact for it."""
        if fault.code == "confinement.violation":
            self._violations.append(source.task.display_path)

    def record(self) -> dict[str, str]:
        """The isolation record of the receipt: what confined the guests, what they used, what they were killed for."""
        task = self._dispatch.parser
        kept = dict(self.isolation)
        if task.raised:
            kept[LIMITS_RAISED] = raised_text(task.limits, task.raised)
        if self._ends:
            seconds = sum(end.cpu_seconds for end in self._ends)
            peak = max(end.memory_peak_bytes for end in self._ends)
            kept["guests"] = str(len(self._ends))
            kept["guest_cpu_seconds"] = f"{seconds:.3f}"
            kept["guest_memory_peak_bytes"] = str(peak)
        if self._violations:
            named = ", ".join(self._violations[:_VIOLATIONS_NAMED_MAX])
            kept["violations"] = f"{len(self._violations)}: {named}"
            kept["flagged_artifact"] = self._dispatch.parser.artifact_hash
        return kept

    @property
    def log(self) -> str:
        """What the guests printed, capped."""
        return "".join(self._logs)[:_LOG_CHARACTERS_MAX]

    def abandon(self) -> None:
        """Reap the guests, then remove what was staged."""
        self._retire_sessions()
        if self._outputs is not None:
            self._outputs.abort()


def _excluded(task: SourceTask, error: SourceExcluded | GuestFault) -> SourceReceipt:
    return SourceReceipt(
        index=task.index, code=error.code, message=error.message, transient=error.transient
    )


__all__ = ["Cancelled", "ReportProgress", "Services", "execute"]
