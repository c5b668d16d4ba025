"""`casparian verify`: what was committed, against the evidence and against independent readers of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import Output, plural
from casparian.display import show
from casparian.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from casparian.appliance.second_opinion.compare import Counts, Disagreement
    from casparian.appliance.second_opinion.report import (
        ReaderOpinion,
        SecondOpinion,
        SourceOpinion,
    )
    from casparian.appliance.why_sample import SampleReport

_SHOWN_MAX: Final = 10  # disagreements of one source, and problems of one reader
_ROWS_PER_LINE: Final = 500  # proven between two lines of progress


@click.command("verify", cls=Command)
@click.argument("glob", required=False)
@click.option(
    "--second-opinion", is_flag=True, help="Let independent readers read the same sources"
)
@click.option(
    "--sample",
    "rows",
    type=click.IntRange(min=1),
    metavar="ROWS",
    help="Prove so many rows of each table, drawn at random, as `why` proves one",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw the same rows again")
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Draw from this table only")
@click.option("--reader", "readers", multiple=True, metavar="NAME", help="Only this reader")
@click.option("--sink", metavar="URI", help="Read tables from this sink")
@pass_app
def command(
    app: App,
    *,
    glob: str | None,
    second_opinion: bool,
    rows: int | None,
    seed: int | None,
    tables: tuple[str, ...],
    readers: tuple[str, ...],
    sink: str | None,
) -> int:
    """Compare committed rows with the evidence, or with what independent readers find.

    `--sample` draws rows of each table at random and derives each again from its bytes: a figure to quote
    about all of them. Exit code 7 when one is not proven.

    `--second-opinion` runs other readers (evtx and libevtx for event logs, libregf for hives), each
    confined as a parser is, over the sources of committed rows and reports every disagreement.
    GLOB narrows the sources by path. Exit code 7 when another reader has what no table of ours has.
    """
    if second_opinion == (rows is not None):
        raise UsageError(
            "say what to verify with: `--sample` or `--second-opinion`",
            code="usage.verify",
            hint="`casparian verify --sample 100`; `casparian doctor --verify` hashes committed files, "
            "`casparian why ROW` proves one row",
        )
    if rows is not None:
        return _sample(app, rows, tables, seed)
    from casparian.appliance.second_opinion import second_opinion as ask

    def progress(reader: str, done: int, total: int) -> None:
        app.out.say(f"{reader}: {done} of {plural(total, 'source')}")

    opinion = ask(app.home, readers=readers, pattern=glob, sink=sink, progress=progress)
    app.out.emit(opinion.to_builtins(), lambda: _print(app.out, opinion))
    return int(ExitCode.INTEGRITY if opinion.lacking else ExitCode.DONE)


def _sample(app: App, rows: int, tables: tuple[str, ...], seed: int | None) -> int:
    from casparian.appliance.why_sample import prove_sample

    def progress(done: int, total: int) -> None:
        if done % _ROWS_PER_LINE == 0 or done == total:
            app.out.say(f"{done} of {plural(total, 'row')}")

    report = prove_sample(app.home, rows=rows, tables=tables, seed=seed, progress=progress)
    app.out.emit(report.to_builtins(), lambda: _print_sample(app.out, report))
    return int(ExitCode.DONE if report.proven else ExitCode.INTEGRITY)


def _print_sample(out: Output, report: SampleReport) -> None:
    for table in report.tables:
        out.line(
            f"{table.table}  {table.proven} of {plural(table.drawn, 'row')} proven, "
            f"drawn from {table.rows} (seed {report.seed})"
        )
        for row in table.unproven:
            fields = ", ".join(show(one.field) for one in row.differences)
            out.line(f"  NOT PROVEN {show(row.row_id)}: {fields}")
    if not report.tables:
        out.line("No committed table has rows")


def _print(out: Output, opinion: SecondOpinion) -> None:
    for reader in opinion.readers:
        _print_reader(out, reader)
    for missing in opinion.missing:
        out.line(f"{missing.reader}: not installed (`{missing.distribution}`), not asked")
    if not opinion.readers:
        out.line("No committed table has sources that these readers can read")


def _print_reader(out: Output, reader: ReaderOpinion) -> None:
    out.line(f"{reader.reader}  {plural(len(reader.sources), 'source')} compared")
    if reader.note:
        out.line(f"  note: {reader.note}")
    for kind, counts in reader.totals.items():
        for line in sentences(kind, counts):
            out.line(f"  {line}")
    for source in reader.sources:
        if not source.agrees:
            _print_source(out, source)
    problems = sum(source.problems for source in reader.sources)
    if problems:
        files = sum(bool(source.problems) for source in reader.sources)
        out.line(
            f"  {reader.reader} itself could not read {problems} things in {plural(files, 'source')}"
        )
    for failed in reader.not_compared:
        out.line(f"  not compared: {show(failed.path)}: {failed.code}: {show(failed.message)}")


def sentences(kind: str, counts: Counts) -> list[str]:
    """The figures of one kind, in words that can be quoted."""
    lines = [
        f"{kind}: {counts.both} found by both; {counts.only_theirs} only by the other reader, "
        f"{counts.only_ours} only by us, {counts.differing} with other content"
    ]
    apart = (
        (counts.set_aside, "read by it and set aside by us (quarantine)"),
        (counts.as_recovered, "live for it and recovered for us"),
        (counts.their_recovered, "live for us and recovered for it"),
        (counts.by_logs_ours + counts.by_logs_theirs, "changed by transaction logs"),
    )
    lines += [f"{kind}: {number} {what}" for number, what in apart if number]
    if counts.recovered_ours or counts.recovered_theirs:
        lines.append(
            f"{kind}, recovered: {counts.recovered_ours} by us, {counts.recovered_theirs} by it, "
            f"{counts.recovered_both} by both, {counts.recovered_set_aside} by it and set aside by us, "
            f"{counts.recovered_only_theirs} only by it"
        )
    return lines


def _print_source(out: Output, source: SourceOpinion) -> None:
    out.line(f"  {show(source.path)}")
    for kind, disagreements in source.disagreements.items():
        for one in disagreements[:_SHOWN_MAX]:
            out.line(f"    {kind}: {_words(one)}")
        counts = source.kinds[kind]
        rest = counts.only_theirs + counts.only_ours + counts.differing
        if rest > _SHOWN_MAX:
            out.line(f"    {kind}: {rest - _SHOWN_MAX} more; `--json` has more of them")


def _words(one: Disagreement) -> str:
    name = " ".join(show(str(part), width=120) for part in one.identity if part is not None)
    match one.what:
        case "only_theirs":
            return f"only the other reader has {name} {_values(one.theirs)}"
        case "only_ours":
            return f"only we have {name} {_values(one.ours)}"
        case _:
            return f"{name}: we have {_values(one.ours)}, the other reader {_values(one.theirs)}"


def _values(values: Any) -> str:
    return "(" + ", ".join("unknown" if v is None else show(str(v), width=60) for v in values) + ")"
