"""A run from its plan to its result: which jobs it waits for, what they added, what its client is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import structs

from casparian.db.operations import FinishRun, InsertJobs, RecordDecision, SavePlan, StartRun
from casparian.db.records import JobRow, PlanItemRow
from casparian.domain.files import Decision, PlanReason
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol import control
from casparian.protocol.worker import SourceTask
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import MakePlan, Publish
from casparian.sentinel.records import POLICY_CODE
from casparian.sentinel.state import JobEntry, OutputTotal, RunEntry, RunState
from casparian.sentinel.turn import Turn
from casparian.sinks.promote import final_path

_PROGRESS_NS: Final = 250_000_000
_PROBLEMS_MAX: Final = 1000


def start(turn: Turn, client_id: int, number: int, request: control.Run) -> None:
    """Begin a run; its id is the request's id, so that a client that asks again finds the same run."""
    run_id = request.request_id
    root = request.evidence.decode("utf-8", "backslashreplace")
    actor = turn.state.clients.get(client_id, "unknown")
    turn.put_run(
        RunEntry(
            run_id=run_id,
            request=request,
            actor=actor,
            client_id=client_id,
            number=number,
            started_ns=turn.state.now_ns,
            root=root,
        )
    )
    if not request.dry_run:
        described = msgspec.json.encode(structs.replace(request, evidence=b"")).decode()
        turn.persist(
            StartRun(
                at_ns=turn.state.now_ns, run_id=run_id, root=root, actor=actor, request=described
            ),
            then=after.Nothing(),
        )
    turn.change(planning=turn.state.planning + 1)
    turn.emit(MakePlan(run_id=run_id, client_id=client_id, number=number, request=request))


def plan_failed(turn: Turn, event: ev.PlanFailed) -> None:
    """The evidence could not be walked, or the request asks for what cannot be."""
    turn.change(planning=turn.state.planning - 1)
    run = turn.state.runs.get(event.run_id) if event.run_id else None
    turn.reply(event.client_id, event.number, event.failure)
    if run is not None:
        turn.drop_run(run.run_id)
        if not run.request.dry_run:
            turn.persist(
                FinishRun(
                    at_ns=turn.state.now_ns,
                    run_id=run.run_id,
                    state="failed",
                    result=msgspec.json.encode(event.failure).decode(),
                ),
                then=after.Nothing(),
            )


def plan_ready(turn: Turn, event: ev.PlanReady) -> None:
    """Enqueue what the plan asks for, except what live jobs do already: the run waits for those too."""
    turn.change(planning=turn.state.planning - 1)
    run = turn.state.runs[event.run_id]
    items = list(event.items)
    adopted: set[int] = set()
    entries: list[JobEntry] = []
    if not run.request.dry_run and not run.cancelled:
        for planned in event.jobs:
            kept, taken = _split_in_flight(turn, planned)
            adopted |= set(taken.values())
            items = [_in_progress(item, taken) for item in items]
            if kept:
                entries.append(_enter(turn, run.run_id, planned, kept))
    for job_id in adopted:
        job = turn.state.jobs[job_id]
        turn.put_job(structs.replace(job, run_ids=(*job.run_ids, run.run_id)))
    jobs = [*entries, *(turn.state.jobs[job_id] for job_id in adopted)]
    reasons: dict[str, int] = {}
    for item in items:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    run = turn.put_run(
        structs.replace(
            run,
            root=event.root,
            state=RunState.RUNNING,
            files=event.files,
            reasons=reasons,
            rejected=event.rejected,
            problems=event.problems[:_PROBLEMS_MAX],
            jobs_open=frozenset(job.job_id for job in jobs),
            jobs_total=len(jobs),
            jobs=control.JobCounts(rejected=sum(event.rejected.values())),
            files_total=sum(len(job.spec.sources) for job in jobs),
            bytes_total=sum(job.spec.size_bytes for job in jobs),
        )
    )
    planned_bytes = (
        sum(p.spec.size_bytes for p in event.jobs) if run.request.dry_run else run.bytes_total
    )
    planned_jobs = len(event.jobs) if run.request.dry_run else run.jobs_total
    turn.tell(
        run.client_id,
        run.number,
        control.Planned(
            run_id=run.run_id,
            root=event.root,
            files=event.files,
            size_bytes=planned_bytes,
            jobs=planned_jobs,
            by_parser=event.by_parser,
            reasons=reasons,
        ),
    )
    if not run.request.dry_run:
        _record_plan(turn, run, event, items, entries)


def _split_in_flight(turn: Turn, planned: ev.PlannedJob) -> tuple[list[int], dict[str, int]]:
    """Indexes of sources that no live job reads, and source id -> live job of the others."""
    kept, taken = [], {}
    for index, key in enumerate(planned.keys):
        job_id = turn.state.keys_in_flight.get(key)
        if job_id is None or turn.state.jobs[job_id].state is JobState.ABORTED:
            kept.append(index)
        else:
            taken[planned.spec.sources[index].source_id] = job_id
    return kept, taken


def _in_progress(item: PlanItemRow, taken: dict[str, int]) -> PlanItemRow:
    if item.decision != Decision.SELECTED or item.source_id not in taken:
        return item
    return structs.replace(
        item,
        decision=Decision.IN_PROGRESS.value,
        reason=PlanReason.RUNNING.value,
        job_id=taken[item.source_id],
    )


def _enter(turn: Turn, run_id: str, planned: ev.PlannedJob, kept: Sequence[int]) -> JobEntry:
    sources = tuple(
        structs.replace(planned.spec.sources[index], index=position)
        for position, index in enumerate(kept)
    )
    order = turn.state.job_order + 1
    job = JobEntry(
        job_id=planned.job_id,
        run_ids=(run_id,),
        spec=structs.replace(planned.spec, sources=sources),
        state=JobState.QUEUED,
        order=order,
    )
    keys = {planned.keys[index]: job.job_id for index in kept}
    turn.change(job_order=order, keys_in_flight={**turn.state.keys_in_flight, **keys})
    return turn.put_job(job)


def _record_plan(
    turn: Turn,
    run: RunEntry,
    event: ev.PlanReady,
    items: Iterable[PlanItemRow],
    entries: Iterable[JobEntry],
) -> None:
    now = turn.state.now_ns
    operations: list[SavePlan | InsertJobs | RecordDecision] = [
        SavePlan(
            at_ns=now,
            run_id=run.run_id,
            root=event.root,
            items=tuple(items),
            contracts=event.contracts,
            expected=event.expected,
        )
    ]
    if event.accepted_engine:
        operations.append(
            RecordDecision(
                at_ns=now,
                kind="engine.accepted",
                fields={"run_id": run.run_id, "actor": run.actor, "files": event.accepted_engine},
            )
        )
    rows = tuple(
        JobRow(
            job_id=job.job_id,
            run_id=run.run_id,
            state=job.state.value,
            epoch=0,
            attempts=0,
            parser=job.spec.label,
            sources=len(job.spec.sources),
            size_bytes=job.spec.size_bytes,
            spec=msgspec.msgpack.encode(job.spec),
            created_at_ns=now,
            updated_at_ns=now,
        )
        for job in entries
    )
    if rows:
        operations.append(InsertJobs(at_ns=now, jobs=rows))
    turn.persist(*operations, then=after.Nothing())


# -- what jobs add -----------------------------------------------------------------------------------------------------------


def _runs_of(turn: Turn, run_ids: Iterable[str]) -> list[RunEntry]:
    return [turn.state.runs[run_id] for run_id in run_ids if run_id in turn.state.runs]


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
    for run in _runs_of(turn, job.run_ids):
        files = structs.replace(run.files, failed=run.files.failed + len(problems))
        kept = (*run.problems, *problems)[:_PROBLEMS_MAX]
        turn.put_run(structs.replace(run, files=files, problems=kept))


def job_committed(turn: Turn, job: JobEntry) -> None:
    """Add what a committed job brought to every run that waited for it."""
    receipt = job.receipt
    assert receipt is not None
    by_policy = receipt.code == POLICY_CODE
    included = [s for s in receipt.sources if s.code is None]
    for run in _runs_of(turn, job.run_ids):
        outputs = dict(run.outputs)
        if not by_policy:
            for output in job.spec.outputs:
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
    for run in _runs_of(turn, job.run_ids):
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


# -- the end -----------------------------------------------------------------------------------------------------------------


def settle(turn: Turn) -> None:
    """Publish for runs whose last job has ended; publish what recovered jobs added when nothing else goes on."""
    if turn.state.publishing:
        return
    ended = [r for r in turn.state.runs.values() if r.state is RunState.RUNNING and not r.jobs_open]
    quiet = turn.state.catalog_dirty and not turn.state.jobs and not turn.state.runs
    if not ended and not quiet:
        return
    dry = [run for run in ended if run.request.dry_run]
    for run in dry:
        turn.reply(run.client_id, run.number, result_of(turn, run))
        turn.drop_run(run.run_id)
    ended = [run for run in ended if not run.request.dry_run]
    if not ended and not quiet:
        return
    for run in ended:
        turn.put_run(structs.replace(run, state=RunState.PUBLISHING))
    turn.change(publishing=True, catalog_dirty=False)
    turn.emit(Publish(run_ids=tuple(run.run_id for run in ended), sinks=_database_sinks(ended)))


def _database_sinks(ended: Iterable[RunEntry]) -> tuple[Sink, ...]:
    sinks: dict[str, Sink] = {}
    for run in ended:
        for _, uri in run.outputs:
            kind, _, location = uri.partition(":")
            if kind == SinkKind.DUCKDB:
                sinks[uri] = Sink(kind=SinkKind.DUCKDB, location=location)
    return tuple(sinks.values())


def published(turn: Turn, event: ev.Published) -> None:
    """Readers see everything: record how the runs ended, then answer."""
    turn.change(publishing=False)
    if event.housekeeping:
        turn.persist(*event.housekeeping, then=after.Nothing())
    for run_id in event.run_ids:
        run = turn.state.runs[run_id]
        if event.code is not None:
            problem = control.FileProblem(path="", code=event.code, message=event.message)
            run = turn.put_run(structs.replace(run, problems=(*run.problems, problem)))
        result = result_of(turn, run)
        state = "cancelled" if run.cancelled else "finished"
        turn.persist(
            FinishRun(
                at_ns=turn.state.now_ns,
                run_id=run_id,
                state=state,
                result=msgspec.json.encode(result).decode(),
            ),
            then=after.AfterRun(run_id=run_id, result=result),
        )


def run_recorded(turn: Turn, then: after.AfterRun) -> None:
    """The run is over."""
    run = turn.state.runs.get(then.run_id)
    if run is not None:
        turn.reply(run.client_id, run.number, then.result)
        turn.drop_run(then.run_id)


def result_of(turn: Turn, run: RunEntry) -> control.RunResult:
    """What the client gets at the end."""
    return control.RunResult(
        run_id=run.run_id,
        root=run.root,
        dry_run=run.request.dry_run,
        files=run.files,
        jobs=run.jobs,
        outputs=tuple(
            control.OutputSummary(table=t.table, rows=t.rows, files=t.files, sink=t.sink)
            for t in sorted(run.outputs.values(), key=lambda t: (t.table, t.sink))
        ),
        quarantined=run.quarantined,
        ledger=run.ledger,
        reasons=run.reasons,
        rejected=run.rejected,
        problems=run.problems,
        quarantine_limit=run.quarantine_limit,
        elapsed_ns=turn.state.now_ns - run.started_ns,
        cancelled=run.cancelled,
    )
