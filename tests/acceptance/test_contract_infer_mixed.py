"""Inference pointed at a folder as it is: other files than tables, and lines above a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from casparian.guest.kinds import kind_of
from tests.support.contract_case import ContractCase

if TYPE_CHECKING:
    from conftest import Casparian

TABLE = b"name,n\nx,1\ny,2\n"
LINES = b'{"id": 1}\n{"id": 2}\n'
W3C = (
    b"#Software: a web server\n#Fields: date time c-ip sc-status\n"
    b"2026-03-01 10:00:00 10.0.0.1 200\n2026-03-01 10:00:01 10.0.0.2 404\n"
)


def infer(casparian: Casparian, *arguments: object, code: int = 5) -> dict[str, Any]:
    document: dict[str, Any] = casparian.json(
        "contract", "infer", *arguments, "--table", "app", code=code
    )
    return document


def said(casparian: Casparian, *arguments: object) -> str:
    return str(casparian("contract", "infer", *arguments, "--table", "app", code=5).out)


def test_the_file_that_no_delimiter_parts_is_named(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n3,4,5\n6,7\n")
    found = infer(casparian, path)
    assert found["file"].endswith("odd.csv")
    assert "casparian parser new NAME" in [hint["command"] for hint in found["hints"]]
    text = said(casparian, path)
    assert "odd.csv into as many cells" in text
    assert "the first file" not in text


def test_of_a_mixed_folder_each_kind_is_listed_with_the_command_that_takes_it(
    casparian: Casparian, tmp_path: Path
) -> None:
    for name, content in (
        ("a.csv", TABLE),
        ("b.log", LINES),
        ("c.evtx", b"ElfFile\0" + bytes(64)),
        ("d.gz", b"\x1f\x8b\x08" + bytes(64)),
    ):
        (tmp_path / name).write_bytes(content)
    found = infer(casparian, tmp_path)
    kinds = {kind["kind"]: [Path(name).name for name in kind["names"]] for kind in found["kinds"]}
    assert kinds == {
        "text": ["a.csv"],
        "jsonl": ["b.log"],
        "evtx": ["c.evtx"],
        "compressed": ["d.gz"],
    }
    against = found["dialect"]["contradiction"]
    assert (Path(against["file"]).name, against["why"]) == ("b.log", "it is JSON Lines")
    commands = [hint["command"] for hint in found["hints"]]
    lines = f"casparian contract infer {tmp_path}/b.log --table app"
    assert lines in commands
    assert f"casparian run {tmp_path}" in commands
    # What is suggested does it.
    assert infer(casparian, tmp_path / "b.log", code=0)["complete"]
    text = said(casparian, tmp_path)
    assert "b.log" in text
    assert "JSON Lines" in text


def test_a_first_file_that_is_no_text_is_the_answer(casparian: Casparian, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "b.csv").write_bytes(TABLE)
    found = infer(casparian, tmp_path)
    assert found["dialect"]["form"] == "binary"
    assert "a.bin is no table of text: it is binary" in said(casparian, tmp_path)
    (tmp_path / "a.bin").write_bytes(b'[\n  {"id": 1}\n]\n')
    assert infer(casparian, tmp_path)["dialect"]["form"] == "json"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TABLE, "text"),
        (LINES, "jsonl"),
        ("name,n\nä,1\n".encode("utf-16"), "text"),
        ("name,n\nx,1\n".encode("utf-16-le"), "text"),
        (TABLE * 200 + bytes(4096), "text"),  # zeroed behind its end, as a crash leaves a file
        (b'{"id": "' + b"x" * (2 << 20) + b'"}\n', "text"),  # its first line is beyond what is looked at
        (b"{a,b}\n{1,2}\n", "text"),
        (b'{\n  "id": 1\n}\n', "json"),
        (b"\0\0\0\1" * 64, "binary"),
        (b"<?xml version='1.0'?><a/>", "xml"),
        (b"PK\x03\x04", "archive"),
        (b"", "text"),
    ],
)  # fmt: skip
def test_kinds_are_told_by_the_first_bytes(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert kind_of(file.fileno(), len(content)) == kind


def test_comments_and_a_title_are_found_where_they_are_evident(
    casparian: Casparian, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"# made by x\n# on a day, late\n" + TABLE)
    layout = infer(casparian, path, code=0)["proposal"]["layout"]
    assert (layout["comment"], layout["skip_lines"]) == ("#", 0)
    path.write_bytes(b"Report of a day\n\n" + TABLE)
    layout = infer(casparian, path, code=0)["proposal"]["layout"]
    assert (layout["comment"], layout["skip_lines"]) == (None, 1)
    shown = casparian("contract", "infer", path, "--table", "app").out
    assert "the first 1 line stand" in shown


def test_a_header_that_may_be_a_comment_is_asked_about(
    casparian: Casparian, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"#" + TABLE)
    left = infer(casparian, path)["dialect"]["options"]
    assert [(one["comment"], one["header"]) for one in left] == [(None, True), ("#", False)]
    text = said(casparian, path)
    assert "--comment none" in text
    assert "--comment '#'" in text
    header = infer(casparian, path, "--comment", "none", code=0)["proposal"]["layout"]
    assert header["headers"] == [["#name", "n"]]
    rows = infer(casparian, path, "--comment", "#", "--no-header", code=0)
    assert (rows["rows"], rows["proposal"]["layout"]["comment"]) == (2, "#")


@pytest.fixture
def case(tmp_path: Path) -> Iterator[ContractCase]:
    made = ContractCase(tmp_path, table="web")
    yield made
    made.stop()


def test_a_w3c_log_is_inferred_promoted_and_read_and_other_fields_are_drift(
    case: ContractCase,
) -> None:
    case.file("u_ex1.log", W3C)
    proposed = case.directory / "web.json"
    case.json("contract", "infer", str(case.evidence), "--table", "web", "-o", str(proposed))
    assert case.decided("promote", str(proposed))["state"] == "accepted"
    case.run()
    names = "date, time, c_ip, sc_status"
    (first,) = case.query(f"SELECT {names} FROM web ORDER BY time LIMIT 1")
    assert [str(value) for value in first] == ["2026-03-01", "10:00:00.000000", "10.0.0.1", "200"]
    assert case.column("SELECT typeof(time) FROM web LIMIT 1") == ["TIME"]

    swapped = W3C.replace(b"date time c-ip sc-status", b"date time sc-status c-ip")
    case.file("u_ex2.log", swapped)
    drifted = case.run(code=None)
    assert drifted["files"]["failed"] == 1
    (problem,) = drifted["problems"]
    assert problem["code"] == "contract.drift"
    assert "moved" in problem["message"]
    assert case.rows_of("web") == 2
