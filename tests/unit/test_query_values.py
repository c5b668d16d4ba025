"""JSON values of query results: nothing rounded, nothing lost."""

from __future__ import annotations

import decimal

import duckdb
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.query.values import json_rows, json_values, text_column

TYPES = {
    "170141183460469231731687303715884105727::HUGEINT": str(2**127 - 1),
    "-5::HUGEINT": -5,
    "(2::HUGEINT ** 64)::HUGEINT": str(2**64),
    "18446744073709551615::UBIGINT": 2**64 - 1,
    "sum(18446744073709551615::UBIGINT)": 2**64 - 1,
    "340282366920938463463374607431768211455::UHUGEINT": str(2**128 - 1),
    "1.50::DECIMAL(10, 2)": "1.50",
    "0.1::FLOAT": pytest.approx(0.1, rel=1e-6),
    "'nan'::DOUBLE": "NaN",
    "'-inf'::DOUBLE": "-Infinity",
    "true": True,
    "NULL": None,
    "'\\xff'::BLOB": "ff",
    "DATE '2020-02-29'": "2020-02-29",
    "TIME '10:00:00.123456'": "10:00:00.123456",
    "TIMESTAMP_S '2020-01-01 00:00:00'": "2020-01-01T00:00:00",
    "TIMESTAMP '2020-01-01 00:00:00.5'": "2020-01-01T00:00:00.500000",
    "'2020-01-01 00:00:00.123456700'::TIMESTAMP_NS": "2020-01-01T00:00:00.123456700",
    "'2020-01-01 00:00:00.123456789+02'::TIMESTAMPTZ_NS": "2019-12-31T22:00:00.123456789Z",
    "'1601-01-01 00:00:00+00'::TIMESTAMPTZ": "1601-01-01T00:00:00.000000Z",
    "TIMESTAMP 'infinity'": "infinity",
    "TIMESTAMPTZ '-infinity'": "-infinity",
    "'a'::ENUM('a', 'b')": "a",
    "'00000000-0000-0000-0000-00000000000f'::UUID": "00000000-0000-0000-0000-00000000000f",
    "[1::HUGEINT, NULL]": [1, None],
    "[[true], NULL, []]": [[True], None, []],
    "[1, 2]::INTEGER[2]": [1, 2],
    "{'a': 1, 'b': ['x']}": {"a": 1, "b": ["x"]},
    "MAP {'k': '\\xff'::BLOB}": {"k": "ff"},
    "MAP {1: 'v'}": [[1, "v"]],
    "'{\"a\": 1}'::JSON": '{"a": 1}',
    "INTERVAL 1 MONTH": "P1M0DT0.000000000S",
}


@pytest.mark.parametrize("sql", TYPES)
def test_each_type_keeps_its_value(sql: str) -> None:
    with duckdb.connect(config={"arrow_lossless_conversion": True}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        (batch,) = connection.sql(f"SELECT {sql} AS v").to_arrow_reader(10)
    rows = json_rows(batch)
    assert rows == [[TYPES[sql]]]
    assert msgspec.json.decode(msgspec.json.encode(rows)) == rows
    assert len(text_column(batch.column(0))) == 1


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1))))
def test_every_nanosecond_is_kept(values: list[int | None]) -> None:
    array = pa.array(values, pa.timestamp("ns", "UTC"))
    for value, text in zip(values, json_values(array), strict=True):
        if value is None:
            assert text is None
        else:
            assert text.endswith("Z")
            assert len(text.partition(".")[2]) == 10
            assert int(text[-10:-1]) == value % 1_000_000_000


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text()), max_size=4))))
def test_slices_of_lists_are_read_from_their_own_start(
    values: list[list[str | None] | None],
) -> None:
    array = pa.array(values, pa.list_(pa.utf8()))
    assert json_values(array) == values
    assert json_values(array.slice(len(values) // 2)) == values[len(values) // 2 :]


def test_decimals_are_plain_text() -> None:
    array = pa.array([decimal.Decimal("0.0000001"), None], pa.decimal128(38, 7))
    assert json_values(array) == ["0.0000001", None]
