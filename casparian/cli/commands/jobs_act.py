"""`casparian jobs dead`, `jobs retry`, `jobs cancel`: what failed for good, and what people decide about jobs."""

from __future__ import annotations

from typing import Any

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.cli.render import plain, time_text
from casparian.display import show
from casparian.domain.faults import meaning_of
from casparian.errors import UsageError
from casparian.protocol import control


@click.command("dead", cls=Command)
@click.option("--parser", metavar="NAME", help="Only jobs of this parser (name, or name@version)")
@click.option("--code", metavar="CODE", help="Only this reason code, or family of codes")
@click.option("--run", "run_id", metavar="RUN", help="Only jobs of this run")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many")
@pass_app
def dead(
    app: App, *, parser: str | None, code: str | None, run_id: str | None, limit: int | None
) -> None:
    """List failed jobs that nobody tried again, with the reason of each."""
    filters: dict[str, str | int | bool | None] = {
        name: value
        for name, value in (("parser", parser), ("code", code), ("run_id", run_id))
        if value is not None
    }
    jobs = [
        {**plain(row), "meaning": meaning_of(row["code"])}
        for row in app.read("dead_jobs", filters, limit=limit)
    ]

    def human() -> None:
        if not jobs:
            app.out.line("No failed job waits for anybody")
            return
        app.out.table(
            (
                "job",
                "parser",
                "code",
                "meaning",
                "attempts",
                "sources",
                "first",
                "lasting",
                "since",
            ),
            [
                (
                    str(job["job_id"]),
                    job["parser"],
                    job["code"],
                    job["meaning"],
                    job["attempts"],
                    job["sources"],
                    job["first_source"],
                    job["permanent"],
                    time_text(job["since_ns"]),
                )
                for job in jobs
            ],
        )
        for job in jobs[:3]:
            app.out.line(f"  {job['job_id']}: {show(job['message'] or '')}")
        app.out.hint("casparian jobs show ID", "see all attempts of one")
        app.out.hint("casparian jobs retry --all", "try them again once the cause is gone")

    app.out.emit({"jobs": jobs}, human)


@click.command("cancel", cls=Command)
@click.argument("job_id", type=int, required=False)
@click.option("--run", "run_id", metavar="RUN", help="All jobs of this run, planned ones too")
@click.option("--all", "everything", is_flag=True, help="Every live run and job")
@pass_app
def cancel(app: App, *, job_id: int | None, run_id: str | None, everything: bool) -> None:
    """Cancel a job, a run or everything that has not begun to commit."""
    if (job_id is not None) + (run_id is not None) + everything != 1:
        raise UsageError(
            "name one job, or give --run RUN or --all",
            code="usage.cancel",
            hint="`casparian jobs` lists jobs",
        )
    _mutate(
        app,
        control.CancelJob(
            request_id=ids.new_request_id(), job_id=job_id, run_id=run_id, everything=everything
        ),
    )


@click.command("retry", cls=Command)
@click.argument("job_ids", type=int, nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All failed jobs that nobody tried again")
@click.option("--parser", metavar="NAME", help="With --all: only of this parser")
@click.option("--code", metavar="CODE", help="With --all: only this reason code, or family")
@click.option("--run", "run_id", metavar="RUN", help="With --all: only of this run")
@click.option("--dry-run", is_flag=True, help="Only say how many")
@pass_app
def retry(
    app: App,
    *,
    job_ids: tuple[int, ...],
    everything: bool,
    parser: str | None,
    code: str | None,
    run_id: str | None,
    dry_run: bool,
) -> None:
    """Queue failed or cancelled jobs again, with fresh attempts."""
    filtered = parser is not None or code is not None or run_id is not None
    if bool(job_ids) == everything or (filtered and not everything):
        raise UsageError(
            "name jobs, or give --all with or without filters",
            code="usage.retry",
            hint="`casparian jobs dead` lists what failed",
        )
    request: control.RetryJob | control.RetryJobs
    if len(job_ids) == 1 and not dry_run:
        request = control.RetryJob(request_id=ids.new_request_id(), job_id=job_ids[0])
    else:
        request = control.RetryJobs(
            request_id=ids.new_request_id(),
            job_ids=job_ids,
            parser=parser,
            code=code,
            run_id=run_id,
            dry_run=dry_run,
        )
    _mutate(app, request)


def _mutate(app: App, request: control.CancelJob | control.RetryJob | control.RetryJobs) -> None:
    with app.client() as client:
        done = client.ask(request, control.Done)
    app.out.emit(
        {"message": done.message, "count": done.count, **done.fields},
        lambda: app.out.line(done.message),
    )


def attempts_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chain of attempts that a job's history tells: for each epoch how it began, how it ended and why."""
    attempts: list[dict[str, Any]] = []
    for event in events:
        if event["to_state"] == "dispatched":
            attempts.append(
                {
                    "epoch": event["epoch"],
                    "started_at_ns": event["at_ns"],
                    "ended_at_ns": None,
                    "outcome": "under way",
                    "detail": event["detail"],
                    "notes": [],
                }
            )
        elif attempts and event["from_state"] is None:
            attempts[-1]["notes"].append(event["detail"])
        elif attempts and event["to_state"] in ("queued", "completed", "failed", "aborted"):
            attempts[-1] |= {"ended_at_ns": event["at_ns"], "detail": event["detail"]}
            attempts[-1]["outcome"] = (
                "tried again" if event["to_state"] == "queued" else event["to_state"]
            )
    return attempts


def attempt_lines(attempts: list[dict[str, Any]]) -> list[str]:
    """Attempts for people; nothing for a job that ended at its first one."""
    if len(attempts) < 2 and not any(attempt["notes"] for attempt in attempts):
        return []
    lines = [f"{plural(len(attempts), 'attempt')}:"]
    for number, attempt in enumerate(attempts, 1):
        detail = show(str(attempt["detail"]))
        lines.append(f"  {number}. epoch {attempt['epoch']}  {attempt['outcome']}  {detail}")
        lines += [f"     {show(str(note))}" for note in attempt["notes"]]
    return lines
