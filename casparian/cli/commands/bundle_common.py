"""What the commands of `casparian bundle` share: which installation, marks on a screen, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from casparian.cli.app import App
from casparian.display import show, size_text

if TYPE_CHECKING:
    from casparian.appliance.stick.checklist import Checklist, Item
    from casparian.appliance.stick.installation_store import InstallationStore

_TOLD_SECONDS = 1.0


def into_option(function: Any) -> Any:
    """`--into DEST`."""
    return click.option(
        "--into",
        metavar="DEST",
        type=click.Path(),
        help="The installation [default: the one that this program belongs to]",
    )(function)


def wait_option(function: Any) -> Any:
    """`--wait SECONDS`."""
    return click.option(
        "--wait",
        "wait_seconds",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="How long jobs may take to finish [default: as long as they take]",
    )(function)


def running_version() -> str | None:
    """Folder of the version that this program runs from; `None` when no stick installed it."""
    from casparian import installation

    root = installation.root()
    if root is None:
        return None
    folder = os.path.realpath(root)
    return folder if os.path.basename(os.path.dirname(folder)) == "versions" else None


def running_name() -> str | None:
    """Name of that version."""
    found = running_version()
    return None if found is None else os.path.basename(found)


def store_of(into: str | None, *, needed: bool = True) -> InstallationStore:
    """The installation that a command is about.

    Args:
        into: as typed.
        needed: refuse a folder that holds none.

    Raises:
        Refused: `stick.no_installation`.
    """
    from casparian.appliance.stick.installation_store import InstallationStore
    from casparian.appliance.stick.refusals import refused

    if into is None:
        running = running_version()
        if running is None:
            raise refused("stick.no_installation", "this program was not installed from a stick")
        into = os.path.dirname(os.path.dirname(running))
    store = InstallationStore(into)
    if needed and not os.path.isdir(store.versions):
        raise refused("stick.no_installation", f"`{show(store.path)}` holds no installation")
    return store


def checklist_for(app: App) -> Checklist:
    """A checklist that is shown as it grows."""
    from casparian.appliance.stick.checklist import Checklist

    def tell(item: Item) -> None:
        if app.out.json:
            return
        mark = app.out.paint("✓", "good") if item.passed else app.out.paint("✗", "bad")
        code = "" if item.code is None else f" [{item.code}]"
        app.out.line(f"{mark} {item.check:<18} {show(item.message)}{code}")
        if not item.passed and item.hint:
            app.out.line(f"  hint: {show(item.hint)}")

    return Checklist(tell)


def counted(app: App) -> Callable[[str, int, int], None]:
    """Progress, at most once a second, beside the data."""
    told = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TOLD_SECONDS and not app.out.quiet and not app.out.json:
            told = now
            share = 100 * done // total if total else 100
            app.out.say(f"{what:<10} {share:3}%  {size_text(done)} of {size_text(total)}")

    return report
