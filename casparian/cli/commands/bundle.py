"""`casparian bundle`: the installation that a stick made, and what the next stick does to it."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.commands import bundle_apply, bundle_inside, bundle_rollback
from casparian.cli.commands.bundle_common import counted, into_option, store_of
from casparian.cli.framework import group, pass_app
from casparian.cli.output import plural
from casparian.display import show, size_text
from casparian.errors import CasparianError, ExitCode

_DIFFERENCES_SHOWN = 20


@group("bundle")
def command() -> None:
    """Check a stick, install from it, update, roll back, verify what is installed."""


for _word in (
    bundle_apply.check,
    bundle_apply.apply,
    bundle_apply.install,
    bundle_rollback.rollback,
    bundle_inside.self_test,
    bundle_inside.deploy,
):
    command.add_command(_word)


@command.command("list")
@into_option
@pass_app
def list_versions(app: App, *, into: str | None) -> None:
    """List installed versions: which one runs, which one comes back, who installed them when."""
    store = store_of(into)
    recorded = store.recorded()
    current, previous = store.current, store.previous
    rows: list[dict[str, Any]] = []
    for name in store.names():
        last = next(
            (c for c in reversed(recorded.history) if c.version == name and c.action != "remove"),
            None,
        )
        try:
            stick = store.stick_of(name)
            release, built = stick.release, stick.built
        except (CasparianError, OSError):
            release, built = None, None
        rows.append(
            {
                "version": name,
                "role": "current" if name == current else "previous" if name == previous else None,
                "release": release,
                "built": built,
                "key": None if last is None else last.key,
                "action": None if last is None else last.action,
                "at": None if last is None else last.at,
                "by": None if last is None else last.by,
            }
        )
    document = {
        "installation": store.path,
        "current": current,
        "previous": previous,
        "floor": recorded.floor,
        "versions": rows,
        "history": msgspec.to_builtins(recorded.history),
    }

    def human() -> None:
        app.out.line(f"`{show(store.path)}`, floor {recorded.floor}")
        names = ("version", "role", "release", "built", "action", "at", "by", "key")
        app.out.table(names, [[row[name] for name in names] for row in rows])
        if previous is not None:
            app.out.hint("casparian bundle rollback", f"go back to {previous}")

    app.out.emit(document, human)


@command.command("verify")
@click.option("--version", "name", metavar="NAME", help="Another version than the current one")
@click.option("--all", "every", is_flag=True, help="All versions that are installed")
@click.option(
    "--fingerprint", metavar="SHA256:…", help="Of the release key, as the printed card has it"
)
@into_option
@pass_app
def verify(
    app: App, *, name: str | None, every: bool, fingerprint: str | None, into: str | None
) -> int:
    """Hash every file of the installation again and compare with what was signed.

    Says what is missing, changed or there without having been signed. Exit code 7 when anything is.
    """
    from casparian.appliance.stick import installed
    from casparian.appliance.stick.refusals import refused

    store = store_of(into)
    names = store.names() if every else [name or store.current or ""]
    if not names or not all(found in store.names() for found in names):
        raise refused(
            "stick.no_installation",
            f"`{show(store.path)}` has no version `{show(name or 'current')}`",
            hint="`casparian bundle list` shows what is installed",
        )
    progress = counted(app)
    reports = [
        installed.verify_version(
            store,
            found,
            fingerprint=fingerprint,
            progress=lambda done, total: progress("comparing", done, total),
        )
        for found in names
    ]
    links = installed.link_problems(store)
    good = not links and all(report.good for report in reports)
    document = {
        "installation": store.path,
        "intact": good,
        "links": links,
        "versions": [{**msgspec.to_builtins(r), "intact": r.good} for r in reports],
    }

    def human() -> None:
        for report in reports:
            size = f"{plural(report.files, 'file')}, {size_text(report.size_bytes)}"
            mark = app.out.paint("✓", "good") if report.good else app.out.paint("✗", "bad")
            app.out.line(f"{mark} `{report.version}`: {size}, signed with {report.key}")
            for found in report.differences[:_DIFFERENCES_SHOWN]:
                app.out.line(f"  {found.problem:<10}  `{show(found.path)}` {found.message}")
            more = len(report.differences) - _DIFFERENCES_SHOWN
            if more > 0:
                app.out.line(f"  … {more} more; `--json` has all")
        for problem in links:
            app.out.line(f"{app.out.paint('✗', 'bad')} {problem}")
        if not good:
            app.out.hint("casparian bundle apply STICK", "with the same stick: puts it right")

    app.out.emit(document, human)
    return int(ExitCode.DONE if good else ExitCode.INTEGRITY)
