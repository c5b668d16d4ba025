"""The control database with approvals, as values in memory: what `db.approvals` writes."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from casparian.db import operations as op
from casparian.db.approvals import StaleApproval
from casparian.domain.approvals import Approval, ApprovalState, Vote
from tests.model.control_store import ControlStore


class ApprovalStore(ControlStore):
    """`approvals` by id, `votes` in order, and `raised`: every effect, as (approval, parser)."""

    def __init__(self) -> None:
        super().__init__()
        self.approvals: dict[str, Approval] = {}
        self.votes: list[Vote] = []
        self.raised: list[tuple[str, str]] = []
        self._tables: Any = (*self._tables, "approvals", "votes", "raised")
        self._handlers.update(
            {
                op.SaveProposal: self._save_proposal,
                op.SaveVote: self._save_vote,
                op.EndApproval: self._end,
                op.ExpireApprovals: self._expire,
                op.RaiseLimits: self._raise,
            }
        )

    def _save_proposal(self, o: op.SaveProposal) -> None:
        for old in o.supersedes:
            self._leave(old, ApprovalState.SUPERSEDED)
        assert o.approval.approval_id not in self.approvals
        self.approvals[o.approval.approval_id] = o.approval
        self._record(o.at_ns, "approval.proposed", approval_id=o.approval.approval_id)

    def _save_vote(self, o: op.SaveVote) -> None:
        self.votes.append(o.vote)
        self._record(o.at_ns, "approval.vote", approval_id=o.vote.approval_id)

    def _end(self, o: op.EndApproval) -> None:
        approval_id = o.approval.approval_id
        said = [v for v in self.votes if v.approval_id == approval_id and v.decision == "accept"]
        if o.after is ApprovalState.ACCEPTED and not said:
            raise StaleApproval(f"no decision accepts request {approval_id}")
        self._leave(approval_id, o.after)
        self._record(o.at_ns, f"approval.{o.after.value}", approval_id=approval_id)

    def _expire(self, o: op.ExpireApprovals) -> int:
        late = [a for a in self.approvals.values() if a.state_at(o.at_ns) is ApprovalState.EXPIRED]
        late = [a for a in late if a.state is ApprovalState.PENDING]
        for approval in late:
            self._leave(approval.approval_id, ApprovalState.EXPIRED)
        return len(late)

    def _raise(self, o: op.RaiseLimits) -> None:
        self.raised.append((o.approval_id, o.parser))

    def _leave(self, approval_id: str, after: ApprovalState) -> None:
        found = self.approvals.get(approval_id)
        if found is None or found.state is not ApprovalState.PENDING:
            raise StaleApproval(f"request {approval_id} is not pending")
        self.approvals[approval_id] = structs.replace(found, state=after)
