"""Dataset contracts: from the JSON document to checked values, and back to its canonical form.

Rules:
  * Every key is known, every value of its kind; nothing is converted silently, no key stands twice.
  * Each column has its own source, and each cell of a known header has a column: nothing of a file is left out in
    silence. A column that a known header lacks must be nullable.
  * Types, constraints and formats must be able to hold (`contracts.columns`, `contracts.formats`).

No file access here: callers pass bytes. Whether a glob can be used is asked by those who may import `scout`.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from casparian.contracts import columns, formats
from casparian.contracts.document import BYTES_MAX, SCHEMA_VERSION, Table, closest, quoted
from casparian.contracts.load import COLUMNS_MAX, table_name_problem
from casparian.display import show
from casparian.domain.contracts import Action
from casparian.domain.datasets import (
    DELIMITED,
    PARSERS,
    Dataset,
    DatasetColumn,
    DelimitedLayout,
    JsonLayout,
    Source,
    cell_names,
)
from casparian.errors import ContractError
from casparian.protocol import identity

ENCODINGS: Final = ("utf-8", "utf-16le", "utf-16be", "latin-1", "cp1252")
ESCAPES: Final = ("double", "backslash", "none")
HEADERS_MAX: Final = 256
MATCH_MAX: Final = 256
DEPTH_MAX: Final = 16
FILE: Final = "contract"


def read_dataset(raw: bytes | str, *, file: str = FILE) -> Dataset:
    """A dataset's contract from its document.

    Args:
        raw: JSON.
        file: its name, for errors.

    Raises:
        ContractError: names the key and what was expected; codes as of `contract.toml`.
    """
    return dataset_of(_parse(raw, file), file=file)


def dataset_of(values: Any, *, file: str = FILE) -> Dataset:
    """The same from JSON values."""
    if not isinstance(values, dict):
        raise _syntax(file, "the document is not an object")
    table = Table(values, file=file, kind="contract")
    version = table.raw("schema_version")
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        raise table.error(
            "schema_version",
            f"is `{show(repr(version), width=30)}`, this program reads version {SCHEMA_VERSION}",
            code="version",
        )
    name = table.text("table")
    if (problem := table_name_problem(name)) is not None:
        raise table.error("table", f"is no table's name: {problem}", code="table")
    parser = table.choice("parser", PARSERS)
    match = table.texts("match") or ()
    if not match or len(match) > MATCH_MAX or not all(match):
        raise table.error("match", f"has {len(match)} globs, expected 1 to {MATCH_MAX}")
    layout_table = table.table("layout")
    if layout_table is None:
        raise table.error("layout", "is missing, expected a table", code="key")
    layout = _delimited(layout_table) if parser == DELIMITED else _json(layout_table)
    entries = table.tables("columns")
    if not entries or len(entries) > COLUMNS_MAX:
        raise table.error("columns", f"has {len(entries)} columns, expected 1 to {COLUMNS_MAX}")
    dataset = Dataset(
        table=name,
        parser=parser,
        match=match,
        layout=layout,
        columns=tuple(_column(entry, parser) for entry in entries),
        shared=table.boolean("shared", default=False),
        doc=table.text("doc", ""),
    )
    table.finish()
    columns.check_names(table, (column.name for column in dataset.columns))
    _check_sources(table, dataset)
    try:
        canonical(dataset)
    except UnicodeEncodeError as error:  # half a surrogate pair, written as an escape
        raise _syntax(file, "a text in it is not Unicode") from error
    return dataset


def canonical(dataset: Dataset) -> str:
    """The document in its one canonical form: the text that is hashed, approved and given to the parser."""
    return identity.canonical(dataset.document()).decode()


def dataset_hash(dataset: Dataset) -> str:
    """Identity of a revision's content."""
    return identity.derive("casparian.dataset-contract.v1", canonical(dataset))


def _parse(raw: bytes | str, file: str) -> Any:
    try:
        if len(raw) > BYTES_MAX:
            raise ValueError(f"larger than {BYTES_MAX} bytes")
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _syntax(file, f"not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
        raise _syntax(file, show(str(error), width=200)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return values


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _syntax(file: str, why: str) -> ContractError:
    return ContractError(
        f"`{show(file)}` is not readable as a contract: {why}", code="contract.syntax", file=file
    )


def _delimited(table: Table) -> DelimitedLayout:
    delimiter = table.text("delimiter")
    quote = table.optional_text("quote")
    escape = table.optional_text("escape") or ("none" if quote is None else "double")
    comment = table.optional_text("comment")
    if not delimiter or len(delimiter) > 8 or any(c in "\r\n" for c in delimiter):
        raise table.wrong("delimiter", delimiter, "1 to 8 characters, none of them a line's end")
    if quote is not None and (len(quote) != 1 or quote in "\r\n" or quote in delimiter):
        raise table.wrong("quote", quote, "one character that is not in the delimiter, or null")
    if escape not in ESCAPES and (len(escape) != 1 or escape in (*delimiter, quote, "\r", "\n")):
        raise table.error(
            "escape",
            f"is none of {quoted(ESCAPES)}, nor a character that means nothing else",
            closest(escape, ESCAPES),
        )
    if quote is None and escape == "double":
        raise table.error("escape", "doubles a quote that there is not", "set it to `none`")
    if comment is not None and (not comment or len(comment) > 8):
        raise table.wrong("comment", comment, "what a comment line begins with, or null")
    header = table.boolean("header", default=True)
    layout = DelimitedLayout(
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        header=header,
        skip_lines=table.integer("skip_lines", 0, minimum=0, maximum=1 << 20),
        comment=comment,
        encoding=table.choice("encoding", ENCODINGS, "utf-8"),
        headers=_lists(table, "headers"),
    )
    table.finish()
    if not 1 <= len(layout.headers) <= HEADERS_MAX:
        raise table.error(
            "headers", f"has {len(layout.headers)} header rows, expected 1 to {HEADERS_MAX}"
        )
    # With comments there may be `#Fields:` lines, which do tell.
    is_nameless = not header and comment is None
    if is_nameless and len({len(row) for row in layout.headers}) != len(layout.headers):
        raise table.error(
            "headers", "has two rows of one width: without a header line nothing tells them apart"
        )
    for row in layout.headers:
        names = cell_names(row)
        if len(set(names)) != len(names):
            raise table.error("headers", f"has cells that cannot be told apart: {quoted(row)}")
    return layout


def _json(table: Table) -> JsonLayout:
    layout = JsonLayout(
        encoding=table.choice("encoding", ENCODINGS[:1], "utf-8"),
        known=_lists(table, "known") if "known" in table else (),
    )
    table.finish()
    if any(len(path) > DEPTH_MAX for path in layout.known):
        raise table.error("known", f"has a path of more than {DEPTH_MAX} keys")
    return layout


def _lists(table: Table, key: str) -> tuple[tuple[str, ...], ...]:
    """A list of different lists of strings."""
    value = table.raw(key)
    good = isinstance(value, list) and all(
        isinstance(row, list) and row and all(isinstance(text, str) for text in row)
        for row in value
    )
    if not good:
        raise table.wrong(key, value, "a list of lists of strings")
    rows = tuple(tuple(row) for row in value)
    if len(set(rows)) != len(rows):
        raise table.error(key, "has an entry twice")
    return rows


def _column(table: Table, parser: str) -> DatasetColumn:
    name = table.text("name")
    type_name = table.text("type")
    kind = columns.column_type(table, type_name)
    column = DatasetColumn(
        name=name,
        source=_source(table, parser),
        type=type_name,
        format=table.optional_text("format"),
        zone=table.optional_text("zone"),
        null=table.texts("null") or (),
        nullable=table.boolean("nullable", default=True),
        minimum=table.number("minimum"),
        maximum=table.number("maximum"),
        pattern=table.optional_text("pattern"),
        allowed=table.texts("allowed"),
        unique=table.boolean("unique", default=False),
        action=Action(table.choice("action", [a.value for a in Action], Action.QUARANTINE.value)),
        meaning=table.optional_text("meaning"),
        doc=table.text("doc", ""),
    )
    table.finish()
    columns.check_constraints(table, column.contract, kind)
    problem = formats.format_problem(column)
    if problem is not None:
        raise table.error(
            "format",
            f"of `{show(name)}` cannot be: {problem}",
            "`docs/reference/formats.md` lists the formats of each type",
            code="format",
        )
    lists = type_name.count("list<")
    if lists > 1 or (lists and parser == DELIMITED):
        raise table.error(
            "type", "is a list that text cannot hold", "keep it as `utf8`", code="type"
        )
    return column


def _source(table: Table, parser: str) -> Source:
    value = table.raw("source")
    if parser == DELIMITED:
        if not isinstance(value, str):
            raise table.wrong("source", value, "a cell of the header, a string")
        return value
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= DEPTH_MAX
        or not all(isinstance(key, str) for key in value)
    ):
        raise table.wrong("source", value, f"a list of 1 to {DEPTH_MAX} keys")
    return tuple(value)


def _check_sources(table: Table, dataset: Dataset) -> None:
    by_source: dict[Source, str] = {}
    for column in dataset.columns:
        other = by_source.setdefault(column.source, column.name)
        if other != column.name:
            raise table.error(
                "columns", f"`{show(other)}` and `{show(column.name)}` have the same source"
            )
    if isinstance(dataset.layout, DelimitedLayout):
        _check_headers(table, dataset, dataset.layout)


def _check_headers(table: Table, dataset: Dataset, layout: DelimitedLayout) -> None:
    sources = {column.source: column for column in dataset.columns}
    for row in layout.headers:
        for cell in cell_names(row):
            if cell not in sources:
                raise table.error(
                    "layout.headers",
                    f"has the cell {show(repr(cell), width=60)}, which no column has as its source",
                    closest(cell, [str(source) for source in sources])
                    or "add a column, of type `utf8` if nothing better is known",
                )
        for source, column in sources.items():
            if source not in cell_names(row) and not column.nullable:
                raise table.error(
                    "columns",
                    f"`{show(column.name)}` may not be null, and the header {quoted(row)} lacks it",
                    "set `nullable` to true",
                )
    anywhere = {cell for row in layout.headers for cell in cell_names(row)}
    for source, column in sources.items():
        if source not in anywhere:
            raise table.error(
                "columns", f"`{show(column.name)}` has a source that is in no known header"
            )
