"""`casparian bundle self-test` and `deploy`: what an update has the new program do."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import click
import msgspec

from casparian.cli.app import App, Globals
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.display import show
from casparian.errors import CasparianError, ExitCode


@click.command("self-test", cls=Command)
@pass_app
def self_test(app: App) -> int:
    """Take evidence that comes with the program to tables, in a home that is removed afterwards.

    `casparian bundle apply` has the staged program do this before it switches to it.
    """
    with tempfile.TemporaryDirectory(prefix="casparian-test-") as folder:
        own = App(
            Globals(
                home=os.path.join(folder, "home"), json=app.given.json, quiet=True, no_color=True
            )
        )
        found = _tested(own, folder)
    passed = all(item["passed"] for item in found)
    message = "; ".join(item["message"] for item in found)

    def human() -> None:
        for item in found:
            mark = app.out.paint("✓", "good") if item["passed"] else app.out.paint("✗", "bad")
            app.out.line(f"{mark} {item['check']:<10} {show(item['message'])}")

    app.out.emit({"passed": passed, "message": message, "checks": found}, human)
    return int(ExitCode.DONE if passed else ExitCode.FAILED)


@click.command("deploy", cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@pass_app
def deploy(app: App, *, folder: str) -> int:
    """Deploy every parser package in a folder; each one's outcome is told.

    `casparian bundle apply` has the new program do this with the parsers of a stick. What is deployed already stays as it is.
    """
    from casparian.control.stick_home import deploy_folder

    found = deploy_folder(app.home, folder, app.out.say)

    def human() -> None:
        for outcome in found:
            app.out.line(f"{outcome.package}: {show(outcome.message)}")

    app.out.emit({"parsers": msgspec.to_builtins(found)}, human)
    refused = any(outcome.outcome == "refused" for outcome in found)
    return int(ExitCode.REFUSED if refused else ExitCode.DONE)


def _tested(own: App, folder: str) -> list[dict[str, Any]]:
    from casparian.cli.commands import run as run_command
    from casparian.control import autostart, requests

    evidence, expected = _sample(folder)
    request = requests.run_request(own.config.settings, evidence=evidence)
    try:
        result, _ = run_command.perform(own, request, explain=False)
        rows = _rows(own)
        found = [
            _item("run", run_command.exit_code(result, strict=False) == 0, "evidence became tables")
        ]
        said = f"{plural(sum(rows.values()), 'row')} in {plural(len(rows), 'table')}"
        if expected is None:
            found.append(_item("rows", bool(sum(rows.values())), said))
        else:
            got = {table: rows.get(table, 0) for table in expected}
            same = got == expected
            found.append(_item("rows", same, said if same else f"{got} instead of {expected}"))
    except CasparianError as error:
        found = [_item("run", False, error.message)]
    finally:
        autostart.stop(own.home)
    return found


def _item(check: str, passed: bool, message: str) -> dict[str, Any]:
    return {"check": check, "passed": passed, "message": message}


def _sample(folder: str) -> tuple[str, dict[str, int] | None]:
    """Evidence to take, and rows by table that it must give; a program without a sample makes the demo's evidence."""
    from pathlib import Path

    from casparian import installation

    share = installation.share()
    if share is not None and (share / "sample" / "expected.json").is_file():
        raw = (share / "sample" / "expected.json").read_bytes()
        return str(share / "sample" / "evidence"), msgspec.json.decode(raw, type=_Expected).tables
    from casparian.demo.world import build_evidence

    evidence = os.path.join(folder, "evidence")
    build_evidence(Path(evidence))
    return evidence, None


class _Expected(msgspec.Struct, frozen=True, kw_only=True):
    """`share/sample/expected.json`."""

    tables: dict[str, int]  # rows


def _rows(own: App) -> dict[str, int]:
    from casparian.query.engine import Query

    with Query(own.home) as query:
        names = [name for name in query.tables if not name.endswith("__all")]
        return {
            name: query.run(f'SELECT count(*) FROM "{name}"').to_json()["rows"][0][0]
            for name in names
        }
