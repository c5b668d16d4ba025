"""When a job sets too much aside to be kept."""

from __future__ import annotations

from collections.abc import Sequence

from casparian.protocol.worker import Dispatch, SourceReceipt


def over(
    dispatch: Dispatch, receipts: Sequence[SourceReceipt], rows: int, quarantined: int
) -> str | None:
    """Why the policy calls this job a failure, if it does.

    Remains in slack do not count: they are outside what is present, and every reused log is full of them.

    Args:
        dispatch: names the policy.
        receipts: of all sources.
        rows: of all outputs and sources, without quarantine.
        quarantined: rows set aside, of all sources.
    """
    remains = sum(r.ledger.quarantined_extra for r in receipts if r.ledger is not None)
    quarantined -= remains
    rows_max = dispatch.quarantine_rows_max
    if rows_max is not None and quarantined > rows_max:
        return f"{quarantined} rows are quarantined, the policy allows {rows_max}"
    percent_max = dispatch.quarantine_percent_max
    everything = quarantined + rows
    if percent_max is not None and quarantined * 100 > percent_max * everything:
        percent = quarantined * 100 / everything
        return f"{percent:.2f} % of the rows are quarantined, the policy allows {percent_max} %"
    return None
