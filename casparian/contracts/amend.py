"""What an amendment of a dataset's contract changes, and what each change means for files that are recorded already.

    none       a file has the same rows under both revisions
    relaxes    the same rows, unless some of its rows were set aside: these may be accepted now
    breaking   other rows, or nobody can tell

Rules:
  * A change is breaking unless it is shown here to be harmless; unknown ones are breaking.
  * An amendment is compatible when none of its changes is breaking. Under a compatible one, a file of which the older
    revision accepted every row has the same rows: new columns are null in them.
  * Columns are paired by name; one that has gone while another came with its source is called renamed.

Values in, values out: `sentinel.contracting` stores amendments, the planner acts on the effects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from casparian.contracts.formats import reads
from casparian.display import show
from casparian.domain.contracts import Action
from casparian.domain.datasets import (
    Dataset,
    DatasetColumn,
    DelimitedLayout,
    Effect,
    JsonLayout,
    cell_names,
    worst,
)

_SHOWN: Final = 100
_INTEGER: Final = re.compile(r"(u?)int(8|16|32|64)\Z")
_DECIMAL: Final = re.compile(r"decimal128\((\d{1,2}), ?(\d{1,2})\)\Z")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two revisions.

    Args:
        what: `column.added`, `column.type`, `layout.headers`, `match`, …
        subject: the column or the key that it is about.
        before: as JSON, null for what was not there.
        after: as JSON, null for what is there no more.
        effect: on files recorded under the older revision.
        why: one clause that says why it has this effect.
    """

    what: str
    subject: str
    before: Any
    after: Any
    effect: Effect
    why: str


class Amendment(msgspec.Struct, frozen=True, kw_only=True):
    """All differences, the ones that break first."""

    changes: tuple[Change, ...]

    @property
    def effect(self) -> Effect:
        """The strongest effect of all changes."""
        return worst(tuple(change.effect for change in self.changes))

    @property
    def compatible(self) -> bool:
        """Whether files that are recorded, and of which nothing was set aside, keep their rows."""
        return self.effect.compatible


def compare(before: Dataset, after: Dataset) -> Amendment:
    """The differences between two revisions of one dataset's contract."""
    found = [*_document(before, after), *_layout(before, after), *_columns(before, after)]
    order = (Effect.BREAKING, Effect.RELAXES, Effect.NONE)
    return Amendment(changes=tuple(sorted(found, key=lambda change: order.index(change.effect))))


def lines(amendment: Amendment) -> list[str]:
    """The differences as text: `-` and `+` before what was and is, the effect behind each."""
    told = []
    for change in amendment.changes:
        told.append(
            f"{change.what} `{show(change.subject, width=_SHOWN)}`: {change.effect} ({change.why})"
        )
        for sign, value in (("-", change.before), ("+", change.after)):
            if value is not None:
                told.append(f"  {sign} {_text(value)}")
    return told


def _text(value: Any) -> str:
    return show(msgspec.json.encode(value).decode(), width=400)


# -- the document and its layout ------------------------------------------------------------------------------------------


def _document(before: Dataset, after: Dataset) -> Iterator[Change]:
    if before.table != after.table:
        yield _change("table", "table", before.table, after.table, Effect.BREAKING, "another table")
    if before.parser != after.parser:
        yield _change(
            "parser", "parser", before.parser, after.parser, Effect.BREAKING, "another reader"
        )
    if before.match != after.match:
        why = "says which files are taken, not what is read in them"
        yield _change("match", "match", before.match, after.match, Effect.NONE, why)
    if before.shared != after.shared:
        why = "says which files are taken, not what is read in them"
        yield _change("shared", "shared", before.shared, after.shared, Effect.NONE, why)
    if before.doc != after.doc:
        yield _change("doc", "doc", before.doc, after.doc, Effect.NONE, "only words")


def _layout(before: Dataset, after: Dataset) -> Iterator[Change]:
    old, new = before.layout, after.layout
    if type(old) is not type(new):
        yield _change("layout", "layout", None, None, Effect.BREAKING, "read in another way")
        return
    known = "headers" if isinstance(old, DelimitedLayout) else "known"
    for field in type(old).__struct_fields__:
        was, now = getattr(old, field), getattr(new, field)
        if was != now and field != known:
            yield _change(
                f"layout.{field}", field, was, now, Effect.BREAKING, "cells are cut differently"
            )
    if isinstance(old, DelimitedLayout) and isinstance(new, DelimitedLayout):
        yield from _headers(old, new)
    elif isinstance(old, JsonLayout) and isinstance(new, JsonLayout):
        yield from _known(before, after)


def _headers(old: DelimitedLayout, new: DelimitedLayout) -> Iterator[Change]:
    widths = {len(row) for row in old.headers}
    for row in new.headers:
        if row in old.headers:
            continue
        effect, why = Effect.NONE, "no recorded file has this header"
        if not new.header:
            effect, why = Effect.RELAXES, "no accepted row has so many cells"
            if len(row) in widths:
                effect, why = Effect.BREAKING, "the names are all that says what a cell is"
        yield _change("layout.headers", "headers", None, row, effect, why)
    for row in old.headers:
        if row not in new.headers:
            why = "recorded files may have this header"
            yield _change("layout.headers", "headers", row, None, Effect.BREAKING, why)


def _paths(contract: Dataset) -> set[tuple[str, ...]]:
    """Every path that a contract of JSON lines knows."""
    known = contract.layout.known if isinstance(contract.layout, JsonLayout) else ()
    sources = (column.source for column in contract.columns)
    return {*known, *(source for source in sources if isinstance(source, tuple))}


def _known(before: Dataset, after: Dataset) -> Iterator[Change]:
    old, new = _paths(before), _paths(after)
    for path in sorted(new - old):
        inside = any(path[: len(other)] == other or other[: len(path)] == path for other in old)
        yield _change(
            "layout.known",
            ".".join(path),
            None,
            path,
            Effect.BREAKING if inside else Effect.NONE,
            "part of what was one value" if inside else "no recorded file has this key",
        )
    for path in sorted(old - new):
        why = "recorded files may have this key"
        yield _change("layout.known", ".".join(path), path, None, Effect.BREAKING, why)


# -- columns --------------------------------------------------------------------------------------------------------------


def _columns(before: Dataset, after: Dataset) -> Iterator[Change]:
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    came = {c.source: c for c in after.columns if c.name not in old}
    for name, column in old.items():
        if name in new:
            yield from _column(column, new[name])
        elif column.source in came:
            other = came.pop(column.source)
            why = "rows that are recorded have the old name"
            yield _change("column.renamed", name, name, other.name, Effect.BREAKING, why)
            yield from _column(column, msgspec.structs.replace(other, name=name))
        else:
            why = "rows that are recorded have it"
            yield _change("column.removed", name, _brief(column), None, Effect.BREAKING, why)
    renamed = {c.source for c in after.columns if c.name not in old} - set(came)
    for name, column in new.items():
        if name not in old and column.source not in renamed:
            yield _added(column, before)
    kept = [name for name in old if name in new]
    moved = [name for name in new if name in old]
    if kept != moved:
        why = "columns are found by name"
        yield _change("column.order", "columns", kept, moved, Effect.NONE, why)


def _added(column: DatasetColumn, before: Dataset) -> Change:
    effect, why = Effect.NONE, "recorded files have no such value: null there"
    if not column.nullable:
        effect, why = Effect.BREAKING, "recorded files have no such value, and it may not be null"
    elif _could_be_there(column, before):
        effect, why = Effect.BREAKING, "recorded files may have this value"
    return _change("column.added", column.name, None, _brief(column), effect, why)


def _could_be_there(column: DatasetColumn, before: Dataset) -> bool:
    layout, path = before.layout, column.source
    if isinstance(layout, DelimitedLayout):
        return any(path in cell_names(row) for row in layout.headers)
    return any(
        path[: len(known)] == known or known[: len(path)] == path for known in _paths(before)
    )


def _column(old: DatasetColumn, new: DatasetColumn) -> Iterator[Change]:
    for field, judge in _JUDGES.items():
        was, now = getattr(old, field), getattr(new, field)
        if was != now:
            effect, why = judge(old, new)
            yield _change(f"column.{field}", old.name, was, now, effect, why)


def _type(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if _wider(old.type, new.type):
        return Effect.RELAXES, "the same values, and larger ones"
    return Effect.BREAKING, "values are of another type"


def _wider(old: str, new: str) -> bool:
    """Whether each text that the old type reads is the same value in the new one."""
    if old.startswith("list<") and new.startswith("list<"):
        return _wider(old[5:-1], new[5:-1])
    if (before := _INTEGER.match(old)) and (after := _INTEGER.match(new)):
        grows = int(after[2]) > int(before[2])
        return grows and (before[1] == after[1] or before[1] == "u")
    if (narrow := _DECIMAL.match(old)) and (wide := _DECIMAL.match(new)):
        return int(wide[1]) > int(narrow[1]) and int(wide[2]) == int(narrow[2])
    return False


def _null(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if set(old.null) == set(new.null):
        return Effect.NONE, "the order says nothing"
    gone = [text for text in old.null if text not in new.null]
    if gone:
        return Effect.BREAKING, "recorded rows may have these as null"
    added = [text for text in new.null if text not in old.null]
    if not old.type.startswith("list<") and not any(reads(old, text) for text in added):
        return Effect.RELAXES, "no value of this column is spelt so"
    return Effect.BREAKING, "recorded rows may have these as values"


def _nullable(_old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if new.nullable:
        return Effect.RELAXES, "rows without a value are accepted"
    return Effect.BREAKING, "recorded rows may be without a value"


def _minimum(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if new.minimum is None or (old.minimum is not None and new.minimum < old.minimum):
        return Effect.RELAXES, "smaller values are accepted"
    return Effect.BREAKING, "recorded rows may be below it"


def _maximum(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if new.maximum is None or (old.maximum is not None and new.maximum > old.maximum):
        return Effect.RELAXES, "larger values are accepted"
    return Effect.BREAKING, "recorded rows may be above it"


def _pattern(_old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if new.pattern is None:
        return Effect.RELAXES, "any text is accepted"
    return Effect.BREAKING, "recorded rows may not match it"


def _allowed(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if old.allowed is not None and new.allowed is not None and set(old.allowed) == set(new.allowed):
        return Effect.NONE, "the order says nothing"
    if new.allowed is None or (old.allowed is not None and set(old.allowed) < set(new.allowed)):
        return Effect.RELAXES, "more values are accepted"
    return Effect.BREAKING, "recorded rows may have other values"


def _unique(_old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    if not new.unique:
        return Effect.RELAXES, "a value may come again"
    return Effect.BREAKING, "recorded files may have a value twice"


def _action(old: DatasetColumn, new: DatasetColumn) -> tuple[Effect, str]:
    order = list(Action)
    if order.index(new.action) < order.index(old.action):
        return Effect.NONE, "no recorded file broke the rule: it would have failed"
    return Effect.BREAKING, "files with rows that were set aside would fail now"


def _breaking(why: str) -> Callable[[DatasetColumn, DatasetColumn], tuple[Effect, str]]:
    return lambda _old, _new: (Effect.BREAKING, why)


# Every field of a column but its name.
_JUDGES: Final[dict[str, Callable[[DatasetColumn, DatasetColumn], tuple[Effect, str]]]] = {
    "source": _breaking("the value stands elsewhere"),
    "type": _type,
    "format": _breaking("texts are read in another way"),
    "zone": _breaking("texts are read in another way"),
    "null": _null,
    "nullable": _nullable,
    "minimum": _minimum,
    "maximum": _maximum,
    "pattern": _pattern,
    "allowed": _allowed,
    "unique": _unique,
    "action": _action,
    "meaning": _breaking("texts are read in another way"),
    "doc": lambda _old, _new: (Effect.NONE, "only words"),
}


def _brief(column: DatasetColumn) -> dict[str, Any]:
    """A column as JSON, without what is said by default."""
    bare = DatasetColumn(name="", source="", type="")
    built: dict[str, Any] = msgspec.to_builtins(column)
    plain: dict[str, Any] = msgspec.to_builtins(bare)
    return {key: value for key, value in built.items() if value != plain[key]}


def briefs(dataset: Dataset) -> list[dict[str, Any]]:
    """The columns as JSON, each without what is said by default."""
    return [_brief(column) for column in dataset.columns]


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _change(what: str, subject: str, before: Any, after: Any, effect: Effect, why: str) -> Change:
    return Change(
        what=what,
        subject=subject,
        before=_plain(before),
        after=_plain(after),
        effect=effect,
        why=why,
    )
