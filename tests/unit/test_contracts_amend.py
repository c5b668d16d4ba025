"""What each change of a contract means for recorded files, and that a compatible one never changes their rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from casparian.contracts import amend
from casparian.contracts.check import split
from casparian.contracts.dataset import dataset_of
from casparian.domain.contracts import Action
from casparian.domain.datasets import Dataset, DatasetColumn, DelimitedLayout, Effect
from casparian.errors import ContractError
from casparian.protocol.arrow import arrow_type, bridge_schema
from tests.factories.datasets import EVENTS, FIREWALL, dataset, document, with_user

N, R, B = Effect.NONE, Effect.RELAXES, Effect.BREAKING


def _column(position: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values["columns"][position].update(fields)


def _layout(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values["layout"].update(fields)


def _required_user(values: dict[str, Any]) -> None:
    with_user(values)
    values["layout"]["headers"] = [["time", "src", "n", "user"]]
    values["columns"][-1]["nullable"] = False


def _without_n(values: dict[str, Any]) -> None:
    del values["columns"][2]
    values["layout"]["headers"] = [["time", "src"]]


def _lacks_n(values: dict[str, Any]) -> None:
    values["layout"]["headers"].append(["time", "src"])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str, Effect]] = {
    "new column, new header": (with_user, "column.added", N),
    "new column that may not be null": (_required_user, "column.added", B),
    "header without a column": (_lacks_n, "layout.headers", N),
    "column gone": (_without_n, "column.removed", B),
    "renamed": (_column(2, name="count"), "column.renamed", B),
    "wider": (_column(2, type="int64"), "column.type", R),
    "narrower": (_column(2, type="int16"), "column.type", B),
    "unsigned": (_column(2, type="uint64"), "column.type", B),
    "another type": (_column(2, type="utf8", minimum=None), "column.type", B),
    "time of day": (_column(1, type="time64[us]"), "column.type", B),
    "format": (_column(0, format="%Y-%d-%m %H:%M:%S"), "column.format", B),
    "zone": (_column(0, zone="Europe/Berlin"), "column.zone", B),
    "group": (_column(2, format="decimal group ,"), "column.format", B),
    "null that is no number": (_column(2, null=["-"]), "column.null", R),
    "null that is a number": (_column(2, null=["0"]), "column.null", B),
    "null that is a word": (_column(2, null=["NULL", "n/a", "-"]), "column.null", R),
    "null that is a text": (_column(1, null=["-"]), "column.null", B),
    "null no more": (_column(0, null=[]), "column.null", B),
    "not nullable": (_column(1, nullable=False), "column.nullable", B),
    "no minimum": (_column(2, minimum=None), "column.minimum", R),
    "lower minimum": (_column(2, minimum=-5), "column.minimum", R),
    "higher minimum": (_column(2, minimum=5), "column.minimum", B),
    "new maximum": (_column(2, maximum=5), "column.maximum", B),
    "new pattern": (_column(1, pattern="x"), "column.pattern", B),
    "new list of values": (_column(1, allowed=["x"]), "column.allowed", B),
    "unique": (_column(2, unique=True), "column.unique", B),
    "stricter action": (_column(2, action="fail"), "column.action", B),
    "meaning": (_column(1, meaning="ipv4"), "column.meaning", B),
    "words": (_column(1, doc="who"), "column.doc", N),
    "globs": (lambda v: v.update(match=["*.csv"]), "match", N),
    "delimiter": (_layout(delimiter=";"), "layout.delimiter", B),
    "encoding": (_layout(encoding="latin-1"), "layout.encoding", B),
    "order": (lambda v: v["columns"].reverse(), "column.order", N),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_has_its_name_and_effect(what: str) -> None:
    change, name, effect = CHANGES[what]
    amendment = amend.compare(dataset(), dataset(change))
    assert name in [found.what for found in amendment.changes]
    assert amendment.effect is effect, amend.lines(amendment)


LOOSENED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pattern": ({"pattern": "x"}, {"pattern": None}),
    "allowed": ({"allowed": ["x"]}, {"allowed": ["x", "y"]}),
    "allowed at all": ({"allowed": ["x"]}, {"allowed": None}),
    "nullable": ({"nullable": False}, {"nullable": True}),
    "unique": ({"unique": True}, {"unique": False}),
}


@pytest.mark.parametrize("what", LOOSENED)
def test_a_rule_that_is_dropped_relaxes_and_brought_back_it_breaks(what: str) -> None:
    strict, loose = (dataset(_column(1, **fields)) for fields in LOOSENED[what])
    assert amend.compare(strict, loose).effect is R
    assert amend.compare(loose, strict).effect is B


def test_a_milder_action_changes_no_recorded_file() -> None:
    strict, mild = dataset(_column(2, action="fail_job")), dataset(_column(2, action="fail"))
    assert amend.compare(strict, mild).effect is N
    assert amend.compare(mild, strict).effect is B


def test_equal_contracts_differ_in_nothing() -> None:
    assert amend.compare(dataset(), dataset()).changes == ()


def test_every_field_of_a_column_and_of_a_contract_is_compared() -> None:
    """A field that is added some day and forgotten here would make a silent skip."""
    assert {*amend._JUDGES, "name"} == set(DatasetColumn.__struct_fields__)
    compared = {"table", "parser", "match", "layout", "columns", "shared", "doc", "schema_version"}
    assert set(Dataset.__struct_fields__) == compared


def test_a_new_key_is_harmless_and_one_inside_a_known_value_is_not() -> None:
    def more(path: list[str]) -> Callable[[dict[str, Any]], None]:
        def change(values: dict[str, Any]) -> None:
            values["columns"].append({"name": "more", "source": path, "type": "utf8"})

        return change

    old = dataset(base=EVENTS)
    assert amend.compare(old, dataset(more(["host"]), base=EVENTS)).effect is N
    assert amend.compare(old, dataset(more(["user", "id"]), base=EVENTS)).effect is N
    assert amend.compare(old, dataset(more(["id", "low"]), base=EVENTS)).effect is B
    knows = dataset(lambda v: v["layout"]["known"].append(["host"]), base=EVENTS)
    assert amend.compare(old, knows).effect is N
    assert amend.compare(knows, dataset(more(["host"]), base=EVENTS)).effect is B
    assert amend.compare(knows, old).effect is B


def test_without_a_header_line_another_width_relaxes_and_other_names_break() -> None:
    def rows(*headers: list[str]) -> Dataset:
        return dataset(_layout(header=False, headers=[["time", "src", "n"], *headers]))

    assert amend.compare(rows(), rows(["time", "src"])).effect is R
    assert amend.compare(rows(["time", "src"]), rows(["src", "time"])).effect is B
    assert amend.compare(rows(["time", "src"]), rows()).effect is B


def test_the_lines_show_what_was_and_what_is() -> None:
    told = "\n".join(amend.lines(amend.compare(dataset(), dataset(_column(2, type="int64")))))
    assert '- "int32"' in told
    assert '+ "int64"' in told
    assert "relaxes" in told


# -- a compatible amendment never changes the rows of a file that the older revision accepted ------------------------------


def _value(text: str, column: DatasetColumn) -> Any:
    """A reader of its own, of the few types that the generated contracts have; `ValueError` for what does not fit."""
    if text in column.null:
        return None
    if column.type == "utf8":
        return text
    return pa.scalar(int(text), arrow_type(column.type)).as_py()


def _rows(contract: Dataset, file: str) -> list[dict[str, Any]] | None:
    """What a contract makes of a file; `None` when it does not accept all of it."""
    layout = contract.layout
    assert isinstance(layout, DelimitedLayout)
    header, *lines = list(csv.reader(io.StringIO(file), delimiter=layout.delimiter))
    if tuple(header) not in layout.headers:
        return None
    rows: list[dict[str, Any]] = []
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        try:
            row = {
                column.name: _value(cells[str(column.source)], column)
                if column.source in cells
                else None
                for column in contract.columns
            }
        except (ValueError, pa.ArrowInvalid, OverflowError):
            return None
        rows.append(row)
    for column in contract.columns:
        values = [row[column.name] for row in rows if row[column.name] is not None]
        if column.unique and len(set(values)) != len(values):
            return None
    output = msgspec.structs.replace(
        contract.output,
        columns=tuple(msgspec.structs.replace(c, unique=False) for c in contract.output.columns),
    )
    bookkeeping = {"@offset": 0, "@length": 0, "@flags": 0}
    batch = pa.RecordBatch.from_pylist(
        [bookkeeping | row for row in rows], schema=bridge_schema(output)
    )
    return rows if split(batch, output).rejected.num_rows == 0 else None


_TEXTS = ("", "-", "0", "1", "7", "300", "70000", "x")


def _fits(text: str, column: DatasetColumn) -> bool:
    """Whether a cell alone breaks no rule of its column; of the rules that `check` knows, only those that are cheap to say."""
    try:
        value = _value(text, column)
    except (ValueError, pa.ArrowInvalid, OverflowError):
        return False
    if value is None:
        return column.nullable
    if isinstance(value, int):
        low, high = column.minimum, column.maximum
        return (low is None or value >= low) and (high is None or value <= high)
    return (column.allowed is None or value in column.allowed) and (
        column.pattern is None or re.fullmatch(column.pattern, value) is not None
    )


@st.composite
def _columns(draw: st.DrawFn, name: str) -> dict[str, Any]:
    kind = draw(st.sampled_from(["utf8", "int8", "int16", "int32", "uint8"]))
    column: dict[str, Any] = {
        "name": name,
        "source": name,
        "type": kind,
        "null": draw(st.sampled_from([[], [""], ["-"], ["", "-"], ["0"]])),
        "nullable": draw(st.booleans()),
        "unique": draw(st.integers(0, 3)) == 0,
        "action": draw(st.sampled_from(list(Action))).value,
    }
    if kind == "utf8":
        column["pattern"] = draw(st.sampled_from([None, None, "[0-9]*", "x?"]))
        column["allowed"] = draw(st.sampled_from([None, None, ["0", "1"], ["0", "1", "x", ""]]))
    else:
        column["minimum"] = draw(st.sampled_from([None, None, 0, 1]))
        column["maximum"] = draw(st.sampled_from([None, None, 7, 100]))
    return column


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    headers = draw(
        st.sampled_from([[["a"]], [["a", "b"]], [["a"], ["a", "b"]], [["b", "a"], ["b"]]])
    )
    used = sorted({cell for row in headers for cell in row})
    columns = [draw(_columns(name)) for name in used]
    for column in columns:
        if any(column["source"] not in row for row in headers):
            column["nullable"] = True
    return document(
        lambda v: v.update(layout={**FIREWALL["layout"], "headers": headers}, columns=columns)
    )


@st.composite
def _amended(draw: st.DrawFn, values: dict[str, Any]) -> dict[str, Any]:
    """The document with one part drawn anew: a field or a whole column, or a header more with the columns that it needs."""
    changed: dict[str, Any] = json.loads(json.dumps(values))
    column = draw(st.sampled_from(changed["columns"]))
    new = draw(_columns(column["source"]))
    match draw(st.sampled_from(["field", "field", "field", "rename", "wider", "header", "column"])):
        case "field":
            key = draw(
                st.sampled_from(sorted((set(new) | set(column)) - {"source", "name", "type"}))
            )
            column[key] = new.get(key)
        case "rename":
            column["name"] = "z"
        case "wider":
            column["type"] = draw(st.sampled_from(["int16", "int32", "uint16", "utf8"]))
        case "column":
            column |= new
        case _:
            row = draw(st.sampled_from([["a", "c"], ["c"], ["a", "b", "c"], ["b", "a"]]))
            changed["layout"]["headers"].append(row)
            known = [c["source"] for c in changed["columns"]]
            changed["columns"] += [
                {**draw(_columns(cell)), "nullable": True} for cell in row if cell not in known
            ]
    return changed


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_compatible_amendment_never_changes_the_rows_of_an_accepted_file(
    data: st.DataObject,
) -> None:
    values = data.draw(_documents())
    try:
        before = dataset_of(values)
        after = dataset_of(data.draw(_amended(values)))
    except ContractError:
        assume(False)  # a contract that nobody could propose
    amendment = amend.compare(before, after)
    assume(amendment.changes)
    header = data.draw(st.sampled_from(values["layout"]["headers"]))
    columns = {column.source: column for column in before.columns}
    cells = [
        st.sampled_from([t for t in _TEXTS if _fits(t, columns[cell])] or [""]) for cell in header
    ]
    lines = data.draw(st.lists(st.tuples(*cells), min_size=1, max_size=3))
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *lines])
    accepted = _rows(before, text.getvalue())
    assume(accepted is not None)
    assert accepted is not None
    if amendment.compatible:
        now = _rows(after, text.getvalue())
        assert now is not None, "a file that was accepted is not accepted any more"
        known = {column.name for column in before.columns}
        assert [{k: v for k, v in row.items() if k in known} for row in now] == accepted
        new = [c.name for c in after.columns if c.name not in known]
        assert all(row[name] is None for row in now for name in new)
