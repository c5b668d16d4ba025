"""A table under contract: promoted, drifted, amended; only what must run again does, and old rows stay provable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from casparian.control import autostart
from casparian.control.client import Client
from casparian.paths import Home
from casparian.trust.policy import ExaminerRole
from tests.factories.datasets import FIREWALL, as_bytes, document, with_user
from tests.factories.laboratory import Laboratory, import_trust
from tests.factories.trust import QUICK
from tests.support.world import World

PASSPHRASE = "correct horse"


class Case(World):
    """A home whose lead examiner, Alice, decides about contracts of the firewall alone."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        laboratory = Laboratory(directory)
        self.key = directory / "alice.key"
        self.passphrase = directory / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")
        self.passphrase.chmod(0o600)
        laboratory.alice.write(self.key, PASSPHRASE, kdf=QUICK)
        self.stranger = directory / "eve.key"
        laboratory.eve.write(self.stranger, PASSPHRASE, kdf=QUICK)
        role = ExaminerRole(
            name="lead examiner",
            keyids=(laboratory.alice.public.keyid,),
            threshold=1,
            paths=("contracts/firewall",),
        )
        with self.client() as client:
            import_trust(
                client,
                laboratory.policy(roles=(role,)),
                laboratory.root,
                fingerprint=laboratory.fingerprint,
            )

    @contextmanager
    def client(self) -> Iterator[Client]:
        with autostart.connect(Home.at(self.home), workers=1, notice=lambda _: None) as client:
            yield client

    def document(self, values: dict[str, Any]) -> str:
        """A document as a file; each gets a name of its own."""
        number = len(list(self.directory.glob("contract-*.json")))
        path = self.directory / f"contract-{number}.json"
        path.write_bytes(as_bytes(values))
        return str(path)

    def decided(self, *arguments: str, key: Path | None = None, code: int | None = 0) -> Any:
        """A command that proposes, decided at once."""
        return self.json(
            "contract",
            *arguments,
            *("--key", str(key or self.key), "--passphrase-file", str(self.passphrase)),
            *("--reason", "seen and compared"),
            code=code,
        )

    def promote(self, values: dict[str, Any]) -> Any:
        return self.decided("promote", self.document(values))

    def amend(self, values: dict[str, Any]) -> Any:
        return self.decided("amend", "firewall", "--file", self.document(values))


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


def rows_of(case: Case, table: str = "firewall") -> int:
    ((count,),) = case.query(f"SELECT count(*) FROM {table}")
    return int(count)


def test_drift_is_a_hard_stop_and_after_the_amendment_only_the_drifted_files_run(
    case: Case,
) -> None:
    for number in range(20):
        case.file(f"fw-{number:02}.csv", log(number))
    assert case.promote(document())["state"] == "accepted"
    first = case.run()
    assert first["files"]["selected"] == 20
    assert rows_of(case) == 60

    for number in range(20, 25):
        case.file(f"fw-{number:02}.csv", log(number, user="root"))
    second = case.run(code=None)
    assert second["files"]["failed"] == 5
    assert {problem["code"] for problem in second["problems"]} == {"contract.drift"}
    assert "user" in second["problems"][0]["message"]
    assert rows_of(case) == 60, "nothing of a file that has drifted is there"

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

    history = case.json("contract", "history", "firewall")["revisions"]
    assert [(r["revision"], r["effect"]) for r in history] == [(1, "none"), (2, "none")]
    for revision in history:
        (vote,) = revision["decisions"]
        assert (vote["holders"], vote["reason"]) == (["alice"], "seen and compared")
        assert vote["keyids"]


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
    assert rows_of(case, "firewall__all") == 18
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
