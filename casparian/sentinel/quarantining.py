"""The kind `quarantine.accept`: rows that are understood and stay in quarantine; and taking that back.

An acceptance changes no row and no limit: limits are about what a job finds in evidence, and must give the same verdict whoever
has decided what. It says that people have looked. It is bound to the exact rows: rows that a later job sets aside again, of
the same bytes even, are open until somebody decides about them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db import quarantine as records
from casparian.db.operations import AcceptQuarantine, Operation, ReopenQuarantine
from casparian.display import show
from casparian.domain.approvals import Approval
from casparian.domain.quarantine import Acceptance, problem_with
from casparian.errors import CasparianError, Conflict, UsageError
from casparian.protocol import control
from casparian.sentinel import answering
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.approval_kinds import CheckContext, Checked, Kind
from casparian.sentinel.turn import Turn

if TYPE_CHECKING:
    from casparian.sinks.quarantine_rows import HeldRow

_LINES_MAX: Final = 2_000
_WIDTH: Final = 200


def _check(context: CheckContext, subject: str, content: Any) -> Checked:
    """Every named row must be there, of that parser, open, and with the bytes that the hash says."""
    try:
        asked = msgspec.convert(content, Acceptance)
    except msgspec.ValidationError as error:
        raise UsageError(f"malformed content: {error}", code="approval.content") from error
    problem = problem_with(asked)
    if problem is None and subject != asked.subject:
        problem = f"the subject of this decision is `{asked.subject}`"
    if problem is not None:
        raise UsageError(problem, code="approval.content")
    rows = _rows(context, asked)
    return Checked(
        scope=f"quarantine/{asked.parser}",
        content=msgspec.to_builtins(asked),
        diff=tuple(_lines(asked, rows)),
    )


def _rows(context: CheckContext, asked: Acceptance) -> list[HeldRow]:
    from casparian.sinks.quarantine_rows import (  # with the library that reads Parquet
        read_held,
        rows_hash,
    )

    pairs = {(span.job_id, span.source_id) for span in asked.spans}
    gone = pairs - records.living_pairs(context.reader, asked.parser, pairs)
    if gone:
        raise Conflict(
            f"rows of {len(gone)} of {len(pairs)} files are in quarantine no more, or are not of `{asked.parser}`",
            code="quarantine.rows_changed",
            hint="`casparian quarantine` shows what is there now",
        )
    held = records.held_by_decisions(context.reader, asked.spans)
    if held:
        raise Conflict(
            f"some of these rows are accepted already, by decision {held[0]}",
            code="quarantine.accepted",
            hint="name open rows only: `--state open`",
        )
    files = records.files_of_jobs(context.reader, {job_id for job_id, _ in pairs})
    try:
        rows = read_held(files, asked.spans)
    except OSError as error:
        raise CasparianError(
            f"the quarantine cannot be read: {error}", code="quarantine.unreadable"
        ) from error
    if len(rows) != asked.rows or rows_hash(rows) != asked.rows_hash:
        raise Conflict(
            "these are not the rows that were looked at: their number or their bytes differ",
            code="quarantine.rows_changed",
            hint="look again: `casparian quarantine`",
        )
    return rows


def _lines(asked: Acceptance, rows: list[HeldRow]) -> list[str]:
    """What people decide about: reasons and files with their numbers, and an example of each."""
    lines = [
        f"accept as they are: {len(rows)} quarantined rows of {asked.parser}",
        f"because: {show(asked.reason)}",
        f"rows hash {asked.rows_hash}",
    ]
    counted = Counter((row.reason, row.source_path) for row in rows)
    example: dict[tuple[str, str], str] = {}
    for row in rows:
        example.setdefault((row.reason, row.source_path), row.row_id)
    groups = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    for key, number in groups[:_LINES_MAX]:
        reason, path = key
        lines.append(
            f"  {number} x {show(reason)}  {show(path, width=_WIDTH)}  for example {example[key]}"
        )
    if len(groups) > _LINES_MAX:
        rest = sum(number for _, number in groups[_LINES_MAX:])
        lines.append(f"  {rest} more rows, of {len(groups) - _LINES_MAX} more reasons and files")
    return lines


def _apply(turn: Turn, approval: Approval) -> tuple[Operation, ...]:
    asked = msgspec.json.decode(approval.content, type=Acceptance)
    return (
        AcceptQuarantine(
            at_ns=turn.state.now_ns,
            decision_id=approval.approval_id,
            acceptance=asked,
            actor=approval.requested_by,
        ),
    )


def _applied(turn: Turn, _approval: Approval) -> None:
    """Readers tell open rows from accepted ones by the catalog."""
    turn.change(catalog_dirty=True)


KIND = Kind(check=_check, apply=_apply, applied=_applied)


def reopen(turn: Turn, event: ev.ClientAsked, request: control.ReopenQuarantine) -> None:
    """Take decisions back: their rows are open again. This accepts nothing, and needs no key."""
    operation = ReopenQuarantine(
        at_ns=turn.state.now_ns,
        decision_ids=request.decision_ids,
        reason=request.reason,
        actor=turn.state.clients.get(event.client_id, "unknown"),
    )
    answering.record(
        turn,
        request.request_id,
        (operation,),
        template="{n} decisions taken back: their rows are open again",
        then=after.AfterMutation(request_id=request.request_id, catalog=True),
    )
