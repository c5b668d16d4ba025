"""`casparian run`: one request, then only drawing what the sentinel says."""

from __future__ import annotations

import os
from shlex import quote
from typing import Any, Final

import click

from casparian.cli.app import App, read
from casparian.cli.framework import Command, pass_app
from casparian.cli.interrupt import Interruption
from casparian.cli.output import count, plural
from casparian.cli.progress import REASONS, RunProgress, duration_text, plan_line
from casparian.cli.render import plan_rows
from casparian.control import requests
from casparian.control.client import Client
from casparian.display import show
from casparian.domain.outputs import SinkMode
from casparian.errors import ExitCode
from casparian.protocol import control

_PROBLEMS_SHOWN: Final = 10
_TRUST: Final = ("untrusted", "trust", "artifact", "refused")
_CONFLICT: Final = ("exists", "sink.exists")
_POLICY: Final = ("isolation",)
_CONTRACT: Final = ("contract", "lineage")


@click.command("run", cls=Command)
@click.argument("evidence", type=click.Path())
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="[TABLE=]URI",
    help="Where tables go: parquet:DIR, duckdb:FILE or csv:DIR [default: parquet:HOME/outputs]",
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in SinkMode]),
    help="When a source is in the sink already: add, replace it, or refuse [default: append]",
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only files with this tag")
@click.option("--parser", "parsers", multiple=True, metavar="NAME|DIR", help="Only this parser")
@click.option("--include", multiple=True, metavar="GLOB", help="Only paths that match")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not paths that match")
@click.option(
    "--since",
    metavar="TIME|AGE",
    help="Only files modified since (2024-03-01, 36h, 7d); a hint that is recorded",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PARSER.KEY=VALUE",
    help="A parser's setting for this run",
)
@click.option(
    "--carve",
    is_flag=True,
    help="Search files that no parser takes for event log records: unallocated space, memory, broken logs",
)
@click.option("--retry-failed", is_flag=True, help="Try again what failed for good before")
@click.option("--accept-engine", is_flag=True, help="Keep rows that an earlier engine made")
@click.option("--strict", is_flag=True, help="Exit with 7 when a ledger does not balance")
@click.option("--dry-run", is_flag=True, help="Plan only, change nothing")
@click.option("--explain", is_flag=True, help="List every file with what was decided, and why")
@click.option(
    "--min-isolation",
    type=click.Choice(["full", "reduced", "none"]),
    help="Run parsers only when guests are confined at least so well; less than full is recorded",
)
@click.option("--max-quarantine", metavar="N|P%", help="Fail a job past so many quarantined rows")
@click.option(
    "--batch-files", type=click.IntRange(min=1), hidden=True, help="Files of a job at most"
)
@pass_app
def command(
    app: App, evidence: str, *, strict: bool, explain: bool, dry_run: bool, **options: Any
) -> int:
    """Take a directory of evidence to committed tables."""
    request = request_of(app, evidence, dry_run=dry_run, **options)
    result, plan = perform(app, request, explain=explain)
    document = document_of(result)
    if explain:
        document["plan"] = plan
    app.out.emit(document, lambda: print_result(app, result, plan if explain else None))
    return exit_code(result, strict=strict)


def request_of(
    app: App,
    evidence: str,
    *,
    tags: tuple[str, ...] = (),
    parsers: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    since: str | None = None,
    settings: tuple[str, ...] = (),
    **options: Any,
) -> control.Run:
    """The request that the flags of `run` describe."""
    chosen = requests.selection(
        tags=tags, parsers=parsers, include=include, exclude=exclude, since=since
    )
    return requests.run_request(
        app.config.settings, evidence=evidence, chosen=chosen, parser_settings=settings, **options
    )


def perform(
    app: App, request: control.Run, *, explain: bool = False
) -> tuple[control.RunResult, list[dict[str, Any]]]:
    """Run to the end, drawing; the plan's lines come along when they are asked for."""
    with app.client(stop_after=True) as client:
        with (
            RunProgress(app.out) as progress,
            Interruption(app.home, progress, request.request_id) as interruption,
        ):
            client.on_reconnect = interruption.reconnected
            result = client.ask(
                request, control.RunResult, on_event=progress, on_tick=interruption.tick
            )
        if interruption.pressed and not result.cancelled:
            app.out.say("the run had ended before it could be cancelled")
        return result, _plan(client, result) if explain else []


def exit_code(result: control.RunResult, *, strict: bool) -> int:
    """The most severe thing that happened: refusals, then limits, integrity, failures."""
    if result.cancelled:
        return int(ExitCode.INTERRUPTED)
    refusals = [code for code, files in result.rejected.items() if files]
    failures = bool(result.files.failed or result.jobs.failed or result.jobs.aborted)
    failures = failures or any(not problem.path for problem in result.problems)  # of the run itself
    failed_for = [problem.code for problem in result.problems]
    checks = (
        (ExitCode.REFUSED, _any(refusals, _TRUST) or _any(failed_for, _POLICY)),
        (ExitCode.CONFLICT, _any(refusals, _CONFLICT)),
        (ExitCode.CONTRACT, _any(refusals, _CONTRACT)),
        (ExitCode.QUARANTINE, result.quarantine_limit),
        (ExitCode.INTEGRITY, strict and not result.ledger.balanced),
        (ExitCode.FAILED, failures or bool(refusals) or bool(result.jobs.rejected)),
    )
    return int(next((code for code, applies in checks if applies), ExitCode.DONE))


def document_of(result: control.RunResult) -> dict[str, Any]:
    """The JSON document of a run."""
    ledger = result.ledger
    return {
        "run_id": result.run_id,
        "root": result.root,
        "dry_run": result.dry_run,
        "cancelled": result.cancelled,
        "files": {
            name: getattr(result.files, name)
            for name in ("seen", "selected", "skipped", "unmatched", "unreadable", "failed")
        },
        "jobs": {
            name: getattr(result.jobs, name)
            for name in ("completed", "failed", "aborted", "rejected")
        },
        "outputs": [
            {"table": o.table, "rows": o.rows, "files": list(o.files), "sink": o.sink}
            for o in result.outputs
        ],
        "quarantine": {"rows": result.quarantined, "limit_passed": result.quarantine_limit},
        "ledger": {
            name: getattr(ledger, name)
            for name in (
                "balanced",
                "present",
                "rows",
                "recovered",
                "quarantined",
                "lost",
                "findings",
            )
        },
        "reasons": result.reasons,
        "rejected": result.rejected,
        "problems": [
            {"path": p.path, "code": p.code, "message": p.message} for p in result.problems
        ],
        "elapsed_seconds": round(result.elapsed_ns / 1e9, 3),
    }


def _any(codes: list[str], families: tuple[str, ...]) -> bool:
    return any(
        code == family or code.startswith(f"{family}.") for code in codes for family in families
    )


def _plan(client: Client, result: control.RunResult) -> list[dict[str, Any]]:
    return plan_rows(read(client, "plan", {"root": result.root}))


def print_result(app: App, result: control.RunResult, plan: list[dict[str, Any]] | None) -> None:
    """Print a run's result for a person, with the plan when it is given."""
    out = app.out
    if plan is not None:
        out.table(
            ("file", "parser", "decision", "reason", "detail"),
            [
                [p["display_path"], p["parser"], p["decision"], p["reason"], p["detail"]]
                for p in plan
            ],
        )
    if result.dry_run:
        out.line(_dry_line(result))
        out.say("nothing was changed: this was a dry run")
        return
    if not result.files.seen:
        out.line(
            f"No files under `{show(result.root)}`. Hidden and system files are included by default"
        )
        return
    if not result.files.selected and not result.problems:
        out.line(_nothing_to_do(result))
        return
    _summary(app, result)
    _next_steps(app, result)


def _summary(app: App, result: control.RunResult) -> None:
    out = app.out
    rows = sum(output.rows for output in result.outputs)
    head = "stop" if result.cancelled else "done"
    parts = [
        plural(result.jobs.completed, "job"),
        plural(rows, "row"),
        _quarantined(result),
        duration_text(result.elapsed_ns / 1e9),
    ]
    parts[1:1] = [
        f"{number} {name}"
        for name, number in (
            ("failed", result.jobs.failed),
            ("cancelled", result.jobs.aborted),
            ("rejected", result.jobs.rejected),
        )
        if number
    ]
    out.line(f"{out.paint(head, 'strong')}   " + " · ".join(parts))
    for output in result.outputs:
        out.line(
            f"table  {output.table}  {plural(output.rows, 'row')}"
            f"  {plural(len(output.files), 'file')}  {show(output.sink)}"
        )
    out.line("ledger " + _ledger_line(app, result.ledger))
    files = result.files
    if files.unreadable or files.failed:
        out.line(f"files  {files.failed} failed · {files.unreadable} unreadable")
    for problem in result.problems[:_PROBLEMS_SHOWN]:
        out.line(f"  {show(problem.path)}: {show(problem.message)} ({problem.code})")
    if len(result.problems) > _PROBLEMS_SHOWN:
        out.line(
            f"  … {len(result.problems) - _PROBLEMS_SHOWN} more; `casparian run … --explain` lists all"
        )
    if result.cancelled:
        out.line(
            f"what was committed is kept: {plural(result.jobs.completed, 'job')} with {plural(rows, 'row')};"
            f" {plural(result.jobs.aborted, 'job')} cancelled. Run the same command again to do the rest"
        )


def _quarantined(result: control.RunResult) -> str:
    """Rows set aside; remains in slack are said apart, the ledger's sum does not hold them."""
    outside = result.quarantined - result.ledger.quarantined
    aside = f" ({count(outside)} of them outside the ledger's sum)" if outside > 0 else ""
    return f"{count(result.quarantined)} quarantined{aside}"


def _ledger_line(app: App, ledger: control.LedgerTotals) -> str:
    sums = (
        f"{count(ledger.present)} present · {count(ledger.rows)} rows · {count(ledger.recovered)} recovered"
        f" · {count(ledger.quarantined)} quarantined · {count(ledger.lost)} lost"
    )
    findings = f" · {plural(ledger.findings, 'finding')}" if ledger.findings else ""
    if ledger.balanced:
        return app.out.paint("balanced", "good") + f"  {sums}{findings}"
    return app.out.paint("NOT BALANCED", "bad") + f"  {sums}{findings}"


def _next_steps(app: App, result: control.RunResult) -> None:
    out = app.out
    if result.ledger.findings or not result.ledger.balanced:
        out.hint(
            "casparian ledger",
            f"see the {plural(result.ledger.findings, 'finding')} and where they are",
        )
    if result.quarantined:
        out.hint(
            "casparian quarantine",
            f"see why {plural(result.quarantined, 'row was', 'rows were')} set aside",
        )
    if result.files.failed:
        out.hint("casparian jobs", "see what failed; `casparian run … --retry-failed` tries again")
    if result.outputs:
        largest = max(result.outputs, key=lambda output: output.rows)
        own = f"parquet:{os.path.realpath(app.home.outputs)}"
        sink = "" if largest.sink == own else f" --sink {quote(largest.sink)}"
        out.hint(f'casparian query "from {largest.table} limit 20"{sink}', "look at rows")


def _nothing_to_do(result: control.RunResult) -> str:
    why = ", ".join(
        f"{files} {REASONS.get(reason, reason)}"
        for reason, files in sorted(result.reasons.items(), key=lambda item: -item[1])
        if files
    )
    return f"Nothing to do: {plural(result.files.seen, 'file')} ({why or 'none selected'}). `--explain` says why for each"


def _dry_line(result: control.RunResult) -> str:
    return plan_line(
        control.Planned(
            run_id=result.run_id,
            root=result.root,
            files=result.files,
            size_bytes=0,
            jobs=0,
            by_parser={},
            reasons=result.reasons,
        )
    )
