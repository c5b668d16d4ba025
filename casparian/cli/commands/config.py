"""`casparian config`: settings, and where each value comes from."""

from __future__ import annotations

from typing import Any

import click

from casparian.cli.app import App
from casparian.cli.framework import group, pass_app


@group("config")
def command() -> None:
    """Show and change settings."""


@command.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from")
@pass_app
def show(app: App, *, origin: bool) -> None:
    """Show every setting with its effective value."""
    from casparian import config

    loaded = app.config
    settings: dict[str, Any] = {}
    origins: dict[str, Any] = {}
    rows = []
    for name, value, source in loaded.items():
        settings[name] = value
        origins[name] = {"kind": source.kind, "where": source.where}
        meaning = config.describe(name) if name in config.SCALARS else "setting of a parser"
        rows.append(
            [name, "(unset)" if value is None else str(value), str(source) if origin else meaning]
        )
    for variable in loaded.unknown_variables:
        app.out.say(f"variable {variable} is not a setting and has no effect")
    document: dict[str, Any] = {"settings": settings}
    if origin:
        document["origins"] = origins
    app.out.emit(
        document,
        lambda: app.out.table(("setting", "value", "origin" if origin else "meaning"), rows),
    )


@command.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--dry-run", is_flag=True, help="Check the value, write nothing")
@pass_app
def set_(app: App, *, key: str, value: str, dry_run: bool) -> None:
    """Write a setting to HOME/config.toml (`parsers.NAME.KEY` for a parser's)."""
    from casparian import config_file

    understood = config_file.set_value(app.home, key, value, dry_run=dry_run)
    path = str(app.home.config_file)
    done = "would write" if dry_run else "wrote"
    app.out.emit(
        {"key": key, "value": understood, "path": path, "dry_run": dry_run},
        lambda: app.out.line(f"{done} `{key} = {understood}` to `{path}`"),
    )


@command.command("unset")
@click.argument("key")
@pass_app
def unset(app: App, *, key: str) -> None:
    """Remove a setting from HOME/config.toml."""
    from casparian import config_file

    removed = config_file.unset_value(app.home, key)
    path = str(app.home.config_file)
    app.out.emit(
        {"key": key, "removed": removed, "path": path},
        lambda: app.out.line(
            f"removed `{key}` from `{path}`" if removed else f"`{path}` does not set `{key}`"
        ),
    )


@command.command("path")
@pass_app
def path(app: App) -> None:
    """Print where the settings file is."""
    file = app.home.config_file
    app.out.emit({"path": str(file), "exists": file.exists()}, lambda: app.out.line(str(file)))
