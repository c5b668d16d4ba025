"""`casparian contract`: what tables promise, how that changed, and asking for a change."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from casparian.cli.app import App, read
from casparian.cli.approvals import key_options, propose_and_maybe_accept
from casparian.cli.commands import contract_infer
from casparian.cli.framework import group, pass_app
from casparian.cli.output import plural
from casparian.cli.render import short, time_text
from casparian.display import show
from casparian.errors import UsageError


@group("contract")
def command() -> None:
    """See what tables promise, and ask for a change."""


@command.command("list")
@pass_app
def list_contracts(app: App) -> None:
    """List the contracts in force: of datasets, and of parsers' own tables."""
    datasets = _newest(app.read("datasets"), ("table_name",))
    parsers = _newest(app.read("contracts"), ("parser", "table_name"))
    own = {row["table_name"] for row in datasets}
    parsers = [row for row in parsers if row["table_name"] not in own]

    def human() -> None:
        if not datasets and not parsers:
            app.out.line(
                "No contracts yet. `casparian contract infer FILES --table NAME` proposes one"
            )
            return
        rows = [
            (
                r["table_name"],
                r["parser"],
                r["revision"],
                short(r["hash"]),
                time_text(r["promoted_at_ns"]),
            )
            for r in datasets
        ]
        rows += [
            (r["table_name"], r["parser"], r["revision"], short(r["contract_hash"]), time_text(r["promoted_at_ns"]))
            for r in parsers
        ]  # fmt: skip
        app.out.table(("table", "parser", "revision", "hash", "since"), rows)

    app.out.emit({"datasets": [_described(r) for r in datasets], "parsers": parsers}, human)


@command.command("show")
@click.argument("table")
@click.option("--revision", type=click.IntRange(min=1), help="An older one")
@pass_app
def show_contract(app: App, *, table: str, revision: int | None) -> None:
    """Show one table's contract."""
    from casparian.control import contracts

    rows = app.read("datasets", {"table_name": table})
    if not rows:
        _show_of_parser(app, table, revision)
        return
    row = contracts.pick(rows, table, revision)
    dataset = contracts.dataset_of(row)

    def human() -> None:
        from casparian.contracts.describe import description

        app.out.line(
            f"revision {row['revision']}, in force since {time_text(row['promoted_at_ns'])}"
        )
        for line in description(dataset):
            app.out.line(line)
        app.out.hint(f"casparian contract export {table} -o FILE", "to edit it")

    app.out.emit({**_described(row), "document": dataset.document()}, human)


def _show_of_parser(app: App, table: str, revision: int | None) -> None:
    """A table of a parser's own: its contract comes with the parser, tightened by the laboratory."""
    from casparian.control import contracts

    rows = app.read("contracts", {"table_name": table})
    if not rows:
        contracts.pick(app.read("datasets"), table)  # raises, and names those that there are
    found = [row for row in rows if revision in (None, row["revision"])]
    if not found:
        raise UsageError(f"`{table}` has no revision {revision}", code="contract.unknown")
    row = found[-1]
    document = msgspec.json.decode(row["document"])

    def human() -> None:
        app.out.line(f"{table}, revision {row['revision']}, of {row['parser']} ({row['origin']})")
        for column in document["columns"]:
            said = {k: v for k, v in column.items() if k not in ("name", "type", "doc")}
            rules = ", ".join(f"{k} {v}" for k, v in said.items())
            app.out.line(f"column {show(column['name'])}  {column['type']}  {show(rules)}".rstrip())

    app.out.emit({**row, "document": document}, human)


@command.command("history")
@click.argument("table")
@pass_app
def history(app: App, *, table: str) -> None:
    """Show every revision of a table's contract: what changed, who decided, when and why."""
    from casparian.control import contracts

    if app.is_new:
        contracts.pick([], table)
    with app.client() as client:
        rows = read(client, "datasets", {"table_name": table})
        if not rows:
            contracts.pick(read(client, "datasets"), table)
        amendments = {r["revision"]: r for r in read(client, "amendments", {"table_name": table})}
        votes = {
            row["approval_id"]: read(client, "approval_votes", {"approval_id": row["approval_id"]})
            for row in rows
        }
    revisions = []
    for row in rows:
        changes = amendments.get(row["revision"], {}).get("changes")
        revisions.append(
            {
                **_described(row),
                "changes": msgspec.json.decode(changes) if changes else [],
                "decisions": [_vote(vote) for vote in votes[row["approval_id"]]],
            }
        )

    def human() -> None:
        for revision in revisions:
            app.out.line(
                f"{show(table)}, revision {revision['revision']}  {time_text(revision['promoted_at_ns'])}  {revision['effect']}"
                f"  asked for by {show(revision['actor'])}  approval {revision['approval_id']}"
            )
            for vote in revision["decisions"]:
                app.out.line(
                    f"  {vote['decision']}  {show(', '.join(vote['holders']))}, key "
                    f"{', '.join(short(k) for k in vote['keyids'])}: {show(vote['reason'])}"
                )
            for change in revision["changes"]:
                app.out.line(
                    f"  {change['what']} `{show(change['subject'])}`: {change['effect']} ({change['why']})"
                )

    app.out.emit({"table": table, "revisions": revisions}, human)


@command.command("diff")
@click.argument("table")
@click.option(
    "--from", "older", type=click.IntRange(min=1), help="Revision [default: the one before]"
)
@click.option("--to", "newer", type=click.IntRange(min=1), help="Revision [default: the newest]")
@click.option(
    "--file", metavar="DOC", help="Compare the newest revision with this document instead"
)
@pass_app
def diff(app: App, *, table: str, older: int | None, newer: int | None, file: str | None) -> None:
    """Show what two revisions differ in, and what that means for recorded files."""
    from casparian.control import contracts

    rows = app.read("datasets", {"table_name": table}) or app.read("datasets")
    if file is not None and newer is not None:
        raise UsageError("give --to or --file, not both", code="usage.diff")
    last = contracts.pick(rows, table, newer)
    if file is None:
        first = contracts.pick(rows, table, older or max(1, last["revision"] - 1))
        after, name = contracts.dataset_of(last), f"revision {last['revision']}"
    else:
        first = contracts.pick(rows, table, older)
        after, name = contracts.load(file), file
    amendment, told = contracts.difference(contracts.dataset_of(first), after)

    def human() -> None:
        app.out.line(f"{table}: revision {first['revision']} -> {show(name)}: {amendment.effect}")
        for line in told:
            app.out.line(line)

    document = {"table": table, "effect": amendment.effect, "compatible": amendment.compatible}
    changes = msgspec.to_builtins(amendment.changes)
    app.out.emit({**document, "from": first["revision"], "to": name, "changes": changes}, human)


@command.command("promote")
@click.argument("document")
@key_options
@click.option("--dry-run", is_flag=True, help="Check and show it, ask nobody")
@pass_app
def promote(app: App, *, document: str, **options: Any) -> None:
    """Ask that DOCUMENT be the first contract of its table; with --key, decide it at once."""
    from casparian.control import contracts

    dataset = contracts.load(document)
    _propose(app, "contract.promote", dataset.table, dataset.document(), options)


@command.command("amend")
@click.argument("table")
@click.option("--file", metavar="DOC", help="The whole new document")
@click.option(
    "--from",
    "drifted",
    multiple=True,
    metavar="FILE",
    help="A file that has drifted: its header or keys, and columns for what is new; again for each",
)
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="COLUMN=OPTION",
    help="With --from: answer a question about a new column",
)
@key_options
@click.option("--dry-run", is_flag=True, help="Check and show the differences, ask nobody")
@pass_app
def amend(
    app: App,
    *,
    table: str,
    file: str | None,
    drifted: tuple[str, ...],
    answers: tuple[str, ...],
    **options: Any,
) -> None:
    """Ask that a table's contract be amended; with --key, decide it at once."""
    from casparian.control import contracts

    if (file is None) == (not drifted):
        raise UsageError(
            "give the new document with --file, or drifted files with --from",
            code="usage.amend",
            hint=f"`casparian contract export {table} -o FILE` writes one to edit",
        )
    if file is not None:
        dataset = contracts.load(file)
    else:
        from casparian.config import load
        from casparian.domain.isolation import IsolationLevel

        rows = app.read("datasets", {"table_name": table}) or app.read("datasets")
        current = contracts.dataset_of(contracts.pick(rows, table))
        minimum = IsolationLevel(load(app.home).settings.min_isolation)
        dataset = contracts.from_drifted(current, drifted, _answers(answers), min_isolation=minimum)
    if dataset.table != table:
        raise UsageError(
            f"`{show(str(file))}` is about the table `{dataset.table}`, not `{show(table)}`",
            code="contract.table",
        )
    _propose(app, "contract.amend", table, dataset.document(), options)


def _answers(typed: tuple[str, ...]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for text in typed:
        column, equals, option = text.rpartition("=")
        if not equals:
            raise UsageError(f"`{show(text)}` is not COLUMN=OPTION", code="usage.answer")
        given.setdefault(column, []).append(option)
    return given


@command.command("export")
@click.argument("table")
@click.option("--revision", type=click.IntRange(min=1), help="An older one")
@click.option("--odcs", is_flag=True, help="As an Open Data Contract Standard document, YAML")
@click.option("-o", "--output", metavar="FILE", help="Write it there; nothing may be there yet")
@pass_app
def export(app: App, *, table: str, revision: int | None, odcs: bool, output: str | None) -> None:
    """Write a table's contract as a document."""
    from casparian.control import contracts

    row = contracts.pick(
        app.read("datasets", {"table_name": table}) or app.read("datasets"), table, revision
    )
    dataset = contracts.dataset_of(row)
    number = int(row["revision"])
    text = contracts.odcs_text(dataset, number) if odcs else contracts.document_text(dataset)
    if output is not None:
        _write(output, text)

    def human() -> None:
        if output is None:
            app.out.line(text.rstrip("\n"))
        else:
            app.out.line(f"revision {number} of `{table}` is in `{show(output)}`")

    told = {"table": table, "revision": number, "hash": row["hash"], "file": output}
    app.out.emit({**told, "text": text if output is None else None}, human)


@command.command("import")
@click.argument("document")
@key_options
@click.option("--dry-run", is_flag=True, help="Check and show it, ask nobody")
@pass_app
def import_contract(app: App, *, document: str, **options: Any) -> None:
    """Ask that a document, ours or Open Data Contract Standard, be its table's contract or the next revision of it."""
    from casparian.control import contracts

    dataset = contracts.load(document)
    known = app.read("datasets", {"table_name": dataset.table})
    kind = "contract.amend" if known else "contract.promote"
    _propose(app, kind, dataset.table, dataset.document(), options)


def _propose(
    app: App, kind: str, table: str, document: dict[str, Any], options: dict[str, Any]
) -> None:
    done = propose_and_maybe_accept(app, kind, table, {"document": document}, **options)
    if done.get("state") == "accepted":
        app.out.hint("casparian run DIR", "read the files that it is about")
    app.out.emit(done, lambda: None)


def _newest(rows: list[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    """The last row of each key; rows come oldest first."""
    return list({tuple(row[name] for name in by): row for row in rows}.values())


def _described(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "document"}


def _vote(vote: dict[str, Any]) -> dict[str, Any]:
    return {
        "decision": vote["decision"],
        "holders": _texts(vote["holders"]),
        "keyids": _texts(vote["keyids"]),
        "role": vote["role"],
        "reason": vote["reason"],
        "at_ns": vote["at_ns"],
    }


def _texts(value: Any) -> list[str]:
    """A list of texts, whether the record keeps it as a list or as JSON."""
    return list(msgspec.json.decode(value) if isinstance(value, str) else value)


def _write(file: str, text: str) -> None:
    try:
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(
            f"`{show(file)}` cannot be written: {error.strerror}",
            hint=f"{plural(1, 'file')} of this name may be there: choose another"
            if isinstance(error, FileExistsError)
            else None,
            code="contract.unwritable",
        ) from error


command.add_command(contract_infer.infer)

__all__ = ["command"]
