"""Violations that the simulation finds in the present product: why, and a seed that shows it. Empty is what it should be.

They are noted and do not end a history. A test asks that each of them still occurs: what is mended leaves this list.
"""

from __future__ import annotations

from typing import Final

_FOLLOWS: Final = "follows from jobs and workers that are waited for without a deadline"

KNOWN: Final[dict[str, tuple[str, int]]] = {
    "a client is told what is committed": (
        "`jobs cancel` and `jobs retry` are answered before the step is durable; a crash undoes what was said",
        9,
    ),
    "a confirmed cancel holds": ("the same: after a crash the job goes on and commits", 189),
    "a rule is added once": (
        "the reply is stored in a transaction after the mutation's own; a crash between them, and it acts again",
        9,
    ),
    "a run is finished once": (
        "the result of a run is not kept under its request id; a client that missed it makes it run again",
        8,
    ),
    "a source is visible once": (
        "`jobs retry` does not look at `keys_in_flight`, and T1 does not see claims of jobs that are committing",
        972,
    ),
    "mode error keeps its promise": (
        "T1 compares with recorded pairs, not with the claims of jobs that are committing",
        126,
    ),
    "mode replace keeps its promise": (
        "the same: what retires is decided in T1, before the other job's T2",
        7,
    ),
    "a quarantined source is visible once": (
        "a job that a policy failed keeps its quarantined rows; retried by hand it adds them again",
        1713,
    ),
    "intents are of committing jobs": (
        "a commit that failed or was requeued leaves its row in `cf_commit_intents`",
        3,
    ),
    "a step never raises": (
        "a plan that becomes ready after the sentinel has begun to stop finds no run",
        64,
    ),
    "memory lets go of ended jobs": (
        "ABORT of a job that was never sent, or to a worker that does not listen, is waited for for ever",
        9,
    ),
    "every job ends": (
        "a worker that hangs before it says hello, or whose job waits to be aborted, is waited for for ever",
        9,
    ),
    "every question is answered": (_FOLLOWS, 9),
    "every run is answered": (_FOLLOWS, 9),
    "no staging is left": (
        "a repeated conclusion of an older job frees a busy worker, whose staging is then removed too early",
        5213,
    ),
}
