"""Times of day from unknown files to rows of every sink: inferred, promoted, run, queried, proven."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.contract_case import ContractCase as Case

ROWS: list[tuple[str, ...]] = [
    ("14:03:22", "2:03:22 PM", "14:03"),
    ("14:03:22.123456", "12:00:00 AM", "00:45"),
    ("23:59:59.9", "11:59:59 am", "23:59"),
]
READ = [
    (dt.time(14, 3, 22), dt.time(14, 3, 22), dt.time(14, 3)),
    (dt.time(14, 3, 22, 123_456), dt.time(0), dt.time(0, 45)),
    (dt.time(23, 59, 59, 900_000), dt.time(11, 59, 59), dt.time(23, 59)),
]
STRANGE = ["24:00", "7:65", "23:59:60", "14:03:22.1234567", "14:03:22Z"]
FORMATS = {"seen": "iso8601", "half": "%-I:%M:%S %p", "short": "iso8601"}


def delimited(rows: list[tuple[str, ...]]) -> bytes:
    return ("\n".join([",".join(FORMATS), *(",".join(row) for row in rows)]) + "\n").encode()


def json_lines(rows: list[tuple[str, ...]]) -> bytes:
    return "".join(json.dumps(dict(zip(FORMATS, row, strict=True))) + "\n" for row in rows).encode()


def from_parquet(folder: Path) -> list[tuple[Any, ...]]:
    (path,) = folder.glob("*.parquet")
    table = pq.read_table(path, columns=[*FORMATS])
    assert table.schema.types == [pa.time64("us")] * len(FORMATS)
    return [tuple(row.values()) for row in table.to_pylist()]


def from_csv(folder: Path) -> list[tuple[Any, ...]]:
    (path,) = folder.glob("*.csv")
    with path.open(newline="") as file:
        rows = [tuple(row[name] for name in FORMATS) for row in csv.DictReader(file)]
    assert rows[0] == ("14:03:22.000000", "14:03:22.000000", "14:03:00.000000")
    return [tuple(dt.time.fromisoformat(text) for text in row) for row in rows]


def from_duckdb(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute(f"SELECT {', '.join(FORMATS)} FROM shifts ORDER BY _cf_ordinal")
        assert {str(column[1]) for column in found.description} == {"TIME"}
        rows: list[tuple[Any, ...]] = found.fetchall()
        return rows


SINKS: dict[str, tuple[str, Callable[[Path], list[tuple[Any, ...]]]]] = {
    "parquet": ("parquet:{0}/out/", from_parquet),
    "csv": ("csv:{0}/out/", from_csv),
    "duckdb": ("duckdb:{0}/out.duckdb", from_duckdb),
}


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path, table="shifts")
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("name", "write", "sink"),
    [
        ("a.csv", delimited, "parquet"),
        ("a.csv", delimited, "csv"),
        ("a.csv", delimited, "duckdb"),
        ("a.jsonl", json_lines, "parquet"),
    ],
)
def test_times_are_the_same_from_the_file_to_every_sink(
    case: Case, name: str, write: Callable[[list[tuple[str, ...]]], bytes], sink: str
) -> None:
    file = case.file(name, write(ROWS))
    asked = case.json("contract", "infer", str(file), "--table", "shifts", code=5)
    (question,) = asked["questions"]  # hours and minutes, or minutes and seconds
    assert question["column"] == "short"
    assert [option["option"] for option in question["options"]] == ["iso8601 time of day", "text"]
    answer = ("--answer", "short=iso8601 time of day")
    proposed = case.json("contract", "infer", str(file), "--table", "shifts", *answer)["proposal"]
    assert {c["name"]: (c["type"], c["format"]) for c in proposed["columns"]} == {
        column: ("time64[us]", spelt) for column, spelt in FORMATS.items()
    }
    assert case.promote(proposed)["state"] == "accepted"

    case.file(name, write([*ROWS, *((text, "1:00:00 AM", "01:00") for text in STRANGE)]))
    uri, stored = SINKS[sink][0].format(case.directory), SINKS[sink][1]
    result = case.run("--sink", uri)
    assert [o["rows"] for o in result["outputs"] if o["table"] == "shifts"] == [len(ROWS)]
    assert result["quarantine"]["rows"] == len(STRANGE)
    assert stored(Path(uri.partition(":")[2])) == READ

    names = ", ".join(FORMATS)
    rows = case.query(f"SELECT {names} FROM shifts ORDER BY _cf_ordinal", "--sink", uri)
    assert rows[1] == ["14:03:22.123456", "00:00:00.000000", "00:45:00.000000"]
    late = case.query("SELECT count(*) FROM shifts WHERE seen > TIME '23:00'", "--sink", uri)
    assert late == [[1]]
    held = case.query("SELECT reason, field, raw FROM quarantine ORDER BY _cf_ordinal")
    assert {tuple(row[:2]) for row in held} == {("contract.type", "seen")}
    for text, (_, _, raw) in zip(STRANGE, held, strict=True):
        assert text.encode() in bytes.fromhex(raw)

    (row_id,) = case.column(
        "SELECT _cf_row_id FROM shifts WHERE seen = TIME '14:03:22.123456'", "--sink", uri
    )
    assert case.json("why", str(row_id))["proven"]
    assert case.json("verify", "--sample", "10", "--seed", "1")["proven"]


def test_a_time_that_becomes_text_is_a_breaking_amendment(case: Case) -> None:
    case.file("a.csv", delimited(ROWS))
    answer = ("--answer", "short=text")
    inferred = case.json(
        "contract", "infer", str(case.evidence / "a.csv"), "--table", "shifts", *answer
    )
    proposed = inferred["proposal"]
    assert proposed["columns"][2]["type"] == "utf8"
    case.promote(proposed)
    case.run()
    proposed["columns"][0] |= {"type": "utf8", "format": None}
    proposed["columns"][2] |= {"type": "time64[us]", "format": "iso8601"}
    difference = case.json("contract", "diff", "shifts", "--file", case.document(proposed))
    assert not difference["compatible"]
    assert case.amend(proposed)["state"] == "accepted"
    case.run()
    assert case.query("SELECT seen, half, short FROM shifts ORDER BY _cf_ordinal LIMIT 1") == [
        ["14:03:22", "14:03:22.000000", "14:03:00"]  # text, as the rows before have it
    ]
