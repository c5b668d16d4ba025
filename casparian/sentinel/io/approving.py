"""Consider proposals and decisions, on a thread beside the loop: read the record, check contents, verify signatures.

Nothing is changed here. The sentinel sends one effect at a time and the next when the one before is durable, so what is read is
all that was decided before. Time never goes back behind what trust or the record has seen: a request that has expired once
stays expired on a machine whose clock was wound back.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian import clock, config, ids
from casparian.db import approvals as records
from casparian.domain.approvals import (
    CONTENT_BYTES_MAX,
    DIFF_LINES_MAX,
    REASON_CHARACTERS_MAX,
    Approval,
    ApprovalState,
)
from casparian.errors import CasparianError, Conflict, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.identity import approval_content_hash, canonical
from casparian.sentinel import events as ev
from casparian.sentinel.approval_kinds import CheckContext, Checked
from casparian.sentinel.approvals import EXPIRED, KINDS
from casparian.sentinel.effects import Consider
from casparian.sentinel.io.ballot import Ballot
from casparian.sentinel.planner import failure_of

if TYPE_CHECKING:
    import duckdb

_DAY_NS: Final = 86_400_000_000_000
_SUBJECT_CHARACTERS_MAX: Final = 256
_LOG = logging.getLogger(__name__)


class Approving:
    """Belongs to one thread."""

    def __init__(self, home: Home, home_id: str, reader: duckdb.DuckDBPyConnection) -> None:
        self._home = home
        self._home_id = home_id
        self._reader = reader

    def consider(self, effect: Consider) -> ev.Considered:
        """Check a proposal or decision; a fault is the client's answer."""
        request = effect.request
        outcome: ev.Proposed | ev.Voted | ev.TakenBack | control.Failure
        at_ns, reason = clock.now_ns(), ""
        try:
            ballot = Ballot(self._home, self._home_id)
            at_ns = ballot.now_ns = max(ballot.now_ns, records.newest_time_ns(self._reader))
            match request:
                case control.Propose():
                    outcome = self._propose(request, effect.actor, at_ns)
                case control.Decide():
                    outcome = self._decide(request, effect.actor, ballot)
                    reason = outcome.vote.reason
                case control.Withdraw():
                    outcome = ev.TakenBack(approval=self._pending(request.approval_id, at_ns))
                    reason = request.reason[:REASON_CHARACTERS_MAX]
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            if not isinstance(error, CasparianError):
                _LOG.exception("a proposal or decision could not be considered")
            outcome = failure_of(error)
        return ev.Considered(
            request_id=request.request_id,
            actor=effect.actor,
            at_ns=at_ns,
            outcome=outcome,
            reason=reason,
        )

    def _propose(self, request: control.Propose, actor: str, at_ns: int) -> ev.Proposed:
        content = _content(request)
        checked = self._checked(request.kind, request.subject, content, actor, at_ns)
        text = canonical(checked.content).decode()
        content_hash = approval_content_hash(
            request.kind, request.subject, checked.scope, text, checked.diff
        )
        waiting = [
            approval
            for approval in records.pending(self._reader, request.kind, request.subject)
            if approval.state_at(at_ns) is ApprovalState.PENDING
        ]
        for approval in waiting:
            if approval.content_hash == content_hash:
                return ev.Proposed(approval=approval, known=True, dry_run=request.dry_run)
        days = config.load(self._home).settings.approval_days
        approval = Approval(
            approval_id=self._new_id(),
            kind=request.kind,
            subject=request.subject,
            scope=checked.scope,
            content=text,
            content_hash=content_hash,
            diff=checked.diff,
            requested_by=actor,
            requested_at_ns=at_ns,
            expires_at_ns=at_ns + days * _DAY_NS,
        )
        return ev.Proposed(
            approval=approval,
            supersedes=tuple(old.approval_id for old in waiting),
            dry_run=request.dry_run,
        )

    def _decide(self, request: control.Decide, actor: str, ballot: Ballot) -> ev.Voted:
        approval = self._pending(request.approval_id, ballot.now_ns)
        vote = ballot.read(approval, request.envelope, actor)
        earlier = records.votes(self._reader, approval.approval_id)
        if vote.decision == "reject":
            return ev.Voted(approval=approval, vote=vote, holders=0, missing=0)
        standing = ballot.standing(approval, earlier)
        if {*vote.holders} <= {holder for old in standing for holder in old.holders}:
            raise Conflict(
                f"{', '.join(vote.holders)} has accepted this request already: a holder counts once, whatever the key",
                code="approval.voted",
                hint="another holder must decide",
            )
        self._still_holds(approval)
        holders, missing = ballot.count(approval, (*standing, vote))
        return ev.Voted(approval=approval, vote=vote, holders=holders, missing=missing)

    def _still_holds(self, approval: Approval) -> None:
        """Check the content again: people decided about the lines they saw.

        Raises:
            Conflict: `approval.outdated`, it would now do something else.
        """
        hint = "propose it again, look at what it would do now, and decide about that"
        content = msgspec.json.decode(approval.content)
        try:
            checked = self._checked(
                approval.kind,
                approval.subject,
                content,
                approval.requested_by,
                approval.requested_at_ns,
            )
        except CasparianError as error:
            raise Conflict(
                f"request {approval.approval_id} cannot be carried out any more: {error.message}",
                code="approval.outdated",
                hint=error.hint or hint,
            ) from error
        text = canonical(checked.content).decode()
        found = approval_content_hash(
            approval.kind, approval.subject, checked.scope, text, checked.diff
        )
        if found != approval.content_hash:
            raise Conflict(
                f"what request {approval.approval_id} would do has changed since it was made",
                code="approval.outdated",
                hint=hint,
            )

    def _checked(self, kind: str, subject: str, content: Any, actor: str, at_ns: int) -> Checked:
        if kind not in KINDS:
            raise UsageError(
                f"nothing of the kind `{kind}` is approved here",
                code="approval.kind",
                hint=f"there are {', '.join(sorted(KINDS))}",
            )
        if not 0 < len(subject) <= _SUBJECT_CHARACTERS_MAX or not subject.isprintable():
            raise UsageError("the subject is no printable name", code="approval.content")
        context = CheckContext(
            home=self._home,
            home_id=self._home_id,
            reader=self._reader,
            now_ns=at_ns,
            actor=actor,
        )
        checked = KINDS[kind].check(context, subject, content)
        if len(checked.diff) > DIFF_LINES_MAX:
            raise UsageError(
                f"a change of {len(checked.diff)} lines is more than anybody reads",
                code="approval.content",
                hint="propose it in parts",
            )
        return checked

    def _pending(self, approval_id: str, at_ns: int) -> Approval:
        """A request that can be decided.

        Raises:
            UsageError: `approval.unknown`.
            Conflict: `approval.expired`, `approval.decided`.
        """
        found = records.approval(self._reader, approval_id)
        if found is None:
            raise UsageError(
                f"there is no request `{approval_id[:64]}`",
                code="approval.unknown",
                hint="`casparian approve list` shows what waits",
            )
        state = found.state_at(at_ns)
        if state is ApprovalState.EXPIRED:
            raise Conflict(
                f"request {approval_id} expired at {clock.iso(found.expires_at_ns)}",
                code=EXPIRED,
                hint="propose it again",
            )
        if state is not ApprovalState.PENDING:
            raise Conflict(
                f"request {approval_id} is {state.value} already",
                code="approval.decided",
                hint="`casparian approve list --all` shows how each ended",
            )
        return found

    def _new_id(self) -> str:
        while True:
            approval_id = ids.new_approval_id()
            if records.approval(self._reader, approval_id) is None:
                return approval_id


def _content(request: control.Propose) -> Any:
    """The content as plain values; the same JSON whatever its spacing and order.

    Raises:
        UsageError: `approval.content`, it is no JSON, or too much of it.
    """
    if len(request.content.encode()) > CONTENT_BYTES_MAX:
        raise UsageError(
            f"the content has more than {CONTENT_BYTES_MAX >> 10} KiB", code="approval.content"
        )
    try:
        return msgspec.json.decode(canonical(msgspec.json.decode(request.content)))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"the content is no JSON: {error}", code="approval.content") from error
