"""A run from its plan to its result: which jobs it waits for, what they added, what its client is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import structs

from casparian.db.operations import FinishRun, InsertJobs, RecordDecision, SavePlan, StartRun
from casparian.db.records import JobRow, PlanItemRow
from casparian.domain.breakers import CIRCUIT_OPEN
from casparian.domain.files import Decision, PlanReason
from casparian.domain.isolation import IsolationLevel
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.sentinel import answering, breaking, draining
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import MakePlan, Publish
from casparian.sentinel.state import JobEntry, RunEntry, RunState
from casparian.sentinel.totals import PROBLEMS_MAX
from casparian.sentinel.turn import Turn


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
    if run is None and event.run_id is not None:
        return  # the sentinel stops, and has told the client
    if run is None:
        if event.client_id is not None:
            answering.answer_asker(turn, event.client_id, event.number, event.failure)
    else:
        answering.answer(turn, run.run_id, event.failure)
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
    run = turn.state.runs.get(event.run_id)
    if run is None:  # the sentinel stops, and has told the client
        return
    event = _without_shut_out(turn, run, event)
    items = list(event.items)
    adopted: set[int] = set()
    entries: list[JobEntry] = []
    if not run.request.dry_run and not run.cancelled:
        for planned in event.jobs:
            kept, taken = _split_in_flight(turn, planned)
            adopted |= set(taken.values())
            if taken:
                items = [_in_progress(item, taken) for item in items]
            if kept:
                entries.append(_enter(turn, run.run_id, planned, kept))
    for job_id in adopted:
        job = turn.state.jobs[job_id]
        # A recovered job may be this very run's, which was asked for again.
        turn.put_job(structs.replace(job, run_ids=tuple(dict.fromkeys((*job.run_ids, run.run_id)))))
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
            problems=event.problems[:PROBLEMS_MAX],
            # What is skipped because it is recorded already stays as red as it was.
            ledger=control.LedgerTotals(balanced=event.unbalanced == 0),
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


def _without_shut_out(turn: Turn, run: RunEntry, event: ev.PlanReady) -> ev.PlanReady:
    """The plan without jobs of parsers whose breaker is open: those are refused, unless the run asks to try again."""
    shut = [planned for planned in event.jobs if breaking.is_open(turn, planned.spec)]
    if shut and run.request.retry_failed:
        for breaker in {(p.spec.label, p.spec.parser.artifact_hash) for p in shut}:
            breaking.half_open(
                turn, turn.state.breakers[breaker], "breaker.retried", actor=run.actor
            )
        return event
    if not shut:
        return event
    why_of = {planned.job_id: breaking.why(turn, planned.spec) for planned in shut}
    refused = {
        (planned.spec.label, source.source_id): why_of[planned.job_id]
        for planned in shut
        for source in planned.spec.sources
    }
    items = tuple(
        structs.replace(
            item,
            decision=Decision.REJECTED.value,
            reason=PlanReason.CIRCUIT_OPEN.value,
            detail=f"{CIRCUIT_OPEN}: {why}",
            job_id=None,
        )
        if item.decision == Decision.SELECTED
        and (why := refused.get((item.parser or "", item.source_id or "")))
        else item
        for item in event.items
    )
    kept = tuple(planned for planned in event.jobs if planned.job_id not in why_of)
    taken = {source.path for planned in kept for source in planned.spec.sources}
    paths = {source.path for planned in shut for source in planned.spec.sources} - taken
    problems = [
        control.FileProblem(
            path=source.display_path, code=CIRCUIT_OPEN, message=why_of[planned.job_id]
        )
        for planned in shut
        for source in planned.spec.sources
    ]
    files = event.files
    return structs.replace(
        event,
        items=items,
        jobs=kept,
        files=structs.replace(
            files, selected=files.selected - len(paths), skipped=files.skipped + len(paths)
        ),
        problems=(*event.problems, *problems),
        rejected={**event.rejected, CIRCUIT_OPEN: len(refused)},
        by_parser={
            label: sum(len(p.spec.sources) for p in kept if p.spec.label == label)
            for label in event.by_parser
            if any(p.spec.label == label for p in kept)
        },
    )


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
        keys=tuple(planned.keys[index] for index in kept),
    )
    turn.change(job_order=order)
    turn.take_keys(job)
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
            sources=run.request.selection.sources,
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
    minimum = run.request.min_isolation
    jobs = tuple(entries)
    if jobs and minimum is not IsolationLevel.FULL:
        operations.append(
            RecordDecision(
                at_ns=now,
                kind="isolation.lowered",
                fields={"run_id": run.run_id, "actor": run.actor, "min_isolation": minimum.value},
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
        for job in jobs
    )
    if rows:
        operations.append(InsertJobs(at_ns=now, jobs=rows))
    turn.persist(*operations, then=after.Nothing())


# -- the end -----------------------------------------------------------------------------------------------------------------


def settle(turn: Turn) -> None:
    """Publish for runs whose last job has ended; publish what recovered jobs added when nothing else goes on."""
    if turn.state.publishing:
        return
    ended = [r for r in turn.state.runs.values() if r.state is RunState.RUNNING and not r.jobs_open]
    nothing_left = not turn.state.jobs and not turn.state.runs
    if turn.state.draining:  # what waits in the queue is not waited for
        nothing_left = not draining.works(turn.state)
    quiet = turn.state.catalog_dirty and nothing_left
    if not ended and not quiet:
        return
    dry = [run for run in ended if run.request.dry_run]
    for run in dry:
        answering.answer(turn, run.run_id, result_of(turn, run))
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
        finish = FinishRun(
            at_ns=turn.state.now_ns,
            run_id=run_id,
            state=state,
            result=msgspec.json.encode(result).decode(),
        )
        answering.record(turn, run_id, (finish,), result)


def run_recorded(turn: Turn, run_id: str) -> None:
    """The end of a run is recorded: it is over."""
    if run_id in turn.state.runs:
        turn.drop_run(run_id)


def give_up_unstartable(turn: Turn) -> None:
    """Answer runs that wait for workers which cannot be started; their jobs stay queued for a better day."""
    for run in list(turn.state.runs.values()):
        open_jobs = [turn.state.jobs[j] for j in run.jobs_open if j in turn.state.jobs]
        if (
            run.state is not RunState.RUNNING
            or not open_jobs
            or any(job.state is not JobState.QUEUED for job in open_jobs)
        ):
            continue
        failure = control.Failure(
            code="worker.unstartable",
            message=f"no worker could be started in {turn.state.starts_failed} attempts; "
            f"{len(open_jobs)} jobs stay queued",
            exit_code=ExitCode.SENTINEL,
            hint="`logs/workers.stderr` in the home and `casparian doctor` say why; then run again",
        )
        turn.persist(
            FinishRun(
                at_ns=turn.state.now_ns,
                run_id=run.run_id,
                state="failed",
                result=msgspec.json.encode(failure).decode(),
            ),
            then=after.Nothing(),
        )
        answering.answer(turn, run.run_id, failure)
        turn.drop_run(run.run_id)


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
