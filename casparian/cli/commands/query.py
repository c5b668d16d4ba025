"""`casparian query`: SQL over committed tables."""

from __future__ import annotations

import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.query.engine import Query

_TERMINAL_ROWS_MAX: Final = 200
_DOCUMENT_MEMORY_BYTES: Final = 32 << 20


@click.command("query", cls=Command)
@click.argument("sql", required=False)
@click.option(
    "--file",
    "-f",
    "source",
    type=click.File("r", encoding="utf-8"),
    help="Read the SQL from a file (`-` is stdin)",
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV with a header on stdout")
@click.option("--sink", metavar="URI", help="Read tables from this sink")
@pass_app
def command(app: App, *, sql: str | None, source: Any, as_csv: bool, sink: str | None) -> None:
    """Ask committed tables a question in SQL.

    Each output table is there by name: T is the newest state, T__all every materialization. Also
    there: quarantine, materializations, sources. Without SQL the tables are listed.
    """
    if sql is not None and source is not None:
        raise UsageError("the SQL is given twice", hint="either as an argument or with --file")
    if as_csv and app.given.json:
        raise UsageError("--csv and --json exclude each other", hint="choose one")
    text = source.read() if source is not None else sql
    with open_query(app, sink) as query:
        if text is None:
            _list_tables(app, query)
        elif as_csv:
            query.run(text).write_csv(sys.stdout.buffer)
        elif app.given.json:
            _write_document(query, text)
        else:
            _print(app, query, text)


def open_query(app: App, typed: str | None) -> Query:
    """A connection over the sink that was typed, else the configured default if it holds anything, else any."""
    from casparian.query.engine import Query

    configured = app.config.settings.default_sink
    if typed is None and configured is not None:
        try:
            return Query(app.home, configured)
        except UsageError as error:
            if error.code != "query.sink":
                raise
    return Query(app.home, typed)


def _write_document(query: Query, sql: str) -> None:
    """One document, whole or not at all: an error in the last row must not follow half of a document."""
    with tempfile.SpooledTemporaryFile(max_size=_DOCUMENT_MEMORY_BYTES) as document:
        query.run(sql).write_json(document)  # type: ignore[arg-type]  # a spooled file is a binary stream
        document.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(document, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _print(app: App, query: Query, sql: str) -> None:
    from casparian.query.values import json_rows

    result = query.run(sql)
    names = [column.name for column in result.columns]
    rows: list[list[Any]] = []
    cut = False
    for batch in result.batches():
        if app.out.terminal and len(rows) + batch.num_rows > _TERMINAL_ROWS_MAX:
            rows += json_rows(batch.slice(0, _TERMINAL_ROWS_MAX - len(rows)))
            cut = True
            break
        if app.out.terminal:
            rows += json_rows(batch)
        else:
            app.out.table(names, json_rows(batch), headings=not rows)
            rows = rows or [[]]
    if app.out.terminal:
        app.out.table(names, rows)
        app.out.say(
            f"the first {_TERMINAL_ROWS_MAX} rows; `--csv` or a pipe gives all"
            if cut
            else f"{len(rows)} rows"
        )
    elif not rows:
        app.out.table(names, [])


def _list_tables(app: App, query: Query) -> None:
    tables = []
    for name in query.tables:
        if name.endswith("__all"):
            continue
        rows = query.run(f'SELECT count(*) FROM "{name}"').to_json()["rows"]
        tables.append({"table": name, "rows": rows[0][0]})

    def human() -> None:
        app.out.table(("table", "rows"), [(t["table"], t["rows"]) for t in tables])
        first = next((t["table"] for t in tables if t["rows"]), None)
        if first is not None:
            app.out.hint(f'casparian query "from {first} limit 20"', "look at rows")
            app.out.hint(f'casparian query "describe {first}"', "see its columns")
            app.out.hint(
                f'casparian query "select _cf_source_path, count(*) from {first} group by 1"',
                "count by file",
            )

    app.out.emit({"tables": tables}, human)
