"""`casparian bundle rollback`: the version before, with the control database that it can read."""

from __future__ import annotations

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.commands.bundle_common import (
    checklist_for,
    counted,
    into_option,
    store_of,
    wait_option,
)
from casparian.cli.framework import Command, pass_app
from casparian.display import show
from casparian.errors import ExitCode


@click.command("rollback", cls=Command)
@click.option(
    "--discard-newer",
    is_flag=True,
    help="What was recorded since the update may go: the newer database is moved aside",
)
@wait_option
@into_option
@click.option("--dry-run", is_flag=True, help="Say what would happen")
@pass_app
def rollback(
    app: App, *, discard_newer: bool, wait_seconds: float | None, into: str | None, dry_run: bool
) -> int:
    """Go back to the version before; once more comes forward again.

    The older version is verified first. Where the newer one has changed the schema of this home's control database, the copy
    from before the update takes its place if nothing was recorded since; otherwise this is refused, with the reason.
    """
    from casparian.appliance.stick.rollback import roll_back
    from casparian.control.stick_home import StickHome

    checklist = checklist_for(app)
    done = roll_back(
        store_of(into),
        StickHome(app.home, app.out.say, wait_seconds),
        checklist,
        discard_newer=discard_newer,
        dry_run=dry_run,
        progress=counted(app),
    )

    def human() -> None:
        word = "would be" if dry_run else "is"
        app.out.line(f"`{done.version}` {word} current, `{done.before}` the one before")
        if done.aside is not None:
            app.out.line(f"the newer database is in `{show(done.aside)}`")
        if done.lost:
            app.out.line(f"{done.lost} entries of the tape are on record there only")

    app.out.emit(
        {"dry_run": dry_run, **msgspec.to_builtins(done), "checks": checklist.document()}, human
    )
    return int(ExitCode.DONE if checklist.good else ExitCode.REFUSED)
