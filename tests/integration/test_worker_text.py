"""Texts under contract in the worker: the same confined guests, contract and ledger as every parser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from casparian.cli.main import run
from casparian.contracts.dataset import read_dataset
from casparian.control import parser_test
from casparian.control.parser_test import run_test, settings_from_files
from casparian.errors import ContractError, SourceFault, UsageError
from casparian.paths import first_party_parsers
from casparian.trust.library import load_parser
from tests.factories.text import TABLE, delimited, json_lines

CSV = delimited(
    {
        "time": {"type": "timestamp[us, UTC]", "format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"},
        "n": {"type": "int64", "minimum": 0},
        "text": {"type": "utf8", "allowed": ["a", "b\nc"], "null": ["-"]},
    }
)
LINES = json_lines(
    {
        "id": {"type": "int64", "nullable": False},
        "name": {"type": "utf8", "source": ["user", "name"]},
    }
)
Tested = Callable[..., parser_test.TestReport]


@pytest.fixture
def tested(tmp_path: Path) -> Tested:
    """Run a parser of text over files of these bytes."""

    def run(dataset: str, *texts: bytes) -> parser_test.TestReport:
        artifact = load_parser(first_party_parsers() / read_dataset(dataset).parser)
        files = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.txt"
            path.write_bytes(text)
            files.append(str(path))
        return run_test(artifact, files, {"dataset": dataset})

    return run


def test_records_types_constraints_and_drift_in_one_job(tested: Tested) -> None:
    at = b"2024-01-02 03:04:05"
    records = [b"1,a", b"-1,a", b"x,a", b'2,"b\nc"']
    good = b"time,n,text\r\n\r\n" + b"".join(at + b"," + one + b"\r\n" for one in records)
    report = tested(CSV, good, b"time,n,text,more\n1,2,3,4\n")
    first, second = report.sources
    assert (first.code, first.rows, first.quarantined) == (None, {TABLE: 2}, 2)
    assert first.ledger is not None
    assert first.ledger["balanced"]
    assert (first.ledger["unit"], first.ledger["present"], first.ledger["blank_units"]) == (
        "record",
        4,
        2,
    )
    assert second.code == "contract.drift"
    assert "+ `more` is new (cell 4)" in second.message
    assert sorted(row["reason"] for row in report.quarantine) == ["contract.range", "contract.type"]
    assert report.deterministic
    [table] = report.tables
    assert [row["text"] for row in table.sample] == ["a", "b\nc"]


def test_the_bytes_of_a_record_that_was_set_aside_are_kept(tested: Tested) -> None:
    report = tested(CSV, b'time,n,text\n2024-01-02 03:04:05,1,"a\n2024-01-02 03:04:05,1,a\n')
    [aside] = report.quarantine
    assert aside["reason"] == "text.quote"
    assert aside["_cf_offset"] == len("time,n,text\n")
    assert report.sources[0].rows == {TABLE: 1}


def test_lines_of_json_in_a_job(tested: Tested) -> None:
    report = tested(
        LINES,
        b'{"id":1,"user":{"name":"x"}}\n\n{"id":1,"id":2}\n{"id":null}\n',
        b'{"id":1}\n{"ID":1}\n',
    )
    first, second = report.sources
    assert (first.code, first.rows, first.quarantined) == (None, {TABLE: 1}, 2)
    assert first.ledger is not None
    assert first.ledger["balanced"]
    assert sorted(row["reason"] for row in report.quarantine) == [
        "contract.null",
        "json.duplicate_key",
    ]
    assert second.code == "contract.drift"
    assert "`ID` is new" in second.message
    assert "`id` is missing in 1 of 2 lines" in second.message


def test_a_parser_of_text_without_a_contract_of_its_own_says_what_it_needs(tmp_path: Path) -> None:
    artifact = load_parser(first_party_parsers() / "text.delimited")
    with pytest.raises(UsageError, match="none is given") as caught:
        run_test(artifact, [str(tmp_path)], {})
    assert "dataset=@FILE" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=r"`text\.jsonl`"):
        run_test(artifact, [str(tmp_path)], {"dataset": LINES})
    with pytest.raises(ContractError):
        run_test(artifact, [str(tmp_path)], {"dataset": "{"})


def test_a_setting_is_taken_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c=@.json"
    path.write_text('{"a": 1}')
    rest, texts = settings_from_files([f"dataset=@{path}", "zone=UTC", "to=a=@b"])
    assert (rest, texts) == (["zone=UTC", "to=a=@b"], {"dataset": '{"a": 1}'})
    with pytest.raises(SourceFault):
        settings_from_files([f"dataset=@{tmp_path}/none"])
    path.write_bytes(b"\xff")
    with pytest.raises(SourceFault, match="UTF-8"):
        settings_from_files([f"dataset=@{path}"])


def test_the_command_reads_the_contract_from_a_file(tmp_path: Path, capfd: Any) -> None:
    contract, file = tmp_path / "contract.json", tmp_path / "a.csv"
    contract.write_text(CSV)
    file.write_bytes(b"time,n,text\n2024-01-02 03:04:05,7,-\n")
    arguments = ["--home", str(tmp_path / "home"), "--json", "--set", f"dataset=@{contract}"]
    code = run(["parser", "test", *arguments, "text.delimited", str(file)])
    document = json.loads(capfd.readouterr().out)
    assert code == 0
    assert document["passed"]
    assert document["tables"][0]["sample"][0]["n"] == 7
