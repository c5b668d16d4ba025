"""A value fits its column exactly, or its row is set aside: never cut, never turned into null."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pyarrow as pa
import pytest

from casparian.protocol.arrow import arrow_type
from casparian.sdk.values import column_of, recast, shown


class _Level(IntEnum):
    HIGH = 3


NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

FITS = [
    ("int64", 5, 5),
    ("int64", -(2**63), -(2**63)),
    ("int64", _Level.HIGH, 3),
    ("uint64", 2**64 - 1, 2**64 - 1),
    ("float64", 1.5, 1.5),
    ("float64", 3, 3.0),
    ("float32", 0.5, 0.5),
    ("bool", True, True),
    ("utf8", "é\U0001f600", "é\U0001f600"),
    ("utf8", "", ""),
    ("binary", b"\xff", b"\xff"),
    ("date32", date(2024, 2, 29), date(2024, 2, 29)),
    ("time64[us]", time(14, 3, 22, 123456), time(14, 3, 22, 123456)),
    ("list<time64[us]>", [time(0), None], [time(0), None]),
    ("timestamp[us, UTC]", NOON, NOON),
    ("timestamp[us, UTC]", NOON.astimezone(timezone(timedelta(hours=2))), NOON),
    ("timestamp[us]", datetime(2024, 2, 29), datetime(2024, 2, 29)),
    ("timestamp[us, UTC]", 0, datetime(1970, 1, 1, tzinfo=UTC)),
    ("decimal128(5, 2)", Decimal("1.25"), Decimal("1.25")),
    ("list<utf8>", ["a", None], ["a", None]),
    ("list<uint8>", (1, 255), [1, 255]),
    ("list<list<utf8>>", [["a"], []], [["a"], []]),
]

MISFITS = [
    ("int64", 1.0),
    ("int64", 1.5),
    ("int64", True),
    ("int64", "1"),
    ("int64", 2**63),
    ("uint8", 256),
    ("uint8", -1),
    ("float64", True),
    ("float64", 2**60 + 1),
    ("float64", "1.5"),
    ("float32", 1e300),
    ("bool", 1),
    ("utf8", b"bytes"),
    ("utf8", 5),
    ("utf8", "\ud800"),
    ("binary", "text"),
    ("date32", datetime(2024, 2, 29)),
    ("date32", 5),
    ("time64[us]", time(14, 3, tzinfo=UTC)),
    ("time64[us]", NOON),
    ("time64[us]", "14:03"),
    ("time64[us]", 5),
    ("list<time64[us]>", [time(14, 3, tzinfo=UTC)]),
    ("timestamp[ns, UTC]", "2024-02-29"),
    ("timestamp[ns, UTC]", 1.5),
    ("timestamp[ns, UTC]", True),
    ("timestamp[ns, UTC]", datetime(2024, 2, 29)),
    ("timestamp[ns]", NOON),
    ("timestamp[ns, UTC]", datetime(9999, 1, 1, tzinfo=UTC)),
    ("timestamp[s, UTC]", NOON.replace(microsecond=1)),
    ("timestamp[ms, UTC]", NOON.replace(microsecond=1)),
    ("decimal128(5, 2)", Decimal("1.234")),
    ("decimal128(5, 2)", 1.2),
    ("list<utf8>", "letters"),
    ("list<utf8>", ["a", 5]),
    ("list<uint8>", [1, 256]),
    ("list<int64>", [1.5]),
    ("list<list<int64>>", [[1], ["x"]]),
    ("utf8", object()),
]

GOOD: dict[str, Any] = {kind: stored for kind, _, stored in FITS} | {
    "uint8": 0,
    "list<int64>": [1],
    "list<list<int64>>": [[1]],
    "timestamp[ns, UTC]": NOON,
    "timestamp[ns]": datetime(2024, 2, 29),
    "timestamp[s, UTC]": NOON,
    "timestamp[ms, UTC]": NOON,
}


@pytest.mark.parametrize(("kind", "value", "stored"), FITS)
def test_value_that_fits_is_stored_as_it_is(kind: str, value: Any, stored: Any) -> None:
    column = column_of([None, value], arrow_type(kind))
    assert column.bad == []
    assert column.array.type == arrow_type(kind)
    assert column.array.to_pylist() == [None, stored]


@pytest.mark.parametrize(("kind", "value"), MISFITS)
def test_value_that_does_not_fit_is_named_with_its_row(kind: str, value: Any) -> None:
    good = GOOD[kind]
    column = column_of([good, value, None], arrow_type(kind))
    assert [bad.row for bad in column.bad] == [1]
    assert "column is" in column.bad[0].message
    assert column.array.null_count == 2
    assert column.array[0].is_valid


def test_nan_and_infinity_are_floats() -> None:
    column = column_of([float("inf"), float("nan")], pa.float32())
    assert column.bad == []
    assert column.array.null_count == 0


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array(["a", None, "a"]).dictionary_encode(), "utf8"),
        (pa.array(["a", None], pa.large_utf8()), "utf8"),
        (pa.array(["a", None], pa.string_view()), "utf8"),
        (pa.array([b"a", None], pa.large_binary()), "binary"),
        (pa.array([1, None], pa.int8()), "int64"),
        (pa.array([1, None], pa.int64()), "uint8"),
        (pa.array([[1], None], pa.large_list(pa.int64())), "list<uint8>"),
        (pa.nulls(2), "utf8"),
        (pa.array([1_000_000, None], pa.timestamp("us", "UTC")), "timestamp[ms, UTC]"),
    ],
)
def test_arrow_column_of_the_same_family_is_recast(array: pa.Array, kind: str) -> None:
    column = recast(array, arrow_type(kind))
    assert column.bad == []
    assert column.array.type == arrow_type(kind)
    assert column.array.null_count == array.null_count


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1, 300], pa.int64()), "uint8"),
        (pa.array([1, 1500], pa.timestamp("us", "UTC")), "timestamp[s, UTC]"),
        (pa.array([b"a", b"\xff"]), "utf8"),
        (pa.array(["1", "2"]), "int64"),
        (pa.array([1.0, 2.5]), "int64"),
    ],
)
def test_arrow_column_that_would_change_is_set_aside_by_row(array: pa.Array, kind: str) -> None:
    column = recast(array, arrow_type(kind))
    assert column.bad
    assert column.array.type == arrow_type(kind)
    assert all(not column.array[bad.row].is_valid for bad in column.bad)


def test_message_about_a_huge_value_is_short() -> None:
    for value in ("x" * 10**6, b"y" * 10**6, 10**5000, [1] * 10**5):
        assert len(shown(value)) < 300
