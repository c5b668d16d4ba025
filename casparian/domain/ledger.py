"""The ledger of one source: what was there, and where each unit of it went.

    present = rows + recovered_live + quarantined + lost

`present` comes from a walk that shares no record loop with the decoder, and the accounting is made window by window over the
units' spans, so that a lost unit cannot be hidden by a doubled one. Slack and carved units (`recovered_extra`) are
outside `present`. `balanced` means that nothing was lost.
"""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something the examiner must know about the bytes: a stable code and where."""

    code: str
    offset: int
    length: int
    message: str


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Balance of one source. Counts are in `unit`s of the parser's main output."""

    unit: str
    declared: int | None
    present: int
    rows: int
    recovered_live: int
    recovered_extra: int
    quarantined: int
    quarantined_extra: int
    lost: int
    blank_units: int
    blank_bytes: int
    balanced: bool
    findings: tuple[Finding, ...] = ()

    @property
    def recovered(self) -> int:
        """Units read from damage, slack or carving."""
        return self.recovered_live + self.recovered_extra
