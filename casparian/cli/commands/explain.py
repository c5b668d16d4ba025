"""`casparian explain`: why a file was, or was not, processed."""

from __future__ import annotations

import os
from typing import Any, Final

import click
import msgspec

from casparian.cli.app import App, read
from casparian.cli.framework import Command, pass_app
from casparian.cli.render import plain
from casparian.display import path_text, show
from casparian.domain.files import PlanReason
from casparian.domain.trust import TrustRecord

MEANING: Final = {
    PlanReason.NEW: "it was never materialized by this parser into this sink",
    PlanReason.PARSER_CHANGED: "the parser's files changed since it was materialized",
    PlanReason.ENGINE_CHANGED: "the engine (decoder, guest, Python, pyarrow) changed",
    PlanReason.ENVIRONMENT_CHANGED: "the parser's locked requirements changed",
    PlanReason.CONFIG_CHANGED: "a setting of the parser changed",
    PlanReason.CONTRACT_CHANGED: "the contract changed",
    PlanReason.FORCED: "nothing changed; it was asked for again all the same",
    PlanReason.SCHEMA_CHANGED: "the table's columns changed",
    PlanReason.SINK_SETTING_CHANGED: "a setting of the sink changed",
    PlanReason.MODE_CHANGED: "the sink mode changed",
    PlanReason.LINEAGE_CHANGED: "the lineage columns changed with this version",
    PlanReason.RETRY: "it failed before, and `--retry-failed` was given",
    PlanReason.DONE: "the same work is recorded: bytes, parser, settings, contract, sink",
    PlanReason.ENGINE_ACCEPTED: "only the engine differs, and `--accept-engine` keeps the rows",
    PlanReason.DUPLICATE_CONTENT: "another path holds the same bytes; equal content is read once",
    PlanReason.FAILED_BEFORE: "it failed for good before; `--retry-failed` tries again",
    PlanReason.NOT_SELECTED: "the selection (tag, parser, pattern, since) leaves it out",
    PlanReason.EXISTS: "error mode: the sink holds this source already",
    PlanReason.UNTRUSTED: "the parser is not trusted here",
    PlanReason.CONTRACT_CONFLICT: "several contracts take it, and not all of them say that they share files",
    PlanReason.NO_PARSER: "no parser takes files with its tags",
    PlanReason.COMPANION: "it belongs to another file and is read with it",
    PlanReason.READ_ERROR: "it could not be read",
    PlanReason.LINK: "it is a symbolic link: recorded, never followed",
    PlanReason.SPECIAL: "it is a FIFO, socket or device: recorded, never opened",
    PlanReason.RUNNING: "a job that is under way reads it",
}


@click.command("explain", cls=Command)
@click.argument("file", type=click.Path())
@pass_app
def command(app: App, *, file: str) -> None:
    """Say why a file was or was not processed.

    FILE is a path on disk, or a pattern over paths as `casparian files` shows them.
    """
    decisions = _decisions(app, file)
    for decision in decisions:
        decision["meaning"] = MEANING.get(decision["reason"], "")
    _add_trust(app, decisions)

    def human() -> None:
        if not decisions:
            app.out.line(
                f"Nothing is recorded about `{show(file)}`. Start with `casparian run DIR`"
            )
            return
        for decision in decisions:
            parser = f" by {show(decision['parser'])}" if decision["parser"] else ""
            app.out.line(f"{show(decision['display_path'] or decision['root'])}")
            app.out.line(
                f"  {decision['decision']}{parser}: {decision['reason']}, {decision['meaning']}"
            )
            if decision["detail"]:
                app.out.line(f"  {show(decision['detail'])}")
            if decision["job_id"]:
                app.out.line(f"  job {decision['job_id']}")
            if decision["trust"]:
                record = msgspec.convert(decision["trust"], TrustRecord)
                app.out.line(f"  {show(record.sentence())}")

    app.out.emit({"file": path_text(os.fsencode(file)), "decisions": decisions}, human)


def _add_trust(app: App, decisions: list[dict[str, Any]]) -> None:
    """Who vouched for the parser of each job that a decision led to; `None` before the job has ended."""
    jobs = {decision["job_id"] for decision in decisions if decision["job_id"]}
    found: dict[int, Any] = {}
    for job_id in sorted(jobs):
        for row in app.read("job_log", {"job_id": job_id}):
            if row["trust"]:
                found[job_id] = msgspec.json.decode(row["trust"])
    for decision in decisions:
        decision["trust"] = found.get(decision["job_id"])


def _decisions(app: App, file: str) -> list[dict[str, Any]]:
    """Plan lines of a file on disk by the root it lies under, or of a pattern."""
    if app.is_new:
        return []
    with app.client() as client:
        if not os.path.lexists(file):
            return [plain(row) for row in read(client, "plan", {"glob": file})]
        absolute = os.path.abspath(file)
        roots = {str(run["root"]) for run in read(client, "runs")}
        rows: list[dict[str, Any]] = []
        for root in sorted(roots):
            base = os.path.abspath(root)
            if absolute != base and not absolute.startswith(base.rstrip("/") + "/"):
                continue
            wanted = "" if absolute == base else os.path.relpath(absolute, base)
            shown = path_text(os.fsencode(wanted))
            rows += [
                plain(row)
                for row in read(client, "plan", {"root": root})
                if row["display_path"] == shown or (not shown and os.path.isfile(absolute))
            ]
        return rows or [plain(row) for row in read(client, "plan", {"glob": file})]
