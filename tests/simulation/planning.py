"""What the planner decides, over the model of the control database: the rules of `sentinel.planner` for whole sources."""

from __future__ import annotations

from collections.abc import Callable

from casparian.db.records import ExpectedOutputRow
from casparian.domain.outputs import SinkMode
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import JobSpec
from tests.model.control_store import ControlStore
from tests.simulation import jobs


def request(
    request_id: str, names: str, mode: SinkMode, layout: int, *, limit: bool, retry_failed: bool
) -> control.Run:
    """A run over sources, each named by one letter."""
    return control.Run(
        request_id=request_id,
        evidence=names.encode(),
        mode=mode,
        selection=control.Selection(tags=(str(layout),)),
        quarantine_rows_max=0 if limit else None,
        retry_failed=retry_failed,
    )


def make_plan(
    effect: eff.MakePlan,
    store: ControlStore,
    new_job_id: Callable[[], int],
    batch: int,
    now_ns: int,
) -> ev.PlanReady:
    """Decide about each source, and cut what is to be read into jobs of `batch` sources."""
    asked = effect.request
    names = asked.evidence.decode()
    layout = jobs.LAYOUTS[int(asked.selection.tags[0])]
    whole = jobs.spec(
        names, asked.mode, outputs=layout, quarantine_rows_max=asked.quarantine_rows_max
    )
    failed = {
        found.failure_key
        for rows in store.dispositions.values()
        for found in rows
        if found.permanent and not asked.retry_failed
    }
    living = [(m.dataset_id, m.source_id, m.materialization_key) for m in store.living()]
    chosen, rejected = [], 0
    for name in names:
        here = {d: key for d, source, key in living if source == name}
        datasets = [output.dataset_id for output in whole.outputs]
        if asked.mode is SinkMode.ERROR and any(dataset in here for dataset in datasets):
            rejected += 1
            continue
        keys = {whole.key_parts(o, name).materialization_key() for o in whole.outputs}
        done = keys <= {key for d, source, key in living if source == name and d in datasets}
        if not done and whole.key_parts(whole.main, name).materialization_key() not in failed:
            chosen.append(name)
    planned = []
    for start in range(0, len(chosen), batch):
        part = jobs.spec(
            chosen[start : start + batch],
            asked.mode,
            outputs=layout,
            quarantine_rows_max=asked.quarantine_rows_max,
        )
        keys_in_order = tuple(
            part.key_parts(part.main, s.source_id).materialization_key() for s in part.sources
        )
        planned.append(ev.PlannedJob(job_id=new_job_id(), spec=part, keys=keys_in_order))
    return ev.PlanReady(
        run_id=effect.run_id,
        root="/evidence",
        files=control.FileCounts(seen=len(names), selected=len(chosen)),
        items=(),
        jobs=tuple(planned),
        contracts=(),
        expected=_expected(whole, now_ns),
        problems=(),
        rejected={"sink.exists": rejected} if rejected else {},
        by_parser={},
    )


def _expected(spec: JobSpec, now_ns: int) -> tuple[ExpectedOutputRow, ...]:
    return tuple(
        ExpectedOutputRow(
            parser=spec.label,
            artifact_hash=spec.parser.artifact_hash,
            table_name=output.contract.table,
            main=output.contract.main,
            contract_hash=output.contract_hash,
            sink=output.sink.uri,
            declared_at_ns=now_ns,
        )
        for output in spec.outputs
    )
