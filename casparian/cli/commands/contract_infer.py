"""`casparian contract infer`: unknown files in, a proposed contract with its evidence out, and questions."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import Output, plural, to_json
from casparian.display import show
from casparian.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from casparian.contracts.propose import ColumnFound, Proposal, Question
    from casparian.control.infer import Inferred, Kind

_EXAMPLES_SHOWN = 3
_WORDS = {
    "text": "text",
    "jsonl": "JSON Lines",
    "json": "one JSON document, not one a line",
    "binary": "binary",
    "evtx": "a Windows event log",
    "registry": "a Windows registry hive or its log",
    "compressed": "compressed",
    "archive": "an archive",
    "sqlite": "a SQLite database",
    "xml": "XML",
}


@click.command("infer", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...", type=click.Path())
@click.option("--table", required=True, metavar="NAME", help="Name of the table")
@click.option(
    "--match",
    "globs",
    multiple=True,
    metavar="GLOB",
    help="Which files it is for; by default those with the same extension",
)
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="COLUMN=OPTION",
    help="Answer a question; again for each one",
)
@click.option("--delimiter", metavar="TEXT", help="What stands between cells (\\t for a tab)")
@click.option("--quote", metavar="CHAR", help="What stands around cells, `none` for nothing")
@click.option(
    "--comment",
    metavar="TEXT",
    help="What a line begins with that is no record, `none` for nothing",
)
@click.option(
    "--skip-lines", type=click.IntRange(0, 1 << 20), metavar="N", help="Lines before the records"
)
@click.option("--encoding", metavar="NAME", help="utf-8, utf-16le, utf-16be, latin-1 or cp1252")
@click.option("--header/--no-header", default=None, help="Whether the first record names the cells")
@click.option("--explain", metavar="COLUMN", help="Show what ruled out what in this column")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Write the proposed contract there"
)
@click.option("--force", is_flag=True, help="Replace FILE when it is there")
@pass_app
def infer(
    app: App,
    *,
    paths: tuple[str, ...],
    table: str,
    globs: tuple[str, ...],
    answers: tuple[str, ...],
    delimiter: str | None,
    quote: str | None,
    comment: str | None,
    skip_lines: int | None,
    encoding: str | None,
    header: bool | None,
    explain: str | None,
    output: str | None,
    force: bool,
) -> int:
    """Propose a contract for unknown text: CSV and its relatives, W3C logs, or JSON Lines.

    Every value of every row is read, in a confined guest, and rules out what it contradicts; what remains is the proposal.
    What the files do not say (a zone, the order of day and month) is a question: answer it with `--answer`, on a terminal when
    you are asked, or not at all, and then there is no proposal (exit code 5). Nothing is recorded: `contract promote` asks
    for approval.
    """
    if output is not None and os.path.lexists(output) and not force:
        raise UsageError(
            f"`{show(output)}` is there already",
            code="usage.output",
            hint="`--force` replaces it",
        )
    from casparian.cli.progress import BytesProgress
    from casparian.config import load
    from casparian.control.infer import files_below, run_inference
    from casparian.domain.isolation import IsolationLevel

    given = _given(answers)
    files = files_below(paths)
    wanted: dict[str, Any] = {
        key: value
        for key, value in (
            ("delimiter", None if delimiter is None else delimiter.replace("\\t", "\t")),
            ("quote", "" if quote == "none" else quote),
            ("comment", "" if comment == "none" else comment),
            ("skip_lines", skip_lines),
            ("encoding", encoding),
            ("header", header),
        )
        if value is not None
    }
    app.out.say(f"reading {plural(len(files), 'file')}, {_size(files)}")
    minimum = IsolationLevel(load(app.home).settings.min_isolation)
    with BytesProgress(app.out, "read") as progress:
        inferred = run_inference(files, wanted, min_isolation=minimum, report=progress)
    if inferred.found is None or "contradiction" in inferred.dialect:
        return _dialect(app.out, inferred, table)
    from casparian.contracts.propose import propose

    def proposed() -> Proposal:
        return propose(
            inferred.found or {},
            table=table,
            match=globs or _globs(files),
            files=inferred.files,
            layout=inferred.dialect.get("layout"),
            answers=given,
        )

    proposal = proposed()
    while proposal.questions and app.out.terminal and not app.out.json:
        question = proposal.questions[0]
        given.setdefault(question.column, []).append(_ask(app.out, question))
        proposal = proposed()
    if explain is not None:
        _explain(app.out, proposal, explain)
        return int(ExitCode.DONE)
    if output is not None and proposal.document is not None:
        _write(output, proposal.document)

    def human() -> None:
        _print_left_out(app.out, inferred.dialect, wanted)
        _print(app.out, proposal, output)

    app.out.emit(_document(proposal, inferred.dialect), human)
    return int(ExitCode.DONE if proposal.complete else ExitCode.CONTRACT)


def _given(answers: Sequence[str]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for answer in answers:
        column, equals, option = answer.partition("=")
        if not equals or not column or not option:
            raise UsageError(
                f"`{show(answer)}` is no answer",
                code="infer.answer",
                hint="write `--answer COLUMN=OPTION`",
            )
        given.setdefault(column, []).append(option)
    return given


def _size(files: Sequence[str]) -> str:
    return f"{sum(os.path.getsize(path) for path in files):,} bytes"


def _globs(files: Sequence[str]) -> tuple[str, ...]:
    """Files with the same extensions; of a file without one, its name."""
    globs = set()
    for path in files:
        name = os.path.basename(path)
        stem, extension = os.path.splitext(name)
        globs.add(f"*{extension}" if stem and extension else name)
    return tuple(sorted(globs))


def _write(path: str, document: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(to_json(document, pretty=True) + "\n")


def _dialect(out: Output, inferred: Inferred, table: str) -> int:
    """Say which layouts are left, or why none is, and what to do about it."""
    dialect, first = inferred.dialect, inferred.files[0]
    against = dialect.get("contradiction")
    if against is not None:
        against["file"] = inferred.files[against.pop("source")]
        if not against["why"]:
            against["why"] = f"it is {_WORDS.get(against['kind'], against['kind'])}"
    options = dialect.get("options", [])
    is_table = dialect["form"] in ("delimited", "jsonl")
    hints = list(_hints(inferred, table)) if against is not None or not options else []

    def human() -> None:
        if against is not None:
            out.line("The files are not one table:")
            out.line(f"  {show(against['file'])}: {_why(against)}")
            if options:
                out.line("The files before it have:")
            else:
                out.line(f"The files before it, from {show(first)} on, hold JSON Lines.")
            for one in options:
                out.line(f"  {_flags(one, options)}")
        elif options:
            out.line(f"{show(first)} can be read in several ways; say which:")
            for one in options:
                out.line(f"  {_flags(one, options)}")
        elif is_table:
            out.line(f"No delimiter parts every record of {show(first)} into as many cells:")
            _print_ruled_out(out, dialect)
        else:
            what = _WORDS.get(dialect["form"], dialect["form"])
            out.line(f"{show(first)} is no table of text: it is {what}.")
        if len(inferred.kinds) > 1:
            for kind in inferred.kinds:
                more = f" and {kind.files - 3} more" if kind.files > 3 else ""
                names = ", ".join(show(name) for name in kind.names[:3])
                out.line(
                    f"{plural(kind.files, 'file')}: {_WORDS.get(kind.kind, kind.kind)}: {names}{more}"
                )
        for command, why in hints:
            out.hint(command, why)

    import msgspec

    document = {
        "complete": False,
        "file": first,
        "dialect": dialect,
        "kinds": msgspec.to_builtins(inferred.kinds),
        "hints": [{"command": command, "why": why} for command, why in hints],
        "proposal": None,
    }
    out.emit(document, human)
    return int(ExitCode.CONTRACT)


def _hints(inferred: Inferred, table: str) -> Iterator[tuple[str, str]]:
    """Commands that fit what the files are, those of a table first."""
    kinds = {kind.kind: kind for kind in inferred.kinds}
    several = len(kinds) > 1
    lines, text = kinds.get("jsonl"), kinds.get("text")
    if lines is not None and several:
        yield _infer_only(lines, table), "only the files that hold JSON Lines"
    if text is not None and several:
        yield _infer_only(text, table), "only the files of delimited text"
    elif text is not None and text.files > 1:
        yield "casparian contract infer FILES…", "give files of one dialect at a time"
    if text is not None:
        yield (
            "casparian contract infer … --delimiter TEXT --quote CHAR",
            "both are taken as they are, and records that do not fit are set aside",
        )
        yield "casparian parser new NAME", "text that no delimiter parts needs a parser of its own"
    if known := [kind for kind in ("evtx", "registry") if kind in kinds]:
        folder = os.path.dirname(kinds[known[0]].names[0]) or "."
        yield f"casparian run {show(folder)}", "these need no contract: the program knows them"
    if {"compressed", "archive"} & kinds.keys():
        yield "casparian contract infer FILES…", "unpack them first: the packed bytes say nothing"
    if "json" in kinds:
        yield (
            "jq -c '.[]' FILE.json > FILE.jsonl",
            "one document is no table; of a list of objects another program makes JSON Lines",
        )


def _infer_only(kind: Kind, table: str) -> str:
    names = " ".join(shlex.quote(name) for name in kind.names) if kind.files <= 3 else "FILES…"
    return f"casparian contract infer {show(names)} --table {show(table)}"


def _print_left_out(out: Output, dialect: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Say what was found above the table."""
    layout = dialect.get("layout") or {}
    if layout.get("comment") and "comment" not in wanted:
        out.line(f"lines that begin with `{layout['comment']}` are comments")
    if layout.get("skip_lines") and "skip_lines" not in wanted:
        out.line(f"the first {plural(layout['skip_lines'], 'line')} stand above the table")


def _flags(one: dict[str, Any], options: Sequence[dict[str, Any]]) -> str:
    """The options that choose this layout."""
    header = "--header" if one["header"] else "--no-header"
    quote = one["quote"] or "none"
    flags = f"--delimiter {show(repr(one['delimiter']))} --quote {quote!r} {header}"
    if any(other["comment"] != options[0]["comment"] for other in options) or one["comment"]:
        flags += f" --comment {shlex.quote(one['comment'] or 'none')}"
    if one["skip_lines"]:
        flags += f" --skip-lines {one['skip_lines']}"
    return flags


def _why(one: dict[str, Any]) -> str:
    place = f" (record {one['record']}, byte {one['offset']})" if "record" in one else ""
    return f"{show(one['why'], width=200)}{place}"


def _print_ruled_out(out: Output, dialect: dict[str, Any]) -> None:
    """The first candidate of each delimiter, the rest being the same with other quotes."""
    seen: set[str] = set()
    for one in dialect["ruled_out"]:
        if one["delimiter"] not in seen:
            seen.add(one["delimiter"])
            quote = "no quotes" if one["quote"] is None else f"quotes {one['quote']}"
            out.line(f"  {show(repr(one['delimiter']))}, {quote}: {_why(one)}")


def _document(proposal: Proposal, dialect: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    built: dict[str, Any] = msgspec.to_builtins(proposal)
    document = built.pop("document")
    return {"complete": proposal.complete, "dialect": dialect, **built, "proposal": document}


def _print(out: Output, proposal: Proposal, output: str | None) -> None:
    out.line(
        f"{show(proposal.table)}: {plural(proposal.rows, 'row')} in {plural(len(proposal.files), 'file')}"
    )
    if proposal.faults:
        out.line(
            f"{plural(proposal.faults, 'record')} would be set aside: cells do not fit the header"
        )
    out.table(
        ("column", "type", "format", "meaning", "values", "null spellings"),
        [
            (
                column.name,
                column.type or "?",
                column.format or "",
                column.meaning or "",
                column.values,
                ", ".join(f"{word!r} ({count})" for word, count in column.nulls.items()),
            )
            for column in proposal.columns
        ],
    )
    for question in proposal.questions:
        _print_question(out, question)
    if proposal.questions:
        first = proposal.questions[0]
        answer = f"--answer '{show(first.column)}={show(first.options[0].option)}'"
        out.hint(f"casparian contract infer … {answer}", "answer, and get a proposal")
    elif output is None:
        out.hint("casparian contract infer … -o FILE", "write the proposed contract")
    else:
        out.hint(f"casparian contract promote {show(output)}", "ask for its approval")


def _print_question(out: Output, question: Question) -> None:
    out.line()
    out.line(f"Question: {question.text}")
    for option in question.options:
        examples = ", ".join(
            f"{show(text)} → {show(value)}" for text, value in option.examples[:_EXAMPLES_SHOWN]
        )
        out.line(f"  {show(option.option):<28} {option.type:<24} {examples}".rstrip())


def _ask(out: Output, question: Question) -> str:
    _print_question(out, question)
    default = question.options[-1].option if question.kind == "reading" else None
    answer: str = click.prompt(f"{show(question.column)} =", default=default, err=True)
    return answer


def _explain(out: Output, proposal: Proposal, name: str) -> None:
    import msgspec

    column = next((c for c in proposal.columns if name in (c.name, c.source)), None)
    if column is not None:
        out.emit({"column": msgspec.to_builtins(column)}, lambda: _print_evidence(out, column))
        return
    raise UsageError(f"there is no column `{show(name)}`", code="infer.column")


def _print_evidence(out: Output, column: ColumnFound) -> None:
    out.line(f"{show(column.name)}: {column.type or 'a question is open'}")
    out.table(
        ("value", "file", "row", "byte", "ruled out"),
        [
            (one.value, one.file, one.row + 1, one.offset, ", ".join(one.ruled_out))
            for one in column.evidence
        ],
    )
