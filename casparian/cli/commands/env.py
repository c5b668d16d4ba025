"""`casparian env`: list, prepare, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.commands.parser import library
from casparian.cli.framework import group, pass_app
from casparian.cli.output import plural
from casparian.cli.progress import RunProgress
from casparian.cli.render import short, time_text
from casparian.display import size_text
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.worker.environment_cache import Listed


@group("env")
def command() -> None:
    """Prepare the packages that parsers import, and make room."""


@command.command("list")
@pass_app
def list_environments(app: App) -> None:
    """List the environments of this home, the last used one first."""
    from casparian.control import environments

    found = environments.listed(app.home)

    def human() -> None:
        if not found:
            app.out.line("No environments yet: `run` makes them when a parser needs one")
            return
        _table(app, found)

    app.out.emit({"environments": [environments.described(one) for one in found]}, human)


@command.command("prepare")
@click.argument("parser", metavar="NAME|DIR")
@pass_app
def prepare(app: App, *, parser: str) -> None:
    """Make the environment of a parser ready now, from the wheelhouse and nowhere else."""
    from casparian.control import environments

    artifact = library(app).find(parser)
    request = control.PrepareEnvironment(
        request_id=ids.new_request_id(),
        env_hash=environments.env_hash_of(artifact),
        requirements=artifact.requirements,
    )
    with app.client() as client, RunProgress(app.out) as progress:
        done = client.ask(request, control.Done, on_event=progress)
    document = {"parser": artifact.label, **done.fields, "packages": list(artifact.requirements)}
    app.out.emit(document, lambda: app.out.line(done.message))


@command.command("prune")
@click.option(
    "--keep-mb",
    type=click.IntRange(min=0),
    default=None,
    help="What may stay, in MiB; without it the setting `environments_mb_max`",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed")
@pass_app
def prune(app: App, *, keep_mb: int | None, dry_run: bool) -> None:
    """Remove environments, those used longest ago first; never one in use.

    What is removed is made again when a parser needs it.
    """
    from casparian.control import environments

    removed = environments.prune(app.home, keep_mb, dry_run=dry_run)

    def human() -> None:
        verb = "would be removed" if dry_run else "removed"
        app.out.line(f"{plural(len(removed), 'environment')} {verb}")
        if removed:
            _table(app, removed)

    document = {
        "dry_run": dry_run,
        "removed": [environments.described(one) for one in removed],
        "size_bytes": sum(one.size_bytes for one in removed),
    }
    app.out.emit(document, human)


def _table(app: App, found: list[Listed]) -> None:
    app.out.table(
        ("environment", "size", "used", "state", "packages"),
        [
            (
                short(one.env_hash),
                size_text(one.size_bytes),
                time_text(one.used_at_ns),
                "in use" if one.in_use else "ready" if one.usable else "to be made again",
                ", ".join(one.packages),
            )
            for one in found
        ],
    )
