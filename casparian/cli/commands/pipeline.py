"""`casparian pipeline`: what a selection takes, without a scan and without a run."""

from __future__ import annotations

import os
from typing import Any

import click

from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.cli.render import plain
from casparian.control import requests
from casparian.protocol import control


@group("pipeline")
def command() -> None:
    """See which files a selection takes."""


@command.command("select")
@click.option("--root", metavar="DIR", help="Only files of this evidence root")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only files with this tag")
@click.option("--parser", "parsers", multiple=True, metavar="NAME|DIR", help="Only this parser")
@click.option("--include", multiple=True, metavar="GLOB", help="Only paths that match")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Not paths that match")
@click.option("--since", metavar="TIME|AGE", help="Only files modified since (2024-03-01, 36h, 7d)")
@pass_app
def select(app: App, *, root: str | None, **options: Any) -> None:
    """List catalogued files that would be taken, and by which parser."""
    request = control.Select(
        selection=requests.selection(**options),
        root=None if root is None else os.path.abspath(root),
    )
    taken: list[dict[str, Any]] = []
    columns: tuple[str, ...] = ()
    if not app.is_new:
        with app.client() as client:
            reply = client.ask(request, control.Rows)
        columns = reply.columns
        taken = [plain(dict(zip(columns, row, strict=True))) for row in reply.rows]

    def human() -> None:
        if not taken:
            app.out.line("No catalogued file is taken. `casparian scan DIR` looks for files")
            return
        app.out.table(columns, [[row[name] for name in columns] for row in taken])

    app.out.emit({"files": taken}, human)
