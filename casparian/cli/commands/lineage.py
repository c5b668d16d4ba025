"""`casparian lineage`: the chain from a row, a file or a table to its evidence."""

from __future__ import annotations

import click

from casparian.cli.app import App
from casparian.cli.commands.query import open_query
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import chain_lines


@click.command("lineage", cls=Command)
@click.argument("what", metavar="ROW|FILE|TABLE")
@click.option("--sink", metavar="URI", help="Read tables from this sink")
@pass_app
def command(app: App, *, what: str, sink: str | None) -> None:
    """Show the chain from a row, file or table to its evidence.

    What is recorded is shown as recorded; `casparian why ROW` verifies it.
    """
    from casparian.query.lineage import chain

    with open_query(app, sink) as query:
        links = [link.to_builtins() for link in chain(query, what)]

    def human() -> None:
        for line in chain_lines(links):
            app.out.line(line)
        app.out.hint("casparian why ROW", "prove one row against its bytes")

    app.out.emit({"what": what, "chain": links}, human)
