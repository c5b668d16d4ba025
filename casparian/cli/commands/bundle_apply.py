"""`casparian bundle check`, `apply` and `install`: from a stick to the next version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.commands.bundle_common import (
    checklist_for,
    counted,
    into_option,
    running_name,
    running_version,
    store_of,
    wait_option,
)
from casparian.cli.framework import Command, pass_app
from casparian.display import show
from casparian.errors import ExitCode

if TYPE_CHECKING:
    from casparian.appliance.stick.apply import Applied, Options
    from casparian.appliance.stick.checklist import Checklist

_fingerprint = click.option(
    "--fingerprint", metavar="SHA256:…", help="Of the release key, as the printed card has it"
)
_without_trust = click.option(
    "--without-trust", is_flag=True, help="Leave the stick's roots, policy and parsers"
)
_keep = click.option(
    "--keep",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    metavar="N",
    help="Versions that stay, current and previous among them",
)


@click.command("check", cls=Command)
@click.argument("stick", type=click.Path())
@_fingerprint
@_without_trust
@into_option
@pass_app
def check(
    app: App, *, stick: str, fingerprint: str | None, without_trust: bool, into: str | None
) -> int:
    """Verify a stick whole, and look whether it fits this machine; nothing is changed.

    Signature, roots and policy, release key, floor, every file, the archive, then C library, kernel, room and
    permissions. Exit code 4 when anything is refused.
    """
    return _check(app, stick, into, fingerprint=fingerprint, without_trust=without_trust)


@click.command("apply", cls=Command)
@click.argument("stick", type=click.Path())
@_keep
@_without_trust
@wait_option
@into_option
@click.option("--dry-run", is_flag=True, help="Check only, as `bundle check` does")
@pass_app
def apply(
    app: App,
    *,
    stick: str,
    keep: int,
    without_trust: bool,
    wait_seconds: float | None,
    into: str | None,
    dry_run: bool,
) -> int:
    """Update from a stick: verify, stage, test, switch; the version before is kept.

    Nothing on the stick is executed before it is verified. Jobs of this home finish first and its control database is copied;
    newer roots, policy and parsers of the stick are taken over as well. Cut off at any moment the version in use still works,
    and the same command goes on from there.
    """
    if dry_run:
        return _check(app, stick, into, fingerprint=None, without_trust=without_trust)
    from casparian.appliance.stick.apply import Options

    options = Options(keep=keep, without_trust=without_trust, running=running_name())
    return _apply(app, stick, into, options, wait_seconds)


@click.command("install", cls=Command)
@click.option("--stick", required=True, metavar="DIR", type=click.Path(), help="The stick")
@click.option(
    "--staged", required=True, metavar="DIR", type=click.Path(), help="What was unpacked from it"
)
@click.option("--into", required=True, metavar="DEST", type=click.Path(), help="Where to install")
@click.option(
    "--fingerprint", required=True, metavar="SHA256:…", help="Of the release key, from the card"
)
@_keep
@pass_app
def install(app: App, *, stick: str, staged: str, into: str, fingerprint: str, keep: int) -> int:
    """Finish a first installation; `sh install.sh DEST FINGERPRINT` on the stick calls this.

    Everything is verified again by the unpacked program: the signature, the files of the stick, each file that was unpacked.
    """
    from casparian.appliance.stick.apply import Options

    options = Options(fingerprint=fingerprint, staged=staged, keep=keep)
    return _apply(app, stick, into, options)


def _check(
    app: App, stick: str, into: str | None, *, fingerprint: str | None, without_trust: bool
) -> int:
    from casparian.appliance.stick.apply import Applying, Options
    from casparian.control.stick_home import StickHome
    from casparian.errors import CasparianError

    checklist = checklist_for(app)
    store = None
    if into is not None or running_version() is not None:
        store = store_of(into, needed=False)
    options = Options(fingerprint=fingerprint, without_trust=without_trust)
    side = StickHome(app.home, app.out.say)
    fault: CasparianError | None = None
    try:
        Applying(stick, store, side, options, checklist, progress=counted(app)).check()
    except CasparianError as error:
        fault = error
        if not checklist.items or checklist.good:  # before the first check, or between two
            checklist.failed("stick", error)

    def human() -> None:
        if checklist.good:
            app.out.line(f"`{show(stick)}` may be applied")
            app.out.hint(f"casparian bundle apply {stick}", "update")
        else:
            app.out.line("REFUSED; nothing was changed")

    document = {"stick": stick, "accepted": checklist.good, "checks": checklist.document()}
    app.out.emit(document, human)
    if checklist.good:
        return int(ExitCode.DONE)
    return int(ExitCode.REFUSED if fault is None else fault.exit_code)


def _apply(
    app: App, stick: str, into: str | None, options: Options, wait_seconds: float | None = None
) -> int:
    from casparian.appliance.stick.apply import Applying
    from casparian.control.stick_home import StickHome

    checklist = checklist_for(app)
    # Parsers and policy alone need no installation: any program may take them into its home.
    store = store_of(into, needed=False) if into or running_version() else None
    side = StickHome(app.home, app.out.say, wait_seconds)
    done = Applying(stick, store, side, options, checklist, progress=counted(app)).apply()
    app.out.emit(_document(done, checklist), lambda: _show(app, done))
    return int(ExitCode.DONE if checklist.good else ExitCode.REFUSED)


def _document(done: Applied, checklist: Checklist) -> dict[str, Any]:
    return {**msgspec.to_builtins(done), "checks": checklist.document()}


def _show(app: App, done: Applied) -> None:
    if done.kind == "trust":
        app.out.line(f"release {done.release}: {show(done.trust)}")
    elif done.changed:
        was = f", `{done.before}` is kept" if done.before else ""
        app.out.line(f"`{done.version}` is current{was}")
    else:
        app.out.line(f"`{done.version}` was current already")
    for name in done.removed:
        app.out.say(f"removed `{show(name)}`")
    if done.refused_parsers:
        app.out.line(f"{len(done.refused_parsers)} of the stick's parsers were refused: see above")
    if done.changed and done.before:
        app.out.hint("casparian bundle rollback", f"go back to {done.before}")
    elif done.changed:
        app.out.hint("casparian doctor", "check this machine")
