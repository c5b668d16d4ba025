"""Promotion, amendment and planning of datasets: what a request may say, what is recorded, which files run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from casparian.contracts.dataset import dataset_of
from casparian.db import planning
from casparian.db.buffer import StaleStep
from casparian.db.connection import ControlDatabase
from casparian.db.planning import History, Recorded
from casparian.db.writer import DatabaseWriter
from casparian.domain.datasets import Effect, Revision
from casparian.domain.files import CataloguedFile, FileStatus
from casparian.errors import CasparianError, Conflict, ContractError, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import contracting, planner
from casparian.sentinel.candidates import PlanContext
from casparian.sentinel.contracting import AMEND, PROMOTE, Proposal
from casparian.sentinel.events import PlanReady
from casparian.trust import verdict
from casparian.trust.library import ParserLibrary
from tests.factories.datasets import EVENTS, dataset, document, with_user
from tests.support.desk import Desk, paper, with_notes

MANIFEST = """
schema_version = 1
name = "{name}"
version = "1.0.0"
kind = "python"
entry = "parser.py:parse"
tags = ["{name}"]
unit = "line"
account = "lines"
"""
SETTING = """
[config.dataset]
type = "string"
default = ""
"""
CONTRACT = """
schema_version = 1
[outputs.rows]
main = true
columns = [{ name = "x", type = "utf8" }]
"""


def wider(values: dict[str, Any]) -> None:
    values["columns"][2]["type"] = "int64"


def other_format(values: dict[str, Any]) -> None:
    values["columns"][0]["format"] = "%d.%m.%Y %H:%M:%S"


class Registry:
    """Requests that are accepted as soon as they are made."""

    def __init__(self, database: ControlDatabase) -> None:
        self.database = database
        self.writer = DatabaseWriter(database.writer)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        return contracting.known_datasets(self.database.writer)

    def checked(self, kind: str, values: dict[str, Any]) -> Proposal:
        return contracting.checked(kind, values["table"], {"document": values}, self.revisions)

    def accept(self, proposal: Proposal, now_ns: int = 1) -> None:
        operation = contracting.operation(
            proposal.content, approval_id="abcd2345", actor="uid 1000", now_ns=now_ns
        )
        (outcome,) = self.writer.apply([[operation]])
        if isinstance(outcome, Exception):
            raise outcome

    def promote(self, values: dict[str, Any]) -> None:
        self.accept(self.checked(PROMOTE, values))

    def amend(self, *changes: Callable[[dict[str, Any]], None]) -> Proposal:
        values = document()
        for change in changes:
            change(values)
        proposal = self.checked(AMEND, values)
        self.accept(proposal)
        return proposal


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    home = Home.at(tmp_path / "home")
    home.run.mkdir(parents=True)
    with ControlDatabase(home) as database:
        yield Registry(database)


def test_a_promotion_and_its_amendments_are_recorded_with_their_effects(registry: Registry) -> None:
    registry.promote(document())
    registry.amend(with_user)
    registry.amend(with_user, other_format)
    assert [(r.revision, r.effect) for r in registry.revisions] == [
        (1, Effect.NONE),
        (2, Effect.NONE),
        (3, Effect.BREAKING),
    ]
    assert registry.revisions[1].dataset == dataset(with_user)
    rows = registry.database.writer.execute(
        "SELECT revision, previous_hash, hash, changes FROM schema_amendments ORDER BY revision"
    ).fetchall()
    assert [row[0] for row in rows] == [2, 3]
    assert rows[0][1] == registry.revisions[0].hash
    assert rows[1][2] == registry.revisions[2].hash
    assert "column.format" in [change["what"] for change in json.loads(rows[1][3])]
    tape = registry.database.writer.execute("SELECT entry FROM cf_tape ORDER BY seq").fetchall()
    kinds = [json.loads(entry)["kind"] for (entry,) in tape]
    assert kinds == ["contract.promoted", "contract.amended", "contract.amended"]


def test_what_is_checked_is_checked_the_same_with_all_that_was_filled_in(
    registry: Registry,
) -> None:
    registry.promote(document())
    first = registry.checked(AMEND, document(with_user))
    stored = json.loads(msgspec.json.encode(first.content))
    again = contracting.checked(AMEND, "firewall", stored, registry.revisions)
    assert again == first


def test_two_requests_for_one_revision_cannot_both_be_accepted(registry: Registry) -> None:
    registry.promote(document())
    one = registry.checked(AMEND, document(with_user))
    two = registry.checked(AMEND, document(wider))
    registry.accept(one)
    with pytest.raises(Conflict) as caught:
        contracting.checked(
            AMEND, "firewall", json.loads(msgspec.json.encode(two.content)), registry.revisions
        )
    assert caught.value.code == "contract.stale"
    with pytest.raises(StaleStep):
        registry.accept(two)
    assert len(registry.revisions) == 2


REFUSED: dict[str, tuple[str, dict[str, Any], str, type[CasparianError]]] = {
    "again": (PROMOTE, document(), "contract.promoted", Conflict),
    "no change": (AMEND, document(), "contract.unchanged", ContractError),
    "unknown table": (
        AMEND,
        document(lambda v: v.update(table="t")),
        "contract.unknown",
        UsageError,
    ),
    "another parser": (AMEND, {**EVENTS, "table": "firewall"}, "contract.parser", ContractError),
    "unusable glob": (
        AMEND,
        document(lambda v: v.update(match=["[z-a]"])),
        "glob.invalid",
        UsageError,
    ),
    "unusable column": (
        AMEND,
        document(lambda v: v["columns"][0].update(type="x")),
        "contract.type",
        ContractError,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_cannot_be_is_refused(registry: Registry, what: str) -> None:
    kind, values, code, error = REFUSED[what]
    registry.promote(document())
    with pytest.raises(error) as caught:
        registry.checked(kind, values)
    assert caught.value.code == code


LIES: dict[str, dict[str, Any]] = {
    "revision": {"revision": 7},
    "hash": {"hash": "0" * 64},
    "previous": {"previous_hash": "0" * 64},
    "effect": {"effect": "relaxes"},
    "changes": {"changes": []},
}


@pytest.mark.parametrize("what", LIES)
def test_nobody_can_say_something_else_than_what_the_document_does(
    registry: Registry, what: str
) -> None:
    registry.promote(document())
    content = {"document": document(other_format)} | LIES[what]
    with pytest.raises(Conflict) as caught:
        contracting.checked(AMEND, "firewall", content, registry.revisions)
    assert caught.value.code == "contract.stale"


@pytest.mark.parametrize("content", [None, [], {"document": 1}, {"document": {}, "more": 1}])
def test_malformed_content_is_refused(content: Any) -> None:
    with pytest.raises(CasparianError):
        contracting.checked(PROMOTE, "firewall", content, ())


def test_a_request_is_about_its_own_table_only() -> None:
    with pytest.raises(UsageError) as caught:
        contracting.checked(PROMOTE, "other", {"document": document()}, ())
    assert caught.value.code == "approval.content"


def test_the_diff_says_what_is_promoted() -> None:
    proposal = contracting.checked(PROMOTE, "firewall", {"document": document()}, ())
    told = "\n".join(proposal.diff)
    assert proposal.scope == "contracts/firewall"
    assert "time,src,n" in told
    assert "timestamp[us, UTC]" in told


# -- planning --------------------------------------------------------------------------------------------------------------


class Planning:
    """Plans over files that are there in name only."""

    def __init__(self, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verdict, "verify", lambda *_a, **_k: None)
        parsers = tmp_path / "parsers"
        for name in ("text.delimited", "text.jsonl", "linux.syslog"):
            folder = parsers / name
            folder.mkdir(parents=True)
            setting = SETTING if name.startswith("text.") else ""
            (folder / "parser.toml").write_text(MANIFEST.format(name=name) + setting)
            (folder / "contract.toml").write_text(CONTRACT)
            (folder / "parser.py").write_text("def parse(ctx):\n    return iter(())\n")
        self.library = ParserLibrary(parsers, tmp_path / "none")
        self.registry = registry
        self.home = Home.at(tmp_path / "home")
        self.recorded: dict[tuple[str, str], list[Recorded]] = {}
        self.failures: dict[str, str] = {}

    def plan(self, *names: str, tags: tuple[str, ...] = (), **request: Any) -> PlanReady:
        files = [
            CataloguedFile(
                root="/e",
                path=name.encode(),
                display_path=name,
                status=FileStatus.CATALOGUED,
                size_bytes=10,
                source_hash=name,
                sha256=name,
                source_id=f"id of {name}",
                tags=tags,
            )
            for name in names
        ]
        context = PlanContext(
            home=self.home,
            engine_hash="engine",
            library=self.library,
            workers=1,
            history=lambda _: History(recorded=self.recorded, failures=self.failures),
            now_ns=1,
            datasets=self.registry.revisions,
        )
        asked = control.Run(request_id="r", evidence=b"/e", **request)
        return planner.make_plan(context, asked, files, b"/e")

    def record(self, plan: PlanReady, *, quarantined: int = 0) -> None:
        """All jobs of a plan have succeeded."""
        for job in plan.jobs:
            for source in job.spec.sources:
                for output in job.spec.outputs:
                    parts = job.spec.key_parts(output, source.source_id)
                    row = {
                        n: getattr(parts, n)
                        for n in Recorded.__struct_fields__
                        if hasattr(parts, n)
                    }
                    row |= {
                        "materialization_key": parts.materialization_key(),
                        "parser": job.spec.parser.name,
                        "job_id": job.job_id,
                        "quarantined": quarantined,
                    }
                    pair = (output.dataset_id, source.source_id)
                    self.recorded.setdefault(pair, []).append(Recorded(**row))

    def fail(self, plan: PlanReady, code: str) -> None:
        for job in plan.jobs:
            for source in job.spec.sources:
                parts = job.spec.key_parts(job.spec.main, source.source_id)
                self.failures[parts.materialization_key()] = code


def decisions(plan: PlanReady) -> dict[str, tuple[str, str]]:
    return {item.display_path: (item.decision, item.reason) for item in plan.items}


@pytest.fixture
def plans(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Planning:
    return Planning(tmp_path, registry, monkeypatch)


def test_files_that_match_a_promoted_contract_are_read_with_it(plans: Planning) -> None:
    plans.registry.promote(document())
    plan = plans.plan("logs/fw-1.csv", "other.csv")
    assert decisions(plan) == {
        "logs/fw-1.csv": ("selected", "new"),
        "other.csv": ("unmatched", "no_parser"),
    }
    (job,) = plan.jobs
    assert [output.contract.table for output in job.spec.outputs] == ["firewall"]
    given = job.spec.parser.config["dataset"]
    assert dataset_of(json.loads(str(given))) == dataset()
    assert [c.origin for c in plan.contracts if c.table_name == "firewall"] == ["revision 1"]
    (item,) = [i for i in plan.items if i.decision == "selected"]
    assert item.job_id == job.job_id


def test_without_a_contract_the_parser_takes_nothing_and_says_so_when_asked_for(
    plans: Planning,
) -> None:
    assert decisions(plans.plan("fw-1.csv", tags=("text.delimited",))) == {
        "fw-1.csv": ("unmatched", "no_parser")
    }
    with pytest.raises(UsageError) as caught:
        plans.plan("fw-1.csv", selection=control.Selection(parsers=("text.delimited",)))
    assert caught.value.code == "contract.none"


def test_a_run_cannot_bring_its_own_contract(plans: Planning) -> None:
    plans.registry.promote(document())
    with pytest.raises(UsageError) as caught:
        plans.plan("fw-1.csv", parser_config={"text.delimited": {"dataset": "{}"}})
    assert caught.value.code == "contract.setting"


def test_a_laboratory_file_cannot_change_an_approved_contract(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.home.contracts.mkdir(parents=True)
    (plans.home.contracts / "text.delimited.toml").write_text("schema_version = 1\n")
    with pytest.raises(ContractError) as caught:
        plans.plan("fw-1.csv")
    assert caught.value.code == "contract.override"


def test_a_file_that_is_known_by_its_content_is_no_datasets(plans: Planning) -> None:
    plans.registry.promote(document())
    plan = plans.plan("fw-1.csv", tags=("linux.syslog",))
    assert [(i.parser, i.decision) for i in plan.items] == [("linux.syslog@1.0.0", "selected")]
    asked = control.Selection(parsers=("text.delimited",))
    plan = plans.plan("fw-1.csv", tags=("linux.syslog",), selection=asked)
    assert [(i.parser, i.decision) for i in plan.items] == [("text.delimited@1.0.0", "selected")]


def test_two_contracts_that_match_one_file_refuse_it(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.registry.promote(document(lambda v: v.update(table="other", match=["*.csv"])))
    plan = plans.plan("fw-1.csv", "x.csv")
    assert decisions(plan) == {
        "fw-1.csv": ("rejected", "contract_conflict"),
        "x.csv": ("selected", "new"),
    }
    assert plan.rejected == {"contract.ambiguous": 1}
    (problem,) = plan.problems
    assert "`firewall`" in problem.message
    assert "`other`" in problem.message


def test_contracts_that_share_read_one_file_for_both_tables(plans: Planning) -> None:
    plans.registry.promote(document(lambda v: v.update(shared=True)))
    plans.registry.promote(document(lambda v: v.update(table="other", shared=True)))
    plan = plans.plan("fw-1.csv")
    assert [(i.decision, i.reason) for i in plan.items] == [("selected", "new")] * 2
    assert sorted(job.spec.main.contract.table for job in plan.jobs) == ["firewall", "other"]
    assert {item.job_id for item in plan.items} == {job.job_id for job in plan.jobs}
    assert plan.files.selected == 1


def test_sharing_takes_both(plans: Planning) -> None:
    plans.registry.promote(document(lambda v: v.update(shared=True)))
    plans.registry.promote(document(lambda v: v.update(table="other")))
    assert decisions(plans.plan("fw-1.csv")) == {"fw-1.csv": ("rejected", "contract_conflict")}


def test_after_a_compatible_amendment_only_the_files_that_failed_run_again(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv", "fw-2.csv"))
    drifted = plans.plan("fw-1.csv", "fw-2.csv", "fw-3.csv")
    plans.fail(drifted, "contract.drift")
    assert decisions(plans.plan("fw-1.csv", "fw-3.csv")) == {
        "fw-1.csv": ("skipped", "done"),
        "fw-3.csv": ("skipped", "failed_before"),
    }
    plans.registry.amend(with_user)
    plan = plans.plan("fw-1.csv", "fw-2.csv", "fw-3.csv")
    assert decisions(plan) == {
        "fw-1.csv": ("skipped", "done"),
        "fw-2.csv": ("skipped", "done"),
        "fw-3.csv": ("selected", "new"),
    }
    detail = next(i.detail for i in plan.items if i.display_path == "fw-1.csv")
    assert "revision 1, which gives the same rows" in detail
    assert "revision 2 of `firewall`" in detail


def test_after_a_breaking_amendment_all_files_run_again(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv", "fw-2.csv"))
    plans.registry.amend(other_format)
    assert {d for d, _ in decisions(plans.plan("fw-1.csv", "fw-2.csv")).values()} == {"selected"}


def test_a_compatible_amendment_after_a_breaking_one_does_not_bring_old_rows_back(
    plans: Planning,
) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv"))
    plans.registry.amend(other_format)
    plans.registry.amend(other_format, with_user)
    assert decisions(plans.plan("fw-1.csv"))["fw-1.csv"][0] == "selected"


def test_compatible_amendments_add_up(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv"))
    plans.registry.amend(with_user)
    plans.registry.amend(with_user, wider)
    plan = plans.plan("fw-1.csv")
    assert decisions(plan) == {"fw-1.csv": ("skipped", "done")}


def test_what_was_set_aside_is_read_again_when_a_later_revision_may_accept_it(
    plans: Planning,
) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv"))
    plans.record(plans.plan("fw-2.csv"), quarantined=3)
    plans.registry.amend(with_user)  # changes nothing for either
    assert {d for d, _ in decisions(plans.plan("fw-1.csv", "fw-2.csv")).values()} == {"skipped"}
    plans.registry.amend(with_user, wider)
    plan = plans.plan("fw-1.csv", "fw-2.csv")
    assert decisions(plan) == {
        "fw-1.csv": ("skipped", "done"),
        "fw-2.csv": ("selected", "contract_changed"),
    }
    detail = next(i.detail for i in plan.items if i.display_path == "fw-2.csv")
    assert "3 rows were set aside under revision 1" in detail


def test_another_parser_version_runs_all_files_again_whatever_the_revision(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv"))
    plans.registry.amend(with_user)
    for records in plans.recorded.values():
        records[:] = [msgspec.structs.replace(r, artifact_hash="older") for r in records]
    (item,) = plans.plan("fw-1.csv").items
    assert (item.decision, item.reason) == ("selected", "parser_changed")
    assert "config_changed" not in item.detail


def test_rows_of_another_engine_may_be_accepted_under_an_older_revision(plans: Planning) -> None:
    plans.registry.promote(document())
    plans.record(plans.plan("fw-1.csv"))
    plans.registry.amend(with_user)
    for records in plans.recorded.values():
        records[:] = [msgspec.structs.replace(r, engine_hash="older") for r in records]
    assert decisions(plans.plan("fw-1.csv")) == {"fw-1.csv": ("selected", "engine_changed")}
    plan = plans.plan("fw-1.csv", accept_engine=True)
    assert decisions(plan) == {"fw-1.csv": ("skipped", "engine_accepted")}


def test_the_registry_is_read_oldest_first(registry: Registry) -> None:
    registry.promote(document())
    registry.promote(document(lambda v: v.update(table="a")))
    registry.amend(with_user)
    found = [
        (table, revision) for table, revision, *_ in planning.datasets(registry.database.writer)
    ]
    assert found == [("a", 1), ("firewall", 1), ("firewall", 2)]


# -- as requests that people decide ----------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with_notes(monkeypatch)
    made = Desk(tmp_path / "desk")
    yield made
    made.close()


def ask(desk: Desk, kind: str, values: dict[str, Any], **more: Any) -> Any:
    return desk.propose({"document": values}, values["table"], kind, **more)


def test_a_contract_is_in_force_with_its_acceptance_and_not_before(desk: Desk) -> None:
    done = ask(desk, PROMOTE, document())
    assert done.fields["scope"] == "contracts/firewall"
    assert contracting.known_datasets(desk.database.writer) == ()
    desk.decide(done.fields["approval_id"], paper("alice"))
    (revision,) = contracting.known_datasets(desk.database.writer)
    assert revision.dataset == dataset()
    (entry,) = desk.tape("contract.promoted")
    assert done.fields["approval_id"] in json.dumps(entry)
    recorded = desk.database.writer.execute(
        "SELECT approval_id, actor, compatible_with_previous FROM schema_datasets"
    ).fetchall()
    assert recorded == [(done.fields["approval_id"], "examiner(1000)", False)]


def test_a_rejected_contract_never_is(desk: Desk) -> None:
    done = ask(desk, PROMOTE, document())
    desk.decide(done.fields["approval_id"], paper("alice", "reject"))
    assert contracting.known_datasets(desk.database.writer) == ()


def test_a_newer_amendment_takes_the_place_of_one_that_waits(desk: Desk) -> None:
    desk.decide(ask(desk, PROMOTE, document()).fields["approval_id"], paper("alice"))
    old = ask(desk, AMEND, document(wider)).fields["approval_id"]
    new = ask(desk, AMEND, document(with_user)).fields["approval_id"]
    assert isinstance(desk.decide(old, paper("alice")), control.Failure)
    desk.decide(new, paper("alice"))
    found = contracting.known_datasets(desk.database.writer)
    assert [(r.revision, r.dataset) for r in found] == [(1, dataset()), (2, dataset(with_user))]


def test_a_dry_run_shows_the_differences_and_asks_nobody(desk: Desk) -> None:
    desk.decide(ask(desk, PROMOTE, document()).fields["approval_id"], paper("alice"))
    shown = ask(desk, AMEND, document(with_user), dry_run=True)
    assert "column.added `user`: none" in shown.fields["diff"]
    assert len(desk.tape("approval.proposed")) == 1
