"""`casparian quarantine export`: quarantined rows with their bytes and lineage, for somebody else."""

from __future__ import annotations

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.cli.quarantined import chosen, filters, nothing_matches, quarantine
from casparian.display import show, size_text


@click.command("export", cls=Command)
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@filters()
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(),
    metavar="PATH",
    help="File or directory to make",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "jsonl", "csv", "raw-dir"]),
    default="parquet",
    help="One file of rows, or one file a row with a manifest [default: parquet]",
)
@click.option("--dry-run", is_flag=True, help="Only count")
@pass_app
def export(
    app: App,
    *,
    rows: tuple[str, ...],
    output: str,
    kind: str,
    dry_run: bool,
    **options: str | None,
) -> None:
    """Write quarantined rows with their bytes and lineage.

    With raw-dir each row's bytes are a file of their own, numbered, beside a manifest with the hashes and lineage of each;
    rows too long to be kept are read from the evidence if it is unchanged. Nothing is written over.
    """
    wanted = chosen(rows, **options)
    with quarantine(app) as query:
        if query is None:
            raise nothing_matches()
        from casparian.appliance import quarantine_export
        from casparian.query.quarantine import stats

        counted = stats(query, wanted)
        if not counted["rows"]:
            raise nothing_matches()
        if dry_run:
            document = {
                "dry_run": True,
                "rows": counted["rows"],
                "size_bytes": counted["size_bytes"],
            }
            app.out.emit(
                document,
                lambda: app.out.line(
                    f"{plural(counted['rows'], 'row')} with {size_text(counted['size_bytes'])} would be written"
                ),
            )
            return
        written = quarantine_export.export(query, wanted, output, kind)

    def human() -> None:
        app.out.line(
            f"{plural(written.rows, 'row')} written to `{show(written.path)}` ({size_text(written.size_bytes)})"
        )
        if written.missing:
            app.out.line(
                f"the bytes of {plural(written.missing, 'row')} are not kept and the evidence is not there to read them"
            )

    app.out.emit({"dry_run": False, **msgspec.to_builtins(written)}, human)
