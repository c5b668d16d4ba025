"""Approvals and the limits they raise, in the control database: how they are written, and how they are read again.

The writer keeps two invariants itself, whatever asks it: a request ends once, and none is accepted without a recorded decision
that accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db import operations as op
from casparian.db.rows import first_row, scalar
from casparian.domain.approvals import Approval, ApprovalState, Vote
from casparian.domain.limits import LaboratoryLimits, Raised
from casparian.errors import CasparianError

if TYPE_CHECKING:
    import duckdb

_APPROVAL: Final = ", ".join(Approval.__struct_fields__)
_VOTE: Final = ", ".join(Vote.__struct_fields__)


class StaleApproval(CasparianError):
    """A request that should be pending, or have votes, is or has not."""

    code = "approval.stale"


class ApprovalWriter:
    """The part of the single writer that concerns approvals; belongs to its thread and its transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tape: Callable[..., None]) -> None:
        self._connection = connection
        self._tape = tape
        self.handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.SaveProposal: self._save_proposal,
            op.SaveVote: self._save_vote,
            op.EndApproval: self._end,
            op.ExpireApprovals: self._expire,
            op.RaiseLimits: self._raise_limits,
            op.LowerLimits: self._lower_limits,
        }

    def _save_proposal(self, o: op.SaveProposal) -> None:
        new = o.approval
        for old in o.supersedes:
            self._leave_pending(old, ApprovalState.SUPERSEDED, o.at_ns, new.approval_id)
            self._tape(
                o.at_ns, "approval.superseded", approval_id=old, superseded_by=new.approval_id
            )
        self._connection.execute(
            "INSERT INTO cf_approvals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            [
                new.approval_id,
                new.kind,
                new.subject,
                new.scope,
                new.content,
                new.content_hash,
                msgspec.json.encode(new.diff).decode(),
                new.requested_by,
                new.requested_at_ns,
                new.expires_at_ns,
                ApprovalState.PENDING.value,
            ],
        )
        self._tape(
            o.at_ns,
            "approval.proposed",
            approval_id=new.approval_id,
            approval_kind=new.kind,
            subject=new.subject,
            scope=new.scope,
            content_hash=new.content_hash,
            actor=new.requested_by,
            expires_at_ns=new.expires_at_ns,
        )

    def _save_vote(self, o: op.SaveVote) -> None:
        vote = o.vote
        self._connection.execute(
            "INSERT INTO cf_approval_votes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                vote.approval_id,
                vote.decision,
                msgspec.json.encode(vote.keyids).decode(),
                msgspec.json.encode(vote.holders).decode(),
                vote.role,
                vote.reason,
                vote.actor,
                vote.envelope,
                vote.at_ns,
            ],
        )
        self._tape(
            o.at_ns,
            "approval.vote",
            approval_id=vote.approval_id,
            decision=vote.decision,
            keyids=list(vote.keyids),
            holders=list(vote.holders),
            role=vote.role,
            reason=vote.reason,
            actor=vote.actor,
            envelope=vote.envelope.decode("utf-8", "backslashreplace"),
        )

    def _end(self, o: op.EndApproval) -> None:
        approval = o.approval
        if o.after is ApprovalState.ACCEPTED and not scalar(
            self._connection,
            "SELECT count(*) FROM cf_approval_votes WHERE approval_id = ? AND decision = 'accept'",
            [approval.approval_id],
        ):
            raise StaleApproval(f"no decision accepts request {approval.approval_id}")
        self._leave_pending(approval.approval_id, o.after, o.at_ns, None)
        self._tape(
            o.at_ns,
            f"approval.{o.after.value}",
            approval_id=approval.approval_id,
            approval_kind=approval.kind,
            subject=approval.subject,
            content_hash=approval.content_hash,
            actor=o.actor,
            reason=o.reason,
        )

    def _expire(self, o: op.ExpireApprovals) -> int:
        found = self._connection.execute(
            "SELECT approval_id FROM cf_approvals WHERE state = 'pending' AND expires_at_ns <= ? ORDER BY ALL",
            [o.at_ns],
        ).fetchall()
        for (approval_id,) in found:
            self._leave_pending(approval_id, ApprovalState.EXPIRED, o.at_ns, None)
            self._tape(o.at_ns, "approval.expired", approval_id=approval_id)
        return len(found)

    def _leave_pending(
        self, approval_id: str, after: ApprovalState, at_ns: int, superseded_by: str | None
    ) -> None:
        found = self._connection.execute(
            "UPDATE cf_approvals SET state = ?, ended_at_ns = ?, superseded_by = ? "
            "WHERE approval_id = ? AND state = 'pending' RETURNING approval_id",
            [after.value, at_ns, superseded_by, approval_id],
        ).fetchall()
        if not found:
            raise StaleApproval(f"request {approval_id} is not pending")

    def _raise_limits(self, o: op.RaiseLimits) -> None:
        """A raised limit also takes the place of a lower bound that the laboratory set before: the approval is about it."""
        for name, value in o.limits.items():
            self._forget_limits(o.parser, name)
            self._connection.execute(
                "INSERT INTO cf_parser_limits VALUES (?, ?, ?, ?, ?, ?)",
                [o.parser, name, value, o.approval_id, o.actor, o.at_ns],
            )
        self._tape(
            o.at_ns,
            "limits.raised",
            parser=o.parser,
            limits=o.limits,
            approval_id=o.approval_id,
            actor=o.actor,
        )

    def _lower_limits(self, o: op.LowerLimits) -> None:
        for name, value in o.limits.items():
            self._forget_limits(o.parser, name, raised=value is None)
            if value is not None:
                self._connection.execute(
                    "INSERT INTO cf_parser_limits VALUES (?, ?, ?, '', ?, ?)",
                    [o.parser, name, value, o.actor, o.at_ns],
                )
        self._tape(o.at_ns, "limits.lowered", parser=o.parser, limits=o.limits, actor=o.actor)

    def _forget_limits(self, parser: str, name: str, *, raised: bool = True) -> None:
        self._connection.execute(
            "DELETE FROM cf_parser_limits WHERE parser = ? AND name = ? AND (approval_id = '' OR ?)",
            [parser, name, raised],
        )


def approval(connection: duckdb.DuckDBPyConnection, approval_id: str) -> Approval | None:
    """One request, as recorded."""
    row = first_row(
        connection, f"SELECT {_APPROVAL} FROM cf_approvals WHERE approval_id = ?", [approval_id]
    )
    return None if row is None else _approval(row)


def pending(connection: duckdb.DuckDBPyConnection, kind: str, subject: str) -> list[Approval]:
    """Requests of a kind about a subject that are recorded as pending, oldest first."""
    rows = connection.execute(
        f"SELECT {_APPROVAL} FROM cf_approvals WHERE state = 'pending' AND kind = ? AND subject = ? "
        "ORDER BY requested_at_ns, approval_id",
        [kind, subject],
    ).fetchall()
    return [_approval(row) for row in rows]


def newest_accepted(connection: duckdb.DuckDBPyConnection, kind: str) -> Approval | None:
    """The request of a kind that was accepted last."""
    row = first_row(
        connection,
        f"SELECT {_APPROVAL} FROM cf_approvals WHERE kind = ? AND state = 'accepted' "
        "ORDER BY ended_at_ns DESC, rowid DESC LIMIT 1",
        [kind],
    )
    return None if row is None else _approval(row)


def votes(connection: duckdb.DuckDBPyConnection, approval_id: str) -> list[Vote]:
    """Decisions about a request, oldest first."""
    rows = connection.execute(
        f"SELECT {_VOTE} FROM cf_approval_votes WHERE approval_id = ? ORDER BY rowid", [approval_id]
    ).fetchall()
    found = []
    for row in rows:
        named = dict(zip(Vote.__struct_fields__, row, strict=True))
        for name in ("keyids", "holders"):
            named[name] = msgspec.json.decode(named[name], type=tuple[str, ...])
        found.append(Vote(**(named | {"envelope": bytes(named["envelope"])})))
    return found


def newest_time_ns(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest moment that approvals have recorded: time does not go back behind it."""
    return scalar(
        connection,
        "SELECT max(greatest(requested_at_ns, coalesce(ended_at_ns, 0))) FROM cf_approvals",
    )


def laboratory_limits(connection: duckdb.DuckDBPyConnection) -> dict[str, LaboratoryLimits]:
    """Limits that this laboratory set, by parser."""
    rows = connection.execute(
        "SELECT parser, name, value, approval_id, set_at_ns FROM cf_parser_limits ORDER BY ALL"
    ).fetchall()
    found: dict[str, LaboratoryLimits] = {}
    for parser, name, value, approval_id, set_at_ns in rows:
        limits = found.get(parser, LaboratoryLimits())
        if approval_id:
            raised = Raised(value=value, approval_id=approval_id, at_ns=set_at_ns)
            limits = msgspec.structs.replace(limits, raised={**limits.raised, name: raised})
        else:
            limits = msgspec.structs.replace(limits, lowered={**limits.lowered, name: value})
        found[parser] = limits
    return found


def _approval(row: Sequence[Any]) -> Approval:
    named = dict(zip(Approval.__struct_fields__, row, strict=True))
    named["diff"] = msgspec.json.decode(named["diff"], type=tuple[str, ...])
    named["state"] = ApprovalState(named["state"])
    return Approval(**named)
