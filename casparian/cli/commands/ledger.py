"""`casparian ledger`: for each source what was there, where it went, and what the bytes say."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from casparian.cli.app import App, read
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.display import show

# The first part is the contract other programs build on; the second says more about the same
# source.
_KEYS: Final = (
    "source_path", "source_hash", "source_id", "sha256", "unit", "declared", "present",
    "rows", "recovered", "quarantined", "lost", "balanced",
)  # fmt: skip
_MORE: Final = (
    "root", "parser", "job_id", "recovered_live", "recovered_extra", "quarantined_extra",
)  # fmt: skip
_FINDINGS_SHOWN: Final = 5


@click.command("ledger", cls=Command)
@click.argument("glob", required=False)
@click.option("--root", metavar="DIR", help="Only sources of this evidence root")
@click.option("--unbalanced", is_flag=True, help="Only sources that lost something")
@click.option("--full", is_flag=True, help="All findings, not the first few of each source")
@pass_app
def command(app: App, *, glob: str | None, root: str | None, unbalanced: bool, full: bool) -> None:
    """Show for each source what was there and where it went.

    present = rows + recovered + quarantined + lost, in records or lines. What was recovered from
    slack is outside of present.
    """
    filters: dict[str, str | int | bool | None] = {}
    if glob is not None:
        filters["glob"] = glob
    if root is not None:
        filters["root"] = os.path.abspath(root)
    if unbalanced:
        filters["unbalanced"] = True
    sources = _sources(app, filters)
    app.out.emit({"sources": sources}, lambda: _print(app, sources, bool(filters), full=full))


def _sources(app: App, filters: dict[str, str | int | bool | None]) -> list[dict[str, Any]]:
    if app.is_new:
        return []
    with app.client() as client:
        rows = read(client, "ledger", filters)
        found = read(client, "findings") if rows else []
    by_source: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for finding in found:
        by_source.setdefault((finding["job_id"], finding["source_id"]), []).append(
            {name: finding[name] for name in ("code", "offset", "length", "message")}
        )
    return [
        {name: row[name] for name in _KEYS}
        | {"findings": by_source.get((row["job_id"], row["source_id"]), [])}
        | {name: row[name] for name in _MORE}
        for row in rows
    ]


def _print(app: App, sources: list[dict[str, Any]], filtered: bool, *, full: bool) -> None:
    out = app.out
    if not sources:
        out.line(
            "No source matches" if filtered else "No sources yet. Start with `casparian run DIR`"
        )
        return
    out.table(
        ("source", "unit", "declared", "present", "rows", "recovered", "quarantined", "lost", "balanced"),
        [
            [
                s["source_path"], s["unit"], s["declared"], s["present"], s["rows"], s["recovered"],
                s["quarantined"], s["lost"], "yes" if s["balanced"] else "NO",
            ]
            for s in sources
        ],
    )  # fmt: skip
    with_findings = [source for source in sources if source["findings"]]
    for source in with_findings:
        findings = source["findings"]
        out.line(f"{show(source['source_path'])}: {plural(len(findings), 'finding')}")
        shown = findings if full or not out.terminal else findings[:_FINDINGS_SHOWN]
        for finding in shown:
            out.line(
                f"  {finding['code']:<20} offset {finding['offset']}, {finding['length']} bytes:"
                f" {show(finding['message'])}"
            )
        if len(shown) < len(findings):
            out.line(f"  … {len(findings) - len(shown)} more; `--full` shows all")
    red = sum(not source["balanced"] for source in sources)
    if red:
        out.say(
            f"{plural(red, 'source')} lost something; `casparian ledger --unbalanced` lists only these"
        )
