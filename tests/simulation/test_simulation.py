"""Ten thousand histories hold; wrong products are found; a seed is a history."""

from __future__ import annotations

from collections.abc import Container

import pytest

from casparian.db.operations import SaveScan
from casparian.protocol import control
from casparian.sentinel import effects as eff
from tests.simulation import histories, mutations
from tests.simulation.invariants import Violation
from tests.simulation.world import Action, World

SEEDS = 10_000
CHUNK = 500
WRONG_SEEDS = 3_000  # a wrong product must be found within this many


def told(
    outcome: histories.Outcome, tolerated: Container[str] = frozenset(), wrong: str | None = None
) -> str:
    """The shortened history of a violation, for a person."""
    short = histories.shorten(outcome, wrong=wrong, tolerated=tolerated)
    lines = [f"seed {outcome.seed}: {outcome.name}: {outcome.message}"]
    histories.repeat(
        short.seed, short.actions, wrong=wrong, tolerated=tolerated, trace=lines.append
    )
    again = f"python -m tests.simulation --seed {outcome.seed} --verbose"
    return "\n".join([*lines, again + (f" --wrong '{wrong}'" if wrong else "")])


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_history_keeps_the_invariants(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = histories.draw(seed)
        assert outcome.name is None, told(outcome)


@pytest.mark.parametrize("wrong", sorted(mutations.WRONG))
def test_a_wrong_product_is_found(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In some history the wrong product violates what the right one keeps."""
    expected = mutations.WRONG[wrong]
    others = mutations.AllBut(expected)
    for seed in range(WRONG_SEEDS):
        outcome = histories.draw(seed, wrong=wrong, tolerated=others)
        if outcome.name is None:
            continue
        right = histories.repeat(seed, outcome.actions, tolerated=others)
        if right.name is None:
            with capsys.disabled():
                print("\n" + told(outcome, others, wrong))
            return
    pytest.fail(f"`{wrong}` was not found in {WRONG_SEEDS} histories")


def test_a_seed_is_a_history() -> None:
    def lines(seed: int) -> list[str]:
        drawn = histories.draw(seed)
        found: list[str] = []
        again = histories.repeat(seed, drawn.actions, trace=found.append)
        assert again == drawn
        return found

    for seed in range(20):
        assert lines(seed) == lines(seed)
    assert lines(1) != lines(2)


def test_histories_reach_what_they_are_meant_to_reach() -> None:
    """Commits in every mode, retirement, database sinks, every fault, crashes with work in hand."""
    reached: set[str] = set()
    for seed in range(500):
        drawn = histories.draw(seed)
        reached |= {f"fault {action.fault}" for action in drawn.actions if action.fault}
        reached |= {f"strike {a.kind}" for a in drawn.actions if a.kind in histories.STRIKES}
        world = histories.setup(seed)
        for action in drawn.actions:
            world.perform(action)
            if world.state.held:
                reached.add("a commit waits for another")
            if world.state.is_stuck:
                reached.add("no worker can be started")
        reached |= {f"job {job.state}" for job in world.store.jobs.values()}
        reached |= {f"mode {m.sink_mode}" for m in world.store.materializations}
        reached |= {f"retired {bool(m.retired_by)}" for m in world.store.materializations}
        reached |= {"database" for rows in world.disk.databases.values() if rows}
        reached |= {f"{e.from_state}->{e.to_state}" for e in world.store.events}
        reached |= {"removed" for o in world.store.outputs if o.removed_at_ns is not None}
        reached |= {"booted again" for _ in range(world.boots - 1)}
        world.settle()
        reached |= {f"breaker {b.state}" for b in world.store.breakers.values()}
        replies = [reply for client in world.clients.values() for _, reply in client.told]
        reached |= {f"told {r.code}" for r in replies if isinstance(r, control.Failure)}
    for wanted in (
        *(f"job {state}" for state in ("completed", "failed", "aborted", "committing")),
        *(f"mode {mode}" for mode in ("append", "replace", "error")),
        *(f"fault {fault}" for found in histories.DURING.values() for fault in found),
        *(f"strike {kind}" for kind in histories.STRIKES),
        *("retired True", "database", "removed", "booted again"),
        *("a commit waits for another", "told job.in_flight", "told job.keeps_quarantine"),
        *("told job.too_late", "told job.live", "breaker open", "no worker can be started"),
        *("committing->queued", "committing->failed", "failed->queued", "aborted->queued"),
        *("running->queued", "running->aborted", "dispatched->aborted", "queued->aborted"),
    ):
        assert wanted in reached


def test_what_the_world_does_not_know_is_loud() -> None:
    world = World([], 1)
    with pytest.raises(NotImplementedError, match="MakeScan"):
        world.carry_out(eff.MakeScan(client_id=1, number=1, request=None))  # type: ignore[arg-type]
    scan = SaveScan(at_ns=1, root="/e", files=())
    world.carry_out(eff.Persist(operations=(scan,), then=None))
    with pytest.raises(NotImplementedError, match="SaveScan"):
        world.perform(Action("persist"))


def test_shortening_keeps_the_violation() -> None:
    wrong = mutations.RECORD_FIRST
    outcome = next(
        found
        for seed in range(WRONG_SEEDS)
        if (found := histories.draw(seed, wrong=wrong)).name is not None
    )
    short = histories.shorten(outcome, wrong=wrong)
    assert short.name == outcome.name
    assert len(short.actions) < len(outcome.actions)


def test_a_violation_says_what_and_where() -> None:
    world = World([], 1)
    with pytest.raises(Violation, match="epochs only grow: job 7"):
        world.violated("epochs only grow", "job 7: 2 -> 1")
