"""Proposals and decisions in the sentinel, with votes on paper: everything but signatures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casparian.domain.approvals import ApprovalState
from casparian.errors import ExitCode
from casparian.protocol import control
from tests.support.desk import Desk, PaperBallot, paper, with_notes

DAY_NS = 86_400_000_000_000


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with_notes(monkeypatch)
    made = Desk(tmp_path / "home")
    yield made
    made.close()


def pass_days(desk: Desk, days: int) -> None:
    PaperBallot.clock_ns += days * DAY_NS
    desk.now_ns += days * DAY_NS


def test_a_proposal_waits_and_changes_nothing(desk: Desk) -> None:
    done = desk.propose({"a": 1})
    assert done.fields["state"] == "pending"
    assert desk.tape("test.effect") == []
    (entry,) = desk.tape("approval.proposed")
    assert entry["actor"] == "examiner(1000)"
    approval = desk.approval(done.fields["approval_id"])
    assert approval.content == '{"a":1}'
    assert approval.scope == "contracts/t"
    assert approval.expires_at_ns - approval.requested_at_ns == 14 * DAY_NS


def test_an_acceptance_applies_it_once_with_vote_end_and_effect_on_the_tape(desk: Desk) -> None:
    approval_id = desk.propose({"a": 1}).fields["approval_id"]
    done = desk.decide(approval_id, paper("alice"))
    assert (done.fields["state"], done.fields["missing"]) == ("accepted", 0)
    kinds = [entry["kind"] for entry in desk.tape() if "approval" in str(entry)]
    assert kinds == ["approval.proposed", "approval.vote", "approval.accepted", "test.effect"]
    again = desk.decide(approval_id, paper("bob"))
    assert again.code == "approval.decided"
    assert len(desk.tape("test.effect")) == 1


def test_holders_are_counted_up_to_the_threshold(desk: Desk) -> None:
    PaperBallot.threshold = 2
    approval_id = desk.propose(1).fields["approval_id"]
    first = desk.decide(approval_id, paper("alice"))
    assert first.message.startswith("1 of 2 have accepted")
    assert desk.decide(approval_id, paper("alice")).code == "approval.voted"
    assert desk.tape("test.effect") == []
    assert desk.decide(approval_id, paper("bob")).fields["state"] == "accepted"


def test_a_vote_whose_key_was_revoked_since_counts_no_more(desk: Desk) -> None:
    PaperBallot.threshold = 2
    approval_id = desk.propose(1).fields["approval_id"]
    desk.decide(approval_id, paper("alice"))
    PaperBallot.revoked = {"alice"}
    done = desk.decide(approval_id, paper("bob"))
    assert (done.fields["state"], done.fields["missing"]) == ("pending", 1)


def test_one_rejection_ends_it(desk: Desk) -> None:
    PaperBallot.threshold = 2
    approval_id = desk.propose(1).fields["approval_id"]
    desk.decide(approval_id, paper("alice"))
    assert desk.decide(approval_id, paper("bob", "reject")).fields["state"] == "rejected"
    assert desk.decide(approval_id, paper("carol")).code == "approval.decided"
    assert desk.tape("test.effect") == []


def test_a_request_expires_and_stays_expired_when_the_clock_goes_back(desk: Desk) -> None:
    approval_id = desk.propose(1).fields["approval_id"]
    pass_days(desk, 14)
    assert desk.decide(approval_id, paper("alice")).code == "approval.expired"
    assert desk.approval(approval_id).state is ApprovalState.EXPIRED
    pass_days(desk, -14)
    assert desk.decide(approval_id, paper("alice")).code == "approval.expired"
    assert desk.approval(approval_id).state is ApprovalState.EXPIRED
    assert desk.tape("test.effect") == []


def test_the_clock_cannot_be_wound_back_behind_what_is_recorded(desk: Desk) -> None:
    old = desk.propose(1).fields["approval_id"]
    pass_days(desk, 20)
    desk.propose(2, subject="other")
    pass_days(desk, -20)
    assert desk.decide(old, paper("alice")).code in ("approval.expired", "approval.decided")
    assert desk.tape("test.effect") == []


def test_a_request_made_on_a_wound_back_clock_begins_where_time_had_come_to(desk: Desk) -> None:
    pass_days(desk, 10)
    before = desk.approval(desk.propose(1).fields["approval_id"])
    pass_days(desk, -10)
    after = desk.approval(desk.propose(1, subject="other").fields["approval_id"])
    assert after.requested_at_ns == before.requested_at_ns


def test_in_the_record_a_request_ends_once(desk: Desk) -> None:
    from casparian.db.approvals import StaleApproval
    from casparian.db.operations import EndApproval

    approval = desk.approval(desk.propose(1).fields["approval_id"])
    end = EndApproval(at_ns=1, approval=approval, after=ApprovalState.REJECTED)
    assert not isinstance(desk.writer.apply([[end]])[0], Exception)
    assert isinstance(desk.writer.apply([[end]])[0], StaleApproval)
    assert len(desk.tape("approval.rejected")) == 1


def test_equal_content_is_the_same_request_until_it_ends(desk: Desk) -> None:
    first = desk.propose({"a": 1, "b": 2}).fields["approval_id"]
    assert desk.propose({"b": 2, "a": 1}).fields["approval_id"] == first
    desk.decide(first, paper("alice", "reject"))
    assert desk.propose({"a": 1, "b": 2}).fields["approval_id"] != first


def test_a_newer_proposal_takes_the_place_of_the_older(desk: Desk) -> None:
    old = desk.propose(1).fields["approval_id"]
    new = desk.propose(2).fields["approval_id"]
    other = desk.propose(1, subject="other").fields["approval_id"]
    assert desk.approval(old).state is ApprovalState.SUPERSEDED
    assert desk.approval(other).state is ApprovalState.PENDING
    assert desk.decide(old, paper("alice")).code == "approval.decided"
    assert desk.decide(new, paper("alice")).fields["state"] == "accepted"


def test_a_withdrawn_request_cannot_be_accepted(desk: Desk) -> None:
    approval_id = desk.propose(1).fields["approval_id"]
    assert desk.withdraw(approval_id).fields["state"] == "withdrawn"
    assert desk.decide(approval_id, paper("alice")).code == "approval.decided"
    assert desk.withdraw(approval_id).code == "approval.decided"


def test_a_request_asked_twice_acts_once(desk: Desk) -> None:
    request = control.Propose(request_id="same", kind="test.note", subject="t", content="1")
    first, second = desk.ask(request), desk.ask(request)
    assert first == second
    assert len(desk.tape("approval.proposed")) == 1


def test_a_dry_run_shows_the_diff_and_records_nothing(desk: Desk) -> None:
    done = desk.propose({"a": 1}, dry_run=True)
    assert done.fields["diff"] == "+ {'a': 1}"
    assert desk.tape("approval.proposed") == []


def test_an_applier_that_refuses_leaves_the_request_as_it_was(desk: Desk) -> None:
    approval_id = desk.propose("refused").fields["approval_id"]
    failure = desk.decide(approval_id, paper("alice"))
    assert (failure.code, failure.exit_code) == ("test.late", ExitCode.REFUSED)
    assert desk.approval(approval_id).state is ApprovalState.PENDING
    assert desk.tape("approval.vote") == []


def test_a_request_that_would_do_something_else_by_now_is_not_carried_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casparian.sentinel import approvals
    from casparian.sentinel.approval_kinds import Checked, Kind

    approval_id = desk.propose(1).fields["approval_id"]
    before = approvals.KINDS["test.note"]
    moved = Kind(
        check=lambda _context, subject, content: Checked(
            scope=f"contracts/{subject}", content=content, diff=("+ something else",)
        ),
        apply=before.apply,
    )
    monkeypatch.setitem(approvals.KINDS, "test.note", moved)
    assert desk.decide(approval_id, paper("alice")).code == "approval.outdated"
    assert desk.decide(approval_id, paper("alice", "reject")).fields["state"] == "rejected"


REFUSED = {
    "unknown kind": (lambda d: d.propose(1, kind="no.such"), "approval.kind"),
    "no JSON": (
        lambda d: d.ask(
            control.Propose(request_id="r", kind="test.note", subject="t", content="{")
        ),
        "approval.content",
    ),
    "too much": (lambda d: d.propose("x" * 1_000_000), "approval.content"),
    "impossible": (lambda d: d.propose("impossible"), "test.impossible"),
    "subject": (lambda d: d.propose(1, subject="a\x1b[31m"), "approval.content"),
    "unknown request": (lambda d: d.decide("00000000", paper("alice")), "approval.unknown"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(desk: Desk, what: str) -> None:
    ask, code = REFUSED[what]
    reply = ask(desk)
    assert isinstance(reply, control.Failure)
    assert reply.code == code
    assert desk.state.considering == ()
    assert desk.tape() == []


def test_a_statement_that_decides_by_itself_is_an_accepted_request_on_the_tape(desk: Desk) -> None:
    from msgspec import structs

    from casparian.sentinel.approvals import accepted_by_statement

    made = desk.approval(desk.propose(1).fields["approval_id"])
    approval = structs.replace(made, approval_id="zzzzzzzz", subject="lab.parser")
    operations = accepted_by_statement(
        desk.now_ns,
        approval,
        keyids=("k",),
        holders=("alice",),
        role="lead",
        reason="parser statement",
        actor="examiner(1000)",
        statement=b"{}",
    )
    (outcome,) = desk.writer.apply([operations])
    assert not isinstance(outcome, Exception)
    assert desk.approval("zzzzzzzz").state is ApprovalState.ACCEPTED


def test_nothing_is_accepted_in_the_record_without_a_vote(desk: Desk) -> None:
    from casparian.db.approvals import StaleApproval
    from casparian.db.operations import EndApproval, RaiseLimits

    approval = desk.approval(desk.propose(1).fields["approval_id"])
    end = EndApproval(at_ns=1, approval=approval, after=ApprovalState.ACCEPTED)
    effect = RaiseLimits(at_ns=1, parser="p", limits={"rows_max": 9}, approval_id="x", actor="a")
    (outcome,) = desk.writer.apply([(end, effect)])
    assert isinstance(outcome, StaleApproval)
    assert desk.tape("limits.raised") == []


def test_doctor_finds_what_is_in_force_without_an_approval(desk: Desk) -> None:
    from casparian.db.audit import audit
    from casparian.db.migrate import newest

    def found() -> dict[str, str]:
        findings = audit(desk.database.writer, schema=newest(), live=frozenset(), at_rest=True)
        return {finding.check: finding.status for finding in findings}

    assert found()["approvals"] == "ok"
    desk.database.writer.execute(
        "INSERT INTO cf_parser_limits VALUES ('windows.evtx', 'memory_mb', 4096, 'k7m2q9xd', 'me', 1)"
    )
    assert found()["approvals"] == "fail"
