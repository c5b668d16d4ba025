"""Balance the ledger of one source: what the independent walk found against what became of it.

The spans of main rows and of quarantined units are tallied window by window and compared with the
walk's, so that a lost unit cannot be hidden by a doubled one. Slack and carved units are outside of
`present` and are not tallied.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from casparian import _native
from casparian.domain.ledger import Finding, Ledger
from casparian.domain.numbers import INTEGER_MAX

FINDINGS_MAX: Final = 10_000
WINDOWS: Final = {  # origin and width, in bytes
    "evtx": (4_096, 65_536),
    "lines": (0, 1 << 20),
    "hive": (4_096, 65_536),
    "delimited": (0, 1 << 20),
}
# What lies in free cells has no length and no end of its own: only a decoder's judgement finds it.
_SLACK_NOT_WALKED: Final = frozenset({"cell"})
_MESSAGE_CHARACTERS_MAX: Final = 300
_WIDTHS: Final = (8, 8, 4)  # bytes of an offset, a length, flags


class Spans:
    """The bookkeeping columns of a batch: buffers that can be tallied in parts, without a copy."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._offsets, self._lengths, self._flags = (
            _values(batch.column(position), width) for position, width in enumerate(_WIDTHS)
        )

    def tally(self, tally: _native.Tally, start: int, count: int) -> tuple[int, int, int]:
        """Add rows to a tally: how many were, how many of them are recovered, how many are slack or carved."""
        if not count:
            return 0, 0, 0
        return tally.add_rows(
            self._offsets.slice(start * 8, count * 8),
            self._lengths.slice(start * 8, count * 8),
            self._flags.slice(start * 4, count * 4),
        )


class Units:
    """Units of one source as they come out of the parser: counts by class, and a tally of spans.

    Args:
        account: which walk they will be compared with.
    """

    def __init__(self, account: str) -> None:
        self._tally = _native.Tally(*WINDOWS[account])
        self.rows = 0
        self.recovered_live = 0
        self.recovered_extra = 0
        self.quarantined = 0
        self.quarantined_extra = 0

    @property
    def live(self) -> int:
        """Units that `present` should account for."""
        return self.rows + self.recovered_live + self.quarantined

    def add_rows(self, batch: pa.RecordBatch) -> None:
        """Rows of a main output that keep the contract."""
        self.add_spans(Spans(batch), 0, batch.num_rows)

    def add_spans(self, spans: Spans, start: int, count: int) -> None:
        """As `add_rows`: so many of these rows, from `start` on."""
        live, recovered, extra = spans.tally(self._tally, start, count)
        self.recovered_extra += extra
        self.recovered_live += recovered
        self.rows += live - recovered

    def add_quarantined(self, batch: pa.RecordBatch) -> None:
        """Units that were set aside."""
        self.add_quarantined_spans(Spans(batch), 0, batch.num_rows)

    def add_quarantined_spans(self, spans: Spans, start: int, count: int) -> None:
        """As `add_quarantined`: so many of these rows, from `start` on."""
        live, _, extra = spans.tally(self._tally, start, count)
        self.quarantined_extra += extra
        self.quarantined += live

    def differences(self, account: _native.Account) -> list[_native.WindowDifference]:
        """Windows that do not agree; `ValueError` when the account has other windows."""
        return self._tally.compare(account)


def balance(units: Units, account: _native.Account | None, unit: str, why: str = "") -> Ledger:
    """The ledger of one source.

    Args:
        units: what came out of the parser and stayed after the contract.
        account: what the walk found; `None` when it failed.
        unit: of the main outputs: `record`, `line` or `cell`.
        why: the reason when there is no account.
    """
    if account is None:
        return _unavailable(units, unit, why)
    try:
        differences = units.differences(account)
    except ValueError as error:
        return _unavailable(units, unit, str(error))
    findings = [
        Finding(code=code, offset=offset, length=length, message=message[:_MESSAGE_CHARACTERS_MAX])
        for code, offset, length, message in account.findings[: FINDINGS_MAX + 1]
    ]
    lost = 0
    for difference in differences:
        missing = max(0, difference.present - difference.accounted)
        if difference.present == difference.accounted:
            missing = 1  # as many units, but not the same: at least one is not accounted for
        lost += missing
        if len(findings) < 2 * FINDINGS_MAX:
            findings.append(_finding(difference, unit, account.window_bytes))
    if len(differences) > FINDINGS_MAX:
        findings.append(_capped(len(differences)))
    extra = units.recovered_extra + units.quarantined_extra
    if extra != account.slack_records and unit not in _SLACK_NOT_WALKED:
        findings.append(_slack_differs(account.slack_records, extra))
    return Ledger(
        unit=unit,
        declared=None if account.declared is None else min(account.declared, INTEGER_MAX),
        present=account.present,
        rows=units.rows,
        recovered_live=units.recovered_live,
        recovered_extra=units.recovered_extra,
        quarantined=units.quarantined,
        quarantined_extra=units.quarantined_extra,
        lost=lost,
        blank_units=account.blank_units,
        blank_bytes=account.blank_bytes,
        balanced=not differences,
        findings=tuple(findings),
    )


def _finding(difference: _native.WindowDifference, unit: str, window_bytes: int) -> Finding:
    present, accounted = difference.present, difference.accounted
    if present > accounted:
        code = f"{unit}.lost"
        message = f"{present} {unit}s are present here, {accounted} are accounted for"
    elif present < accounted:
        code = "ledger.surplus"
        message = f"{accounted} {unit}s are accounted for here, {present} are present"
    else:
        code = "ledger.mismatch"
        message = f"{present} {unit}s are present and as many accounted for, but not the same ones"
    return Finding(code=code, offset=difference.offset, length=window_bytes, message=message)


def _slack_differs(walked: int, accounted: int) -> Finding:
    """Slack is outside `present`, so it cannot unbalance a ledger; yet a difference must be seen."""
    message = f"the walk found {walked} records in slack or by carving, {accounted} are rows or quarantined"
    return Finding(code="slack.mismatch", offset=0, length=0, message=message)


def _capped(windows: int) -> Finding:
    message = f"{windows} windows do not balance; the first of them are listed"
    return Finding(code="findings.capped", offset=0, length=0, message=message)


def _unavailable(units: Units, unit: str, why: str) -> Ledger:
    message = f"the independent walk failed, so nothing proves that all {unit}s are here: {why}"
    return Ledger(
        unit=unit,
        declared=None,
        present=units.live,
        rows=units.rows,
        recovered_live=units.recovered_live,
        recovered_extra=units.recovered_extra,
        quarantined=units.quarantined,
        quarantined_extra=units.quarantined_extra,
        lost=0,
        blank_units=0,
        blank_bytes=0,
        balanced=False,
        findings=(Finding(code="ledger.unavailable", offset=0, length=0, message=message),),
    )


def _values(column: pa.Array, width: int) -> pa.Buffer:
    """The column's values as a buffer of little-endian integers of so many bytes, without a copy."""
    if not len(column):
        return pa.py_buffer(b"")
    return column.buffers()[1].slice(column.offset * width, len(column) * width)
