"""No crash makes a bad state: after any number of them rows are there once, or not at all, and nothing is left over."""

from __future__ import annotations

import pytest

from casparian.domain.outputs import SinkKind
from tests.crash_model.explore import explore
from tests.crash_model.table import LARGE, SMALL, World


@pytest.mark.sampled(2)
@pytest.mark.parametrize("world", SMALL, ids=lambda world: world.scenario.name)
def test_every_crash_is_made_good(world: World) -> None:
    report = explore(world.scenario, crashes_max=world.crashes)
    assert report.clean, report.examples
    assert report.crash_points > 4
    assert report.disks > report.crash_points / 2
    # Where half a rename may survive, the model must have met that; elsewhere nothing is ever lost.
    assert (report.requeued > 0) is (
        world.scenario.may_lose and world.scenario.kind is not SinkKind.DUCKDB
    )


@pytest.mark.slow
@pytest.mark.parametrize("world", LARGE, ids=lambda world: world.scenario.name)
def test_every_crash_of_a_larger_world_is_made_good(world: World) -> None:
    report = explore(world.scenario, crashes_max=world.crashes)
    assert report.clean, report.examples
