"""`casparian demo`: a small case of our own, from evidence to a proven row."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from casparian.cli.app import App, Globals
from casparian.cli.commands import run as run_command
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.control import requests
from casparian.display import show
from casparian.errors import CasparianError, ExitCode, UsageError

_QUERY: Final = (
    "SELECT time_created, computer, channel, event_id, provider_name\n"
    "FROM evtx_events WHERE time_created IS NOT NULL ORDER BY time_created DESC LIMIT 5"
)
_ROW: Final = "SELECT _cf_row_id FROM evtx_events WHERE len(_cf_flags) = 0 ORDER BY _cf_source_path, _cf_ordinal LIMIT 1"
_NAMES_TRIED: Final = 1000


@click.command("demo", cls=Command)
@click.option(
    "--into",
    type=click.Path(),
    metavar="DIR",
    help="Where to build it [default: a new ./casparian-demo]",
)
@pass_app
def command(app: App, *, into: str | None) -> int:
    """Build a small case and take it from evidence to a proven row."""
    from casparian.demo.world import build_evidence

    directory = _directory(into)
    evidence, home = os.path.join(directory, "evidence"), os.path.join(directory, "home")
    own = App(
        Globals(home=home, json=app.given.json, quiet=app.given.quiet, no_color=app.given.no_color)
    )
    os.makedirs(evidence)
    from pathlib import Path

    built = build_evidence(Path(evidence))
    step = _Steps(own)
    step(
        f"evidence: {plural(len(built.files), 'file')} of two machines, some of them damaged, in `{evidence}`"
    )

    request = requests.run_request(own.config.settings, evidence=evidence)
    step(f"casparian --home {home} run {evidence}")
    result, plan = run_command.perform(own, request, explain=True)
    if not app.given.json:
        run_command.print_result(own, result, plan)

    step("casparian query …")
    document: dict[str, Any] = {
        "directory": directory,
        "evidence": evidence,
        "home": home,
        "run": run_command.document_of(result),
        "tables": _tables(own),
        "query": _query(own, _QUERY),
        "proof": None,
    }
    if not app.given.json:
        _print_query(own, document["tables"], document["query"])
    proof = _prove(own, step)
    document["proof"] = proof
    _stop(own)
    if app.given.json:
        app.out.document(document)
    else:
        own.out.hint("casparian ledger", "what was there, and what the damage cost")
        own.out.hint("casparian quarantine", "what was set aside, and why")
        own.out.hint("casparian query", "which tables there are")
    failed = run_command.exit_code(result, strict=False)
    if failed:
        return failed
    return int(ExitCode.DONE if proof["proven"] else ExitCode.INTEGRITY)


class _Steps:
    """Says which step comes next, beside the data."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._number = 0

    def __call__(self, text: str) -> None:
        self._number += 1
        self._app.out.say(self._app.out.paint(f"\n[{self._number}] {text}", "strong"))


def _directory(into: str | None) -> str:
    """A directory that is new or empty: evidence is never mixed with what is there."""
    if into is not None:
        directory = os.path.abspath(into)
        if os.path.lexists(directory) and not (
            os.path.isdir(directory) and not os.listdir(directory)
        ):
            raise UsageError(
                f"`{show(directory)}` is not empty",
                code="demo.exists",
                hint="name a new directory with `--into DIR`",
            )
        return directory
    for number in range(1, _NAMES_TRIED):
        directory = os.path.abspath("casparian-demo" if number == 1 else f"casparian-demo-{number}")
        if not os.path.lexists(directory):
            return directory
    raise UsageError("too many demos in this directory", hint="name a directory with `--into DIR`")


def _tables(app: App) -> list[dict[str, Any]]:
    from casparian.query.engine import Query

    with Query(app.home) as query:
        names = [name for name in query.tables if not name.endswith("__all")]
        return [
            {
                "table": name,
                "rows": query.run(f'SELECT count(*) FROM "{name}"').to_json()["rows"][0][0],
            }
            for name in names
        ]


def _query(app: App, sql: str) -> dict[str, Any]:
    from casparian.query.engine import Query

    with Query(app.home) as query:
        return {"sql": sql, **query.run(sql).to_json()}


def _print_query(app: App, tables: list[dict[str, Any]], answer: dict[str, Any]) -> None:
    app.out.table(("table", "rows"), [(t["table"], t["rows"]) for t in tables])
    app.out.line("")
    for line in answer["sql"].splitlines():
        app.out.line(f"> {line}")
    app.out.table([column["name"] for column in answer["columns"]], answer["rows"])


def _prove(app: App, step: _Steps) -> dict[str, Any]:
    from casparian.appliance.why import why
    from casparian.cli.commands.why import document_of, print_report

    found = _query(app, _ROW)["rows"]
    if not found:
        raise CasparianError("the demo made no row to prove", code="demo.no_rows")
    row_id = str(found[0][0])
    step(f"casparian why {row_id}")
    report = why(app.home, row_id)
    document = document_of(row_id, report)
    if not app.given.json:
        print_report(app, document)
    return document


def _stop(app: App) -> None:
    """The demo leaves no process behind; the next command starts one when it needs it."""
    from casparian.control import autostart

    autostart.stop(app.home)
