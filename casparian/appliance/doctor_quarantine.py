"""What waits in quarantine, and whether accepted rows still are those that somebody decided about."""

from __future__ import annotations

from casparian.appliance.doctor_check import Check
from casparian.errors import CasparianError
from casparian.query import quarantine
from casparian.query.engine import Query
from casparian.sinks.quarantine_rows import HeldRow, held_rows, rows_hash

_NAME = "quarantine"


def check(query: Query, *, verify: bool) -> Check:
    """Count open and accepted rows.

    Args:
        query: of the home.
        verify: hash accepted rows again and compare them with their decisions.
    """
    try:
        if not quarantine.is_there(query):
            return Check(check=_NAME, status="ok", message="nothing was ever set aside")
        counts = quarantine.stats(query, quarantine.Filter())
        altered = _altered(query) if verify and counts["accepted"] else []
    except CasparianError as error:
        return Check(check=_NAME, status="fail", message=error.message, hint=error.hint)
    message = (
        f"{counts['rows']} rows set aside: {counts['open']} open, {counts['accepted']} accepted"
    )
    if altered:
        return Check(
            check=_NAME,
            status="fail",
            message=f"{message}; rows of {len(altered)} decisions are not those that were decided about",
            hint="`casparian doctor --verify` names altered files; `casparian quarantine reopen` takes decisions back",
            details=tuple({"decision_id": name} for name in altered),
        )
    hint = "`casparian quarantine` shows why" if counts["open"] else None
    return Check(check=_NAME, status="ok", message=message, hint=hint)


def _altered(query: Query) -> list[str]:
    """Decisions of which all rows are there, and are other ones."""
    held: dict[str, list[HeldRow]] = {}
    accepted = quarantine.Filter(state=quarantine.ACCEPTED)
    for batch in quarantine.batches(query, accepted):
        names = batch.column("decision_id").to_pylist()
        for name, row in zip(names, held_rows([batch]), strict=True):
            held.setdefault(name, []).append(row)
    return [
        line["decision_id"]
        for line in quarantine.decisions(query)
        if line["rows_now"] == line["rows"]
        and rows_hash(sorted(held.get(line["decision_id"], []))) != line["rows_hash"]
    ]
