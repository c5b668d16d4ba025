"""`casparian quarantine`: what was set aside, by reason, each row with its bytes, and what people do about it.

`quarantine_retry` has retry, `quarantine_export` has export, `quarantine_decide` has accept and reopen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from casparian.cli.app import App
from casparian.cli.commands import quarantine_decide, quarantine_export, quarantine_retry
from casparian.cli.framework import group, pass_app
from casparian.cli.output import count, plural
from casparian.cli.quarantined import chosen, filters, quarantine
from casparian.cli.render import hex_lines
from casparian.display import show, size_text
from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.query.quarantine import Filter

_HEX_LINES_MAX: Final = 32
_VALUES_SHOWN: Final = 4
_VALUE_WIDTH: Final = 60


@group("quarantine", bare=True)
@filters()
@click.pass_context
def command(ctx: click.Context, /, **options: str | None) -> None:
    """See what was set aside and why, and decide what becomes of it.

    Bare `quarantine` counts by reason.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_reasons, **options)
    elif any(options.values()):
        raise UsageError(
            "a filter stands after the verb",
            code="usage.filter",
            hint=f"`casparian quarantine {ctx.invoked_subcommand} --reason CODE`",
        )


@command.command("list")
@filters()
@pass_app
def list_reasons(app: App, **options: str | None) -> None:
    """Count quarantined rows by reason, with one example of each."""
    wanted = chosen(**options)
    reasons, decisions = _reasons(app, wanted)
    sums = {name: sum(line[name] for line in reasons) for name in ("rows", "open", "accepted")}
    held = {line["decision_id"] for line in decisions if line["rows_now"]}

    def human() -> None:
        if not reasons:
            app.out.line(
                "Nothing is quarantined" if wanted.is_empty else "No quarantined row matches"
            )
            return
        app.out.table(
            (
                "open",
                "accepted",
                "parser",
                "reason",
                "field",
                "first seen",
                "last seen",
                "example: message",
                "file",
                "offset",
            ),
            [
                (
                    r["open"],
                    r["accepted"],
                    r["parser"],
                    r["reason"],
                    r["field"],
                    _moment(r["first_seen"]),
                    _moment(r["last_seen"]),
                    r["message"],
                    r["source_path"],
                    r["offset"],
                )
                for r in reasons
            ],
        )
        app.out.line(
            f"{plural(sums['rows'], 'row')} set aside, for {plural(len(reasons), 'reason')}: "
            f"{sums['open']} open, {sums['accepted']} accepted"
        )
        for line in decisions:
            if line["decision_id"] in held:
                app.out.line(
                    f"accepted {plural(line['rows_now'], 'row')} of {show(line['parser'])}: "
                    f"{show(line['reason'])} ({show(line['actor'])}, {_moment(line['accepted_at'])}, "
                    f"decision {line['decision_id']})"
                )
        app.out.hint(f"casparian quarantine show {reasons[0]['example']}", "its bytes")
        if sums["open"]:
            app.out.hint("casparian quarantine retry --dry-run", "what a changed parser would read")

    app.out.emit({**sums, "reasons": reasons, "decisions": decisions}, human)


@command.command("stats")
@filters()
@pass_app
def stats(app: App, **options: str | None) -> None:
    """Count quarantined rows by state, parser, table, reason and file."""
    wanted = chosen(**options)
    with quarantine(app) as query:
        if query is None:
            document: dict[str, Any] = {"rows": 0, "open": 0, "accepted": 0, "sources": 0}
        else:
            from casparian.query import quarantine as rows

            document = rows.stats(query, wanted)

    def human() -> None:
        app.out.line(
            f"{plural(document['rows'], 'row')} of {plural(document['sources'], 'source')}: "
            f"{document['open']} open, {document['accepted']} accepted"
        )
        for title in ("parser", "table", "reason", "file"):
            lines = document.get(f"by_{title}", [])
            if lines:
                app.out.line()
                app.out.table(
                    (title, "rows", "open", "accepted", "bytes"),
                    [
                        (
                            line[title] if line[title] is not None else "-",
                            line["rows"],
                            line["open"],
                            line["accepted"],
                            size_text(line["size_bytes"]),
                        )
                        for line in lines
                    ],
                )

    app.out.emit(document, human)


@command.command("show")
@click.argument("row_id", metavar="ROW")
@pass_app
def show_row(app: App, *, row_id: str) -> None:
    """Show one quarantined row: its bytes, what refused it, what lies beside it, what can be done."""
    chosen((row_id,))
    with quarantine(app) as query:
        from casparian.query import quarantine as rows

        row = rows.row_of(query, row_id) if query is not None else None
        if query is None or row is None:
            raise UsageError(
                f"no quarantined row `{row_id}`",
                code="row.unknown",
                hint="`casparian quarantine` shows what is there",
            )
        constraint = rows.constraint(query, row)
        beside = rows.neighbours(query, row)
    remedies = _remedies(row)
    document = {"row": row, "constraint": constraint, **beside, "remedies": remedies}

    def human() -> None:
        _print_row(app, row)
        if constraint is not None:
            rules = {
                k: v for k, v in constraint.items() if k not in ("name", "doc", "contract_hash")
            }
            facts = ", ".join(f"{k} {v}" for k, v in rules.items())
            app.out.line(f"contract column {show(constraint['name'])}: {show(facts)}")
        for name, near in beside.items():
            app.out.line(f"{name:<8} {_neighbour_text(near)}")
        _print_bytes(app, row)
        for remedy in remedies:
            app.out.hint(remedy["command"], remedy["purpose"])

    app.out.emit(document, human)


def _reasons(app: App, wanted: Filter) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with quarantine(app) as query:
        if query is None:
            return [], []
        from casparian.query import quarantine as rows

        return rows.reasons(query, wanted), rows.decisions(query)


def _print_row(app: App, row: dict[str, Any]) -> None:
    out = app.out
    out.line(f"row      {row['_cf_row_id']}")
    field = f"  field {show(row['field'])}" if row["field"] else ""
    out.line(f"reason   {show(row['reason'])}{field}")
    out.line(f"message  {show(row['message'])}")
    out.line(f"file     {show(row['_cf_source_path'])}  blake3 {row['_cf_source_hash']}")
    flags = f"  {', '.join(row['_cf_flags'])}" if row["_cf_flags"] else ""
    out.line(f"bytes    offset {row['_cf_offset']}, {count(row['_cf_length'])} bytes{flags}")
    table = f"  for table {show(row['table_name'])}" if row["table_name"] else ""
    out.line(f"parser   {show(row['_cf_parser'])}  job {row['_cf_job_id']}{table}")
    if row["decision_id"] is not None:
        out.line(
            f"accepted {_moment(row['accepted_at'])} by {show(row['accepted_by'])}: "
            f"{show(row['accepted_for'])} (decision {row['decision_id']})"
        )


def _print_bytes(app: App, row: dict[str, Any]) -> None:
    if row["raw"] is None:
        digest = row.get("raw_blake3") or "unknown"
        app.out.line(f"too long to be kept here; blake3 of the bytes {digest}")
        return
    for line in hex_lines(
        bytes.fromhex(row["raw"]),
        offset=row["_cf_offset"] or 0,
        lines_max=_HEX_LINES_MAX if app.out.terminal else None,
    ):
        app.out.line(line)


def _neighbour_text(near: dict[str, Any] | None) -> str:
    if near is None:
        return "none of this source and job"
    values = [
        f"{name}={show(str(value), width=_VALUE_WIDTH)}"
        for name, value in list(near["values"].items())[:_VALUES_SHOWN]
    ]
    return f"{near['row_id']}  offset {near['offset']}  {', '.join(values)}"


def _remedies(row: dict[str, Any]) -> list[dict[str, str]]:
    """What can be done about a row, most likely first; each is a command."""
    row_id, reason = row["_cf_row_id"], str(row["reason"])
    name = str(row["_cf_parser"]).partition("@")[0]
    found: list[tuple[str, str]] = []
    if reason.startswith("contract."):
        found.append(
            (
                f"casparian parser show {name}",
                "the contract in force; amend it if the value is right",
            )
        )
    found.append(
        (
            f"casparian quarantine retry --reason {reason}",
            "read these files again once the parser or contract has changed",
        )
    )
    if row["state"] == "accepted":
        found.append(
            (f"casparian quarantine reopen {row_id} --reason TEXT", "take the acceptance back")
        )
    else:
        found.append(
            (
                f"casparian quarantine accept {row_id} --reason TEXT",
                "record that it is understood and stays set aside",
            )
        )
    found.append(
        (
            f"casparian quarantine export --reason {reason} -o DIR --format raw-dir",
            "hand the bytes to somebody",
        )
    )
    found.append((f"casparian why {row_id}", "prove it from the evidence"))
    return [{"command": command, "purpose": purpose} for command, purpose in found]


def _moment(text: Any) -> str:
    """A recorded time to the second."""
    return f"{str(text)[:19]}Z" if text else ""


command.add_command(quarantine_retry.retry)
command.add_command(quarantine_decide.accept)
command.add_command(quarantine_decide.reopen)
command.add_command(quarantine_export.export)
