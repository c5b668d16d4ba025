"""The job state machine: states, the table of legal steps, and what ends a job.

    QUEUED -> DISPATCHED -> RUNNING -> COMMITTING -> COMPLETED
    side exits FAILED | ABORTED | REJECTED; COMMITTING -> FAILED commits the quarantine outputs only.

A step happens only by compare-and-swap on (id, state, epoch) in the sentinel's single writer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands; the value is what the database, the wire and `--json` carry."""

    QUEUED = "queued"  # waiting for a worker
    DISPATCHED = "dispatched"  # sent to a worker, not yet acknowledged
    RUNNING = "running"  # the worker has acknowledged; a confined guest reads evidence
    COMMITTING = "committing"  # intents are recorded: the point of no return is passed
    COMPLETED = "completed"  # outputs promoted and recorded
    FAILED = "failed"  # ended with a reason; no clean output of it is visible
    ABORTED = "aborted"  # cancelled before the point of no return
    REJECTED = "rejected"  # refused before it ran: trust, contract or sink mode


NEXT: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset(
        {JobState.DISPATCHED, JobState.ABORTED, JobState.REJECTED, JobState.FAILED}
    ),
    JobState.DISPATCHED: frozenset(
        {JobState.RUNNING, JobState.QUEUED, JobState.ABORTED, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.COMMITTING, JobState.QUEUED, JobState.ABORTED, JobState.FAILED}
    ),
    JobState.COMMITTING: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.QUEUED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),  # `jobs retry`
    JobState.ABORTED: frozenset({JobState.QUEUED}),  # `jobs retry`
    JobState.REJECTED: frozenset(),
}

LIVE: Final = frozenset(
    {JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING, JobState.COMMITTING}
)
CANCELLABLE: Final = frozenset({JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING})

ATTEMPTS_MAX: Final = 3  # of transient faults: worker lost, lease expired, EIO, ENOSPC in staging


def check_step(before: JobState, after: JobState) -> None:
    """Raise `AssertionError` for a step that the table does not allow: a programmer's mistake."""
    if after not in NEXT[before]:
        msg = f"illegal job step {before} -> {after}"
        raise AssertionError(msg)
