"""A table under contract: promoted, drifted, amended; only what must run again does, and old rows stay provable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.datasets import FIREWALL, document, with_user
from tests.support.contract_case import ContractCase as Case


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.stop()


def log(number: int, *, user: str | None = None, rows: int = 3) -> bytes:
    """One file of the application; its second version has a column more."""
    head = "time,src,n" + (",user" if user else "")
    lines = [
        f"2026-03-0{row + 1} 10:00:{number:02},10.0.0.{number},{row}" + (f",{user}" if user else "")
        for row in range(rows)
    ]
    return ("\n".join([head, *lines]) + "\n").encode()


def test_drift_is_a_hard_stop_and_after_the_amendment_only_the_drifted_files_run(
    case: Case,
) -> None:
    for number in range(20):
        case.file(f"fw-{number:02}.csv", log(number))
    assert case.promote(document())["state"] == "accepted"
    first = case.run()
    assert first["files"]["selected"] == 20
    assert case.rows_of("firewall") == 60

    for number in range(20, 25):
        case.file(f"fw-{number:02}.csv", log(number, user="root"))
    second = case.run(code=None)
    assert second["files"]["failed"] == 5
    assert {problem["code"] for problem in second["problems"]} == {"contract.drift"}
    assert "user" in second["problems"][0]["message"]
    assert case.rows_of("firewall") == 60, "nothing of a file that has drifted is there"

    again = case.run(code=None)
    assert again["reasons"] == {"done": 20, "failed_before": 5}

    shown = case.json("contract", "diff", "firewall", "--file", case.document(document(with_user)))
    assert shown["compatible"]
    done = case.amend(document(with_user))
    assert done["state"] == "accepted"
    third = case.run()
    assert third["files"]["selected"] == 5
    assert third["reasons"] == {"done": 20, "new": 5}
    explained = case.json("explain", "fw-00.csv")["decisions"][0]
    assert "recorded under revision 1, which gives the same rows" in explained["detail"]

    counted = case.query(
        'SELECT count(*), count("user"), count(DISTINCT _cf_source_path) FROM firewall'
    )
    assert [int(value) for value in counted[0]] == [75, 15, 25]
    for path in ("fw-03.csv", "fw-22.csv"):
        ((row_id,),) = case.query(
            f"SELECT _cf_row_id FROM firewall WHERE _cf_source_path = '{path}' AND n = 1"
        )
        why = case.json("why", str(row_id))
        assert why["proven"], why

    case.assert_history("firewall", "none", "none")


def test_after_a_breaking_amendment_every_file_runs_and_old_rows_stay_provable(case: Case) -> None:
    for number in range(3):
        case.file(f"fw-{number:02}.csv", log(number))
    case.promote(document())
    case.run()
    ((old,),) = case.query("SELECT min(_cf_row_id) FROM firewall")

    def in_berlin(values: dict[str, Any]) -> None:
        values["columns"][0]["zone"] = "Europe/Berlin"

    assert case.amend(document(in_berlin))["state"] == "accepted"
    result = case.run()
    assert result["files"]["selected"] == 3
    times = case.query("SELECT DISTINCT hour(time::TIMESTAMP) FROM firewall")
    assert [int(hour) for (hour,) in times] == [9]
    assert case.rows_of("firewall__all") == 18
    why = case.json("why", str(old))
    assert why["proven"], why


def test_nobody_without_a_say_gets_a_contract_into_force(case: Case) -> None:
    case.file("fw-1.csv", log(1))
    waiting = case.json("contract", "promote", case.document(document()))
    assert waiting["state"] == "pending"
    refused = case.decided("promote", case.document(document()), key=case.stranger, code=None)
    assert refused["error"]["code"].startswith("trust.")
    other = case.document(document(lambda v: v.update(table="other")))
    refused = case.decided("promote", other, code=None)
    assert refused["error"]["code"].startswith("trust.")
    assert case.json("contract", "list")["datasets"] == []
    assert case.run(code=None)["files"]["unmatched"] == 1


def test_a_contract_goes_out_and_comes_back_as_a_standard_document(case: Case) -> None:
    case.promote(document())
    file = case.directory / "firewall.odcs.yaml"
    case.json("contract", "export", "firewall", "--odcs", "-o", str(file))
    again = case.decided("import", str(file), code=None)
    assert again["error"]["code"] == "contract.unchanged"
    file.write_text(file.read_text().replace("physicalType: int32", "physicalType: int64"))
    assert case.decided("import", str(file))["state"] == "accepted"
    shown = case.json("contract", "show", "firewall")
    assert (shown["revision"], shown["effect"]) == (2, "relaxes")
    assert shown["document"]["columns"][2]["type"] == "int64"
    ours = case.json("contract", "export", "firewall", "--revision", "1")
    assert json.loads(ours["text"])["columns"][2]["type"] == "int32"


def test_a_value_that_does_not_fit_is_set_aside_and_read_again_when_a_revision_may_accept_it(
    case: Case,
) -> None:
    case.file("fw-1.csv", log(1) + b"2026-03-09 10:00:00,10.0.0.9,3000000000\n")
    case.file("fw-2.csv", log(2))
    case.promote(document())
    first = case.run(code=None)
    assert first["quarantine"]["rows"] == 1
    (aside,) = case.query("SELECT reason, field FROM quarantine")
    assert aside == ["contract.type", "n"]

    def wider(values: dict[str, Any]) -> None:
        values["columns"][2]["type"] = "int64"

    case.amend(document(wider))
    second = case.run()
    assert second["reasons"] == {"contract_changed": 1, "done": 1}
    (row,) = case.query("SELECT count(*), max(n) FROM firewall")
    assert [int(value) for value in row] == [7, 3000000000]


def test_a_repeated_value_of_a_unique_column_is_set_aside(case: Case) -> None:
    case.file("fw-1.csv", log(1) + b"2026-03-09 10:00:00,10.0.0.9,2\n")
    case.file("fw-2.csv", log(2))

    def unique(values: dict[str, Any]) -> None:
        values["columns"][2]["unique"] = True

    case.promote(document(unique))
    result = case.run(code=None)
    assert result["quarantine"]["rows"] == 1
    (aside,) = case.query("SELECT reason, field, message FROM quarantine")
    assert aside[:2] == ["contract.unique", "n"]
    assert result["ledger"]["balanced"]


def test_an_amendment_is_built_from_the_files_that_drifted(case: Case) -> None:
    case.file("fw-1.csv", log(1))
    case.promote(document())
    case.run()
    drifted = case.file("fw-2.csv", log(2, user="root"))
    case.run(code=None)
    shown = case.json("contract", "amend", "firewall", "--from", str(drifted), "--dry-run")
    assert any("column.added `user`: none" in line for line in shown["diff"])
    assert case.decided("amend", "firewall", "--from", str(drifted))["state"] == "accepted"
    assert case.run()["reasons"] == {"done": 1, "new": 1}
    assert case.query('SELECT DISTINCT "user" FROM firewall WHERE "user" IS NOT NULL') == [["root"]]
    again = case.json("contract", "amend", "firewall", "--from", str(drifted), code=5)
    assert again["error"]["code"] == "contract.unchanged"


def test_commands_about_contracts_are_readable(case: Case) -> None:
    case.promote(document())
    for arguments in (
        ("list",),
        ("show", "firewall"),
        ("history", "firewall"),
        ("export", "firewall"),
    ):
        done = case.call("contract", *arguments)
        assert done.returncode == 0, done.stderr
        assert "firewall" in done.stdout
    assert case.json("contract", "show", "nothing", code=2)["error"]["code"] == "contract.unknown"
    assert FIREWALL["table"] in case.call("contract", "show", "nothing").stderr


def test_a_header_with_the_same_cell_twice_is_inferred_promoted_and_read(case: Case) -> None:
    """The second cell of one name is a column of its own, whatever order a later version has them in."""
    for number in range(2):
        case.file(f"fw-{number}.csv", f"host,n,host\na{number},{number + 5},b{number}\n".encode())
    proposed = case.directory / "proposed.json"
    case.json("contract", "infer", str(case.evidence), "--table", "firewall", "-o", str(proposed))
    assert case.decided("promote", str(proposed))["state"] == "accepted"
    assert case.run()["files"]["selected"] == 2
    rows = case.query("SELECT host, n, host_2 FROM firewall ORDER BY n")
    assert [[str(value) for value in row] for row in rows] == [["a0", "5", "b0"], ["a1", "6", "b1"]]
    ((row_id,),) = case.query("SELECT _cf_row_id FROM firewall WHERE host_2 = 'b1'")
    assert case.json("why", str(row_id))["proven"]

    case.file("fw-2.csv", b"host,host,n\nx,y,7\n")
    drifted = case.run(code=None)
    assert drifted["files"]["failed"] == 1
    assert "moved" in drifted["problems"][0]["message"]
    assert case.amend_from("firewall", case.evidence / "fw-2.csv")["state"] == "accepted"
    assert case.run()["reasons"] == {"done": 2, "new": 1}
    assert [
        str(value)
        for value in case.query("SELECT host, n, host_2 FROM firewall WHERE host = 'x'")[0]
    ] == ["x", "7", "y"]
