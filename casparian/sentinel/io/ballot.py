"""Signed decisions against what is trusted in this home now.

A decision counts when its envelope names exactly this request, its content and this home, and keys signed it that the policy gives
a say in the scope of the request. Earlier ones are verified again each time: a key that was revoked since does not count any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from casparian import clock
from casparian.domain.approvals import Approval, Vote
from casparian.errors import Refused
from casparian.paths import Home


class Ballot:
    """What is trusted at one moment, for one request of a client."""

    def __init__(self, home: Home, home_id: str) -> None:
        self._home = home
        self._home_id = home_id
        self.now_ns = clock.now_ns()

    def read(self, approval: Approval, envelope: bytes, actor: str) -> Vote:
        """Verify one decision.

        Raises:
            Refused: it does not count, and why.
        """
        raise _no_root(approval)

    def standing(self, approval: Approval, votes: Sequence[Vote]) -> list[Vote]:
        """Acceptances that still count."""
        raise _no_root(approval)

    def count(self, approval: Approval, votes: Sequence[Vote]) -> tuple[int, int]:
        """Holders that have accepted, and how many more must."""
        raise _no_root(approval)


def _no_root(approval: Approval) -> Refused:
    return Refused(
        f"nothing is trusted in this home yet, so nobody can decide about request {approval.approval_id}",
        code="trust.no_policy",
        hint="`casparian trust init --solo NAME` makes a root, a policy and a key for one person",
    )
