"""The ledger of one source: what was there, and where each unit of it went.

    present = rows + recovered_live + quarantined + lost

`present` comes from a walk that shares no record loop with the decoder, and the accounting is made window by window over the
units' spans, so that a lost unit cannot be hidden by a doubled one. Slack and carved units (`recovered_extra`) are
outside `present`. `balanced` means that nothing was lost.
"""

from __future__ import annotations

import msgspec

from casparian.domain.numbers import Count


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something the examiner must know about the bytes: a stable code and where."""

    code: str
    offset: Count
    length: Count
    message: str


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Balance of one source. Counts are in `unit`s, which are the rows of the parser's main outputs."""

    unit: str
    declared: Count | None
    present: Count
    rows: Count
    recovered_live: Count
    recovered_extra: Count
    quarantined: Count
    quarantined_extra: Count
    lost: Count
    blank_units: Count
    blank_bytes: Count
    balanced: bool
    findings: tuple[Finding, ...] = ()

    @property
    def recovered(self) -> int:
        """Units read from damage, slack or carving."""
        return self.recovered_live + self.recovered_extra
