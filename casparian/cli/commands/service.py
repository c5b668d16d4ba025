"""`casparian service`: the sentinel as a service of systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.display import show
from casparian.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from casparian.appliance.service.manager import Manager, Outcome
    from casparian.appliance.service.unit import Scope, Unit

_ON_DEMAND = (
    "Without it nothing is missing: every command starts a sentinel for itself, "
    "`casparian sentinel start` one that stays"
)


@group("service")
def command() -> None:
    """Run the sentinel as a service of systemd.

    Commands start a sentinel when they need one: a service is for machines that many people or
    programs use. An update or a rollback needs no new unit.
    """


def _where(function: Any) -> Any:
    for option in (
        click.option("--user", "scope", flag_value="user", help="A service of your own"),
        click.option("--system", "scope", flag_value="system", help="A service of the machine"),
        click.option(
            "--folder",
            type=click.Path(file_okay=False),
            metavar="DIR",
            help="Of unit files, in an image that is prepared for another machine",
        ),
    ):
        function = option(function)
    return function


def _what(function: Any) -> Any:
    for option in (
        click.option(
            "--account",
            metavar="NAME",
            help="Whom a service of the machine runs as [default: the home's owner]",
        ),
        click.option(
            "--writable",
            multiple=True,
            type=click.Path(),
            metavar="DIR",
            help="A folder beside the home that jobs write to, such as a sink's",
        ),
    ):
        function = option(function)
    return function


@command.command("install")
@_where
@_what
@click.option("--no-start", is_flag=True, help="Only from the next boot on")
@click.option("--dry-run", is_flag=True, help="Show the unit and the commands, change nothing")
@pass_app
def install(
    app: App,
    *,
    scope: str | None,
    folder: str | None,
    account: str | None,
    writable: tuple[str, ...],
    no_start: bool,
    dry_run: bool,
) -> None:
    """Write the unit of this home, start it, and have it start with the machine.

    Where no systemd runs the unit is written all the same, and the commands that are left to do
    are shown.
    """
    manager, unit = _unit(app, scope, folder, account, writable)
    outcome = manager.install(unit, start=not no_start, dry_run=dry_run)
    document = {"dry_run": dry_run, "unit": unit.text, **_document(outcome)}

    def human() -> None:
        if dry_run:
            app.out.line(f"# {show(outcome.path)}")
            app.out.line(show_lines(unit.text))
        verb = "would be written" if dry_run else "written" if outcome.changed else "is as it was"
        app.out.line(f"unit {show(outcome.name)} {verb}: `{show(outcome.path)}`")
        _told(app, outcome, dry_run=dry_run)

    app.out.emit(document, human)


@command.command("show")
@_where
@_what
@pass_app
def show_unit(
    app: App,
    *,
    scope: str | None,
    folder: str | None,
    account: str | None,
    writable: tuple[str, ...],
) -> None:
    """Print the unit that `install` would write."""
    manager, unit = _unit(app, scope, folder, account, writable)
    document = {"name": unit.name, "path": manager.path_of(unit.name), "unit": unit.text}
    app.out.emit(document, lambda: app.out.line(show_lines(unit.text)))


@command.command("status")
@_where
@pass_app
def status(app: App, *, scope: str | None, folder: str | None) -> int:
    """Say whether this home has a service, and how it is; exit code 3 when there is none."""
    from casparian.appliance.service.manager import Manager
    from casparian.appliance.service.unit import Unit

    both = scope is None and folder is None
    scopes: tuple[Scope, ...] = ("system", "user") if both else (_scope(scope),)
    found = []
    for one in scopes:
        manager = Manager(one, folder=folder)
        wanted = Unit(scope=one, program=(), home=str(app.home.root))
        lying = next((u for u in manager.units() if u.home == wanted.home), None)
        if lying is not None:
            found.append(manager.standing(lying))

    def human() -> None:
        if not found:
            app.out.line(f"`{app.home.root}` has no service. {_ON_DEMAND}")
        for standing in found:
            app.out.line(f"unit     {show(standing.name)} ({standing.scope})")
            app.out.line(f"file     `{show(standing.path)}`")
            if not standing.manager:
                app.out.line("state    unknown: no systemd answers here")
                continue
            state = standing.state
            words = (state.get("ActiveState"), state.get("SubState"), state.get("StatusText"))
            app.out.line(f"state    {', '.join(show(word) for word in words if word)}")
            app.out.line(f"at boot  {show(state.get('UnitFileState', 'unknown'))}")
            if state.get("MainPID", "0") != "0":
                app.out.line(f"process  {show(state['MainPID'])}")

    documents = [msgspec.to_builtins(standing) for standing in found]
    for document in documents:
        document.pop("same")  # only `install` knows what would be written
    app.out.emit({"home": str(app.home.root), "units": documents}, human)
    return int(ExitCode.DONE if found else ExitCode.SENTINEL)


@command.command("uninstall")
@_where
@click.option("--dry-run", is_flag=True, help="Show the commands, change nothing")
@pass_app
def uninstall(app: App, *, scope: str | None, folder: str | None, dry_run: bool) -> None:
    """Stop the service, once its jobs have finished, and remove the unit; the home stays as it is."""
    from casparian.appliance.service.manager import Manager
    from casparian.appliance.service.unit import unit_name

    manager = Manager(_scope(scope), folder=folder)
    outcome = manager.remove(unit_name(str(app.home.root)), dry_run=dry_run)

    def human() -> None:
        if not outcome.changed:
            app.out.line(f"`{app.home.root}` has no {manager.scope} service")
            return
        verb = "would be removed" if dry_run else "removed"
        app.out.line(f"unit {show(outcome.name)} {verb}; the home `{app.home.root}` stays")
        _told(app, outcome, dry_run=dry_run)

    app.out.emit({"dry_run": dry_run, **_document(outcome)}, human)


def _unit(
    app: App,
    scope: str | None,
    folder: str | None,
    account: str | None,
    writable: tuple[str, ...],
) -> tuple[Manager, Unit]:
    from casparian.appliance.service.manager import Manager, unit_for

    chosen = _scope(scope)
    sink = app.config.settings.default_sink
    unit = unit_for(app.home, chosen, account=account, writable=writable, default_sink=sink)
    return Manager(chosen, folder=folder), unit


def _scope(typed: str | None) -> Scope:
    """Whoever is root means the machine, if nothing is said."""
    import os

    if typed is None:
        return "system" if os.getuid() == 0 else "user"
    if typed in ("system", "user"):
        return "system" if typed == "system" else "user"
    raise UsageError(f"`{typed}` is neither --system nor --user", code="usage")


def _told(app: App, outcome: Outcome, *, dry_run: bool) -> None:
    for line in outcome.done:
        app.out.line(f"done  {line}")
    if outcome.todo and not dry_run:
        app.out.line(f"No systemd answers here. {_ON_DEMAND}. Where systemd runs:")
    for line in outcome.todo:
        app.out.line(f"  {show(line)}")


def _document(outcome: Outcome) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(outcome)
    return document


def show_lines(text: str) -> str:
    """Text of several lines, each safe to print."""
    return "\n".join(show(line) for line in text.rstrip("\n").split("\n"))
