"""`casparian quarantine accept`, `quarantine reopen`: rows that are understood and stay set aside, and taking that back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from casparian import ids
from casparian.cli.app import App
from casparian.cli.approvals import key_options, propose_and_maybe_accept
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.cli.quarantined import chosen, filters, nothing_matches, quarantine
from casparian.cli.signing import KeySource
from casparian.errors import UsageError
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.domain.quarantine import Acceptance

_KIND = "quarantine.accept"


@click.command("accept", cls=Command)
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@filters(decides=True)
@click.option("--all", "everything", is_flag=True, help="Every open row")
@key_options
@click.option("--dry-run", is_flag=True, help="Only show what would be decided about")
@pass_app
def accept(
    app: App,
    *,
    rows: tuple[str, ...],
    everything: bool,
    source: KeySource,
    reason: str | None,
    dry_run: bool,
    **options: str | None,
) -> None:
    """Accept open rows as they are: understood, and staying in quarantine.

    This is a request that somebody decides with a key, at once with --key, else by `approve accept`. It is about exactly
    these rows and their bytes. Accepted rows are counted apart; nothing else changes for them, limits neither.
    """
    wanted = structs.replace(chosen(rows, **options), state="open")
    if everything == (wanted.rows != () or any(options.values())):
        raise UsageError(
            "name rows, give filters, or give --all alone",
            code="usage.accept",
            hint="`casparian quarantine` shows the reasons, `--code CODE` takes one",
        )
    if reason is None or not reason.strip():
        raise UsageError(
            "an acceptance says why", code="approval.reason", hint="give --reason TEXT"
        )
    documents = [
        propose_and_maybe_accept(
            app,
            _KIND,
            asked.subject,
            asked,
            source=source,
            reason=reason,
            dry_run=dry_run,
        )
        for asked in _asked(app, wanted, reason)
    ]
    if source.is_given and not dry_run:
        _until_shown(app)
    if app.out.json:
        app.out.document({"dry_run": dry_run, "requests": documents})


@click.command("reopen", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="DECISION|ROW...")
@click.option("--reason", required=True, metavar="TEXT", help="Why; recorded")
@click.option("--dry-run", is_flag=True, help="Only say which decisions")
@pass_app
def reopen(app: App, *, names: tuple[str, ...], reason: str, dry_run: bool) -> None:
    """Take acceptances back: their rows are open again.

    A row stands for the decision that accepted it, which is taken back as a whole.
    """
    decisions = _decisions(app, names)
    rows = sum(line["rows_now"] for line in decisions)
    wanted = tuple(line["decision_id"] for line in decisions)
    message = f"{plural(len(wanted), 'decision')} with {plural(rows, 'row')} would be taken back"
    if not dry_run:
        with app.client() as client:
            request = control.ReopenQuarantine(
                request_id=ids.new_request_id(), decision_ids=wanted, reason=reason
            )
            message = client.ask(request, control.Done).message
        _until_shown(app)
    app.out.emit(
        {"dry_run": dry_run, "message": message, "decisions": list(wanted), "rows": rows},
        lambda: app.out.line(message),
    )


def _asked(app: App, wanted: Any, reason: str) -> list[Acceptance]:
    with quarantine(app) as query:
        if query is None:
            raise nothing_matches()
        from casparian.query.quarantine import acceptances

        asked = acceptances(query, wanted, reason)
    if not asked:
        raise nothing_matches()
    return asked


def _decisions(app: App, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The decisions that words name, by themselves or by one of their rows."""
    with quarantine(app) as query:
        if query is None:
            raise nothing_matches()
        from casparian.query import quarantine as held

        known = {line["decision_id"]: line for line in held.decisions(query)}
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            row = held.row_of(query, name) if held.is_row_id(name) else None
            decision_id = row["decision_id"] if row is not None else name
            if decision_id not in known:
                raise UsageError(
                    f"`{name}` is neither a decision in force nor a row that was accepted",
                    code="quarantine.no_decision",
                    hint="`casparian quarantine --state accepted` shows what was accepted, and by which decision",
                )
            found[decision_id] = known[decision_id]
    return list(found.values())


def _until_shown(app: App) -> None:
    """Wait until readers see it, or say when they will."""
    with app.client() as client:
        status = client.ask(control.Hello(when_at_rest=True), control.SentinelStatus)
    if not status.at_rest:
        app.out.say("the counts show it once the jobs under way have ended")
