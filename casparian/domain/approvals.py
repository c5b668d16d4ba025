"""Approvals: a change of what will be trusted, as a request that people with keys decide.

    pending ──► accepted     enough holders in scope signed; applied in the same transaction
            ├─► rejected     one holder in scope said no
            ├─► expired      nobody decided in time
            ├─► withdrawn    whoever asked, or anybody of this home, took it back
            └─► superseded   a newer request for the same subject took its place

Nothing follows an end. Pure values; identities of requests are made by `protocol.identity`, votes are verified by `trust`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

CONTENT_BYTES_MAX: Final = 960 * 1024  # of one request: it must fit a message to the sentinel
DIFF_LINES_MAX: Final = 20_000
REASON_CHARACTERS_MAX: Final = 2_000


class ApprovalState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"


_ENDS: Final = frozenset(ApprovalState) - {ApprovalState.PENDING}
NEXT: Final[dict[ApprovalState, frozenset[ApprovalState]]] = {
    ApprovalState.PENDING: _ENDS,
    **{end: frozenset() for end in _ENDS},
}


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Args:
        approval_id: eight characters, random: a decision about one request is never good for another, equal one.
        kind: what kind of change (`contract.promote`, `limits.raise`, …); it says who checks and who applies it.
        subject: what is changed: a table, a parser, a setting.
        scope: the path that a policy's roles are scoped over, for example `contracts/firewall`.
        content: canonical JSON of the exact change.
        content_hash: over kind, subject, scope, content and diff: what a decision is bound to.
        diff: what people are shown; made by the sentinel, never by whoever asks.
    """

    approval_id: str
    kind: str
    subject: str
    scope: str
    content: str
    content_hash: str
    diff: tuple[str, ...]
    requested_by: str
    requested_at_ns: int
    expires_at_ns: int
    state: ApprovalState = ApprovalState.PENDING

    def state_at(self, now_ns: int) -> ApprovalState:
        """The state at a moment: a pending request whose time is over has expired, recorded or not."""
        return state_at(self.state, self.expires_at_ns, now_ns)


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One verified decision about a request.

    Args:
        approval_id: the request.
        decision: `accept` or `reject`.
        keyids: keys whose signatures held, and that have a say in the scope.
        holders: whom these keys belong to; a holder counts once, however many keys.
        role: of the policy, that gave them the say.
        reason: theirs, signed.
        actor: whose process handed the decision in, as the kernel says.
        envelope: as signed; it can be verified again at any time.
        at_ns: when it was taken.
    """

    approval_id: str
    decision: str
    keyids: tuple[str, ...]
    holders: tuple[str, ...]
    role: str
    reason: str
    actor: str
    envelope: bytes
    at_ns: int


def state_at(state: str, expires_at_ns: int, now_ns: int) -> ApprovalState:
    """State of a request at a moment."""
    found = ApprovalState(state)
    if found is ApprovalState.PENDING and expires_at_ns <= now_ns:
        return ApprovalState.EXPIRED
    return found
