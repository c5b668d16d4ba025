"""Approvals in the sentinel: proposals and decisions, one after the other, and what an acceptance does.

A proposal or decision is considered beside the loop (`io.approving`: the record is read, signatures are verified) and applied
here. The next one is considered when the one before is durable, so that what was read is still so when it is applied. The
acceptance, the decision that made it and all it changes are one transaction with their entries on the tape.
"""

from __future__ import annotations

from typing import Final

from casparian.db.operations import (
    EndApproval,
    ExpireApprovals,
    Operation,
    SaveProposal,
    SaveVote,
)
from casparian.domain.approvals import Approval, ApprovalState, Vote
from casparian.errors import CasparianError, ExitCode
from casparian.protocol import control
from casparian.sentinel import answering, contracting, limits, quarantining, unsigned
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.approval_kinds import Kind
from casparian.sentinel.effects import Consider
from casparian.sentinel.planner import failure_of
from casparian.sentinel.turn import Turn

WAITING_MAX: Final = 256
EXPIRED: Final = "approval.expired"

# Every change of what is trusted: who checks it, and who carries it out.
KINDS: Final[dict[str, Kind]] = {
    "limits.raise": limits.KIND,
    "quarantine.accept": quarantining.KIND,
    unsigned.KIND_NAME: unsigned.KIND,
    **contracting.KINDS,
}


def asked(
    turn: Turn,
    event: ev.ClientAsked,
    request: control.Propose | control.Decide | control.Withdraw,
) -> None:
    """Take a proposal or decision into the queue."""
    waiting = turn.state.considering
    if len(waiting) >= WAITING_MAX:
        failure = control.Failure(
            code="approval.busy",
            message=f"{len(waiting)} proposals and decisions wait already",
            exit_code=ExitCode.CONFLICT,
            hint="run the same command again",
        )
        answering.answer_asker(turn, event.client_id, event.number, failure)
        return
    actor = turn.state.clients.get(event.client_id, "unknown")
    turn.change(considering=(*waiting, (actor, request)))
    if not waiting:
        _begin(turn)


def considered(turn: Turn, event: ev.Considered) -> None:
    """Record what became of the first in the queue, or refuse it."""
    match event.outcome:
        case control.Failure():
            _refuse(turn, event, event.outcome)
        case ev.Proposed():
            _proposed(turn, event, event.outcome)
        case ev.Voted():
            _voted(turn, event, event.outcome)
        case ev.TakenBack():
            approval = event.outcome.approval
            end = _end(event, approval, ApprovalState.WITHDRAWN)
            done = control.Done(
                message=f"{_named(approval)} is withdrawn",
                count=1,
                fields=_fields(approval, ApprovalState.WITHDRAWN),
            )
            _record(turn, event, (end,), done)


def accepted_by_statement(
    at_ns: int,
    approval: Approval,
    *,
    keyids: tuple[str, ...],
    holders: tuple[str, ...],
    role: str,
    reason: str,
    actor: str,
    statement: bytes,
) -> tuple[Operation, ...]:
    """Record a request that a verified statement decided before anybody asked: proposed, voted for and accepted at once.

    For what people sign themselves, such as a parser whose signers have the say over its name. The caller has verified the
    statement, and puts its own operations behind these into the same transaction.

    Args:
        at_ns: when.
        approval: as proposed, with an id made beside the loop.
        keyids: whose signatures hold.
        holders: of these keys.
        role: that gave them the say.
        reason: what the statement says of itself.
        actor: who handed it in.
        statement: the envelope, kept as the decision.
    """
    vote = Vote(
        approval_id=approval.approval_id,
        decision="accept",
        keyids=keyids,
        holders=holders,
        role=role,
        reason=reason,
        actor=actor,
        envelope=statement,
        at_ns=at_ns,
    )
    return (
        SaveProposal(at_ns=at_ns, approval=approval),
        SaveVote(at_ns=at_ns, vote=vote),
        EndApproval(
            at_ns=at_ns,
            approval=approval,
            after=ApprovalState.ACCEPTED,
            actor=actor,
            reason=reason,
        ),
    )


def recorded(turn: Turn, then: after.AfterApproval, results: tuple[object, ...]) -> None:
    """It is durable: carry out what an acceptance does outside of the record, answer, go on with the next."""
    if then.accepted is not None:
        KINDS[then.accepted.kind].applied(turn, then.accepted)
    answering.recorded(turn, then, results)
    _next(turn)


def _begin(turn: Turn) -> None:
    actor, request = turn.state.considering[0]
    turn.emit(Consider(actor=actor, request=request))


def _next(turn: Turn) -> None:
    turn.change(considering=turn.state.considering[1:])
    if turn.state.considering:
        _begin(turn)


def _refuse(turn: Turn, event: ev.Considered, failure: control.Failure) -> None:
    """Nothing of it happened; it may be asked again under the same request id."""
    if failure.code == EXPIRED:
        turn.persist(ExpireApprovals(at_ns=event.at_ns))
    answering.answer(turn, event.request_id, failure)
    _next(turn)


def _proposed(turn: Turn, event: ev.Considered, outcome: ev.Proposed) -> None:
    approval = outcome.approval
    fields = _fields(approval, ApprovalState.PENDING)
    fields |= {"diff": "\n".join(approval.diff), "scope": approval.scope}
    if outcome.dry_run:
        message = f"this would ask for an approval of {approval.kind} {approval.subject}"
        done = control.Done(message=message, fields=fields)
        answering.answer(turn, event.request_id, done)
        _next(turn)
        return
    operations: tuple[Operation, ...] = ()
    if outcome.known:
        message = f"{_named(approval)} waits already"
    else:
        message = f"{_named(approval)} waits for an approval"
        operations = (
            SaveProposal(at_ns=event.at_ns, approval=approval, supersedes=outcome.supersedes),
        )
    done = control.Done(message=message, count=1, fields=fields)
    _record(turn, event, operations, done)


def _voted(turn: Turn, event: ev.Considered, outcome: ev.Voted) -> None:
    approval, vote = outcome.approval, outcome.vote
    operations: tuple[Operation, ...] = (SaveVote(at_ns=event.at_ns, vote=vote),)
    accepted: Approval | None = None
    state = ApprovalState.PENDING
    if vote.decision == "reject":
        state = ApprovalState.REJECTED
        operations = (*operations, _end(event, approval, state))
        message = f"{_named(approval)} is rejected"
    elif outcome.missing:
        needed = outcome.holders + outcome.missing
        message = f"{outcome.holders} of {needed} have accepted {_named(approval)}"
    else:
        try:
            applied = KINDS[approval.kind].apply(turn, approval)
        except CasparianError as error:
            _refuse(turn, event, failure_of(error))
            return
        state, accepted = ApprovalState.ACCEPTED, approval
        operations = (*operations, _end(event, approval, state), *applied)
        message = f"{_named(approval)} is accepted and in force"
    fields = _fields(approval, state)
    fields |= {"holders": outcome.holders, "missing": outcome.missing}
    done = control.Done(message=message, count=1, fields=fields)
    _record(turn, event, operations, done, accepted)


def _record(
    turn: Turn,
    event: ev.Considered,
    operations: tuple[Operation, ...],
    done: control.Done,
    accepted: Approval | None = None,
) -> None:
    expired = ExpireApprovals(at_ns=event.at_ns)
    then = after.AfterApproval(request_id=event.request_id, accepted=accepted)
    answering.record(turn, event.request_id, (expired, *operations), done, then=then)


def _end(event: ev.Considered, approval: Approval, state: ApprovalState) -> EndApproval:
    return EndApproval(
        at_ns=event.at_ns,
        approval=approval,
        after=state,
        actor=event.actor,
        reason=event.reason,
    )


def _named(approval: Approval) -> str:
    return f"{approval.approval_id} ({approval.kind} {approval.subject})"


def _fields(approval: Approval, state: ApprovalState) -> dict[str, str | int]:
    return {
        "approval_id": approval.approval_id,
        "state": state.value,
        "content_hash": approval.content_hash,
        "expires_at_ns": approval.expires_at_ns,
    }
