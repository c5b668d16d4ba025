"""Signed decisions against what is trusted in this home now.

A decision counts when its envelope names exactly this request, its content and this home, and keys signed it that the policy
gives a say in the scope of the request. Earlier ones are verified again each time: a key that was revoked since counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable

from casparian.domain.approvals import Approval, Vote
from casparian.errors import Refused
from casparian.paths import Home
from casparian.trust import state as trust_state
from casparian.trust.decisions import (
    Expected,
    VerifiedDecision,
    verify_decision,
    votes_missing,
)


class Ballot:
    """What is trusted at one moment, for one request of a client.

    Raises:
        Refused: what is trusted here cannot be read or does not verify.
    """

    def __init__(self, home: Home, home_id: str) -> None:
        self._home_id = home_id
        self._state = trust_state.load(home.trust)
        self.now_ns = trust_state.now(self._state)

    def read(self, approval: Approval, envelope: bytes, actor: str) -> Vote:
        """Verify one decision.

        Raises:
            Refused: it does not count, and why.
        """
        verified = self._verified(approval, envelope)
        return Vote(
            approval_id=approval.approval_id,
            decision=verified.decision.decision,
            keyids=verified.keyids,
            holders=verified.holders,
            role=verified.role,
            reason=verified.decision.reason,
            actor=actor,
            envelope=envelope,
            at_ns=self.now_ns,
        )

    def standing(self, approval: Approval, votes: Iterable[Vote]) -> list[Vote]:
        """Acceptances that count still."""
        return [vote for vote in votes if vote.decision == "accept" and self._holds(approval, vote)]

    def count(self, approval: Approval, votes: Iterable[Vote]) -> tuple[int, int]:
        """Holders that have accepted, and how many more must.

        Raises:
            Refused: `trust.out_of_scope`, nobody can ever decide about it under this policy.
        """
        accepted = list(votes)
        holders = {holder for vote in accepted for holder in vote.holders}
        keyids = [keyid for vote in accepted for keyid in vote.keyids]
        missing = votes_missing(self._state, approval.scope, keyids)
        if missing is None:
            raise Refused(
                f"no role of the policy covers `{approval.scope}`", code="trust.out_of_scope"
            )
        return len(holders), missing

    def _holds(self, approval: Approval, vote: Vote) -> bool:
        try:
            return self._verified(approval, vote.envelope).decision.decision == vote.decision
        except Refused:
            return False

    def _verified(self, approval: Approval, envelope: bytes) -> VerifiedDecision:
        expected = Expected(
            approval_id=approval.approval_id,
            kind=approval.kind,
            subject=approval.subject,
            content_hash=approval.content_hash,
            home_id=self._home_id,
            scope=approval.scope,
        )
        return verify_decision(self._state, envelope, expected, self.now_ns)
