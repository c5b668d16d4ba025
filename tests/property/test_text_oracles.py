"""Delimited text and JSON Lines against other readers, and under damage: no unit is lost, whatever the bytes."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian import _native
from tests.factories.text import Reading, delimited, json_lines, read

# What no text file has, or what is set aside on purpose.
CELLS = st.text(
    st.one_of(
        st.sampled_from(list("ab,;\"' \t|\n\r#\\0")),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"),
    ),
    max_size=12,
)
WIDTHS = st.integers(2, 5)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """Rows of texts, all of one width."""
    width = draw(WIDTHS)
    return draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=20))


def columns_of(rows: list[list[str]], width: int) -> dict[str, list[str]]:
    """The table by column."""
    return {f"c{index}": [row[index] for row in rows] for index in range(width)}


@settings(max_examples=120, deadline=None)
@given(
    rows=tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
    batch_rows=st.sampled_from([1, 3, 65_536]),
)
def test_what_python_writes_is_read_back(
    rows: list[list[str]], delimiter: str, quoting: Any, end: str, encoding: str, batch_rows: int
) -> None:
    if quoting != csv.QUOTE_ALL:  # Python quotes no end of line but the one that it writes itself
        rows = [[cell.replace("\r", "").replace("\n", "") for cell in row] for row in rows]
    width = len(rows[0]) if rows else 2
    names = [f"c{index}" for index in range(width)]
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([names, *rows])
    dataset = delimited(
        dict.fromkeys(names, "utf8"), delimiter=delimiter, encoding=encoding.replace("16-", "16")
    )
    reading = read(written.getvalue().encode(encoding), dataset, batch_rows=batch_rows)
    assert reading.quarantine == []
    assert [list(row.values()) for row in reading.rows] == rows
    assert reading.ledger.balanced


@settings(max_examples=100, deadline=None)
@given(rows=tables())
def test_python_reads_the_same_cells_where_both_read_a_record(rows: list[list[str]]) -> None:
    """Without quotes around what needs them: whatever comes out, the records are those of Python's reader."""
    text = "".join(",".join(row).replace("\0", "") + "\n" for row in [["a", "b"], *rows])
    theirs = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    reading = read(text.encode(), delimited({"a": "utf8", "b": "utf8"}))
    if not set(reading.reasons) <= {"text.cells"}:
        return  # a quote that is closed late, or not at all: Python has rules of its own
    ours = [list(row.values()) for row in reading.rows]
    assert ours == [row for row in theirs if len(row) == 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False, width=64),
            st.booleans(),
            st.dates(),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_arrow_and_duckdb_read_the_same_values(rows: list[tuple[Any, ...]]) -> None:
    table = pa.table(
        {
            "n": pa.array([row[0] for row in rows], pa.int64()),
            "x": pa.array([row[1] for row in rows], pa.float64()),
            "ok": pa.array([row[2] for row in rows], pa.bool_()),
            "day": pa.array([row[3] for row in rows], pa.date32()),
            "text": pa.array([row[4] for row in rows], pa.utf8()),
        }
    )
    sink = io.BytesIO()
    pacsv.write_csv(table, sink, pacsv.WriteOptions(quoting_style="all_valid"))
    raw = sink.getvalue()
    dataset = delimited(
        {
            "n": "int64",
            "x": "float64",
            "ok": "bool",
            "day": {"type": "date32", "format": "%Y-%m-%d"},
            "text": "utf8",
        }
    )
    reading = read(raw, dataset)
    assert reading.quarantine == []
    assert reading.rows == table.to_pylist()
    options = pacsv.ConvertOptions(column_types=table.schema, strings_can_be_null=False)
    parsing = pacsv.ParseOptions(newlines_in_values=True)
    theirs = pacsv.read_csv(io.BytesIO(raw), parse_options=parsing, convert_options=options)
    assert reading.rows == theirs.to_pylist()
    assert duckdb.from_arrow(theirs).fetchall() == [tuple(row.values()) for row in reading.rows]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"n": st.none() | st.integers(-(2**63), 2**63 - 1)},
            optional={
                "text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                "inner": st.fixed_dictionaries({}, optional={"x": st.booleans(), "more": JSON}),
                "list": st.lists(
                    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
                    max_size=4,
                ),
            },
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_what_json_writes_is_read_back(documents: list[dict[str, Any]], ascii_only: bool) -> None:
    dataset = json_lines(
        {
            "n": "int64",
            "text": "utf8",
            "x": {"type": "bool", "source": ["inner", "x"]},
            "more": {"type": "utf8", "meaning": "json", "source": ["inner", "more"]},
            "list": "list<utf8>",
        }
    )
    lines = [json.dumps(one, ensure_ascii=ascii_only) for one in documents]
    reading = read("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"), dataset)
    assert reading.quarantine == []
    for row, document in zip(reading.rows, documents, strict=True):
        inner = document.get("inner", {})
        assert (row["n"], row["text"], row["list"], row["x"]) == (
            document["n"],
            document.get("text"),
            document.get("list"),
            inner.get("x"),
        )
        more = None if row["more"] is None else json.loads(row["more"])
        assert more == inner.get("more")


GOOD = "time,n,text\n" + "".join(
    f'2024-01-02 03:04:{n % 60:02},{n},"say ""{n}"", or {"so" * (n % 5)}"\n' for n in range(60)
)
GOOD_JSON = "".join(
    json.dumps({"n": n, "text": "ä" * (n % 7), "list": [str(n)]}) + "\n" for n in range(60)
)
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 5_000),
        st.sampled_from(
            [b"\0" * 64, b'"', b"\n", b",", b"\xff", b"", b"\r", b"{", b"\\", b"\0" * 512]
        ),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=8,
)


def damaged(text: bytes, hits: list[tuple[int, bytes, int]], spare: int) -> bytes:
    """Bytes overwritten, inserted or cut out, behind the first `spare` ones."""
    for place, insert, cut in hits:
        at = spare + place % (len(text) - spare + 1)
        text = text[:at] + insert + text[at + cut :]
    return text


@settings(max_examples=120, deadline=None)
@given(hits=DAMAGE, encoding=st.sampled_from(["utf-8", "utf-16le", "cp1252"]))
def test_no_damage_loses_a_record_in_silence(
    hits: list[tuple[int, bytes, int]], encoding: str
) -> None:
    columns = {
        "time": {"type": "timestamp[s]", "format": "%Y-%m-%d %H:%M:%S"},
        "n": "int64",
        "text": "utf8",
    }
    raw = GOOD.encode(encoding.replace("16le", "16-le"))
    text = damaged(raw, hits, len("time,n,text\n") * (2 if encoding == "utf-16le" else 1))
    reading = read(text, delimited(columns, encoding=encoding))
    assert_tiled(text, reading)


@settings(max_examples=120, deadline=None)
@given(hits=DAMAGE)
def test_no_damage_loses_a_line_in_silence(hits: list[tuple[int, bytes, int]]) -> None:
    dataset = json_lines({"n": "int64", "text": "utf8", "list": "list<utf8>"})
    text = damaged(GOOD_JSON.encode(), hits, 0)
    assert_tiled(text, read_or_drift(text, dataset))


@settings(max_examples=120, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from(["utf-8", "utf-16le", "utf-16be", "latin-1", "cp1252"])
)
def test_no_bytes_at_all_break_the_decoder(text: bytes, encoding: str) -> None:
    dataset = delimited({"a": "utf8", "b": "utf8"}, header=False, encoding=encoding)
    for contract in (dataset, json_lines({"a": "utf8"})):
        assert_tiled(text, read_or_drift(text, contract))


def read_or_drift(text: bytes, dataset: str) -> Reading | None:
    """What came out, or nothing where the text is not one of the contract."""
    try:
        return read(text, dataset)
    except _native.SourceError as error:
        if error.code != "contract.drift":
            raise
        return None


def assert_tiled(text: bytes, reading: Reading | None) -> None:
    """The ledger balances, no span overlaps another, and with the blanks they take every byte."""
    if reading is None:
        return
    assert reading.ledger.balanced, reading.ledger.findings
    end = 0
    for offset, length in reading.spans:
        assert offset >= end
        end = offset + length
    assert sum(length for _, length in reading.spans) + reading.ledger.blank_bytes == len(text)


@pytest.mark.parametrize("number", range(5))
def test_a_row_that_is_dropped_doubled_or_moved_unbalances_the_ledger(number: int) -> None:
    """The walk is no mirror of the decoder: it says what is missing though nobody asked the decoder."""
    from casparian.worker.balance import Units, balance
    from tests.factories.text import opened, walk

    dataset = delimited({"time": "utf8", "n": "int64", "text": "utf8"})
    raw = GOOD.encode()
    reading = read(raw, dataset)
    assert reading.table is not None
    rows = reading.table.combine_chunks().to_batches()[0]
    with opened(raw) as descriptor:
        account = walk(descriptor, len(raw), dataset)

    def judged(*parts: pa.RecordBatch) -> bool:
        units = Units("delimited")
        for part in parts:
            units.add_rows(part)
        return balance(units, account, "record").balanced

    at = number * 13
    before, one, behind = rows.slice(0, at), rows.slice(at, 1), rows.slice(at + 1)
    assert judged(before, one, behind)
    assert not judged(before, behind)
    assert not judged(before, one, one, behind)
    moved = one.set_column(
        0, one.schema.field(0), pa.array([one["@offset"][0].as_py() + 1], pa.uint64())
    )
    assert not judged(before, moved, behind)
