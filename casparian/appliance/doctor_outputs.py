"""The catalog, recorded outputs, database sinks, orphans, stages and ledgers of one home."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Iterator

from casparian.appliance import output_check
from casparian.appliance.doctor_check import DETAILS_MAX, Check, named
from casparian.appliance.doctor_databases import check_databases
from casparian.appliance.doctor_truth import Truth
from casparian.appliance.output_check import OutputProblem, Progress
from casparian.display import show
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control
from casparian.query.engine import Query
from casparian.sinks.catalog import numbered

_REWRITE_HINT = "`casparian doctor --repair` writes it again"


def check_catalog(query: Query, truth: Truth) -> Check:
    """The catalog that readers open against what is recorded."""
    tables = [name for name in query.tables if not name.endswith("__all")]
    message = f"generation {query.catalog.generation}, tables: {', '.join(tables)}"
    if not truth.from_sentinel:
        return Check(check="catalog", status="ok", message=message)
    listed = {
        (dataset.sink.uri, dataset.table, file.path, file.job_id)
        for _, dataset in numbered(query.catalog)
        for file in dataset.files
    }
    recorded = {(o.sink, o.table_name, o.path, o.job_id) for o in truth.live}
    details = [{"path": entry[2], "problem": "not listed"} for entry in sorted(recorded - listed)]
    details += [{"path": entry[2], "problem": "listed only"} for entry in sorted(listed - recorded)]
    retired: dict[tuple[str, str], int] = defaultdict(int)
    for load in truth.loads:
        retired[load.sink, load.table_name] += load.retired
    for _, dataset in numbered(query.catalog):
        if len(dataset.retired) != retired[dataset.sink.uri, dataset.table]:
            details.append({"table": dataset.table, "problem": "shows retired rows"})
    details += [{"table": name, "problem": "no view"} for name in _missing_views(query)]
    if not details:
        return Check(check="catalog", status="ok", message=message)
    return Check(
        check="catalog",
        status="fail" if truth.at_rest else "warn",
        message=f"does not say what is recorded, in {len(details)} places",
        hint=_REWRITE_HINT if truth.at_rest else "work is under way; ask again when it is done",
        details=tuple(details[:DETAILS_MAX]),
        rewrite="catalog",
    )


def _missing_views(query: Query) -> list[str]:
    """Views that the catalog file should have; one over a missing file is left out when it is written, and told elsewhere."""
    found = {
        line["view_name"]
        for line in query.fetch(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal "
            "AND database_name LIKE '%catalog'"
        )
    }
    missing = []
    for _, dataset in numbered(query.catalog):
        whole = all(os.path.isfile(path) for path in dataset.paths)
        meant = (
            dataset is query.catalog.quarantine or query.catalog.resolve(dataset.table) is dataset
        )
        if whole and meant:
            missing += [n for n in (dataset.table, f"{dataset.table}__all") if n not in found]
    return missing


def broken_catalog(error: CasparianError) -> Check:
    """A catalog that cannot be read."""
    return Check(
        check="catalog",
        status="fail",
        message=error.message,
        hint=_REWRITE_HINT,
        rewrite="catalog",
    )


def check_files(
    home: Home, truth: Truth, *, verify: bool, progress: Progress = lambda _done, _total: None
) -> Iterator[Check]:
    """Outputs, database sinks, files without a record, stages."""
    yield _recorded(truth, verify=verify, progress=progress)
    yield from check_databases(truth)
    if truth.at_rest:
        try:
            yield _orphans(list(output_check.orphans(home, truth)))
            yield _stages(list(output_check.leftover_stages(truth)))
        except OSError as error:
            message = f"`{show(str(error.filename or ''))}` cannot be listed: {error.strerror}"
            yield Check(check="orphans", status="fail", message=message)


def _recorded(truth: Truth, *, verify: bool, progress: Progress) -> Check:
    lines = truth.live
    problems = output_check.check_outputs(lines, verify=verify, progress=progress)
    count = len({line.path for line in lines})
    if not problems:
        how = "exist and have their hashes" if verify else "exist with their sizes"
        hint = None if verify else "`casparian doctor --verify` hashes them"
        return Check(check="outputs", status="ok", message=f"{count} files {how}", hint=hint)
    told = "; ".join(f"`{show(p.recorded.path)}` {p.message}" for p in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return Check(
        check="outputs",
        status="fail",
        message=f"{len(problems)} of {count} files: {told}{more}",
        hint=_rebuild_hint(truth, problems),
        details=tuple(
            {
                "path": p.recorded.path,
                "problem": p.problem,
                "message": p.message,
                "table": p.recorded.table_name,
                "job_id": p.recorded.job_id,
            }
            for p in problems[:DETAILS_MAX]
        ),
        asides=tuple(
            control.Aside(path=p.recorded.path, why="altered")
            for p in problems
            if p.problem == "altered" and not p.recorded.in_database
        ),
    )


def _rebuild_hint(truth: Truth, problems: list[OutputProblem]) -> str:
    """The command that makes these outputs again. The record of what was committed is never changed by a repair."""
    origins = {truth.origins.get(p.recorded.job_id) for p in problems} - {None}
    roots = sorted({origin.root for origin in origins if origin is not None})
    if not roots:
        return "put them back, or run the evidence again with `--mode replace`"
    commands = ", ".join(
        f"`casparian run {shlex.quote(show(r))} --mode replace`" for r in roots[:3]
    )
    hint = f"put them back, or make them again: {commands}"
    if any(origin is not None and origin.sink_mode == "replace" for origin in origins):
        hint += (
            "; with another sink setting (`?level=4`) where they were made with `replace` before"
        )
    return hint


def _orphans(paths: list[str]) -> Check:
    if not paths:
        return Check(check="orphans", status="ok", message="no file without a record")
    return Check(
        check="orphans",
        status="warn",
        message=f"{len(paths)} files of this home without a record: {named(paths)}",
        hint="no table shows them; `casparian doctor --repair` moves them aside",
        details=tuple({"path": path, "problem": "orphan"} for path in paths[:DETAILS_MAX]),
        asides=tuple(control.Aside(path=path, why="orphan") for path in paths),
    )


def _stages(paths: list[str]) -> Check:
    if not paths:
        return Check(check="staging", status="ok", message="nothing left over")
    return Check(
        check="staging",
        status="warn",
        message=f"{len(paths)} stages left over: {named(paths)}",
        hint="the next sentinel removes them, or `casparian doctor --repair` moves them aside",
        details=tuple({"path": path, "problem": "stage"} for path in paths[:DETAILS_MAX]),
        asides=tuple(control.Aside(path=path, why="stage") for path in paths),
    )


def check_ledgers(query: Query) -> Check:
    """Sources whose accounting does not balance."""
    table = query.control("ledgers")
    red = query.fetch(f"SELECT count(*) AS n FROM {table} WHERE NOT balanced")[0]["n"]
    if red:
        return Check(
            check="ledgers",
            status="warn",
            message=f"{red} sources do not balance",
            hint="casparian ledger",
        )
    return Check(check="ledgers", status="ok", message="every source balances")
