"""`casparian outputs`: the files that committed tables are made of."""

from __future__ import annotations

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import plain, short, time_text


@click.command("outputs", cls=Command)
@click.option("--table", metavar="TABLE", help="Only files of this table")
@click.option("--all", "everything", is_flag=True, help="Also files whose rows were all replaced")
@pass_app
def command(app: App, *, table: str | None, everything: bool) -> None:
    """List committed output files."""
    outputs = [
        plain(row)
        for row in app.read("outputs")
        if (everything or row["live"]) and table in (None, row["table_name"])
    ]

    def human() -> None:
        if not outputs:
            app.out.line("No outputs yet. Start with `casparian run DIR`")
            return
        app.out.table(
            ("table", "rows", "bytes", "blake3", "job", "committed", "path"),
            [
                (
                    o["table_name"],
                    o["rows"],
                    o["size_bytes"],
                    short(o["blake3"]),
                    str(o["job_id"]),
                    time_text(o["committed_at_ns"]),
                    o["path"],
                )
                for o in outputs
            ],
        )

    app.out.emit({"outputs": outputs}, human)
