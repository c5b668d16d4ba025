"""Every row lands on one side, in order, with the reason of its first violation."""

import datetime as dt
import itertools
import math
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.contracts.check import Failure, Seen, TooManyValues, split
from casparian.domain.contracts import Action, Column, OutputContract
from casparian.errors import ContractError
from casparian.protocol.arrow import bridge_schema


def table(*columns: Column) -> OutputContract:
    return OutputContract(table="t", columns=columns, main=True)


def batch(output: OutputContract, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows of the contract's columns; row n has offset 10 n, length 5 and flags n."""
    schema = bridge_schema(output)
    names = [column.name for column in output.columns]
    return pa.RecordBatch.from_pylist(
        [
            {"@offset": 10 * n, "@length": 5, "@flags": n, **dict(zip(names, row, strict=True))}
            for n, row in enumerate(rows)
        ],
        schema=schema,
    )


def rejected(column: Column, values: list[Any]) -> dict[int, str]:
    """Row number -> reason."""
    output = table(column)
    result = split(batch(output, [(value,) for value in values]), output)
    assert result.valid.num_rows + result.rejected.num_rows == len(values)
    return {row["@flags"]: row["reason"] for row in result.rejected.to_pylist()}


CASES: dict[str, tuple[Column, list[Any], dict[int, str]]] = {
    "null is allowed": (Column(name="a", type="utf8"), [None, "x"], {}),
    "null is not": (Column(name="a", type="utf8", nullable=False), ["x", None], {1: "contract.null"}),
    "null list": (Column(name="a", type="list<utf8>", nullable=False), [[], [None], None], {2: "contract.null"}),
    "bounds are inclusive": (
        Column(name="a", type="int8", minimum=-1, maximum=1),
        [-2, -1, 0, 1, 2, None],
        {0: "contract.range", 4: "contract.range"},
    ),
    "the whole of uint64": (
        Column(name="a", type="uint64", minimum=2**63, maximum=2**64 - 2),
        [0, 2**63, 2**64 - 2, 2**64 - 1],
        {0: "contract.range", 3: "contract.range"},
    ),
    "int64 beyond a float": (
        Column(name="a", type="int64", maximum=2**53),
        [2**53, 2**53 + 1],
        {1: "contract.range"},
    ),
    "NaN is in no range": (
        Column(name="a", type="float64", minimum=0),
        [math.nan, math.inf, -0.0, None],
        {0: "contract.range"},
    ),
    "float32 is compared exactly": (
        Column(name="a", type="float32", maximum=0.1),
        [0.1, 0.099],  # the float32 next to 0.1 is larger than 0.1
        {0: "contract.range"},
    ),
    "decimal": (
        Column(name="a", type="decimal128(10, 2)", minimum=0.1, maximum=2),
        [Decimal("0.09"), Decimal("0.10"), Decimal("2.00"), Decimal("2.01")],
        {0: "contract.range", 3: "contract.range"},
    ),
    "the whole text": (
        Column(name="a", type="utf8", pattern="a|bc"),
        ["a", "bc", "abc", "a\n", "", None],
        {2: "contract.pattern", 3: "contract.pattern", 4: "contract.pattern"},
    ),
    "anchors in the pattern": (Column(name="a", type="utf8", pattern="^a$"), ["a", "a\n"], {1: "contract.pattern"}),
    "allowed": (Column(name="a", type="utf8", allowed=("x", "")), ["x", "", "X", None], {2: "contract.allowed"}),
}  # fmt: skip


@pytest.mark.parametrize(("column", "values", "expected"), CASES.values(), ids=list(CASES))
def test_each_constraint(column: Column, values: list[Any], expected: dict[int, str]) -> None:
    assert rejected(column, values) == expected


def test_a_batch_without_violations_comes_back_as_it_is() -> None:
    output = table(Column(name="a", type="int8", minimum=0, nullable=False))
    given_batch = batch(output, [(1,), (2,)])
    result = split(given_batch, output)
    assert result.valid is given_batch
    assert result.rejected.num_rows == 0
    assert result.rejected.schema == bridge_schema(None)
    assert result.failure is None


def test_a_row_is_reported_for_its_first_violation_with_its_span() -> None:
    output = table(
        Column(name="a", type="int8", nullable=False),
        Column(name="b", type="utf8", pattern="x+"),
    )
    result = split(batch(output, [(1, "x"), (None, "y"), (2, "y"), (None, "x"), (3, "xx")]), output)
    assert result.valid.to_pylist() == [
        {"@offset": 0, "@length": 5, "@flags": 0, "a": 1, "b": "x"},
        {"@offset": 40, "@length": 5, "@flags": 4, "a": 3, "b": "xx"},
    ]
    assert result.rejected.schema == bridge_schema(None)
    assert [(r["@offset"], r["@length"], r["@flags"], r["reason"], r["field"]) for r in result.rejected.to_pylist()] == [
        (10, 5, 1, "contract.null", "a"),
        (20, 5, 2, "contract.pattern", "b"),
        (30, 5, 3, "contract.null", "a"),
    ]  # fmt: skip
    assert result.rejected["raw"].null_count == 3


def test_a_hostile_value_is_shown_short_and_harmless() -> None:
    output = table(Column(name="a", type="utf8", pattern="x"))
    result = split(batch(output, [("\x1b]0;title\x07" + "y" * 1000,)]), output)
    message = result.rejected["message"][0].as_py()
    assert "\\x1b" in message
    assert "\x1b" not in message
    assert len(message) < 200


def test_a_column_that_fails_fails_the_source_even_behind_another() -> None:
    output = table(
        Column(name="a", type="int8", nullable=False),
        Column(name="b", type="int8", maximum=5, action=Action.FAIL),
    )
    result = split(batch(output, [(1, 1), (None, 1), (None, 6), (1, 7)]), output)
    assert result.failure == Failure(
        field="b",
        reason="contract.range",
        message="`b` is 6, expected a value to 5",
        offset=20,
        length=5,
    )
    assert result.rejected["field"].to_pylist() == ["a", "a", "b"]
    assert split(batch(output, [(None, 1)]), output).failure is None


def test_a_batch_of_another_table_is_an_error() -> None:
    output = table(Column(name="a", type="int8"))
    other = table(Column(name="b", type="int8"))
    with pytest.raises(ContractError) as raised:
        split(batch(other, [(1,)]), output)
    assert raised.value.code == "contract.schema"


def test_an_empty_batch_stays_empty() -> None:
    output = table(Column(name="a", type="int8", nullable=False, minimum=0))
    assert split(batch(output, []), output).valid.num_rows == 0


CONTRACT = table(
    Column(name="n", type="int8", nullable=False, minimum=-5, maximum=5),
    Column(name="s", type="utf8", pattern="[ab]*"),
    Column(name="k", type="utf8", nullable=False, allowed=("a", "ab")),
)


def first_violation(n: int | None, s: str | None, k: str | None) -> tuple[str, str] | None:
    """The same rules, a row at a time."""
    if n is None:
        return "n", "contract.null"
    if not -5 <= n <= 5:
        return "n", "contract.range"
    if s is not None and re.fullmatch("[ab]*", s) is None:
        return "s", "contract.pattern"
    if k is None:
        return "k", "contract.null"
    return None if k in ("a", "ab") else ("k", "contract.allowed")


texts = st.none() | st.text("abc\n", max_size=3)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.none() | st.integers(-7, 7), texts, texts), max_size=40),
    st.integers(0, 5),
)
def test_splitting_agrees_with_looking_at_each_row(
    rows: list[tuple[Any, ...]], skipped: int
) -> None:
    whole = batch(CONTRACT, rows)
    given_batch = whole.slice(min(skipped, len(rows)))  # a slice has an offset into its buffers
    result = split(given_batch, CONTRACT)
    expected = {n: first_violation(*row) for n, row in enumerate(rows) if n >= skipped}
    result.valid.validate(full=True)
    result.rejected.validate(full=True)
    assert result.valid["@flags"].to_pylist() == [n for n, bad in expected.items() if bad is None]
    assert [(r["@flags"], (r["field"], r["reason"])) for r in result.rejected.to_pylist()] == [
        (n, bad) for n, bad in expected.items() if bad is not None
    ]
    for row in result.valid.to_pylist():
        assert (row["n"], row["s"], row["k"]) == rows[row["@flags"]]


# -- unique values -----------------------------------------------------------------------------------------------------------

UNIQUE_TYPES: dict[str, list[Any]] = {
    "int64": [1, -1, 2**62],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
    "utf8": ["", "a", "aa", "ä"],
    "binary": [b"", b"\x00", b"\x00\x00"],
    "decimal128(10, 2)": [Decimal("1.00"), Decimal("-1.00"), Decimal("0.10")],
    "date32": [dt.date(1970, 1, 1), dt.date(2026, 1, 1)],
    "time64[us]": [dt.time(0), dt.time(0, 0, 0, 1), dt.time(23, 59, 59, 999_999)],
    "timestamp[us, UTC]": [
        dt.datetime(1960, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=dt.UTC),
    ],
}


@pytest.mark.parametrize("kind", UNIQUE_TYPES)
def test_a_value_of_a_unique_column_may_come_once(kind: str) -> None:
    values = UNIQUE_TYPES[kind]
    column = Column(name="a", type=kind, unique=True)
    found = rejected(column, [*values, None, None, *values])
    later = range(len(values) + 2, 2 * len(values) + 2)
    assert found == dict.fromkeys(later, "contract.unique")


@given(
    st.lists(st.sampled_from([None, "", "a", "b", "c", "d"]), max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
)
def test_where_batches_are_cut_does_not_change_what_is_repeated(
    values: list[str | None], cuts: list[int]
) -> None:
    output = table(Column(name="a", type="utf8", unique=True, pattern="[^d]*"))
    whole = batch(output, [(value,) for value in values])
    seen = Seen()
    aside: dict[int, str] = {}
    places = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    for start, end in itertools.pairwise(places):
        sides = split(whole.slice(start, end - start), output, seen)
        aside |= {row["@flags"]: row["reason"] for row in sides.rejected.to_pylist()}
    expected: dict[int, str] = {}
    for number, value in enumerate(values):
        if value is not None and value in values[:number]:
            expected[number] = "contract.unique"
        if value == "d":  # the pattern comes first
            expected[number] = "contract.pattern"
    assert aside == expected


def test_columns_are_unique_each_for_itself_and_in_each_table() -> None:
    columns = (
        Column(name="a", type="int64", unique=True),
        Column(name="b", type="int64", unique=True),
    )
    one, two = table(*columns), OutputContract(table="other", columns=columns)
    seen = Seen()
    assert split(batch(one, [(1, 1), (2, 3)]), one, seen).rejected.num_rows == 0
    assert split(batch(two, [(1, 2)]), two, seen).rejected.num_rows == 0
    (row,) = split(batch(one, [(3, 3)]), one, seen).rejected.to_pylist()
    assert (row["field"], row["reason"]) == ("b", "contract.unique")
    assert row["message"] == "`b` is `3`, which an earlier row of the source has"


def test_another_source_may_have_the_same_values() -> None:
    output = table(Column(name="a", type="int64", unique=True))
    for _ in range(2):
        assert split(batch(output, [(1,), (2,)]), output, Seen()).rejected.num_rows == 0


def test_more_values_than_are_held_end_the_source_and_are_never_passed() -> None:
    output = table(Column(name="a", type="int64", unique=True))
    seen = Seen(3)
    split(batch(output, [(1,), (2,), (3,), (1,)]), output, seen)
    with pytest.raises(TooManyValues) as caught:
        split(batch(output, [(4,)]), output, seen)
    assert caught.value.code == "contract.unique_limit"


def test_a_rule_that_fails_the_job_wins_over_one_that_fails_the_source() -> None:
    output = table(
        Column(name="a", type="int64", maximum=1, action=Action.FAIL),
        Column(name="b", type="int64", maximum=1, action=Action.FAIL_JOB),
    )
    failure = split(batch(output, [(5, 0), (0, 5)]), output).failure
    assert failure is not None
    assert (failure.field, failure.whole_job, failure.offset) == ("b", True, 10)
    failure = split(batch(output, [(5, 0)]), output).failure
    assert failure is not None
    assert (failure.field, failure.whole_job) == ("a", False)
