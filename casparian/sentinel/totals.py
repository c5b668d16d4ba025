"""What jobs add to the runs that wait for them: files, rows, quarantine, ledgers, problems, progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import structs

from casparian.domain.outputs import SinkKind
from casparian.protocol import control
from casparian.protocol.worker import SourceTask
from casparian.sentinel.records import POLICY_CODE
from casparian.sentinel.state import JobEntry, OutputTotal, RunEntry
from casparian.sentinel.turn import Turn
from casparian.sinks.promote import final_path

PROBLEMS_MAX: Final = 1000
_PROGRESS_NS: Final = 250_000_000


def _runs_of(turn: Turn, run_ids: Iterable[str]) -> list[RunEntry]:
    return [turn.state.runs[run_id] for run_id in run_ids if run_id in turn.state.runs]


def _waiting(turn: Turn, job: JobEntry) -> list[RunEntry]:
    """Runs that wait for the job: not one that is asked for again and has not found it in its plan yet."""
    return [run for run in _runs_of(turn, job.run_ids) if job.job_id in run.jobs_open]


def sources_failed(turn: Turn, job: JobEntry, code: str, message: str) -> None:
    """Every source of the job failed; a source's own code wins."""
    own = {s.index: s for s in job.receipt.sources if s.code is not None} if job.receipt else {}
    problems = []
    for task in job.spec.sources:
        source = own.get(task.index)
        problems.append(
            control.FileProblem(
                path=task.display_path,
                code=source.code if source and source.code else code,
                message=source.message if source else message,
            )
        )
    _add_failures(turn, job, problems)


def sources_refused(
    turn: Turn, job: JobEntry, sources: Sequence[SourceTask], code: str, message: str
) -> None:
    """Sources that lost a race in T1."""
    _add_failures(
        turn,
        job,
        [control.FileProblem(path=s.display_path, code=code, message=message) for s in sources],
    )


def _add_failures(turn: Turn, job: JobEntry, problems: Sequence[control.FileProblem]) -> None:
    for run in _waiting(turn, job):
        files = structs.replace(run.files, failed=run.files.failed + len(problems))
        kept = (*run.problems, *problems)[:PROBLEMS_MAX]
        turn.put_run(structs.replace(run, files=files, problems=kept))


def job_committed(turn: Turn, job: JobEntry) -> None:
    """Add what a committed job brought to every run that waited for it."""
    receipt = job.receipt
    assert receipt is not None
    by_policy = receipt.code == POLICY_CODE
    included = [s for s in receipt.sources if s.code is None]
    for run in _waiting(turn, job):
        outputs = dict(run.outputs)
        if not by_policy:
            for output in job.spec.written({file.table for file in receipt.files}):
                key = (output.contract.table, output.sink.uri)
                before = outputs.get(key, OutputTotal(table=key[0], sink=key[1]))
                files = tuple(
                    output.sink.location
                    if output.sink.kind is SinkKind.DUCKDB
                    else final_path(output.sink, f.path)
                    for f in receipt.files
                    if f.table == key[0] and f.sink.uri == key[1]
                )
                outputs[key] = structs.replace(
                    before,
                    rows=before.rows + sum(s.rows.get(key[0], 0) for s in included),
                    files=tuple(dict.fromkeys((*before.files, *files))),
                )
        run = structs.replace(
            run,
            outputs=outputs,
            quarantined=run.quarantined + sum(s.quarantined for s in included),
            quarantine_limit=run.quarantine_limit or by_policy,
            ledger=_add_ledgers(run.ledger, job),
        )
        turn.put_run(run)
    failures = [
        control.FileProblem(
            path=job.spec.sources[s.index].display_path, code=s.code, message=s.message
        )
        for s in receipt.sources
        if s.code is not None
    ]
    if by_policy:
        failures += [
            control.FileProblem(
                path=job.spec.sources[s.index].display_path,
                code=POLICY_CODE,
                message=receipt.message,
            )
            for s in included
        ]
    _add_failures(turn, job, failures)


def _add_ledgers(total: control.LedgerTotals, job: JobEntry) -> control.LedgerTotals:
    assert job.receipt is not None
    for source in job.receipt.sources:
        ledger = source.ledger
        if source.code is not None or ledger is None:
            continue
        total = control.LedgerTotals(
            balanced=total.balanced and ledger.balanced,
            present=total.present + ledger.present,
            rows=total.rows + ledger.rows,
            recovered=total.recovered + ledger.recovered,
            quarantined=total.quarantined + ledger.quarantined,
            lost=total.lost + ledger.lost,
            findings=total.findings + len(ledger.findings),
        )
    return total


def job_ended(turn: Turn, job: JobEntry, how: str) -> None:
    """A job left the queue for good."""
    for run in _waiting(turn, job):
        counts = structs.replace(run.jobs, **{how: getattr(run.jobs, how) + 1})
        turn.put_run(
            structs.replace(
                run,
                jobs=counts,
                jobs_open=run.jobs_open - {job.job_id},
                files_done=run.files_done + len(job.spec.sources),
                bytes_done=run.bytes_done + job.spec.size_bytes,
            )
        )
    report_progress(turn, job.run_ids)


def commit_waits(turn: Turn, job: JobEntry, code: str, message: str, pause_ns: int) -> None:
    """Tell who waits for the job that its sink cannot be written just now."""
    said = control.CommitWaits(
        job_id=job.job_id, code=code, message=message, tried=job.promotes, pause_ns=pause_ns
    )
    for run in _waiting(turn, job):
        turn.tell(run.client_id, run.number, said)


def report_progress(turn: Turn, run_ids: Iterable[str]) -> None:
    """Tell waiting clients, at most four times a second."""
    for run in _runs_of(turn, run_ids):
        if turn.state.monotonic_ns - run.progress_sent_ns < _PROGRESS_NS and run.jobs_open:
            continue
        live = [turn.state.jobs[j].progress for j in run.jobs_open if j in turn.state.jobs]
        done_rows = sum(total.rows for total in run.outputs.values())
        turn.put_run(structs.replace(run, progress_sent_ns=turn.state.monotonic_ns))
        turn.tell(
            run.client_id,
            run.number,
            control.Progress(
                run_id=run.run_id,
                jobs_done=run.jobs_total - len(run.jobs_open),
                jobs_total=run.jobs_total,
                files_done=run.files_done + sum(p.sources_done for p in live),
                files_total=run.files_total,
                bytes_done=run.bytes_done + sum(p.bytes_done for p in live),
                bytes_total=run.bytes_total,
                rows=done_rows + sum(p.rows for p in live),
                quarantined=run.quarantined + sum(p.quarantined for p in live),
            ),
        )
