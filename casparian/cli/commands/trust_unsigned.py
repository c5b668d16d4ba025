"""`casparian trust allow-unsigned`: ask that Python parsers run although nobody signed them."""

from __future__ import annotations

import click

from casparian.cli import approvals
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.signing import KeySource
from casparian.errors import UsageError


@click.command("allow-unsigned", cls=Command)
@click.option("--off", is_flag=True, help="Refuse them again")
@click.option("--dry-run", is_flag=True, help="Only say what would change")
@approvals.key_options
@pass_app
def allow_unsigned(
    app: App,
    *,
    off: bool,
    dry_run: bool,
    source: KeySource,
    reason: str | None,
) -> None:
    """Let Python parsers run here although nobody signed them, or (--off) refuse them again.

    It is a request that a holder of the policy must accept; with --key you decide about it at once. Every receipt and
    every row of such a parser says that it was unsigned. Native code that nobody signed never runs.
    """
    if reason is None or not reason.strip():
        raise UsageError(
            "say why: `--reason TEXT`",
            code="approval.reason",
            hint="it is recorded with the request",
        )
    document = approvals.propose_and_maybe_accept(
        app,
        "trust.allow_unsigned",
        "allow_unsigned_python",
        {"allow": not off, "reason": reason.strip()},
        source=source,
        reason=reason,
        dry_run=dry_run,
    )
    app.out.emit(document, lambda: None)  # for people it was printed as it happened
