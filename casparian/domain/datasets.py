"""A dataset under contract: how text becomes one table, as a document that a person has approved.

The parsers `text.delimited` and `text.jsonl` have no table of their own: theirs comes from such a document, revision by
revision. It is given to them as their setting `dataset`, so that it is part of every key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from casparian.domain.contracts import Action, Column, OutputContract

SETTING: Final = "dataset"  # of a parser whose table comes from a contract: the canonical document
DELIMITED: Final = "text.delimited"
JSON_LINES: Final = "text.jsonl"
PARSERS: Final = (DELIMITED, JSON_LINES)

Source = str | tuple[str, ...]  # a header cell; or the keys that lead to a value of a JSON document


class DelimitedLayout(msgspec.Struct, frozen=True, kw_only=True):
    """How rows and cells are written. `headers` holds every header row that is known: any other is drift.

    Where files have no header line, it holds names for the cells of every known width.
    """

    delimiter: str
    quote: str | None
    escape: str  # `double`, `backslash`, `none`, or the character
    header: bool
    skip_lines: int
    comment: str | None
    encoding: str
    headers: tuple[tuple[str, ...], ...]


class JsonLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON object a line. `known` holds paths that are known beside those of the columns: any other is drift."""

    encoding: str
    known: tuple[tuple[str, ...], ...]


Layout = DelimitedLayout | JsonLayout


def cell_names(header: tuple[str, ...]) -> tuple[str, ...]:
    """What columns call the cells of a header: the second cell of one name is `NAME#2`, and so on."""
    seen: dict[str, int] = {}
    names = []
    for cell in header:
        seen[cell] = seen.get(cell, 0) + 1
        names.append(cell if seen[cell] == 1 else f"{cell}#{seen[cell]}")
    return tuple(names)


class DatasetColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column: where its text stands, how it is read, and what must hold of the value.

    Args:
        source: header cell, or keys.
        format: how dates, numbers and booleans are spelt; `None` is the type's plain spelling.
        zone: of local times: an IANA name or an offset.
        null: spellings of "no value".
        meaning: `ipv4`, `uuid`, … : what the text must be, besides its type.
    """

    name: str
    source: Source
    type: str
    format: str | None = None
    zone: str | None = None
    null: tuple[str, ...] = ()
    nullable: bool = True
    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str | None = None
    allowed: tuple[str, ...] | None = None
    unique: bool = False
    action: Action = Action.QUARANTINE
    meaning: str | None = None
    doc: str = ""

    @property
    def contract(self) -> Column:
        """What the host checks of it."""
        return Column(
            name=self.name,
            type=self.type,
            nullable=self.nullable,
            minimum=self.minimum,
            maximum=self.maximum,
            pattern=self.pattern,
            allowed=self.allowed,
            unique=self.unique,
            action=self.action,
            doc=self.doc,
        )


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """The document.

    Args:
        match: globs over the display path; the planner takes files that match one.
        shared: files that another contract takes too, and says so as well, are read for both tables.
    """

    table: str
    parser: str
    match: tuple[str, ...]
    layout: Layout
    columns: tuple[DatasetColumn, ...]
    shared: bool = False
    doc: str = ""
    schema_version: int = 1

    @property
    def output(self) -> OutputContract:
        """The table's contract."""
        columns = tuple(column.contract for column in self.columns)
        return OutputContract(table=self.table, columns=columns, main=True, doc=self.doc)

    def document(self) -> dict[str, Any]:
        """As JSON values, every key written; the two rare ones only where they say something."""
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        if not self.shared:
            del built["shared"]
        if not self.doc:
            del built["doc"]
        return built


class Effect(StrEnum):
    """What a difference between two revisions means for files that were recorded under the older one."""

    NONE = "none"  # the same rows
    RELAXES = "relaxes"  # the same rows, unless some were set aside
    BREAKING = "breaking"  # other rows

    @property
    def compatible(self) -> bool:
        """Whether a file of which nothing was set aside has the same rows under both."""
        return self is not Effect.BREAKING


def worst(effects: tuple[Effect, ...]) -> Effect:
    """The strongest of several effects."""
    order = (Effect.NONE, Effect.RELAXES, Effect.BREAKING)
    return max(effects, key=order.index, default=Effect.NONE)


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One promoted revision of a dataset's contract."""

    table: str
    revision: int
    hash: str
    dataset: Dataset
    effect: Effect  # of the step from the revision before
