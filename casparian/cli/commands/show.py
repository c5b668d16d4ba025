"""`casparian show`: one row, or the event behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.display import show

if TYPE_CHECKING:
    from casparian.appliance.show import RenderedEvent


@click.command("show", cls=Command)
@click.argument("row_id", metavar="ROW")
@click.option("--xml", is_flag=True, help="Render the event from the evidence, as Windows XML")
@click.option("--event", is_flag=True, help="Render the event from the evidence, as JSON")
@pass_app
def command(app: App, *, row_id: str, xml: bool, event: bool) -> int:
    """Show a row column by column, or its event as Windows has it.

    ROW is a _cf_row_id, as every table has it. With --xml or --event the evidence is hashed and read again, and the record
    rendered in a confined process. With --json, the row and what was rendered are one document.
    """
    from casparian.appliance.show import render_event, show_row

    if xml or event:
        rendered = render_event(app.home, row_id)
        if app.out.json:
            app.out.document(_document(row_id, show_row(app.home, row_id).columns, rendered))
        else:
            _print_event(app, rendered, xml=xml, event=event)
        return 0
    shown = show_row(app.home, row_id)
    rows = [(column.name, column.type, _cell(column.value)) for column in shown.columns]
    app.out.emit(
        _document(row_id, shown.columns, None),
        lambda: app.out.table(("column", "type", "value"), rows),
    )
    if shown.is_event:
        app.out.hint(f"casparian show {shown.row_id} --xml", "see the event as Windows has it")
    return 0


def _document(row_id: str, columns: Any, rendered: RenderedEvent | None) -> dict[str, Any]:
    document = {"row_id": row_id, "columns": msgspec.to_builtins(columns)}
    if rendered is not None:
        document["xml"] = rendered.xml
        document["event"] = json.loads(rendered.json)
        document["unfit_for_xml"] = rendered.unfit_for_xml
    return document


def _print_event(app: App, rendered: RenderedEvent, *, xml: bool, event: bool) -> None:
    """Print what was rendered; neither text holds a character that acts on a terminal."""
    for wanted, text in ((xml, rendered.xml), (event, rendered.json)):
        if wanted:
            for line in text.removesuffix("\n").split("\n"):
                app.out.line(line)
    if xml and rendered.unfit_for_xml:
        app.out.say(
            f"{rendered.unfit_for_xml} characters that XML cannot hold are shown as U+FFFD;"
            " `--event` shows them"
        )


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else show(value)
    return json.dumps(value, ensure_ascii=True)
