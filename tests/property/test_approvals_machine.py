"""Proposals, votes, withdrawals and time in any order, against a model of a few lines.

The invariant: there is an effect for each accepted request and for no other, and each accepted one had enough holders, none of
whom was revoked when it was accepted.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from casparian.domain.approvals import ApprovalState
from casparian.protocol import control
from casparian.tape.chain import TapeEntry, first_break
from tests.support.desk import Desk, PaperBallot, paper, with_notes

DAY_NS = 86_400_000_000_000
HOLDERS = ("alice", "bob", "carol", "dora")


@dataclass
class Request:
    """What the model knows of one request."""

    subject: str
    content: int
    expires_ns: int
    state: str = "pending"
    yes: set[str] = field(default_factory=set)


class Approvals(RuleBasedStateMachine):
    """One desk and its model."""

    requests = Bundle("requests")

    @initialize(threshold=st.integers(1, 3))
    def begin(self, threshold: int) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.desk = Desk(self.directory / "home")
        PaperBallot.threshold, PaperBallot.revoked = threshold, set()
        PaperBallot.clock_ns = 1_000_000_000
        self.floor_ns = 0
        self.model: dict[str, Request] = {}

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.close()
            shutil.rmtree(self.directory)

    @property
    def now_ns(self) -> int:
        """Time as the desk believes it: never behind what it recorded."""
        return max(PaperBallot.clock_ns, self.floor_ns)

    def expire(self) -> None:
        """Every recording also ends what is past its time."""
        for request in self.model.values():
            if request.state == "pending" and request.expires_ns <= self.now_ns:
                request.state = "expired"
        self.floor_ns = self.now_ns

    def is_pending(self, request: Request) -> bool:
        return request.state == "pending" and request.expires_ns > self.now_ns

    @rule(target=requests, subject=st.sampled_from("ab"), content=st.integers(0, 2))
    def propose(self, subject: str, content: int) -> str:
        waiting = {
            approval_id: request
            for approval_id, request in self.model.items()
            if request.subject == subject and self.is_pending(request)
        }
        done = self.desk.propose(content, subject=subject)
        approval_id = str(done.fields["approval_id"])
        self.expire()
        same = [i for i, request in waiting.items() if request.content == content]
        if same:
            assert approval_id in same
            return approval_id
        assert approval_id not in self.model
        for request in waiting.values():
            request.state = "superseded"
        self.model[approval_id] = Request(subject, content, self.now_ns + 14 * DAY_NS)
        return approval_id

    @rule(approval_id=requests, holder=st.sampled_from(HOLDERS))
    def accept(self, approval_id: str, holder: str) -> None:
        request = self.model[approval_id]
        pending = self.is_pending(request)
        reply = self.desk.decide(approval_id, paper(holder))
        standing = request.yes - PaperBallot.revoked
        if not pending or holder in PaperBallot.revoked or holder in standing:
            assert isinstance(reply, control.Failure), reply
            if not pending and request.expires_ns <= self.now_ns and request.state == "pending":
                assert reply.code == "approval.expired"
                self.expire()
            return
        self.expire()
        request.yes.add(holder)
        counted = request.yes - PaperBallot.revoked
        if len(counted) >= PaperBallot.threshold:
            request.state = "accepted"
        assert reply.fields["state"] == request.state
        assert reply.fields["missing"] == max(0, PaperBallot.threshold - len(counted))

    @rule(approval_id=requests, holder=st.sampled_from(HOLDERS))
    def reject(self, approval_id: str, holder: str) -> None:
        request = self.model[approval_id]
        allowed = self.is_pending(request) and holder not in PaperBallot.revoked
        reply = self.desk.decide(approval_id, paper(holder, "reject"))
        if not allowed:
            assert isinstance(reply, control.Failure), reply
            if reply.code == "approval.expired" and request.state == "pending":
                self.expire()
            return
        self.expire()
        request.state = "rejected"

    @rule(approval_id=consumes(requests))
    def withdraw(self, approval_id: str) -> None:
        request = self.model[approval_id]
        pending = self.is_pending(request)
        reply = self.desk.withdraw(approval_id)
        assert isinstance(reply, control.Done) == pending, reply
        if pending:
            self.expire()
            request.state = "withdrawn"
        elif reply.code == "approval.expired" and request.state == "pending":
            self.expire()

    @rule(days=st.integers(-20, 20))
    def time_passes(self, days: int) -> None:
        PaperBallot.clock_ns = max(1_000_000_000, PaperBallot.clock_ns + days * DAY_NS)

    @rule(holder=st.sampled_from(HOLDERS))
    def revoke(self, holder: str) -> None:
        PaperBallot.revoked = PaperBallot.revoked | {holder}

    @invariant()
    def the_record_is_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        for approval_id, request in self.model.items():
            found = self.desk.approval(approval_id).state
            if request.state == "pending" and found is ApprovalState.EXPIRED:
                continue  # recorded a little sooner than the model noticed
            assert found == request.state, approval_id

    @invariant()
    def no_effect_without_an_accepted_request(self) -> None:
        if not hasattr(self, "model"):
            return
        effects = [entry["approval_id"] for entry in self.desk.tape("test.effect")]
        accepted = [i for i, request in self.model.items() if request.state == "accepted"]
        assert sorted(effects) == sorted(accepted)
        for approval_id in accepted:
            assert len(self.model[approval_id].yes) >= PaperBallot.threshold
        rows = self.desk.database.writer.execute("SELECT * FROM cf_tape ORDER BY seq").fetchall()
        links = [TapeEntry(seq=a, prev_hash=b, hash=c, entry=d) for a, b, c, d in rows]
        assert first_break(links) is None
        assert all(json.loads(link.entry)["kind"] for link in links)


def test_approvals_are_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with_notes(monkeypatch)
    run_state_machine_as_test(
        Approvals,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
