"""Inference from a file to a proposed contract: questions are asked and not answered for anybody, and no value contradicts it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian import _native
from casparian.contracts.propose import Proposal, propose
from casparian.errors import ContractError, UsageError

LAYOUT = {
    "delimiter": ",",
    "quote": '"',
    "escape": "double",
    "header": True,
    "skip_lines": 0,
    "comment": None,
    "encoding": "utf-8",
}


def _descriptor(content: bytes) -> int:
    descriptor = os.memfd_create("text", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


def found_in(files: Sequence[bytes], *, threads: int = 1) -> dict[str, Any]:
    inference = _native.DelimitedInference(**LAYOUT)
    for content in files:
        descriptor = _descriptor(content)
        try:
            inference.add(descriptor, len(content), threads=threads)
        finally:
            os.close(descriptor)
    found: dict[str, Any] = json.loads(inference.report())
    return found


def found_in_lines(documents: Sequence[Any]) -> dict[str, Any]:
    inference = _native.JsonlInference()
    content = "".join(json.dumps(one) + "\n" for one in documents).encode()
    descriptor = _descriptor(content)
    try:
        inference.add(descriptor, len(content))
    finally:
        os.close(descriptor)
    found: dict[str, Any] = json.loads(inference.report())
    return found


def proposal(found: dict[str, Any], *, delimited: bool = True, **answers: str) -> Proposal:
    return propose(
        found,
        table="made",
        match=["*.csv"],
        files=[f"file{number}" for number in range(found["files"])],
        layout=LAYOUT if delimited else None,
        answers={column: answer.split("|") for column, answer in answers.items()},
    )


def columns(made: Proposal) -> dict[str, dict[str, Any]]:
    assert made.document is not None, made.questions
    return {column["name"]: column for column in made.document["columns"]}


def test_a_file_without_questions_is_a_contract() -> None:
    made = proposal(
        found_in(
            [b"time,src,n\n2024-01-02T03:04:05Z,10.0.0.1,5\n2024-01-02T03:04:06Z,10.0.0.2,-\n"]
        )
    )
    by_name = columns(made)
    assert by_name["time"]["type"] == "timestamp[ns, UTC]"
    assert by_name["time"]["format"] == "iso8601"
    assert (by_name["src"]["type"], by_name["src"]["meaning"]) == ("utf8", "ipv4")
    assert (by_name["n"]["type"], by_name["n"]["null"], by_name["n"]["nullable"]) == (
        "int64",
        ["-"],
        True,
    )
    assert not by_name["time"]["nullable"]
    assert made.document is not None
    assert made.document["layout"]["headers"] == [["time", "src", "n"]]


def test_two_orders_of_day_and_month_are_a_question_with_both_readings() -> None:
    found = found_in([b"day,x\n01/02/2024,a\n03/04/2024,b\n"])
    made = proposal(found)
    assert not made.complete
    (question,) = made.questions
    assert question.column == "day"
    shown = {option.option: dict(option.examples) for option in question.options}
    assert shown["%m/%d/%Y"]["01/02/2024"] == "2024-01-02"
    assert shown["%d/%m/%Y"]["01/02/2024"] == "2024-02-01"
    assert "text" in shown
    assert columns(proposal(found, day="%d/%m/%Y"))["day"]["format"] == "%d/%m/%Y"
    assert columns(proposal(found, day="text"))["day"]["type"] == "utf8"


def test_a_time_without_zone_is_a_question_of_the_zone() -> None:
    found = found_in([b"at,x\n2024-01-02 03:04:05,a\n"])
    made = proposal(found)
    assert [(q.column, q.kind) for q in made.questions] == [("at", "zone")]
    berlin = columns(proposal(found, at="Europe/Berlin"))["at"]
    assert (berlin["type"], berlin["zone"]) == ("timestamp[ns, UTC]", "Europe/Berlin")
    local = columns(proposal(found, at="local"))["at"]
    assert (local["type"], local["zone"]) == ("timestamp[ns]", None)


@pytest.mark.parametrize(
    "answers", [{"x": "int"}, {"y": "text"}, {"at": "Mars/Olympus"}, {"x": "UTC"}]
)
def test_an_answer_to_nothing_is_refused(answers: dict[str, str]) -> None:
    found = found_in([b"at,x\n2024-01-02 03:04:05,a\n"])
    with pytest.raises(UsageError) as refused:
        proposal(found, **answers)
    assert refused.value.code == "infer.answer"


def test_an_enumeration_is_promised_only_when_asked_for() -> None:
    found = found_in([b"level,x\nWARN,a\nINFO,b\nWARN,c\n"])
    assert "allowed" not in {k for k, v in columns(proposal(found))["level"].items() if v}
    assert columns(proposal(found, level="enumeration"))["level"]["allowed"] == ["INFO", "WARN"]


def test_the_second_cell_of_a_name_is_a_column_of_its_own() -> None:
    made = proposal(found_in([b"a,a,b\n1,x,0.5\n2,y,1.5\n", b"a,b\n3,2.5\n"]))
    found = {name: (one["source"], one["type"]) for name, one in columns(made).items()}
    assert found == {"a": ("a", "int64"), "a_2": ("a#2", "utf8"), "b": ("b", "decimal128(18, 1)")}
    assert columns(made)["a_2"]["nullable"]


def test_cells_that_cannot_be_told_apart_are_no_table() -> None:
    with pytest.raises(ContractError):
        proposal(found_in([b"a,a,a#2\n1,2,3\n"]))


def test_names_are_what_sql_can_say() -> None:
    made = proposal(found_in([b"Event ID,event id,1st,_cf_x,\xc3\xa9t\xc3\xa9,--\n1,2,3,4,5,6\n"]))
    assert list(columns(made)) == ["Event_ID", "event_id_2", "c_1st", "cf_x", "été", "column"]


def test_json_lines_are_columns_by_path() -> None:
    found = found_in_lines(
        [
            {"at": "2024-01-02T03:04:05Z", "user": {"id": 1, "name": "a"}, "tags": ["x"], "n": "5"},
            {
                "at": "2024-01-02T03:04:06Z",
                "user": {"id": 2},
                "tags": [],
                "n": "6",
                "deep": [{"a": 1}],
            },
        ]
    )
    made = proposal(found, delimited=False)
    by_name = columns(made)
    assert by_name["at"]["type"] == "timestamp[ns, UTC]"
    assert (by_name["user_id"]["type"], by_name["user_id"]["source"]) == ("int64", ["user", "id"])
    assert by_name["user_name"]["nullable"]
    assert by_name["tags"]["type"] == "list<utf8>"
    assert by_name["n"]["type"] == "utf8"  # a text that looks like a number is a text
    assert by_name["deep"]["meaning"] == "json"


def test_an_object_that_is_also_a_scalar_is_a_question() -> None:
    found = found_in_lines([{"a": {"b": 1}}, {"a": "x"}])
    made = proposal(found, delimited=False)
    assert [(q.column, q.kind) for q in made.questions] == [("a", "reading")]
    whole = columns(proposal(found, delimited=False, a="json"))
    assert list(whole) == ["a"]
    assert whole["a"]["meaning"] == "json"


VALUES = st.one_of(
    st.lists(st.integers(-(1 << 70), 1 << 70).map(str), min_size=1, max_size=20),
    st.lists(st.integers(0, 3).map(str), min_size=1, max_size=20),
    st.lists(st.decimals(-10_000, 10_000, places=2).map(lambda d: f"{d:.2f}"), min_size=1, max_size=20),
    st.lists(st.floats(allow_nan=False).map(repr), min_size=1, max_size=20),
    st.lists(st.dates().map(str), min_size=1, max_size=20),
    st.lists(st.dates(dt.date(1990, 1, 1)).map(lambda d: d.strftime("%d/%m/%Y")), min_size=1, max_size=20),
    st.lists(st.datetimes().map(lambda t: t.isoformat() + "Z"), min_size=1, max_size=20),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=20),
    st.lists(st.uuids().map(str), min_size=1, max_size=20),
    st.lists(st.sampled_from(["yes", "no", "", "-", "NULL"]), min_size=1, max_size=20),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=1, max_size=20),
)  # fmt: skip


def _csv(values: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["v", "w"])
    writer.writerows([value, "x"] for value in values)
    return text.getvalue().encode()


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_every_value_fits_what_is_proposed(files: list[list[str]]) -> None:
    found = found_in([_csv(values) for values in files])
    made = proposal(found)
    answers = {q.column: q.options[0].option for q in made.questions}
    made = proposal(found, **answers)
    for question in made.questions:  # a zone, after the reading
        answers[question.column] = f"{answers.get(question.column, '')}|UTC".strip("|")
    column = columns(proposal(found, **answers))["v"]
    for value in (value for values in files for value in values):
        if value in column["null"]:
            continue
        read = _native.read_value(
            value.encode(), column["type"], column["format"], column["zone"], None, column["meaning"]
        )  # fmt: skip
        assert read is not None, (value, column)
        if column["type"] == "int64":
            assert read == int(value.replace(",", ""))
        if column["type"].startswith("decimal128") and "group" not in (column["format"] or ""):
            scale = int(column["type"].rstrip(")").split(", ")[1])
            point = value.replace(",", ".") if column["format"] == "comma" else value
            assert Decimal(int(read)).scaleb(-scale) == Decimal(point)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_files_changes_no_type(files: list[list[str]], random: Any) -> None:
    contents = [_csv(values) for values in files]
    shuffled = random.sample(contents, len(contents))
    one, other = (found_in(order)["columns"][0] for order in (contents, shuffled))
    for key in ("cells", "facts", "readings"):
        assert _unordered(one[key]) == _unordered(other[key])


def _unordered(value: Any) -> Any:
    """Without examples: they are the first values in the order of the files."""
    if isinstance(value, dict):
        return {k: _unordered(v) for k, v in value.items() if k not in ("first", "examples")}
    if isinstance(value, list):
        return [_unordered(v) for v in value]
    return value


@pytest.mark.corpus
def test_real_tables_are_read_without_a_misfit(corpus: Path) -> None:
    content = (corpus / "MANIFEST.csv").read_bytes()
    found = found_in([content], threads=2)
    assert (found["faults"], found["rows"]) == (
        0,
        len(list(csv.reader(io.StringIO(content.decode())))) - 1,
    )
    made = proposal(found)
    answers = {q.column: q.options[0].option for q in made.questions}
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    for column in columns(proposal(found, **answers)).values():
        for row in rows:
            value = row[column["source"]]
            fits = _native.read_value(
                value.encode(), column["type"], column["format"], column["zone"], None, column["meaning"]
            )  # fmt: skip
            assert value in column["null"] or fits is not None, (column, value)
