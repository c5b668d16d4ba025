"""The plan of a run: which file goes to which parser, what is done already and why, what is refused and why.

Rules, per (file, parser), in this order:
  1. A parser that trust refuses makes its files REJECTED.
  2. Equal content is read once, at its first path in walk order.
  3. Error mode: a living materialization of (dataset, source) refuses the file.
  4. The same key in every output is a skip. A key that differs says in which part. Sparse outputs follow the main one, whose
     key covers what is said of them. What was recorded under an older revision of a dataset's contract is done when all
     later revisions are compatible with it, unless rows of it were set aside that a later one may accept.
  5. A lasting failure under the same key is not tried again without `--retry-failed`, unless it met a limit that was raised
     since.
A request with `force` reads again what rules 4 and 5 would skip.
A file that a parser takes by its tags is no dataset's; one that several datasets' contracts match is REJECTED unless all of them
share. With `carve`, a file that no parser takes goes to the parsers that can carve, and the same rules apply.

The planner reads the disk and the database, changes neither, and runs beside the sentinel's loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from casparian.db.planning import History, Recorded
from casparian.db.records import ContractRow, ExpectedOutputRow, PlanItemRow
from casparian.display import path_text
from casparian.domain.datasets import Revision
from casparian.domain.files import CataloguedFile, Decision, FileStatus, PlanReason
from casparian.domain.outputs import SinkMode
from casparian.errors import CasparianError
from casparian.protocol import control
from casparian.scout.selection import why_not_selected
from casparian.sentinel.batching import cut_into_jobs
from casparian.sentinel.candidates import Candidate, OlderRevision, PlanContext, candidates
from casparian.sentinel.events import PlannedJob, PlanReady

# Parts of the key, in the order in which a difference is named, and the reason each stands for.
_PARTS: Final = (
    ("artifact_hash", PlanReason.PARSER_CHANGED),
    ("env_hash", PlanReason.ENVIRONMENT_CHANGED),
    ("parser_config_hash", PlanReason.CONFIG_CHANGED),
    ("schema_hash", PlanReason.SCHEMA_CHANGED),
    ("contract_hash", PlanReason.CONTRACT_CHANGED),
    ("sink_mode", PlanReason.MODE_CHANGED),
    ("sink_config_hash", PlanReason.SINK_SETTING_CHANGED),
    ("lineage_version", PlanReason.LINEAGE_CHANGED),
    ("engine_hash", PlanReason.ENGINE_CHANGED),
)


class _Tally:
    """Decisions as they are made."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.items: list[PlanItemRow] = []
        self.datasets: list[str] = []  # beside each item: what its candidate's main output is
        self.rejected: Counter[str] = Counter()
        self.problems: list[control.FileProblem] = []
        self.unbalanced = 0

    def add(
        self,
        file: CataloguedFile,
        decision: Decision,
        reason: PlanReason,
        detail: str = "",
        *,
        parser: str | None = None,
        job_id: int | None = None,
        dataset: str = "",
    ) -> None:
        self.datasets.append(dataset)
        self.items.append(
            PlanItemRow(
                run_id=self.run_id,
                root=file.root,
                path=file.path,
                display_path=file.display_path,
                parser=parser,
                decision=decision.value,
                reason=reason.value,
                detail=detail,
                source_id=file.source_id,
                job_id=job_id,
            )
        )

    def reject(
        self, file: CataloguedFile, reason: PlanReason, code: str, message: str, parser: str
    ) -> None:
        self.add(file, Decision.REJECTED, reason, f"{code}: {message}", parser=parser)
        self.rejected[code] += 1
        self.problems.append(
            control.FileProblem(path=file.display_path, code=code, message=message)
        )


def make_plan(
    context: PlanContext, request: control.Run, files: Sequence[CataloguedFile], root: bytes
) -> PlanReady:
    """Decide about every file. `files` is in walk order."""
    found, problems = candidates(context, request)
    tally = _Tally(request.request_id)
    tally.problems += problems
    history = context.history([f.source_id for f in files if f.source_id is not None])
    chosen: dict[int, list[CataloguedFile]] = {index: [] for index in range(len(found))}
    first_path: dict[tuple[int, str], str] = {}
    unmatched = unreadable = 0
    accepted_engine = 0
    for file in files:
        if file.status is FileStatus.LINK:
            tally.add(file, Decision.IGNORED, PlanReason.LINK, file.message or "")
            continue
        if file.status is FileStatus.SPECIAL:
            tally.add(file, Decision.IGNORED, PlanReason.SPECIAL, file.message or "")
            continue
        if file.status is not FileStatus.CATALOGUED or file.source_id is None:
            unreadable += 1
            tally.add(file, Decision.UNREADABLE, PlanReason.READ_ERROR, file.message or "")
            code = "source.changed" if file.status is FileStatus.CHANGED else "source.unreadable"
            tally.problems.append(
                control.FileProblem(path=file.display_path, code=code, message=file.message or "")
            )
            continue
        why = why_not_selected(
            request.selection,
            display_path=file.display_path,
            tags=file.tags,
            mtime_ns=file.mtime_ns,
        )
        takers = _takers(found, file)
        if not takers and file.size_bytes:
            takers = [(index, c) for index, c in enumerate(found) if c.carves]
        if why is not None and (takers or request.selection.tags or request.selection.include):
            tally.add(file, Decision.SKIPPED, PlanReason.NOT_SELECTED, why)
            continue
        if not takers and file.companion_of is not None:
            detail = f"belongs to {file.companion_of}"
            tally.add(file, Decision.SKIPPED, PlanReason.COMPANION, detail)
            continue
        if not takers:
            unmatched += 1
            detail = f"tags: {', '.join(file.tags)}" if file.tags else "no tags"
            tally.add(file, Decision.UNMATCHED, PlanReason.NO_PARSER, detail)
            continue
        rivals = [c for _, c in takers if c.revision is not None and not c.revision.dataset.shared]
        if rivals and len(takers) > 1:
            tables = ", ".join(f"`{c.revision.table}`" for _, c in takers if c.revision is not None)
            message = f"the contracts of {tables} all match it, and `{rivals[0].artifact.label}` reads it for one"
            label = rivals[0].artifact.label
            tally.reject(file, PlanReason.CONTRACT_CONFLICT, "contract.ambiguous", message, label)
            continue
        for index, candidate in takers:
            outcome = _decide(candidate, file, history, request, first_path, index, tally)
            if outcome is PlanReason.ENGINE_ACCEPTED:
                accepted_engine += 1
            elif outcome is None:
                chosen[index].append(file)
    jobs = cut_into_jobs(
        found, chosen, root, workers=context.workers, files_max=request.batch_files
    )
    return _assemble(
        request,
        root,
        files,
        found,
        chosen,
        jobs,
        tally,
        unmatched,
        unreadable,
        accepted_engine,
        context.now_ns,
    )


def _takers(found: Sequence[Candidate], file: CataloguedFile) -> list[tuple[int, Candidate]]:
    """Who takes a file: parsers that know it by its tags come before contracts that know only its path."""
    takers = [(index, c) for index, c in enumerate(found) if c.takes(file)]
    by_tag = [(index, c) for index, c in takers if c.revision is None]
    return by_tag or takers


def _decide(
    candidate: Candidate,
    file: CataloguedFile,
    history: History,
    request: control.Run,
    first_path: dict[tuple[int, str], str],
    index: int,
    tally: _Tally,
) -> PlanReason | None:
    """Decide about one (file, parser); `None` when a job must read it."""
    assert file.source_id is not None
    spec, source, label = candidate.spec, file.source_id, candidate.artifact.label
    if candidate.refused is not None:
        error = candidate.refused
        tally.reject(file, PlanReason.UNTRUSTED, error.code, error.message, label)
        return PlanReason.UNTRUSTED
    earlier = first_path.setdefault((index, source), file.display_path)
    if earlier != file.display_path:
        tally.add(
            file,
            Decision.SKIPPED,
            PlanReason.DUPLICATE_CONTENT,
            f"same content as {earlier}",
            parser=label,
        )
        return PlanReason.DUPLICATE_CONTENT
    living = {
        output.dataset_id: history.recorded.get((output.dataset_id, source), [])
        for output in spec.outputs
    }
    if spec.mode is SinkMode.ERROR:
        tables = {output.dataset_id: output.contract.table for output in spec.outputs}
        for dataset, table in (tables | spec.sparse_datasets()).items():
            if held := history.recorded.get((dataset, source)):
                message = f"`{table}` holds this source already (job {held[-1].job_id})"
                tally.reject(file, PlanReason.EXISTS, "sink.exists", message, label)
                return PlanReason.EXISTS
    reason, detail = _compare(candidate, source, living, accept_engine=request.accept_engine)
    is_recorded = reason in (PlanReason.DONE, PlanReason.ENGINE_ACCEPTED)
    if is_recorded and not request.force:
        if (source, spec.parser.name) in history.unbalanced:
            tally.unbalanced += 1
            detail += "; its ledger does not balance"
        tally.add(file, Decision.SKIPPED, reason, detail, parser=label)
        return reason
    main_key = spec.key_parts(spec.main, source).materialization_key()
    failed = history.failures.get(main_key)
    raised = None
    if failed is not None:
        declared, at_ns = candidate.artifact.manifest.limits, history.failed_at.get(main_key, 0)
        raised = candidate.limits.raised_since(declared, failed, at_ns)
    again = request.retry_failed or request.force or raised is not None
    if failed is not None and not again:
        tally.add(file, Decision.SKIPPED, PlanReason.FAILED_BEFORE, failed, parser=label)
        tally.problems.append(
            control.FileProblem(
                path=file.display_path, code="failed_before", message=f"failed before: {failed}"
            )
        )
        return PlanReason.FAILED_BEFORE
    if failed is not None:
        reason, detail = PlanReason.RETRY, f"failed before: {failed}"
        if raised is not None:
            detail += f"; its limit was raised since (approval {raised})"
    elif is_recorded:
        reason, detail = PlanReason.FORCED, f"asked for again; {detail}"
    tally.add(file, Decision.SELECTED, reason, detail, parser=label, dataset=spec.main.dataset_id)
    return None


def _compare(
    candidate: Candidate,
    source: str,
    living: dict[str, list[Recorded]],
    *,
    accept_engine: bool,
) -> tuple[PlanReason, str]:
    """Whether all outputs are recorded under the very same key; if not, which part differs."""
    spec = candidate.spec
    differing: list[PlanReason] = []
    jobs: set[int] = set()
    under = "" if candidate.revision is None else f", {_of_revision(candidate.revision)}"
    for output in spec.outputs:
        parts = spec.key_parts(output, source)
        key = parts.materialization_key()
        recorded = living[output.dataset_id]
        same = next((r for r in recorded if r.materialization_key == key), None)
        if same is not None:
            jobs.add(same.job_id)
            continue
        by_parser = [r for r in recorded if r.parser == spec.parser.name]
        if not by_parser:
            return PlanReason.NEW, f"not in `{output.contract.table}` of {output.sink.uri}{under}"
        newest = by_parser[-1]
        jobs.add(newest.job_id)
        older = _standing_under(candidate, newest)
        if older is not None:
            if older.relaxed and newest.quarantined:
                differing.append(PlanReason.CONTRACT_CHANGED)
                under += (
                    f"; {newest.quarantined} rows were set aside under revision {older.revision}"
                )
                continue
            under += f"; recorded under revision {older.revision}, which gives the same rows"
            parts = msgspec.structs.replace(
                parts,
                parser_config_hash=older.parser_config_hash,
                contract_hash=older.contract_hash,
                schema_hash=older.schema_hash,
            )
        differing += [why for part, why in _PARTS if getattr(newest, part) != getattr(parts, part)]
    if not differing:
        return PlanReason.DONE, f"recorded by job {max(jobs)}{under}"
    reasons = list(dict.fromkeys(differing))
    if reasons == [PlanReason.ENGINE_CHANGED] and accept_engine:
        return PlanReason.ENGINE_ACCEPTED, f"recorded by job {max(jobs)} with another engine{under}"
    named = ", ".join(reason.value for reason in reasons)
    return reasons[0], f"differs from job {max(jobs)} in: {named}{under}"


def _of_revision(revision: Revision) -> str:
    return f"revision {revision.revision} of `{revision.table}`"


def _standing_under(candidate: Candidate, recorded: Recorded) -> OlderRevision | None:
    """The older revision that rows were recorded under, when the newest one would give the same."""
    for older in candidate.older:
        if (recorded.parser_config_hash, recorded.contract_hash, recorded.schema_hash) == (
            older.parser_config_hash,
            older.contract_hash,
            older.schema_hash,
        ):
            return older
    return None


def _assemble(
    request: control.Run,
    root: bytes,
    files: Sequence[CataloguedFile],
    found: Sequence[Candidate],
    chosen: dict[int, list[CataloguedFile]],
    jobs: Sequence[PlannedJob],
    tally: _Tally,
    unmatched: int,
    unreadable: int,
    accepted_engine: int,
    now_ns: int,
) -> PlanReady:
    job_of = {
        (job.spec.label, job.spec.main.dataset_id, source.source_id): job.job_id
        for job in jobs
        for source in job.spec.sources
    }
    items = [
        msgspec.structs.replace(item, job_id=job_of.get((item.parser, dataset, item.source_id)))
        if item.decision == Decision.SELECTED
        and item.parser is not None
        and item.source_id is not None
        else item
        for item, dataset in zip(tally.items, tally.datasets, strict=True)
    ]
    by_parser: Counter[str] = Counter()
    for index, candidate in enumerate(found):
        if chosen[index]:
            by_parser[candidate.artifact.label] += len(chosen[index])
    seen = sum(f.status not in (FileStatus.LINK, FileStatus.SPECIAL) for f in files)
    selected_paths = {file.path for batch in chosen.values() for file in batch}
    counts = control.FileCounts(
        seen=seen,
        selected=len(selected_paths),
        skipped=seen - len(selected_paths) - unmatched - unreadable,
        unmatched=unmatched,
        unreadable=unreadable,
    )
    return PlanReady(
        run_id=request.request_id,
        root=path_text(root),
        files=counts,
        items=tuple(items),
        jobs=tuple(jobs),
        contracts=tuple(
            ContractRow(
                parser=c.artifact.manifest.name,
                table_name=output.contract.table,
                contract_hash=output.contract_hash,
                schema_hash=output.schema_hash,
                document=msgspec.json.encode(output.contract).decode(),
                origin=c.origin,
            )
            for c in found
            if c.refused is None and not c.carves
            for output in c.spec.outputs
        ),
        expected=tuple(
            ExpectedOutputRow(
                parser=c.artifact.label,
                artifact_hash=c.artifact.artifact_hash,
                table_name=output.contract.table,
                main=output.contract.main,
                contract_hash=output.contract_hash,
                sink=output.sink.uri,
                declared_at_ns=now_ns,
            )
            for c in found
            if c.refused is None and not c.carves
            for output in c.spec.outputs
        ),
        problems=tuple(tally.problems),
        rejected=dict(tally.rejected),
        by_parser=dict(by_parser),
        accepted_engine=accepted_engine,
        unbalanced=tally.unbalanced,
    )


def failure_of(error: Exception) -> control.Failure:
    """An error as the reply that a client turns back into the same error."""
    if isinstance(error, CasparianError):
        return control.Failure(
            code=error.code, message=error.message, exit_code=int(error.exit_code), hint=error.hint
        )
    return control.Failure(
        code="internal", message=f"{type(error).__name__}: {error}", exit_code=70, hint=None
    )
