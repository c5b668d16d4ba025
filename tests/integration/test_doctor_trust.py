"""What a home has on record about trust, altered in one place at a time, and what `doctor` says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from casparian.db.connection import ControlDatabase
from casparian.paths import Home
from casparian.sentinel.io.trust_audit import audit_trust
from casparian.trust.artifact import STATEMENT_FILE
from casparian.trust.policy import ExaminerRole
from casparian.trust.verdict import release_key
from tests.factories.datasets import document
from tests.factories.laboratory import deploy, import_trust
from tests.support.contract_case import ContractCase

Found = dict[str, tuple[str, str]]  # by check: status, and why


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ContractCase:
    """A home with a decided contract and a deployed parser; afterwards Alice's key was revoked."""
    case = ContractCase(tmp_path_factory.mktemp("trust"))
    laboratory = case.laboratory
    case.promote(document())
    with case.client() as client:
        deploy(client, laboratory.signed(laboratory.parser()))
        role = ExaminerRole(
            name="lead examiner",
            keyids=(laboratory.eve.public.keyid,),
            threshold=1,
            paths=("contracts/*",),
        )
        import_trust(
            client,
            laboratory.policy(
                2,
                roles=(role,),
                keys=[(laboratory.eve.public, "eve"), (release_key().public, "release")],
                revoked_keys=[laboratory.alice.public.keyid],
            ),
        )
    checks = {c["check"]: c for c in case.json("doctor", code=None)["checks"]}
    assert [checks[name]["status"] for name in CHECKS] == ["ok", "ok", "ok"], checks
    case.stop()
    return case


CHECKS = ("trust documents", "votes", "deployments")


@pytest.fixture
def home(made: ContractCase, tmp_path: Path) -> Home:
    shutil.copytree(made.home, tmp_path / "home")
    return Home.at(tmp_path / "home")


def audited(home: Home, sql: str | None = None, values: list[Any] | None = None) -> Found:
    with ControlDatabase(home) as database:
        if sql is not None:
            database.writer.execute(sql, values or [])
        return {f.check: (f.status, f.message) for f in audit_trust(database.reader(), home)}


def failed(found: Found) -> dict[str, str]:
    return {check: why for check, (status, why) in found.items() if status != "ok"}


def test_what_was_revoked_afterwards_proves_itself_still(home: Home) -> None:
    found = audited(home)
    assert failed(found) == {}
    assert found["votes"][1].startswith("2 ")
    assert found["deployments"][1].startswith("1 ")


ALTERED = {
    "votes: reason": ("UPDATE cf_approval_votes SET reason = 'other'", "not what is recorded"),
    "votes: holder": ("UPDATE cf_approval_votes SET holders = '[\"eve\"]'", "recorded"),
    "votes: content": ("UPDATE cf_approvals SET content_hash = repeat('0', 64)", "another content hash"),
    "votes: swapped": (
        "UPDATE cf_approvals SET approval_id = 'zzzzzzzz' WHERE kind = 'contract.promote'; UPDATE cf_approval_votes "
        "SET approval_id = 'zzzzzzzz' WHERE reason = 'seen and compared'",
        "another approval id",
    ),
    "votes: envelope": ("UPDATE cf_approval_votes SET envelope = '{}'::BLOB WHERE approval_id IN "
                        "(SELECT approval_id FROM cf_approvals WHERE kind = 'contract.promote')", "trust.malformed"),
    "trust documents: policy": ("UPDATE cf_trust_documents SET document = '{}'::BLOB WHERE kind = 'policy' AND version = 1",
                                "recorded hash"),
    "deployments: serial": ("UPDATE cf_deployments SET serial = 9", "not what is recorded"),
    "deployments: statement": ("UPDATE cf_deployments SET statement_sha256 = repeat('0', 64)", "not the one"),
}  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_each_altered_record_is_named(what: str, home: Home) -> None:
    sql, why = ALTERED[what]
    problems = failed(audited(home, sql))
    check = what.partition(":")[0]
    assert check in problems
    assert why in problems[check]


def test_a_vote_that_is_gone_leaves_an_acceptance_that_nothing_carries(home: Home) -> None:
    """Of a request by two: what is left of the votes must carry it."""
    sql = "UPDATE cf_approval_votes SET decision = 'reject' WHERE reason = 'seen and compared'"
    with ControlDatabase(home) as database:
        database.writer.execute(sql)
        found = {f.check: f for f in audit_trust(database.reader(), home)}
    assert [line["why"] for line in found["votes"].details] == [
        "what was signed is not what is recorded",
        "it is recorded as accepted, and too few of the signed decisions hold",
    ]


def test_an_altered_file_of_a_deployed_parser_is_found(home: Home) -> None:
    (folder,) = (path for path in home.artifacts.iterdir() if path.is_dir())
    code = folder / "parser.py"
    code.chmod(0o600)
    code.write_bytes(code.read_bytes() + b"\n")
    assert "trust.tampered" in failed(audited(home))["deployments"]
    (folder / STATEMENT_FILE).unlink()
    assert "cannot be read" in failed(audited(home))["deployments"]
