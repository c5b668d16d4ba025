"""Decisions about quarantined rows: which rows exactly, and how they are named in few words.

A decision names rows as spans of ordinals of (job, source) pairs, and is bound to their bytes by one hash over the id and the
BLAKE3 of each. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

ROWS_MAX: Final = (
    100_000  # of one decision: what a person can answer for, and what one request holds
)
SPANS_MAX: Final = 8_000
REASON_CHARACTERS_MAX: Final = 2_000

RowPlace = tuple[int, str, int]  # job, source, ordinal


class Span(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Consecutive rows of one (job, source); both ends are in it."""

    job_id: int
    source_id: str
    first: int
    last: int


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of one parser that are understood and stay as they are.

    Args:
        parser: its name; who has a say is scoped over it.
        reason: why, in words, of whoever proposes it.
        rows: how many.
        rows_hash: over the id and the BLAKE3 of the bytes of each, in the order of job, source and ordinal.
        spans: which, in order, none touching another.
    """

    parser: str
    reason: str
    rows: int
    rows_hash: str
    spans: tuple[Span, ...]

    @property
    def subject(self) -> str:
        """What the request is about: two different sets of rows do not supersede each other."""
        return f"{self.parser} {self.rows_hash[:16]}"


def spans_of(places: Iterable[RowPlace]) -> tuple[Span, ...]:
    """The fewest spans that hold exactly these rows, in order."""
    found: list[Span] = []
    for job_id, source_id, ordinal in sorted(set(places)):
        before = found[-1] if found else None
        if before is not None and (before.job_id, before.source_id, before.last + 1) == (
            job_id,
            source_id,
            ordinal,
        ):
            found[-1] = Span(job_id, source_id, before.first, ordinal)
        else:
            found.append(Span(job_id, source_id, ordinal, ordinal))
    return tuple(found)


def problem_with(acceptance: Acceptance) -> str | None:
    """What is wrong with the form of a decision; `None` when nothing is."""
    spans = acceptance.spans
    if not spans or any(not 0 <= span.first <= span.last for span in spans):
        return "it names no rows"
    if len(spans) > SPANS_MAX:
        return f"{len(spans)} spans of rows are more than {SPANS_MAX}"
    count = sum(span.last - span.first + 1 for span in spans)
    if count != acceptance.rows or count > ROWS_MAX:
        return f"it names {count} rows, says {acceptance.rows}, and may name {ROWS_MAX}"
    for before, after in pairwise(spans):
        same = (before.job_id, before.source_id) == (after.job_id, after.source_id)
        if not before < after or (same and after.first <= before.last + 1):
            return "its spans are not in order"
    if not 0 < len(acceptance.reason.strip()) <= REASON_CHARACTERS_MAX:
        return "it gives no reason, or too long a one"
    return None
