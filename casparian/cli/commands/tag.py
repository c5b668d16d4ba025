"""`casparian tag`: tags by hand on catalogued paths."""

from __future__ import annotations

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.protocol import control


@group("tag")
def command() -> None:
    """Tag files by hand."""


def _tag(app: App, pattern: str, tag: str, *, remove: bool) -> None:
    request = control.TagFiles(
        request_id=ids.new_request_id(), pattern=pattern, tag=tag, remove=remove
    )
    with app.client() as client:
        done = client.ask(request, control.Done)
    app.out.emit(
        {"message": done.message, "count": done.count, **done.fields},
        lambda: app.out.line(done.message),
    )


@command.command("add")
@click.argument("glob")
@click.argument("tag")
@pass_app
def add(app: App, *, glob: str, tag: str) -> None:
    """Add a tag to catalogued paths that match."""
    _tag(app, glob, tag, remove=False)


@command.command("remove")
@click.argument("glob")
@click.argument("tag")
@pass_app
def remove(app: App, *, glob: str, tag: str) -> None:
    """Remove a tag that was added by hand."""
    _tag(app, glob, tag, remove=True)
