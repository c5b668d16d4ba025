"""What a parser may yield, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from casparian.domain.contracts import Column, OutputContract
from casparian.sdk import Context, OutputError, Row, RowBuilder
from casparian.sdk.testing import Collected, collect

EVENTS = OutputContract(
    table="events",
    main=True,
    columns=(Column(name="a", type="int64"), Column(name="b", type="utf8")),
)
OTHER = OutputContract(table="other", columns=(Column(name="x", type="utf8"),))
OUTPUTS = (EVENTS, OTHER)


def run(*yields: Any, data: bytes = b"0123456789") -> Collected:
    def parse(ctx: Context) -> Iterator[Any]:
        del ctx
        yield from yields

    return collect(parse, data, outputs=OUTPUTS)


FORMS: dict[str, Any] = {
    "a Row": Row(1, 2, {"a": 7, "b": "x"}, 4),
    "a list of Rows": [Row(1, 2, {"a": 7, "b": "x"}, 4)],
    "a dict": {"@offset": 1, "@length": 2, "@flags": 4, "a": 7, "b": "x"},
    "a list of dicts": [{"@offset": 1, "@length": 2, "@flags": 4, "b": "x", "a": 7}],
    "a RecordBatch": pa.record_batch(
        {"@offset": [1], "@length": [2], "@flags": [4], "b": ["x"], "a": [7]}
    ),
    "a Table": pa.table({"@offset": [1], "@length": [2], "@flags": [4], "a": [7], "b": ["x"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_output_gives_the_same_row(form: str) -> None:
    table = run(("events", FORMS[form])).tables["events"]
    assert table.to_pylist() == [{"@offset": 1, "@length": 2, "@flags": 4, "a": 7, "b": "x"}]
    assert table.schema.field("@offset").type == pa.uint64()


def test_a_column_left_out_is_null() -> None:
    collected = run(("events", Row(0, 1, {"a": 1})), ("other", [{"@offset": 0, "@length": 1}]))
    assert collected.tables["events"].to_pylist()[0]["b"] is None
    assert collected.tables["other"].to_pylist()[0]["x"] is None


def test_a_value_that_does_not_fit_sets_its_row_aside_and_keeps_the_others() -> None:
    collected = run(
        (
            "events",
            [
                Row(0, 1, {"a": 1}),
                Row(1, 2, {"a": "one", "b": 5}, 8),
                Row(3, 3, {"b": "\ud800"}),
                Row(6, 1, {"a": 2}),
            ],
        )
    )
    assert collected.tables["events"]["a"].to_pylist() == [1, 2]
    assert [
        (r["@offset"], r["@length"], r["@flags"], r["reason"], r["field"], r["raw"])
        for r in collected.quarantine.to_pylist()
    ] == [(1, 2, 8, "contract.type", "a", None), (3, 3, 0, "contract.type", "b", None)]


def test_a_bad_value_in_a_batch_sets_its_row_aside_too() -> None:
    batch = pa.record_batch(
        {"@offset": [0, 1], "@length": [1, 1], "@flags": [0, 0], "a": [1.0, 2.5]}
    )
    collected = run(("events", batch))
    assert collected.tables["events"].num_rows == 0
    assert collected.quarantine["field"].to_pylist() == ["a", "a"]


MISTAKES: dict[str, Any] = {
    "an unknown output": ("nothing", Row(0, 1, {})),
    "an unknown column": ("events", Row(0, 1, {"c": 1})),
    "an unknown column of a batch": (
        "events",
        pa.record_batch({"@offset": [0], "@length": [1], "@flags": [0], "c": [1]}),
    ),
    "a reserved column": ("events", Row(0, 1, {"_cf_job_id": 1})),
    "a dict without a span": ("events", {"a": 1}),
    "a negative offset": ("events", Row(-1, 1, {})),
    "a span of floats": ("events", Row(0, 1.0, {})),  # type: ignore[arg-type]
    "a batch without a span": ("events", pa.record_batch({"a": [1]})),
    "a null span": (
        "events",
        pa.record_batch({"@offset": pa.array([None], pa.uint64()), "@length": [1], "@flags": [0]}),
    ),
    "a string": ("events", "text"),
    "a list of numbers": ("events", [1, 2]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_parser_fails_the_source(mistake: str) -> None:
    with pytest.raises(OutputError):
        run(MISTAKES[mistake])


def test_quarantine_of_a_parser_keeps_reason_field_and_short_bytes() -> None:
    def parse(ctx: Context) -> None:
        ctx.quarantine(0, 3, "test.bad", "why \udcff", field="a", raw=b"012", flags=2)
        ctx.quarantine(3, 70_000, "test.long", "long", raw=b"x" * 70_000)

    rows = collect(parse, b"0" * 80_000, outputs=OUTPUTS).quarantine.to_pylist()
    assert rows[0] == {
        "@offset": 0,
        "@length": 3,
        "@flags": 2,
        "reason": "test.bad",
        "field": "a",
        "message": "why \\udcff",
        "raw": b"012",
    }
    assert rows[1]["raw"] is None


def test_quarantine_before_an_exception_is_not_lost_in_the_receiver() -> None:
    sent = []

    def parse(ctx: Context) -> None:
        for number in range(10_000):
            ctx.quarantine(number, 1, "test.bad", "x")
        sent.append(True)

    collected = collect(parse, b"0" * 10_000, outputs=OUTPUTS)
    assert sent
    assert collected.quarantine["@offset"].to_pylist() == list(range(10_000))


def test_builder_hands_out_full_blocks_and_the_rest_in_order() -> None:
    def parse(ctx: Context) -> Iterator[Any]:
        rows = RowBuilder("events", rows_max=10)
        for number in range(25):
            yield from rows.append(number, 1, 0, a=number)
        assert len(rows) == 5
        yield from rows.flush()
        assert len(rows) == 0

    table = collect(parse, b"0" * 25, outputs=OUTPUTS).tables["events"]
    assert table["a"].to_pylist() == list(range(25))
    assert table["a"].num_chunks == 3


def test_builder_bounds_a_block_by_its_text() -> None:
    rows = RowBuilder("events", bytes_max=1000)
    blocks = [block for number in range(9) for block in rows.append(number, 1, 0, b="x" * 250)]
    assert [len(block) for _, block in blocks] == [4, 4]


def test_rows_whose_block_was_not_yielded_come_out_with_flush() -> None:
    rows = RowBuilder("events", rows_max=2)
    for number in range(5):
        rows.append(number, 1, 0, a=number)  # the author forgot to yield
    assert [len(block) for _, block in rows.flush()] == [2, 2, 1]


def test_builder_that_is_never_emptied_says_so() -> None:
    rows = RowBuilder("events", rows_max=1)

    def forgetful() -> None:
        for number in range(100):
            rows.append(number, 1)

    with pytest.raises(OutputError, match="yield from"):
        forgetful()


def test_column_may_be_named_like_an_argument() -> None:
    contract = OutputContract(
        table="t",
        columns=tuple(Column(name=n, type="int64") for n in ("offset", "length", "flags", "self")),
    )

    def parse(ctx: Context) -> Iterator[Any]:
        rows = RowBuilder("t")
        yield from rows.append(0, 1, 0, offset=1, length=2, flags=3)
        yield from rows.flush()

    row = collect(parse, b"0", outputs=(contract,)).tables["t"].to_pylist()[0]
    assert (row["offset"], row["length"], row["flags"]) == (1, 2, 3)
