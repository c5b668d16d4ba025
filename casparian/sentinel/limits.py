"""The kind `limits.raise`: a laboratory lets a parser use more than its manifest declares."""

from __future__ import annotations

from typing import Any

import msgspec

from casparian.db import approvals as records
from casparian.db.operations import Operation, RaiseLimits
from casparian.domain.approvals import Approval
from casparian.domain.limits import LaboratoryLimits, problem_with
from casparian.errors import UsageError
from casparian.sentinel.approval_kinds import CheckContext, Checked, Kind
from casparian.sentinel.turn import Turn
from casparian.trust.library import ParserLibrary


class _Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    parser: str
    limits: dict[str, int]


def _check(context: CheckContext, subject: str, content: Any) -> Checked:
    """Each limit must be above what is in force for the version that would run now."""
    try:
        asked = msgspec.convert(content, _Content)
    except msgspec.ValidationError as error:
        raise UsageError(f"malformed content: {error}", code="approval.content") from error
    library = ParserLibrary.of(context.home)
    manifest = library.find(subject).manifest
    if not subject == asked.parser == manifest.name:
        raise UsageError(
            f"`{subject}` is not the name of the parser `{manifest.name}`", code="approval.content"
        )
    problem = problem_with(asked.limits) if asked.limits else "no limit is named"
    if problem is not None:
        raise UsageError(problem, code="limits.invalid")
    own = records.laboratory_limits(context.reader).get(subject, LaboratoryLimits())
    in_force = own.effective(manifest.limits)
    diff = [f"parser {subject}"]
    for name, value in sorted(asked.limits.items()):
        declared, now = getattr(manifest.limits, name), getattr(in_force, name)
        if value <= max(declared, own.allowed(name)):
            raise UsageError(
                f"`{name}` = {value} raises nothing: up to {max(declared, own.allowed(name))} is allowed already",
                code="limits.not_raised",
                hint="lowering a limit, or going back, needs no approval",
            )
        diff.append(f"- {name} = {now}")
        diff.append(f"+ {name} = {value}    (version {manifest.version} declares {declared})")
    return Checked(
        scope=f"settings/limits.{subject}",
        content={"parser": subject, "limits": asked.limits},
        diff=tuple(diff),
    )


def _apply(turn: Turn, approval: Approval) -> tuple[Operation, ...]:
    content = msgspec.json.decode(approval.content, type=_Content)
    return (
        RaiseLimits(
            at_ns=turn.state.now_ns,
            parser=content.parser,
            limits=content.limits,
            approval_id=approval.approval_id,
            actor=approval.requested_by,
        ),
    )


KIND = Kind(check=_check, apply=_apply)
