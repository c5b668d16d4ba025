"""`casparian uninstall`: take the program off this machine, and leave the work."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.display import show
from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.appliance.service.removal import Removal
    from casparian.appliance.stick.installation_store import InstallationStore


@click.command("uninstall", cls=Command)
@click.option("--version", "version", metavar="NAME", help="Only this version, not the one in use")
@click.option(
    "--from",
    "folder",
    type=click.Path(file_okay=False),
    metavar="DEST",
    help="The installation [default: the one that this program belongs to]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed")
@click.option("--yes", is_flag=True, help="Do not ask")
@pass_app
def command(app: App, *, version: str | None, folder: str | None, dry_run: bool, yes: bool) -> None:
    """Remove the program and its services from this machine; homes, tables and evidence stay.

    Jobs that run finish first. Cut off, it can be run again; what is left when even the program is
    gone is only its own folder.
    """
    from casparian.appliance.service import manager, removal
    from casparian.appliance.stick.installation_store import InstallationStore

    store = InstallationStore(folder or _own())
    if not os.path.isdir(store.versions):
        raise UsageError(
            f"`{show(store.path)}` holds no installation", code="uninstall.nothing", hint=_HINT
        )
    managers = manager.managers()
    planned = removal.plan(store, version=version, managers=managers)
    kept = _kept(app, planned)
    if dry_run:
        app.out.emit(_document(planned, kept, dry_run=True), lambda: _plan(app, planned, kept))
        return
    if not yes:
        _confirm(app, planned, kept)
    _rest(app, planned)
    removal.remove_units(planned, managers)
    document = _document(planned, kept, dry_run=False)
    with contextlib.ExitStack() as held:
        if planned.everything:
            _keep_from_starting(_homes(app, planned), held)
        _load_what_the_end_needs(app, document)
        removal.carry_out(store, planned, running=_running_version(store), step=_said(app))

    def human() -> None:
        app.out.line(
            f"{plural(len(planned.versions), 'version')} removed from `{show(store.path)}`"
        )
        _where(app, kept)

    app.out.emit(document, human)


_HINT = "a program that pip installed is removed by `pip uninstall casparian`"


def _own() -> str:
    from casparian.appliance.service import program

    place = program.destination()
    if place is None:
        raise UsageError(
            "this program was not installed from a stick", code="uninstall.nothing", hint=_HINT
        )
    return str(place)


def _running_version(store: InstallationStore) -> str | None:
    from casparian import installation

    version = installation.root()
    if version is None:
        return None
    path = os.path.realpath(version)
    return (
        os.path.basename(path)
        if os.path.dirname(path) == os.path.realpath(store.versions)
        else None
    )


def _kept(app: App, planned: Removal) -> list[dict[str, str]]:
    """Where the work lies: homes that are known here, and their tables."""
    from casparian import config
    from casparian.errors import CasparianError
    from casparian.paths import Home

    kept = []
    for root in _homes(app, planned):
        home = Home.at(root)
        try:
            sink = config.load(home).settings.default_sink
        except CasparianError:
            sink = None
        tables = sink or str(home.outputs)
        kept.append({"home": root, "tables": tables, "record": str(home.control_database)})
    return kept


def _homes(app: App, planned: Removal) -> list[str]:
    """Homes that are known here, each once."""
    used = [unit.home for unit in planned.units] + [found.home for found in planned.sentinels]
    homes: dict[str, str] = {}
    for root in (str(app.home.root), *used):
        homes.setdefault(os.path.realpath(root), root)
    return [root for root in homes.values() if os.path.isdir(root)]


def _confirm(app: App, planned: Removal, kept: list[dict[str, str]]) -> None:
    if not sys.stdin.isatty() or app.out.json:
        raise UsageError(
            "nothing was removed: there is nobody to ask",
            code="uninstall.unconfirmed",
            hint="`--dry-run` shows what would be removed, `--yes` removes it",
        )
    _plan(app, planned, kept)
    if not click.confirm("Remove all of it?", err=True):
        raise UsageError("nothing was removed", code="uninstall.unconfirmed", hint="`--yes`")


def _rest(app: App, planned: Removal) -> None:
    """Let the jobs of every sentinel that runs from there finish."""
    from casparian.control import draining
    from casparian.paths import Home

    for found in planned.sentinels:
        draining.drain(Home.at(found.home), app.out.say)


def _keep_from_starting(homes: list[str], held: contextlib.ExitStack) -> None:
    """Until the end of `held` no sentinel starts on these homes, by whichever program.

    A home that cannot be locked is served by now, by another program or by this one: `removal.carry_out` tells them apart.
    """
    from casparian.control import draining
    from casparian.paths import Home

    for root in homes:
        held.enter_context(draining.locked(Home.at(root)))


def _load_what_the_end_needs(app: App, document: dict[str, Any]) -> None:
    """Import all that is used after the program's files are gone."""
    import importlib

    importlib.import_module("casparian.cli.diagnostics")
    if app.out.json:
        from casparian.cli.output import to_json

        to_json(document, pretty=False)


def _said(app: App) -> Any:
    return lambda path: app.out.say(f"removing `{show(path)}`")


def _document(planned: Removal, kept: list[dict[str, str]], *, dry_run: bool) -> dict[str, Any]:
    return {"dry_run": dry_run, **msgspec.to_builtins(planned), "kept": kept}


def _plan(app: App, planned: Removal, kept: list[dict[str, str]]) -> None:
    for unit in planned.units:
        app.out.line(
            f"service  {show(unit.name)} of `{show(unit.home)}`, when its jobs have finished"
        )
    for found in planned.sentinels:
        app.out.line(f"process  {found.pid}, the sentinel of `{show(found.home)}`, the same")
    for link in planned.links:
        app.out.line(f"link     `{show(os.path.join(planned.installation, link))}`")
    for name in planned.versions:
        app.out.line(f"version  `{show(os.path.join(planned.installation, 'versions', name))}`")
    _where(app, kept)


def _where(app: App, kept: list[dict[str, str]]) -> None:
    for one in kept:
        app.out.line(f"stays    home `{show(one['home'])}`, tables `{show(one['tables'])}`")
    app.out.line("stays    evidence, wherever it lies")
