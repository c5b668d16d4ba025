"""`casparian quarantine`: what was set aside, by reason, and each row with its bytes."""

from __future__ import annotations

from typing import Any, Final

import click

from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.cli.output import count, plural
from casparian.cli.render import hex_lines
from casparian.display import show
from casparian.domain.lineage import parse_row_id
from casparian.errors import UsageError

_HEX_LINES_MAX: Final = 32
_SUMMARY: Final = """
SELECT _cf_parser AS parser, table_name, reason, field, count(*) AS rows,
       min_by(_cf_row_id, _cf_row_id) AS example, min_by(_cf_source_path, _cf_row_id) AS
       source_path, min_by(_cf_offset, _cf_row_id) AS "offset", min_by(_cf_length, _cf_row_id) AS
       length, min_by(message, _cf_row_id) AS message
FROM quarantine GROUP BY ALL ORDER BY rows DESC, parser, reason, field
"""


@group("quarantine", bare=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """See what was set aside, and why.

    Bare `quarantine` counts by reason.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_reasons)


@command.command("list")
@pass_app
def list_reasons(app: App) -> None:
    """Count quarantined rows by reason, with one example of each."""
    reasons = _select(app, _SUMMARY)
    total = sum(reason["rows"] for reason in reasons)

    def human() -> None:
        if not reasons:
            app.out.line("Nothing is quarantined")
            return
        app.out.table(
            ("rows", "parser", "reason", "field", "example: message", "file", "offset"),
            [
                (
                    r["rows"],
                    r["parser"],
                    r["reason"],
                    r["field"],
                    r["message"],
                    r["source_path"],
                    r["offset"],
                )
                for r in reasons
            ],
        )
        app.out.line(f"{plural(total, 'row')} set aside, for {plural(len(reasons), 'reason')}")
        app.out.hint(f"casparian quarantine show {reasons[0]['example']}", "its bytes")

    app.out.emit({"rows": total, "reasons": reasons}, human)


@command.command("show")
@click.argument("row_id")
@pass_app
def show_row(app: App, *, row_id: str) -> None:
    """Show one quarantined row with its bytes in hex and text."""
    parsed = parse_row_id(row_id)
    if parsed is None:
        raise UsageError(
            f"`{show(row_id, width=80)}` is not a row id",
            code="row.malformed",
            hint="`casparian quarantine` shows one of each reason",
        )
    found = _select(
        app,
        "SELECT * FROM quarantine WHERE _cf_job_id = ? AND _cf_ordinal = ? AND _cf_row_id = ?",
        [parsed.job_id, parsed.ordinal, row_id],
    )
    if not found:
        raise UsageError(
            f"no quarantined row `{row_id}`",
            code="row.unknown",
            hint="`casparian quarantine` shows what is there",
        )
    row = found[0]

    def human() -> None:
        out = app.out
        out.line(f"row      {row_id}")
        out.line(
            f"reason   {show(row['reason'])}"
            + (f"  field {show(row['field'])}" if row["field"] else "")
        )
        out.line(f"message  {show(row['message'])}")
        out.line(f"file     {show(row['_cf_source_path'])}  blake3 {row['_cf_source_hash']}")
        out.line(f"bytes    offset {row['_cf_offset']}, {count(row['_cf_length'])} bytes")
        out.line(f"parser   {show(row['_cf_parser'])}")
        if row["raw"] is None:
            out.line(
                f"too long to be kept here; blake3 of the bytes {row.get('raw_blake3') or 'unknown'}"
            )
            return
        for line in hex_lines(
            bytes.fromhex(row["raw"]),
            offset=row["_cf_offset"],
            lines_max=_HEX_LINES_MAX if out.terminal else None,
        ):
            out.line(line)

    app.out.emit({"row": row}, human)


def _select(app: App, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """Rows as dicts; an empty answer where nothing was ever committed or set aside."""
    if not app.home.catalog.exists():
        return []
    from casparian.query.engine import Query

    with Query(app.home) as query:
        if "quarantine" not in query.tables:
            return []
        answer = query.run(sql, parameters).to_json()
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]
