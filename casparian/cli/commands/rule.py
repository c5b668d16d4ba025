"""`casparian rule`: patterns that tag paths at each scan."""

from __future__ import annotations

import click

from casparian import ids
from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.protocol import control


@group("rule")
def command() -> None:
    """Tag files by pattern."""


def _mutate(app: App, request: control.AddRule | control.RemoveRule) -> None:
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
    """Give paths that match a tag (`**` crosses directories)."""
    _mutate(app, control.AddRule(request_id=ids.new_request_id(), pattern=glob, tag=tag))


@command.command("remove")
@click.argument("rule_id", type=click.IntRange(min=1))
@pass_app
def remove(app: App, *, rule_id: int) -> None:
    """Remove a rule by its number."""
    _mutate(app, control.RemoveRule(request_id=ids.new_request_id(), rule_id=rule_id))


@command.command("list")
@pass_app
def list_rules(app: App) -> None:
    """List the rules, in the order they are applied."""
    rules = app.read("rules")

    def human() -> None:
        if rules:
            app.out.table(
                ("rule", "pattern", "tag"), [(r["rule_id"], r["pattern"], r["tag"]) for r in rules]
            )
        else:
            app.out.line("No rules yet. `casparian rule add '**/*.log' syslog` makes one")

    app.out.emit({"rules": rules}, human)
