"""The sentinel starts, over whatever the end before has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from casparian.domain.breakers import Breaker, BreakerState, restored
from casparian.domain.jobs import JobState
from casparian.sentinel.recovery import Left, plan_recovery
from casparian.sentinel.state import State
from tests.simulation import jobs

if TYPE_CHECKING:
    from tests.simulation.world import World


def start(world: World, cut: int) -> None:
    """Start and recover; killed before recording (0), before sweeping (1), before going on (2), or not at all."""
    world.boots += 1
    fresh = State(
        home_id=jobs.HOME_ID,
        home="/home",
        engine_hash=jobs.ENGINE,
        workers_max=world.workers_max,
        on_demand=False,
        started_ns=world.wall,
        many_jobs=world.many_jobs,
    )
    rows = world.store.live_jobs()
    if world.wrong == "recovery forgets committing":
        rows = [row for row in rows if row[2] != JobState.COMMITTING]
    left = Left(
        jobs=tuple(rows),
        runs=tuple(world.store.running_runs()),
        sinks=tuple(world.store.known_sinks()),
        replies=world.store.recent_replies(1000),
        has_outputs=bool(world.store.materializations),
    )
    plan = plan_recovery(fresh, left, jobs.QUARANTINE.sink, now_ns=world.wall)
    world.state = msgspec.structs.replace(plan.state, breakers=_breakers(world))
    if cut == 0:
        return
    for outcome in world.store.apply(plan.groups):
        if isinstance(outcome, Exception):
            world.violated("recovery can record what it decides", str(outcome))
    if cut == 1:
        return
    world.disk.sweep(plan.sinks, jobs.HOME_ID, plan.keep)
    if cut == 2:
        return
    world.excused = False
    world.up = True
    for effect in plan.effects:
        world.carry_out(effect)


def _breakers(world: World) -> dict[tuple[str, str], Breaker]:
    """As `sentinel.main` restores them."""
    found = {}
    for key, row in world.store.breakers.items():
        breaker = Breaker(
            parser=row.parser,
            artifact_hash=row.artifact_hash,
            state=BreakerState(row.state),
            opened_at_ns=row.opened_at_ns,
            failures=row.failures,
        )
        found[key] = restored(breaker, now_ns=world.wall, monotonic_ns=world.mono)
    return found
