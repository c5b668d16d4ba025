"""Texts under a contract: rows, what is set aside and why, drift; each ledger balances."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from casparian import _native
from tests.factories.text import delimited, json_lines, read

TYPED = delimited(
    {
        "time": {
            "type": "timestamp[us, UTC]",
            "format": "%Y-%m-%d %H:%M:%S",
            "zone": "Europe/Berlin",
            "null": ["", "-"],
        },
        "n": "int32",
        "price": {"type": "decimal128(9, 2)", "format": "comma"},
        "ok": {"type": "bool", "format": "yes/no"},
        "day": {"type": "date32", "format": "%Y-%m-%d"},
        "text": {"type": "utf8", "null": ["-"]},
    },
    delimiter=";",
)
HEADER = b"time;n;price;ok;day;text\n"


def test_cells_become_values_of_their_columns() -> None:
    reading = read(
        HEADER
        + b'2024-07-01 12:00:00;-7;1,50;yes;2024-02-29;"a;""b""\nc"\n-;0;0,00;no;1970-01-01;-\n',
        TYPED,
    )
    assert reading.rows == [
        {
            "time": datetime(2024, 7, 1, 10, tzinfo=UTC),
            "n": -7,
            "price": Decimal("1.50"),
            "ok": True,
            "day": date(2024, 2, 29),
            "text": 'a;"b"\nc',
        },
        {
            "time": None,
            "n": 0,
            "price": Decimal("0.00"),
            "ok": False,
            "day": date(1970, 1, 1),
            "text": None,
        },
    ]
    assert reading.ledger.balanced
    assert (reading.ledger.present, reading.ledger.rows, reading.ledger.blank_units) == (2, 2, 1)


SET_ASIDE = {
    "a number that is none": (b"-;x;1,00;yes;2024-01-01;t\n", "contract.type", "n"),
    "a number too large": (b"-;2147483648;1,00;yes;2024-01-01;t\n", "contract.type", "n"),
    "a digit that would be lost": (b"-;1;1,005;yes;2024-01-01;t\n", "contract.type", "price"),
    "another word": (b"-;1;1,00;Yes;2024-01-01;t\n", "contract.type", "ok"),
    "no such day": (b"-;1;1,00;yes;2023-02-29;t\n", "contract.type", "day"),
    "a cell too few": (b"-;1;1,00;yes;2024-01-01\n", "text.cells", None),
    "a cell too many": (b"-;1;1,00;yes;2024-01-01;t;\n", "text.cells", None),
    "a quote left open": (b'-;1;1,00;yes;2024-01-01;"t\n', "text.quote", None),
    "text behind a quote": (b'-;1;1,00;yes;2024-01-01;"t"x\n', "text.quote", None),
    "bytes that are no text": (b"-;1;1,00;yes;2024-01-01;\xff\n", "text.encoding", None),
    "zeroed bytes": (b"-;1;1,00;yes;2024-01-01;\0\0\n", "text.nul", None),
}


@pytest.mark.parametrize("case", SET_ASIDE)
def test_a_record_that_does_not_fit_is_set_aside_alone(case: str) -> None:
    line, reason, field = SET_ASIDE[case]
    good = b"-;1;1,00;yes;2024-01-01;t\n"
    reading = read(HEADER + good + line + good + good, TYPED)
    assert len(reading.rows) == 3
    [aside] = reading.quarantine
    assert (aside["reason"], aside["field"]) == (reason, field)
    assert aside["message"]
    assert (aside["@offset"], aside["@length"]) == (len(HEADER + good), len(line))
    assert reading.ledger.balanced
    assert reading.ledger.quarantined == 1


def test_no_value_of_a_record_that_was_set_aside_is_left_in_a_column() -> None:
    dataset = delimited({"a": "utf8", "b": {"type": "utf8", "null": ["-"]}, "c": "int8"})
    lines = [f"a{n},{'-' if n % 3 else n},{n if n % 2 else 'x'}\n" for n in range(100)]
    reading = read(b"a,b,c\n" + "".join(lines).encode(), dataset)
    assert reading.rows == [
        {"a": f"a{n}", "b": None if n % 3 else str(n), "c": n} for n in range(1, 100, 2)
    ]
    assert reading.reasons == ["contract.type"] * 50


def test_a_cell_that_an_older_header_lacks_is_null_there_only() -> None:
    dataset = delimited(
        {"a": "int64", "b": {"type": "utf8", "nullable": True}},
        headers=[["a"], ["a", "b"], ["b", "a"]],
    )
    assert read(b"a\n1\n", dataset).rows == [{"a": 1, "b": None}]
    assert read(b"a,b\n1,x\n", dataset).rows == [{"a": 1, "b": "x"}]
    assert read(b"b,a\nx,1\n", dataset).rows == [{"a": 1, "b": "x"}]
    assert read(b"a,b\n1\n", dataset).reasons == ["text.cells"]


def test_another_header_stops_the_source_with_the_difference() -> None:
    dataset = delimited({"time": "utf8", "src": "utf8", "user": "utf8"})
    with pytest.raises(_native.SourceError) as caught:
        read(b"time,user_name,src,bytes\n1,2,3,4\n", dataset)
    assert caught.value.code == "contract.drift"
    message = str(caught.value)
    assert "~ `user` looks renamed to `user_name` (cell 3, now cell 2)" in message
    assert "+ `bytes` is new (cell 4)" in message


def test_a_text_of_nothing_but_blanks_has_no_rows_and_is_no_drift() -> None:
    for text in (b"", b"\n\n", b"\xef\xbb\xbf", b"  \r\n"):
        reading = read(text, delimited({"a": "utf8"}))
        assert reading.rows == []
        assert reading.ledger.balanced
        assert reading.ledger.blank_bytes == len(text)


def test_without_a_header_the_first_record_says_how_wide_the_text_is() -> None:
    dataset = delimited({"a": "int8", "b": "utf8"}, header=False)
    assert read(b"1,x\n2,y\n3\n", dataset).rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(_native.SourceError, match="has 3 cells") as caught:
        read(b"1,x,z\n", dataset)
    assert caught.value.code == "contract.drift"


LAYOUTS: dict[str, tuple[dict[str, Any], bytes]] = {
    "UTF-16 with a mark": ({"encoding": "utf-16le"}, "\ufeffa,b\nä,1\n".encode("utf-16-le")),
    "UTF-16, high byte first": ({"encoding": "utf-16be"}, "a,b\r\nä,1\r\n".encode("utf-16-be")),
    "code page": ({"encoding": "cp1252"}, "a,b\nä,1".encode("cp1252")),
    "Latin-1": ({"encoding": "latin-1"}, "a,b\rä,1\r".encode("latin-1")),
    "a mark": ({}, "\ufeffa,b\nä,1\n".encode()),
    "comments": ({"comment": "#"}, "# x,y\na,b\n#1\nä,1\n".encode()),
    "lines to skip": ({"skip_lines": 2}, 'made by "x\n\na,b\nä,1\n'.encode()),
    "several characters": ({"delimiter": "||"}, "a||b\nä||1\n".encode()),
    "no quotes": ({"quote": None, "escape": None, "delimiter": "\t"}, "a\tb\nä\t1\n".encode()),
    "another escape": ({"escape": "^", "quote": None}, "a,b\n^ä,1\n".encode()),
    "backslashes": ({"escape": "backslash"}, 'a,b\n"ä",1\n'.encode()),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_layout_gives_the_same_row_and_spans_that_tile_the_file(case: str) -> None:
    layout, text = LAYOUTS[case]
    reading = read(text, delimited({"a": "utf8", "b": "int8"}, **layout))
    assert reading.rows == [{"a": "ä", "b": 1}]
    assert reading.ledger.balanced
    assert sum(length for _, length in reading.spans) + reading.ledger.blank_bytes == len(text)


def test_a_null_spelt_with_the_escape_is_null() -> None:
    dataset = delimited({"a": {"type": "utf8", "null": ["\\N"]}, "b": "utf8"}, escape="backslash")
    assert read(b"a,b\n\\N,N\\,\n", dataset).rows == [{"a": None, "b": "N,"}]


NESTED = json_lines(
    {
        "id": {"type": "int64", "nullable": False},
        "who": {"type": "utf8", "source": ["user", "name"]},
        "tags": {"type": "list<utf8>"},
        "more": {"type": "utf8", "meaning": "json"},
        "time": {"type": "timestamp[ms, UTC]", "format": "epoch_ms"},
        "ok": "bool",
    }
)


def test_documents_become_rows_by_the_paths_of_their_values() -> None:
    text = (
        '{"id": 1, "user": {"name": "\\u00e4\\ud83d\\ude00"}, "tags": ["x", null, "y"], '
        '"more": {"a": [1, {"b": 2}]}, "time": 1700000000000, "ok": true}\r\n\n{"id":2,"user":null,"tags":[],"more":"s"}'
    )
    reading = read(text.encode(), NESTED)
    assert reading.rows == [
        {
            "id": 1,
            "who": "ä😀",
            "tags": ["x", None, "y"],
            "more": '{"a": [1, {"b": 2}]}',
            "time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            "ok": True,
        },
        {"id": 2, "who": None, "tags": [], "more": '"s"', "time": None, "ok": None},
    ]
    assert reading.ledger.balanced
    assert reading.ledger.blank_units == 1


BAD_LINES = {
    "a key twice": (b'{"id":1,"id":2}', "json.duplicate_key"),
    "NaN": (b'{"id":NaN}', "json.syntax"),
    "a lone surrogate": (b'{"id":1,"user":{"name":"\\ud800"}}', "json.syntax"),
    "two documents": (b'{"id":1}{"id":2}', "json.syntax"),
    "too deep": (b'{"id":1,"more":' + b"[" * 100 + b"]" * 100 + b"}", "json.depth"),
    "no object": (b"[1]", "json.not_object"),
    "half a document": (b'{"id":', "json.syntax"),
    "no UTF-8": (b'{"id":1,"more":"\xff"}', "text.encoding"),
    "text for a number": (b'{"id":"1"}', "contract.type"),
    "a number for text": (b'{"id":1,"user":{"name":5}}', "contract.type"),
    "a number with a fraction": (b'{"id":1.5}', "contract.type"),
    "a value where keys are known": (b'{"id":1,"user":"x"}', "contract.type"),
    "an item of another type": (b'{"id":1,"tags":["x",1]}', "contract.type"),
    "no list": (b'{"id":1,"tags":"x"}', "contract.type"),
    "zeroed bytes": (b'{"id":1,\0\0\0}', "json.syntax"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_document_of_the_contract_is_set_aside_alone(case: str) -> None:
    line, reason = BAD_LINES[case]
    good = b'{"id":1,"tags":["x"],"more":[1],"user":{"name":"n"}}\n'
    reading = read(good + line + b"\n" + good, NESTED)
    assert len(reading.rows) == 2
    [aside] = reading.quarantine
    assert aside["reason"] == reason
    assert (aside["@offset"], aside["@length"]) == (len(good), len(line) + 1)
    assert reading.ledger.balanced


def test_other_keys_stop_the_source_with_all_that_is_other() -> None:
    text = b'{"id":1}\n{"id":2,"user":{"nick":"x"},"at":5}\n{"ident":3}\n'
    with pytest.raises(_native.SourceError) as caught:
        read(text, NESTED)
    assert caught.value.code == "contract.drift"
    assert caught.value.offset == len(b'{"id":1}\n')
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  + `at` is new: a number, in 1 of 3 lines, first in number 2",
        "  + `ident` is new: a number, in 1 of 3 lines, first in number 3",
        "  + `user.nick` is new: text, in 1 of 3 lines, first in number 2",
        "  - `id` is missing in 1 of 3 lines, first in number 3",
    ]


@pytest.mark.parametrize("text", [b'{\n"id": 1\n}\n', b'[{"id":1},\n{"id":2}]\n'])
def test_json_that_is_not_in_lines_says_so(text: bytes) -> None:
    reading = read(text, NESTED)
    assert reading.rows == []
    assert any("JSON" in row["message"] or "object" in row["message"] for row in reading.quarantine)
    assert reading.ledger.balanced


def test_a_document_of_a_contract_that_cannot_be_followed_is_refused() -> None:
    for document in (
        "",
        "{}",
        '{"schema_version":1,"parser":"x"}',
        TYPED.replace("int32", "int33"),
    ):
        with pytest.raises(_native.SourceError) as caught:
            read_raw(document)
        assert caught.value.code == "contract.document"


def read_raw(document: str) -> None:
    """Open a text with a document that nobody has looked at."""
    import os

    descriptor = os.memfd_create("text")
    try:
        list(_native.TextReader(descriptor, 0, document))
    finally:
        os.close(descriptor)
