"""`casparian quarantine retry`: read the sources of quarantined rows again, once something has changed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casparian.cli.app import App, read
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.cli.progress import REASONS
from casparian.cli.quarantined import chosen, filters, nothing_matches, quarantine
from casparian.display import show
from casparian.domain.outputs import SinkMode
from casparian.errors import Refused

if TYPE_CHECKING:
    from casparian.control.again import Again
    from casparian.protocol import control
    from casparian.query.quarantine import Filter


@click.command("retry", cls=Command)
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@filters()
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PARSER.KEY=VALUE",
    help="A parser's setting, over those the files were read with",
)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in SinkMode]),
    help="Sink mode [default: the one they were read with]",
)
@click.option("--max-quarantine", metavar="N|P%", help="Another limit on rows set aside in a job")
@click.option("--force", is_flag=True, help="Read them again although nothing has changed")
@click.option("--dry-run", is_flag=True, help="Only say what would be read again, and why")
@pass_app
def retry(
    app: App,
    *,
    rows: tuple[str, ...],
    settings: tuple[str, ...],
    mode: str | None,
    max_quarantine: str | None,
    force: bool,
    dry_run: bool,
    **options: str | None,
) -> int:
    """Read again exactly the files that quarantined rows come from.

    The files are read into the same sinks and with the same settings as before, by the parser and under the contract of
    today. Where neither has changed nothing would come out differently, and nothing is done unless --force is given.
    A file's rows in quarantine are replaced together with its rows in the tables.
    """
    from casparian.cli.commands.run import document_of, exit_code, perform, print_result

    wanted = chosen(rows, **options)
    again = _requests(
        app,
        wanted,
        parser_settings=settings,
        mode=mode,
        max_quarantine=max_quarantine,
        force=force,
    )
    plans = _plans(app, again)
    selected = sum(plan.files.selected for plan in plans)
    refused = any(plan.rejected for plan in plans)
    document: dict[str, Any] = {
        "dry_run": dry_run,
        "sources": sum(one.sources for one in again),
        "selected": selected,
        "rows_before": sum(one.rows for one in again),
        "reasons": _summed(plans),
        "runs": [],
    }
    if dry_run:
        app.out.emit(document, lambda: _print_plans(app, again, plans, selected))
        return 0
    if not selected and not refused:
        raise _unchanged(document["sources"], _summed(plans))
    results = []
    for one, plan in zip(again, plans, strict=True):
        if plan.files.selected or plan.rejected:
            result, _ = perform(app, one.request)
            results.append(result)
    document["runs"] = [document_of(result) for result in results]
    document["rows_after"] = _rows_now(app, again)

    def human() -> None:
        for result in results:
            print_result(app, result, None)
        before, after = document["rows_before"], document["rows_after"]
        app.out.line(
            f"of {plural(document['sources'], 'file')}: {plural(before, 'row')} had been set aside, "
            f"{plural(after, 'row is', 'rows are')} now"
        )

    app.out.emit(document, human)
    return max((exit_code(result, strict=False) for result in results), default=0)


def _requests(app: App, wanted: Filter, **options: Any) -> list[Again]:
    from casparian.control.again import requests_again

    with quarantine(app) as query:
        from casparian.query import quarantine as held

        lines = held.sources(query, wanted) if query is not None else []
    if not lines:
        raise nothing_matches()
    with app.client() as client:
        asked = {
            run_id: line["request"]
            for run_id in sorted({line["run_id"] for line in lines})
            for line in read(client, "run_requests", {"run_id": run_id})
        }
    return requests_again(lines, asked, **options)


def _plans(app: App, again: list[Again]) -> list[control.RunResult]:
    from msgspec import structs

    from casparian import ids
    from casparian.protocol import control

    with app.client() as client:
        return [
            client.ask(
                structs.replace(one.request, request_id=ids.new_request_id(), dry_run=True),
                control.RunResult,
            )
            for one in again
        ]


def _rows_now(app: App, again: list[Again]) -> int:
    """Rows of the same sources and parsers that are in quarantine after the retry."""
    pairs = {(one.parser, source) for one in again for source in one.request.selection.sources}
    with quarantine(app) as query:
        if query is None:
            return 0
        from casparian.query import quarantine as held

        lines = held.sources(query, chosen())
    return sum(line["rows"] for line in lines if (line["parser"], line["source_id"]) in pairs)


def _summed(plans: list[control.RunResult]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for plan in plans:
        for reason, files in plan.reasons.items():
            sums[reason] = sums.get(reason, 0) + files
    return sums


def _unchanged(sources: int, reasons: dict[str, int]) -> Refused:
    if not reasons:
        return Refused(
            f"{plural(sources, 'file')} of these rows cannot be planned: they are in no catalogued evidence any more",
            code="quarantine.gone",
            hint="`casparian scan DIR` catalogues the evidence again",
        )
    why = ", ".join(f"{files} {REASONS.get(reason, reason)}" for reason, files in reasons.items())
    return Refused(
        f"nothing has changed for {plural(sources, 'file')} of these rows ({why}): "
        "the same parser, contract and settings give the same rows",
        code="quarantine.unchanged",
        hint="change the parser or its contract first, or give --force",
        sources=sources,
    )


def _print_plans(
    app: App, again: list[Again], plans: list[control.RunResult], selected: int
) -> None:
    app.out.table(
        ("evidence", "parser", "files", "rows set aside", "would be read", "why"),
        [
            (
                one.root,
                one.parser,
                one.sources,
                one.rows,
                plan.files.selected,
                ", ".join(f"{n} {show(REASONS.get(r, r))}" for r, n in plan.reasons.items()),
            )
            for one, plan in zip(again, plans, strict=True)
        ],
    )
    app.out.say("nothing was changed: this was a dry run")
    if not selected:
        app.out.hint("casparian quarantine retry --force", "read them again all the same")
