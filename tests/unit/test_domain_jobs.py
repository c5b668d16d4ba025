"""The table of job states."""

from __future__ import annotations

import pytest

from casparian.domain.jobs import CANCELLABLE, LIVE, NEXT, JobState, check_step


def test_every_state_is_in_the_table() -> None:
    assert set(NEXT) == set(JobState)


def test_what_is_committed_stays_committed() -> None:
    assert NEXT[JobState.COMPLETED] == frozenset()


def test_nothing_can_be_cancelled_once_it_commits() -> None:
    assert JobState.COMMITTING not in CANCELLABLE
    assert JobState.ABORTED not in NEXT[JobState.COMMITTING]


def test_only_running_jobs_can_commit() -> None:
    before = {state for state, after in NEXT.items() if JobState.COMMITTING in after}
    assert before == {JobState.RUNNING}


def test_every_live_state_has_a_way_out() -> None:
    assert all(NEXT[state] for state in LIVE)


@pytest.mark.parametrize("after", [s for s in JobState if s not in NEXT[JobState.QUEUED]])
def test_illegal_steps_raise(after: JobState) -> None:
    with pytest.raises(AssertionError, match="illegal job step"):
        check_step(JobState.QUEUED, after)
