"""From unknown files to a proposed contract that reads them: read by a confined guest, with questions where files do not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from casparian.control.infer import files_below, run_inference

if TYPE_CHECKING:
    from conftest import Casparian  # folders of tests have one each: only its type is meant

ROWS = [
    ("2024-03-01 10:00:00", "10.0.0.1", "5", "INFO", "1.25", '"said ""no"", left"'),
    ("2024-03-01 10:00:01", "10.0.0.2", "-", "WARN", "0.50", "plain"),
    ("2024-03-01 10:00:02", "10.0.0.3", "70000", "INFO", "12.00", ""),
]
HEADER = "time,src,n,level,cost,text"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(2):
        lines = [HEADER, *(",".join(row) for row in ROWS)]
        (folder / f"app{number}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_what_the_files_do_not_say_is_asked_and_nothing_is_proposed(
    casparian: Casparian, log: Path
) -> None:
    document = casparian.json("contract", "infer", log, "--table", "app", code=5)
    assert not document["complete"]
    assert document["proposal"] is None
    assert [(q["column"], q["kind"]) for q in document["questions"]] == [("time", "zone")]
    said = casparian("contract", "infer", log, "--table", "app", code=5).out
    assert "Europe/Berlin" in said


def test_the_proposed_contract_reads_the_files_that_it_came_from(
    casparian: Casparian, log: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "app.json"
    answered = ("--answer", "time=Europe/Berlin", "-o", contract)
    document = casparian.json("contract", "infer", log, "--table", "app", *answered)
    assert (document["complete"], document["rows"], document["faults"]) == (True, 6, 0)
    written = json.loads(contract.read_text())
    assert written == document["proposal"]
    assert written["match"] == ["*.csv"]
    types = {column["name"]: column["type"] for column in written["columns"]}
    assert types == {
        "time": "timestamp[ns, UTC]",
        "src": "utf8",
        "n": "int64",
        "level": "utf8",
        "cost": "decimal128(18, 2)",
        "text": "utf8",
    }
    again = casparian("contract", "infer", log, "--table", "app", *answered, code=2)
    assert "--force" in again.err
    report = casparian.json(
        "parser", "test", "text.delimited", log / "app0.csv", "--set", f"dataset=@{contract}"
    )
    (source,) = report["sources"]
    assert (source["rows"]["app"], source["quarantined"]) == (3, 0)
    (table,) = report["tables"]
    assert table["sample"][1]["n"] is None
    assert table["sample"][0]["time"].startswith("2024-03-01T09:00:00")


def test_evidence_names_value_file_and_row(casparian: Casparian, log: Path) -> None:
    document = casparian.json("contract", "infer", log, "--table", "app", "--explain", "n")
    witness = {
        name: (one["value"], Path(one["file"]).name, one["row"])
        for one in document["column"]["evidence"]
        for name in one["ruled_out"]
    }
    assert witness["int16"] == ("70000", "app0.csv", 2)
    assert witness["ipv4"] == ("5", "app0.csv", 0)


def test_delimiters_that_are_left_are_a_question(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("a;1,x\nb;2,y\n")
    document = casparian.json("contract", "infer", path, "--table", "app", code=5)
    left = {one["delimiter"] for one in document["dialect"]["options"]}
    assert left == {",", ";"}
    document = casparian.json(
        "contract", "infer", path, "--table", "app", "--delimiter", ";", "--no-header"
    )
    assert [column["name"] for column in document["columns"]] == ["c1", "c2"]


def infer(casparian: Casparian, *arguments: object, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = casparian.json(
        "contract", "infer", *arguments, "--table", "app", code=code
    )
    return document


def test_what_was_ruled_out_says_why_and_where(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n3,4,5\n6,7\n")
    dialect = infer(casparian, path, code=5)["dialect"]
    comma = next(one for one in dialect["ruled_out"] if one["delimiter"] == ",")
    assert (comma["why"], comma["record"], comma["offset"]) == (
        "the record has 3 cells, the first one 2",
        3,
        8,
    )
    said = casparian("contract", "infer", path, "--table", "app", code=5).out
    assert "the record has 3 cells, the first one 2 (record 3, byte 8)" in said
    as_it_is = infer(casparian, path, "--delimiter", ",", "--quote", '"')
    assert (as_it_is["rows"], as_it_is["faults"]) == (3, 1)


def test_comments_and_lines_above_are_left_out(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("Report, of, a day\n# n is a count\nname,n\nx,1\ny,2\n")
    document = infer(casparian, path, "--skip-lines", "1", "--comment", "#")
    assert document["rows"] == 2
    layout = document["proposal"]["layout"]
    assert (layout["skip_lines"], layout["comment"]) == (1, "#")
    assert layout["headers"] == [["name", "n"]]


def test_a_later_file_decides_what_the_first_leaves_open(
    casparian: Casparian, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("a;1,x\nb;2,y\n")
    assert infer(casparian, tmp_path, code=5)["dialect"]["layout"] is None
    (tmp_path / "b.csv").write_text("c;3,1,2\nd;4\n")
    document = infer(casparian, tmp_path, "--no-header")
    assert document["dialect"]["layout"]["delimiter"] == ";"
    assert (document["rows"], len(document["columns"])) == (4, 2)


def test_the_file_that_contradicts_the_dialect_is_named(
    casparian: Casparian, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("name,n\nx,1\n")
    second = tmp_path / "b.csv"
    for raw, why in (
        (b'name,n\n"x,1\n', "a quote is opened and not closed"),
        (b"name,n\n\xe4,1\n", "byte E4 at 7 is no UTF-8"),
        (b"y,1\nz,2\n", "cell 2 of the first record is `1`, a value and no name"),
    ):
        second.write_bytes(raw)
        document = infer(casparian, tmp_path, code=5)
        assert document["proposal"] is None
        against = document["dialect"]["contradiction"]
        assert (Path(against["file"]).name, against["why"]) == ("b.csv", why)
        assert why in casparian("contract", "infer", tmp_path, "--table", "app", code=5).out


def test_a_header_with_the_same_cell_twice_gives_rows(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("host,n,host\nx,1,y\nz,2,w\n")
    contract = tmp_path / "app.json"
    document = infer(casparian, path, "-o", contract)
    assert [column["source"] for column in document["columns"]] == ["host", "n", "host#2"]
    report = casparian.json(
        "parser", "test", "text.delimited", path, "--set", f"dataset=@{contract}"
    )
    (table,) = report["tables"]
    assert [(row["host"], row["n"], row["host_2"]) for row in table["sample"]] == [
        ("x", 1, "y"),
        ("z", 2, "w"),
    ]


def test_progress_says_the_bytes_that_are_read(tmp_path: Path) -> None:
    sizes = []
    for number in range(3):
        path = tmp_path / f"{number}.csv"
        path.write_text("name,n\n" + "x,1\n" * (number + 1))
        sizes.append(path.stat().st_size)
    said: list[tuple[int, int]] = []
    files = files_below([str(tmp_path)])
    run_inference(files, {}, report=lambda done, total: said.append((done, total)))
    assert said == sorted(said)
    assert said[-1] == (sum(sizes), sum(sizes))


def test_lines_of_json_are_recognised(casparian: Casparian, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"at": 1.5, "who": {"id": 7}}\n{"at": 2.25, "who": {"id": 8}, "ok": true}\n')
    contract = tmp_path / "log.json"
    document = casparian.json("contract", "infer", path, "--table", "app", "-o", contract)
    types = {column["name"]: column["type"] for column in document["proposal"]["columns"]}
    assert types == {"at": "float64", "ok": "bool", "who_id": "int64"}
    report = casparian.json("parser", "test", "text.jsonl", path, "--set", f"dataset=@{contract}")
    assert report["sources"][0]["rows"]["app"] == 2
    assert report["sources"][0]["quarantined"] == 0


def test_paths_without_a_file_are_refused(casparian: Casparian, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    casparian("contract", "infer", tmp_path / "none.csv", "--table", "app", code=None)
    refused = casparian("contract", "infer", tmp_path, "--table", "app", code=2)
    assert "0 files" in refused.err
