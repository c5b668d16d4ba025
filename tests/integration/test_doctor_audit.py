"""The control database against itself: broken in one place at a time, and the rule that says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casparian.db import audit as audit_module
from casparian.db.audit import RULES, Finding, audit
from casparian.db.connection import ControlDatabase
from casparian.db.operations import RemoveIntents
from casparian.db.writer import DatabaseWriter
from casparian.paths import Home
from tests.factories.control import JOB, PATH, commit_one


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ControlDatabase]:
    home = Home.at(tmp_path)
    home.run.mkdir()
    with ControlDatabase(home) as opened:
        commit_one(opened)
        yield opened


def findings(database: ControlDatabase, *, at_rest: bool = True) -> dict[str, Finding]:
    found = audit(database.reader(), schema=1, live=frozenset(), at_rest=at_rest)
    return {finding.check: finding for finding in found}


def bad(database: ControlDatabase) -> set[str]:
    return {name for name, finding in findings(database).items() if finding.status != "ok"}


DAMAGE = {
    "intents": "INSERT INTO cf_commit_intents VALUES (99, 1, 'x'::BLOB)",
    "approvals": "INSERT INTO cf_parser_limits VALUES ('windows.evtx', 'memory_mb', 4096, 'k7m2q9xd', 'me', 1)",
    "commits": "UPDATE cf_processing_queue SET state = 'committing'",
    "jobs": "UPDATE cf_processing_queue SET state = 'queued'",
    "materializations": "UPDATE cf_processing_queue SET state = 'aborted'",
    "keys": "INSERT INTO cf_materializations SELECT * FROM cf_materializations",
    "outputs of rows": "UPDATE cf_outputs SET removed_at_ns = 1",
    "rows of outputs": "UPDATE cf_outputs SET dataset_id = 'other'",
    "pairs": "DELETE FROM cf_output_pairs",
    "row counts": "UPDATE cf_outputs SET rows = 4",
    "retired files": "UPDATE cf_materializations SET retired_by = 8",
    "ledger records": "UPDATE cf_ledgers SET source_id = 'other'",
    "documents": "DELETE FROM cf_documents WHERE hash = 'config'",
    "tape": "UPDATE cf_tape SET entry = replace(entry, 'test', 'tent') WHERE seq = 2",
}


def test_a_whole_database_is_well(database: ControlDatabase) -> None:
    assert bad(database) == set()
    assert {rule.check for rule in RULES} <= set(DAMAGE), "a rule without a test"


@pytest.mark.parametrize("check", DAMAGE)
def test_each_damage_is_named_by_its_check(check: str, database: ControlDatabase) -> None:
    database.writer.execute(DAMAGE[check])
    finding = findings(database)[check]
    assert finding.status == ("warn" if check == "retired files" else "fail")
    assert finding.details, "what was found is named"


def test_a_removed_file_whose_rows_live_on_elsewhere_is_well(database: ControlDatabase) -> None:
    """A CSV file that was rewritten: the old one is gone, the new one holds the pair."""
    database.writer.execute(
        "INSERT INTO cf_outputs SELECT * REPLACE ('/cases/out/new.csv' AS path) FROM cf_outputs"
    )
    database.writer.execute("UPDATE cf_outputs SET removed_at_ns = 1 WHERE path = ?", [PATH])
    database.writer.execute(
        "INSERT INTO cf_output_pairs VALUES ('/cases/out/new.csv', ?, 's')", [JOB]
    )
    assert bad(database) == set()


def test_rows_set_aside_again_by_a_run_into_another_sink_are_well(
    database: ControlDatabase,
) -> None:
    """Quarantine has one place for all sinks, so its key may live once for each."""
    database.writer.execute("UPDATE cf_materializations SET table_name = 'quarantine'")
    database.writer.execute(DAMAGE["keys"])
    assert "keys" not in bad(database)


def test_the_tape_is_checked_across_pages(
    database: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "_TAPE_ROWS", 2)
    assert "3 entries" in findings(database)["tape"].message
    database.writer.execute("DELETE FROM cf_tape WHERE seq = 2")
    finding = findings(database)["tape"]
    assert finding.status == "fail"
    assert finding.details == ({"seq": 3},)


def test_a_cut_head_of_the_tape_is_seen(database: ControlDatabase) -> None:
    database.writer.execute("DELETE FROM cf_tape WHERE seq = 1")
    assert findings(database)["tape"].status == "fail"


def test_while_work_is_under_way_nothing_fails_for_a_moments_picture(
    database: ControlDatabase,
) -> None:
    database.writer.execute(DAMAGE["intents"])
    database.writer.execute(DAMAGE["jobs"])
    found = findings(database, at_rest=False)
    assert found["intents"].status == "warn"
    assert found["jobs"].status == "ok"


def test_leftover_intents_go_to_the_tape_and_those_of_committing_jobs_stay(
    database: ControlDatabase,
) -> None:
    database.writer.execute("UPDATE cf_processing_queue SET state = 'committing'")
    database.writer.execute("INSERT INTO cf_commit_intents VALUES (?, 1, 'mine'::BLOB)", [JOB])
    database.writer.execute("INSERT INTO cf_commit_intents VALUES (99, 2, 'left'::BLOB)")
    writer = DatabaseWriter(database.writer)
    assert writer.apply([[RemoveIntents(at_ns=9, actor="me")]]) == [[1]]
    assert writer.apply([[RemoveIntents(at_ns=9, actor="me")]]) == [[0]]
    left = database.writer.execute("SELECT job_id FROM cf_commit_intents").fetchall()
    assert left == [(JOB,)]
    entry = database.writer.execute(
        "SELECT entry FROM cf_tape ORDER BY seq DESC LIMIT 1"
    ).fetchall()
    assert b"left".hex() in entry[0][0]
    assert findings(database)["tape"].status == "ok"
