"""`casparian jobs`: list, show, logs; `jobs_act` has dead, cancel and retry."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from casparian.cli import breakers
from casparian.cli.app import App, read
from casparian.cli.commands import jobs_act
from casparian.cli.framework import group, pass_app
from casparian.cli.render import plain, short, time_text
from casparian.display import show
from casparian.domain.faults import meaning_of
from casparian.domain.jobs import JobState
from casparian.domain.trust import TrustRecord
from casparian.errors import UsageError


@group("jobs", default="show", bare=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show, cancel and retry jobs.

    Bare `jobs` lists them; `jobs ID` shows one.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_jobs)


@command.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in JobState]),
    help="Only jobs in this state",
)
@click.option("--run", "run_id", metavar="RUN", help="Only jobs of this run")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many")
@pass_app
def list_jobs(
    app: App, *, state: str | None = None, run_id: str | None = None, limit: int | None = None
) -> None:
    """List jobs by state."""
    filters: dict[str, str | int | bool | None] = {
        name: value for name, value in (("state", state), ("run_id", run_id)) if value is not None
    }
    jobs: list[dict[str, Any]] = []
    shut: list[dict[str, Any]] = []
    if not app.is_new:
        with app.client() as client:
            jobs = [plain(row) for row in read(client, "jobs", filters, limit=limit)]
            shut = breakers.described(read(client, "breakers"))

    def human() -> None:
        for breaker in shut:
            if (line := breakers.line_of(breaker)) is not None:
                app.out.line(line)
        if not jobs:
            app.out.line(
                "No job matches" if filters else "No jobs yet. Start with `casparian run DIR`"
            )
            return
        app.out.table(
            (
                "job",
                "state",
                "parser",
                "sources",
                "bytes",
                "rows",
                "quarantined",
                "code",
                "updated",
            ),
            [
                (
                    str(job["job_id"]),
                    "aborting" if job["aborting"] else job["state"],
                    job["parser"],
                    job["sources"],
                    job["size_bytes"],
                    job["rows"],
                    job["quarantined"],
                    job["code"],
                    time_text(job["updated_at_ns"]),
                )
                for job in jobs
            ],
        )

    app.out.emit({"jobs": jobs, "breakers": shut}, human)


@command.command("show")
@click.argument("job_id", type=int)
@pass_app
def show_job(app: App, *, job_id: int) -> None:
    """Show one job: its steps, its sources, what became of each."""
    if app.is_new:
        raise _unknown(job_id)
    with app.client() as client:
        found = read(client, "jobs", {"job_id": job_id})
        if not found:
            raise _unknown(job_id)
        events = [plain(row) for row in read(client, "job_events", {"job_id": job_id})]
        sources = [plain(row) for row in read(client, "job_sources", {"job_id": job_id})]
        logs = _logs(read(client, "job_log", {"job_id": job_id}))
    job = plain(found[0])
    trust = next((log["trust"] for log in reversed(logs) if log["trust"]), None)
    attempts = jobs_act.attempts_of(events)

    def human() -> None:
        out = app.out
        out.line(
            f"job     {job_id}  {'aborting' if job['aborting'] else job['state']}  {job['parser']}"
        )
        out.line(f"run     {job['run_id']}  attempts {job['attempts']}  epoch {job['epoch']}")
        if job["code"]:
            out.line(f"reason  {job['code']}: {show(job['message'] or '')}")
            if why := meaning_of(job["code"]):
                out.line(f"        {why}")
        if trust:
            record = msgspec.convert(trust, TrustRecord)
            out.line(f"trust   {show(record.sentence())}")
        for event in events:
            detail = f"  {show(str(event['detail']))}" if event["detail"] else ""
            step = f"{event['from_state'] or '-'} -> {event['to_state']}"
            if event["from_state"] is None and event["to_state"] != "queued":
                step = f"({event['to_state']})"  # a note, no step
            out.line(f"  {time_text(event['at_ns'])}  {step:<26} epoch {event['epoch']}{detail}")
        for line in jobs_act.attempt_lines(attempts):
            out.line(line)
        out.table(
            ("source", "blake3", "status", "rows", "quarantined", "code", "message"),
            [
                (
                    source["display_path"],
                    short(source["source_hash"]),
                    source["status"],
                    source["rows"],
                    source["quarantined"],
                    source["code"],
                    source["message"],
                )
                for source in sources
            ],
        )
        if any(log["log"] for log in logs):
            out.hint(f"casparian jobs logs {job_id}", "what the parser printed")

    document = {
        "job": job,
        "events": events,
        "attempts": attempts,
        "sources": sources,
        "logs": logs,
        "trust": trust,
    }
    app.out.emit(document, human)


@command.command("logs")
@click.argument("job_id", type=int)
@pass_app
def logs(app: App, *, job_id: int) -> None:
    """Show what a job's parser printed, and how it was confined."""
    entries = _logs(app.read("job_log", {"job_id": job_id}))

    def human() -> None:
        if not entries:
            app.out.line("No log: the job printed nothing, has not ended, or does not exist")
            return
        for entry in entries:
            app.out.line(f"epoch {entry['epoch']}")
            for name, value in sorted((entry["isolation"] or {}).items()):
                app.out.line(f"  {name:<20} {show(str(value))}")
            for line in (entry["log"] or "").splitlines():
                app.out.line(f"  | {show(line)}")

    app.out.emit({"job_id": job_id, "logs": entries}, human)


for _verb in (jobs_act.dead, jobs_act.cancel, jobs_act.retry):
    command.add_command(_verb)


def _logs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log rows with the isolation and trust records as objects."""
    entries = []
    for row in rows:
        isolation = row["isolation"]
        if isinstance(isolation, str):
            isolation = msgspec.json.decode(isolation) if isolation else {}
        trust = msgspec.json.decode(row["trust"]) if row.get("trust") else None
        entries.append({**plain(row), "isolation": isolation, "trust": trust})
    return entries


def _unknown(job_id: int) -> UsageError:
    return UsageError(
        f"there is no job {job_id}",
        code="job.unknown",
        hint="`casparian jobs` lists them",
        job_id=job_id,
    )
