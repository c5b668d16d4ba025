"""`casparian why`: prove a row, or say what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import chain_lines
from casparian.display import show
from casparian.errors import ExitCode

if TYPE_CHECKING:
    from casparian.appliance.why import WhyReport


@click.command("why", cls=Command)
@click.argument("row_id", metavar="ROW")
@pass_app
def command(app: App, *, row_id: str) -> int:
    """Prove a row: read its bytes again and derive it again.

    ROW is a _cf_row_id, as every table has it. Exit code 7 when the row is not proven.
    """
    from casparian.appliance.why import why

    document = document_of(row_id, why(app.home, row_id))
    app.out.emit(document, lambda: print_report(app, document))
    return int(ExitCode.DONE if document["proven"] else ExitCode.INTEGRITY)


def document_of(row_id: str, report: WhyReport) -> dict[str, Any]:
    """The JSON document of a proof."""
    return {
        "row_id": row_id,
        "proven": report.proven,
        "engine": report.engine,
        "chain": [link.to_builtins() for link in report.chain],
        "differences": [msgspec.to_builtins(difference) for difference in report.differences],
        "notes": list(report.notes),
    }


def print_report(app: App, document: dict[str, Any]) -> None:
    """Print the chain, the verdict, and every field that differs."""
    out = app.out
    for line in chain_lines(document["chain"]):
        out.line(line)
    for note in document["notes"]:
        out.line(f"note: {show(str(note))}")
    engine = document["engine"]
    if document["proven"]:
        out.line(
            out.paint("proven", "good") + f": the same bytes give the same row (engine: {engine})"
        )
        return
    out.line(out.paint("NOT PROVEN", "bad") + f" (engine: {engine})")
    for difference in document["differences"]:
        out.line(
            f"  {show(str(difference['field']))}: expected {_value(difference['expected'])},"
            f" found {_value(difference['found'])}"
        )


def _value(value: Any) -> str:
    return "nothing" if value is None else f"`{show(str(value), width=200)}`"
