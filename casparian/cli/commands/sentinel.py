"""`casparian sentinel`: one runtime for many clients."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import group, pass_app
from casparian.cli.render import time_text
from casparian.display import show, size_text
from casparian.errors import ExitCode, SentinelUnreachable, UsageError
from casparian.protocol import control


@group("sentinel")
def command() -> None:
    """Start, stop and look at the sentinel.

    Commands start one for themselves when none runs, and it stops when it is idle. `start` keeps
    one running.
    """


@command.command("start")
@click.option(
    "--workers", type=click.IntRange(min=1, max=256), help="Worker processes [default: one a core]"
)
@pass_app
def start(app: App, *, workers: int | None) -> None:
    """Start a sentinel that runs until it is stopped."""
    from casparian.control import autostart
    from casparian.control.client import Client, is_answering

    running = is_answering(app.home)
    if running:
        with Client.connect(app.home) as client:
            status = client.hello()
        if status.on_demand:  # it would stop when idle: the asked-for one takes its place
            autostart.stop(app.home, app.out.say)
            running = False
    if not running:
        wanted = workers or app.config.settings.workers
        autostart.start(app.home, on_demand=False, workers=wanted, notice=app.out.say).close()
        with Client.connect(app.home) as client:
            status = client.hello()
    word = "is running already" if running else "started"
    app.out.emit(
        {"started": not running, "running": True, "status": _document(status)},
        lambda: app.out.line(
            f"sentinel {word}: process {status.pid}, {status.workers} workers, home `{status.home}`"
        ),
    )


@command.command("serve")
@click.option(
    "--workers", type=click.IntRange(min=1, max=256), help="Worker processes [default: one a core]"
)
@pass_app
def serve(app: App, *, workers: int | None) -> None:
    """Be the sentinel, in the foreground: for service managers and containers.

    `casparian service install` writes a unit that calls this.
    """
    from casparian.control import autostart

    autostart.serve(app.home, workers=workers or app.config.settings.workers)


@command.command("stop")
@click.option("--drain", "first_drain", is_flag=True, help="Let jobs that run finish first")
@pass_app
def stop(app: App, *, first_drain: bool) -> None:
    """Stop the sentinel: what is being committed is finished, the rest waits for the next one.

    Nor does it wait for a commit whose sink cannot be written just now: it names it and leaves it.
    """
    from casparian.control import autostart

    if first_drain:
        _drain(app, None)
        return
    status = autostart.stop(app.home, app.out.say)

    def human() -> None:
        if status is None:
            app.out.line(f"No sentinel runs on `{app.home.root}`")
        else:
            app.out.line(f"sentinel stopped: process {status.pid}")

    app.out.emit({"stopped": status is not None, "running": False}, human)


@command.command("drain")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait [default: as long as it takes]",
)
@pass_app
def drain(app: App, *, timeout_seconds: float | None) -> None:
    """Let the jobs that run finish, begin none, then stop the sentinel.

    When the time is up it says what still runs and ends with code 8. The drain stays in force, and
    after ctrl-C too: ask again to wait on, or take it back with `resume`. Queued jobs wait for the
    next sentinel.
    """
    _drain(app, timeout_seconds)


def _drain(app: App, timeout_seconds: float | None) -> None:
    from casparian.control import draining

    found = draining.drain(app.home, app.out.say, timeout_seconds=timeout_seconds)

    def human() -> None:
        if found is None:
            app.out.line(f"No sentinel runs on `{app.home.root}`")
        else:
            app.out.line(f"sentinel drained and stopped: process {found.pid}")

    app.out.emit({"drained": found is not None, "running": False}, human)


@command.command("resume")
@pass_app
def resume(app: App) -> None:
    """Take a drain back: queued jobs are begun again."""
    from casparian.control import draining

    was = draining.resume(app.home)
    text = "jobs are begun again" if was else "the sentinel was not being drained"
    app.out.emit({"resumed": was, "running": True}, lambda: app.out.line(text))


@command.command("status")
@pass_app
def status(app: App) -> int:
    """Say whether a sentinel runs, and what it does; exit code 3 when none does."""
    from casparian.control.client import Client

    try:
        with Client.connect(app.home) as client:
            found = client.hello()
    except SentinelUnreachable as error:
        if error.code != SentinelUnreachable.code:
            raise
        app.out.emit(
            {"running": False, "home": str(app.home.root)},
            lambda: app.out.line(
                f"No sentinel runs on `{app.home.root}`. Commands start one when they need it"
            ),
        )
        return int(ExitCode.SENTINEL)

    def human() -> None:
        kind = "on demand: stops when idle" if found.on_demand else "until it is stopped"
        app.out.line(f"sentinel {found.version}, process {found.pid}, {kind}")
        app.out.line(f"home     `{found.home}` ({found.home_id})")
        app.out.line(f"since    {time_text(found.started_at_ns)}")
        app.out.line(f"workers  {found.workers}")
        live = ", ".join(f"{number} {state}" for state, number in found.jobs.items() if number)
        app.out.line(f"jobs     {live or 'none live'}")
        if found.draining:
            app.out.line("drain    jobs that run finish, none is begun, then it stops")
        app.out.line(f"engine   {found.engine_hash}")

    app.out.emit({"running": True, "status": _document(found)}, human)
    return int(ExitCode.DONE)


@command.command("backup")
@click.option(
    "--to",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Another place than HOME/backups; nothing may be there",
)
@pass_app
def backup(app: App, *, to: str | None) -> None:
    """Copy the control database, while the sentinel runs or not."""
    from casparian.control import backups as copies

    if app.is_new:
        raise UsageError(
            f"`{app.home.root}` has no control database yet",
            code="backup.nothing",
            hint="`casparian run DIR` begins one",
        )
    done = copies.backup(app.home, to)

    def human() -> None:
        app.out.line(f"copied to `{show(done['path'])}`")
        app.out.line(f"schema {done['schema']}, {size_text(done['size_bytes'])}")
        app.out.line(f"BLAKE3 {done['blake3']}")

    app.out.emit({"backup": done}, human)


@command.command("restore")
@click.argument("file", type=click.Path())
@pass_app
def restore(app: App, *, file: str) -> None:
    """Put a copy of the control database in its place; the present one is moved aside.

    FILE is a path, or a name that `backups` lists. No sentinel may run.
    """
    from casparian.control import backups as copies

    done = copies.restore(app.home, file)
    snapshot = done["snapshot"]

    def human() -> None:
        app.out.line(f"restored `{show(snapshot['file'])}`, {time_text(snapshot['taken_at_ns'])}")
        app.out.line(f"the former database is in `{show(done['aside'])}`")
        app.out.hint("casparian doctor", "what was committed since is no longer on record")

    app.out.emit({"restored": snapshot, "aside": done["aside"]}, human)


@command.command("backups")
@pass_app
def backups(app: App) -> None:
    """List the copies of the control database in HOME/backups, newest first."""
    from casparian.control import backups as copies

    found = copies.backups(app.home)

    def human() -> None:
        if not found:
            app.out.line("No copies yet; one is made before each migration of the schema")
            return
        rows = [
            (b["file"], b["schema"], size_text(b["size_bytes"]), b["reason"], b["blake3"])
            for b in found
        ]
        app.out.table(("file", "schema", "size", "reason", "blake3"), rows)

    app.out.emit({"backups": found}, human)


def _document(found: control.SentinelStatus) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(found)
    document.pop("type", None)
    return document
