"""The kind `trust.allow_unsigned`: whether Python parsers that nobody signed run in this home.

It is off until people with a say in `settings/allow_unsigned_python` accept it, and off again by the same way. The record of the
accepted request is the truth; `HOME/trust/state.json`, which the planner and the workers read, follows it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from casparian.db.operations import Operation, RecordDecision
from casparian.domain.approvals import Approval
from casparian.errors import UsageError
from casparian.sentinel.approval_kinds import CheckContext, Checked, Kind
from casparian.sentinel.effects import SettleTrust
from casparian.sentinel.turn import Turn
from casparian.trust import state as trust_state

KIND_NAME: Final = "trust.allow_unsigned"
SETTING: Final = "allow_unsigned_python"
SCOPE: Final = f"settings/{SETTING}"
_MEANING: Final = (
    "Python parsers of HOME/parsers, and those named by their folder, run although nobody signed them;",
    "each file gets a guest of its own, receipts say so, and `_cf_parser` of each row ends in ` (unsigned)`.",
    "A bad signature is refused as before, and so is native code that nobody signed.",
)


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for."""

    allow: bool
    reason: str


def _check(context: CheckContext, subject: str, content: Any) -> Checked:
    try:
        asked = msgspec.convert(content, Content)
    except msgspec.ValidationError as error:
        raise UsageError(f"malformed content: {error}", code="approval.content") from error
    if subject != SETTING or not asked.reason.strip() or len(asked.reason) > 2_000:
        raise UsageError(
            f"the subject is `{SETTING}`, and a reason is needed", code="approval.content"
        )
    now = trust_state.load(context.home.trust).allow_unsigned is not None
    if now is asked.allow:
        raise UsageError(
            f"unsigned Python parsers are {'allowed' if now else 'refused'} here already",
            code="trust.unchanged",
            hint="`casparian trust show`",
        )
    return Checked(
        scope=SCOPE,
        content=msgspec.to_builtins(asked),
        diff=(
            f"- {SETTING} = {str(now).lower()}",
            f"+ {SETTING} = {str(asked.allow).lower()}",
            f"reason: {asked.reason}",
            *(_MEANING if asked.allow else ()),
        ),
    )


def _apply(turn: Turn, approval: Approval) -> tuple[Operation, ...]:
    content = msgspec.json.decode(approval.content, type=Content)
    fields: dict[str, str | int] = {
        "approval_id": approval.approval_id,
        "reason": content.reason,
        "allow": str(content.allow).lower(),
        "actor": approval.requested_by,
    }
    return (RecordDecision(at_ns=turn.state.now_ns, kind=KIND_NAME, fields=fields),)


def _applied(turn: Turn, approval: Approval) -> None:
    del approval
    turn.emit(SettleTrust())


KIND: Final = Kind(check=_check, apply=_apply, applied=_applied)
