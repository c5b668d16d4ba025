"""`casparian parser`: list, show, test, new, reset; and the verbs of the modules beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian import ids
from casparian.cli import breakers
from casparian.cli.app import App
from casparian.cli.commands import parser_deploy, parser_limits, parser_sign
from casparian.cli.framework import group, pass_app
from casparian.cli.output import plural
from casparian.cli.render import plain, short, time_text
from casparian.display import show
from casparian.domain.isolation import IsolationLevel
from casparian.domain.parsers import ParserKind
from casparian.errors import CasparianError, ExitCode
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.control.parser_test import TestReport
    from casparian.domain.parsers import ParserArtifact
    from casparian.trust.library import ParserLibrary


@group("parser")
def command() -> None:
    """List, show, test, make, sign, deploy and retire parsers."""


for _verb in (
    parser_sign.sign,
    parser_sign.pack,
    parser_sign.verify,
    parser_deploy.deploy,
    parser_deploy.retire,
    parser_limits.limits,
):
    command.add_command(_verb)


def library(app: App) -> ParserLibrary:
    """The parsers that came with the product, those deployed and those of this home."""
    from casparian.trust.library import ParserLibrary

    return ParserLibrary.of(app.home)


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Retired versions too")
@pass_app
def list_parsers(app: App, *, everything: bool) -> None:
    """List parsers with their version, where they come from, who signed them and whether they may run."""
    from casparian.trust.library import Standing

    parsers = []
    for entry in library(app).list():
        if entry.standing is Standing.RETIRED and not everything:
            continue
        described: dict[str, Any] = {
            "name": entry.name,
            "directory": entry.directory,
            "origin": str(entry.origin),
            "state": str(entry.standing),
            "version": entry.deployment.version if entry.deployment else None,
            "serial": entry.deployment.serial if entry.deployment else None,
            "artifact_hash": entry.deployment.artifact_hash if entry.deployment else None,
            "tags": [],
            "tables": [],
            "trusted": False,
            "verdict": None,
            "trust": None,
            "signers": [],
            "error": None,
        }
        if entry.artifact is not None:
            described |= _summary(app, entry.artifact)
        elif entry.error is not None:
            described |= {"error": _plain_error(entry.error), "verdict": "bad"}
        parsers.append(described)

    def human() -> None:
        app.out.table(
            (
                "parser",
                "version",
                "artifact",
                "origin",
                "state",
                "verdict",
                "signers",
                "tags",
                "tables",
                "problem",
            ),
            [
                (
                    p["name"],
                    p["version"],
                    short(p["artifact_hash"]) if p["artifact_hash"] else None,
                    p["origin"],
                    p["state"],
                    p["verdict"],
                    p["signers"],
                    p["tags"],
                    p["tables"],
                    (p["error"] or {}).get("message"),
                )
                for p in parsers
            ],
        )

    app.out.emit({"parsers": parsers}, human)


@command.command("show")
@click.argument("parser", metavar="NAME|DIR")
@pass_app
def show_parser(app: App, *, parser: str) -> None:
    """Show one parser: settings, limits, tables and columns."""
    artifact = library(app).find(parser)
    summary = _summary(app, artifact)
    refusal = summary.pop("error")
    document: dict[str, Any] = {
        **summary,
        "name": artifact.manifest.name,
        "directory": artifact.directory,
        "refusal": None if refusal is None else refusal["message"],
        "refusal_code": None if refusal is None else refusal["code"],
        "deployments": _deployments(app, artifact.manifest.name),
        "manifest": msgspec.to_builtins(artifact.manifest),
        "contract": msgspec.to_builtins(artifact.contract),
        "files": list(artifact.files),
        "breakers": _breakers(app, artifact.manifest.name),
    }

    def human() -> None:
        out, manifest = app.out, artifact.manifest
        out.line(f"{artifact.label}  {manifest.kind.value}  `{show(artifact.directory)}`")
        if manifest.doc:
            out.line(show(manifest.doc))
        out.line(f"artifact {artifact.artifact_hash}")
        if refusal is None:
            out.line(f"trusted  yes: {show(document['trust_sentence'])}")
        else:
            out.line(f"trusted  no: {refusal['code']}: {show(refusal['message'])}")
            if refusal["hint"]:
                out.line(f"         {show(refusal['hint'])}")
        for deployed in document["deployments"]:
            retired = ", retired" if deployed["retired_at_ns"] else ""
            out.line(
                f"deployed {deployed['version']} (serial {deployed['serial']}, "
                f"{short(deployed['artifact_hash'])}) {time_text(deployed['deployed_at_ns'])}{retired}"
            )
        out.line(f"takes    files tagged {', '.join(manifest.tags)}")
        for name, option in manifest.config.items():
            out.line(
                f"setting  {name} ({option.type}, default {option.default!r}): {show(option.doc)}"
            )
        for breaker in document["breakers"]:
            for line in breakers.lines_of(breaker):
                out.line(line)
        for output in artifact.contract.outputs:
            out.line("")
            out.line(f"table {output.table}{' (main)' if output.main else ''}  {show(output.doc)}")
            out.table(
                ("column", "type", "null", "meaning"),
                [(c.name, c.type, c.nullable, c.doc) for c in output.columns],
            )

    app.out.emit(document, human)


@command.command("test")
@click.argument("parser", metavar="NAME|DIR")
@click.argument("files", nargs=-1, type=click.Path())
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the parser; `KEY=@FILE` takes a file's text",
)
@click.option(
    "--rows",
    "rows_shown",
    type=click.IntRange(0, 1000),
    default=5,
    show_default=True,
    help="Rows to show of each table",
)
@pass_app
def test(
    app: App, *, parser: str, files: tuple[str, ...], settings: tuple[str, ...], rows_shown: int
) -> int:
    """Run a parser twice on files and compare: no sentinel, nothing is committed.

    Without FILES its own samples are taken. A parser that is not trusted yet can be tested too.
    """
    from casparian.control import parser_test, requests

    artifact = library(app).find(parser)
    name = artifact.manifest.name
    rest, texts = parser_test.settings_from_files(settings)
    typed = requests.merged_settings({}, [f"{name}.{text}" for text in rest]).get(name, {}) | texts
    chosen = list(files) or parser_test.sample_files(artifact)
    minimum = IsolationLevel(app.config.settings.min_isolation)
    report = parser_test.run_test(
        artifact, chosen, typed, rows_shown=rows_shown, min_isolation=minimum, home=app.home
    )
    document = {"passed": report.passed, "trusted": _summary(app, artifact)["trusted"]}
    document |= msgspec.to_builtins(report)
    app.out.emit(document, lambda: _print_report(app, report))
    return int(ExitCode.DONE if report.passed else ExitCode.FAILED)


@command.command("new")
@click.argument("name")
@click.option(
    "--into", default=".", type=click.Path(), show_default=True, help="Where to make the folder"
)
@click.option(
    "--kind",
    type=click.Choice(["python", "executable"]),
    default="python",
    show_default=True,
    help="A generator in Python, or a program in Rust (which runs only when it is signed)",
)
@pass_app
def new(app: App, *, name: str, into: str, kind: str) -> None:
    """Write a working skeleton of a parser, with its own tests."""
    from casparian.control.parser_new import write_skeleton

    directory, files = write_skeleton(name, into, ParserKind(kind))

    def human() -> None:
        app.out.line(f"wrote {plural(len(files), 'file')} to `{directory}`")
        if kind == "executable":
            app.out.line(f"build it with `{show(directory)}/build.sh`, then sign it")
            app.out.hint(f"casparian parser sign {directory}", "an unsigned program never runs")
        else:
            app.out.hint(f"casparian parser test {directory}", "run it on its sample")

    app.out.emit({"name": name, "directory": directory, "files": list(files)}, human)


@command.command("reset")
@click.argument("parser", metavar="NAME")
@pass_app
def reset(app: App, *, parser: str) -> None:
    """Let a parser whose circuit breaker is open try one job now."""
    with app.client() as client:
        request = control.ResetParser(request_id=ids.new_request_id(), parser=parser)
        done = client.ask(request, control.Done)
    app.out.emit({"message": done.message, "count": done.count}, lambda: app.out.line(done.message))


def _breakers(app: App, name: str) -> list[dict[str, Any]]:
    """Circuit breakers of a parser's versions; none in a home that was never used."""
    return breakers.described(app.read("breakers", {"parser": name}))


def _deployments(app: App, name: str) -> list[dict[str, Any]]:
    """Versions of a parser that were deployed here; none in a home that was never used."""
    return [plain(row) for row in app.read("deployments", {"parser": name})]


def _summary(app: App, artifact: ParserArtifact) -> dict[str, Any]:
    """What there is to say of a parser, and whether it may run here."""
    summary: dict[str, Any] = {
        "version": artifact.manifest.version,
        "artifact_hash": artifact.artifact_hash,
        "tags": list(artifact.manifest.tags),
        "tables": [output.table for output in artifact.contract.outputs],
        "trusted": False,
        "error": None,
    }
    from casparian.trust import verdict

    try:
        found = verdict.verify(artifact, app.home)
    except CasparianError as error:
        verdict_word = "unsigned" if error.code == "trust.unsigned" else "bad"
        return summary | {"verdict": verdict_word, "error": _plain_error(error)}
    return summary | {
        "trusted": True,
        "verdict": found.verdict.value,
        "signers": list(found.signers),
        "serial": found.serial,
        "trust": msgspec.to_builtins(found),
        "trust_sentence": found.sentence(),
    }


def _plain_error(error: CasparianError) -> dict[str, str | None]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _print_report(app: App, report: TestReport) -> None:
    out = app.out
    out.line(f"parser {report.parser}  artifact {short(report.artifact_hash)}")
    out.table(
        ("file", "rows", "quarantined", "present", "lost", "ledger", "code", "message"),
        [
            (
                source.path,
                sum(source.rows.values()),
                source.quarantined,
                source.ledger["present"] if source.ledger else None,
                source.ledger["lost"] if source.ledger else None,
                _balance(source.ledger),
                source.code,
                source.message,
            )
            for source in report.sources
        ],
    )
    for table in report.tables:
        out.line("")
        out.line(f"{table.table}: {plural(table.rows, 'row')}")
        if table.sample:
            names = list(table.sample[0])
            out.table(names, [[row[name] for name in names] for row in table.sample])
    if report.quarantine:
        out.line("")
        out.line("quarantine:")
        for row in report.quarantine:
            out.line(f"  {show(row['reason'])} at {row['_cf_offset']}: {show(row['message'])}")
    if report.log:
        out.say("the parser printed:")
        for line in report.log.splitlines():
            out.say(f"  | {show(line)}")
    out.line("")
    if report.deterministic:
        out.line("the second pass gave the same rows")
    else:
        out.line("NOT DETERMINISTIC: nobody can prove rows that come out otherwise the second time")
        for found in report.findings:
            out.line(f"  {found.code}: {show(found.message)}")
            if found.column is not None:
                out.line(f"    {show(str(found.first))}")
                out.line(f"    {show(str(found.second))}")


def _balance(ledger: dict[str, Any] | None) -> str:
    if ledger is None:
        return ""
    return "balanced" if ledger["balanced"] else "NOT BALANCED"
