"""JSON Lines under contract: inferred, promoted, read, drifted, amended; only what must run again does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.datasets import EVENTS, document
from tests.support.contract_case import ContractCase

TABLE = "events"


@pytest.fixture
def case(tmp_path: Path) -> Iterator[ContractCase]:
    made = ContractCase(tmp_path, table=TABLE)
    yield made
    made.stop()


def log(number: int, *, rows: int = 3, **more: Any) -> bytes:
    """One file of the application; `more` are keys that a later version of it writes."""
    lines = [
        {
            "id": number * 100 + row,
            "time": f"2026-03-0{row + 1}T10:00:{number:02}Z",
            "user": {"name": f"u{row}", "groups": ["staff", "ops"][: row + 1][:2]},
            **more,
        }
        for row in range(rows)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def promote_what_is_inferred(case: ContractCase) -> None:
    """Infer from all evidence, and promote just that."""
    path = case.directory / "inferred.json"
    found = case.json("contract", "infer", str(case.evidence), "--table", TABLE, "-o", str(path))
    types = {column["name"]: column["type"] for column in found["proposal"]["columns"]}
    assert types == {
        "id": "int64",
        "time": "timestamp[ns, UTC]",
        "user_name": "utf8",
        "user_groups": "list<utf8>",
    }
    assert case.decided("promote", str(path))["state"] == "accepted"


def test_lines_of_json_are_inferred_promoted_read_and_queried(case: ContractCase) -> None:
    for number in range(3):
        case.file(f"app-{number}.jsonl", log(number))
    promote_what_is_inferred(case)
    result = case.run()
    assert result["files"]["selected"] == 3
    assert result["ledger"]["balanced"]
    ((count, lowest, highest, names),) = case.query(
        f"SELECT count(*), min(id), max(id), count(DISTINCT user_name) FROM {TABLE}"
    )
    assert [int(value) for value in (count, lowest, highest, names)] == [9, 0, 202, 3]
    ((hour, groups),) = case.query(
        f"SELECT hour(time::TIMESTAMPTZ), len(user_groups) FROM {TABLE} WHERE id = 201"
    )
    assert (int(hour), int(groups)) == (10, 2)
    assert case.run()["reasons"] == {"done": 3}


def test_a_new_key_is_a_hard_stop_and_after_the_amendment_only_the_drifted_files_run(
    case: ContractCase,
) -> None:
    for number in range(6):
        case.file(f"app-{number}.jsonl", log(number))
    promote_what_is_inferred(case)
    case.run()

    drifted = [case.file(f"app-{n}.jsonl", log(n, host=f"h{n}")) for n in (6, 7)]
    second = case.run(code=None)
    assert second["files"]["failed"] == 2
    assert {problem["code"] for problem in second["problems"]} == {"contract.drift"}
    assert "host" in second["problems"][0]["message"]
    assert case.rows_of(TABLE) == 18, "nothing of a file that has drifted is there"
    assert case.run(code=None)["reasons"] == {"done": 6, "failed_before": 2}

    assert case.amend_from(TABLE, *drifted)["state"] == "accepted"
    third = case.run()
    assert third["reasons"] == {"done": 6, "new": 2}
    counted = case.query(
        f"SELECT count(*), count(host), count(DISTINCT _cf_source_path) FROM {TABLE}"
    )
    assert [int(value) for value in counted[0]] == [24, 6, 8]
    for path in ("app-1.jsonl", "app-7.jsonl"):
        ((row,),) = case.query(
            f"SELECT min(_cf_row_id) FROM {TABLE} WHERE _cf_source_path = '{path}'"
        )
        why = case.json("why", str(row))
        assert why["proven"], why
    case.assert_history(TABLE, "none", "none")


def test_a_key_that_is_gone_and_one_that_was_renamed_are_named_in_the_difference(
    case: ContractCase,
) -> None:
    def required(values: dict[str, Any]) -> None:
        for column in values["columns"]:
            column["nullable"] = False

    case.promote(document(required, base=EVENTS))
    case.file("old.jsonl", b'{"id": 1, "user": {"name": "root"}}\n')
    case.file("new.jsonl", b'{"id": 2, "user": {"user_name": "root"}}\n{"id": 3, "user": {}}\n')
    result = case.run(code=None)
    assert result["files"]["failed"] == 1
    (problem,) = result["problems"]
    assert problem["code"] == "contract.drift"
    assert "user.name" in problem["message"]
    assert "user.user_name" in problem["message"]
    assert case.column(f"SELECT user_name FROM {TABLE}") == ["root"]


def test_a_line_that_does_not_fit_is_set_aside_and_the_others_are_rows(case: ContractCase) -> None:
    case.promote(document(base=EVENTS))
    case.file(
        "app.jsonl",
        b'{"id": 1, "user": {"name": "a"}}\n{"id": "2", "user": {"name": "b"}}\n{"id": 3,\n[4]\n',
    )
    result = case.run(code=None)
    assert result["quarantine"]["rows"] == 3
    assert result["ledger"]["balanced"]
    assert sorted(case.column("SELECT reason FROM quarantine")) == [
        "contract.type",
        "json.not_object",
        "json.syntax",
    ]
    assert case.rows_of(TABLE) == 1
