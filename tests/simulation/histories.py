"""Draw a history from a seed, repeat one, and shorten one that fails."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Final

import msgspec

from casparian.domain.outputs import SinkMode
from casparian.protocol import control
from tests.simulation import disk, workers
from tests.simulation.clients import Ask, Client
from tests.simulation.invariants import Violation
from tests.simulation.planning import request as run_request
from tests.simulation.world import Action, World

_MEDDLING: Final = (
    *("cancel",) * 3,
    *("retry",) * 2,
    *("retry all", "run", "everything", "rule", "reset"),
)
_OUTCOMES: Final = (*(workers.USUAL,) * 10, workers.BAD_PARSER, workers.STRICT)
_MODES: Final = (SinkMode.APPEND, SinkMode.APPEND, SinkMode.REPLACE, SinkMode.ERROR)

# Faults that are actions of their own, and whom they strike.
STRIKES: Final = {
    "crash": "",
    "kill": "worker",
    "hang": "worker",
    "deafen": "worker",
    "spare": "",
    "repeat": "worker",
    "vanish": "",
    "hang_up": "client",
    "jump": "",
    "stop": "",
}
# Faults in the middle of an ordinary action.
DURING: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("deliver", ""): ("sentinel.crash",),
    ("persist", ""): ("db.fails",),
    ("worker", ""): (workers.FULL,),
    ("task", "promote"): (disk.FULL, disk.FSYNC, disk.LOCKED, disk.STUCK, "sentinel.crash"),
    ("task", "publish"): ("publish.fails", "sentinel.crash"),
}
FAULTS: Final = tuple(sorted({*STRIKES, *(fault for found in DURING.values() for fault in found)}))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a history."""

    seed: int
    actions: tuple[Action, ...]
    name: str | None = None  # of the violated invariant
    message: str = ""
    noted: dict[str, str] = {}
    events: int = 0


def setup(
    seed: int,
    *,
    wrong: str | None = None,
    tolerated: Container[str] = frozenset(),
    trace: Callable[[str], None] | None = None,
) -> World:
    """The world in which a seed's history happens."""
    random = Random(seed)
    outcomes = random.choice(_OUTCOMES)
    limit = 0.9 if outcomes is workers.STRICT else 0.2
    clients = [_runner(random, number, limit) for number in range(random.choice((1, 2, 2)))]
    for number in range(random.choice((0, 1, 1, 1, 2))):
        clients.append(_meddler(random, number))
    world = World(
        clients,
        random.choice((1, 2, 2)),
        many_jobs=(0, 1, 24)[seed % 3],
        outcomes=outcomes,
        wrong=wrong,
        tolerated=tolerated,
        trace=trace,
    )
    for client in clients:
        client.world = world
    return world


def _runner(random: Random, number: int, limit: float) -> Client:
    """Somebody who runs evidence, once or twice."""
    script: list[Ask] = []
    for turn in range(random.choice((1, 2, 3))):
        names = "".join(sorted(random.sample("abcd", random.choice((1, 2, 2, 3)))))
        asked = run_request(
            f"run-{number}-{turn}",
            names,
            random.choice(_MODES),
            random.choice((0, 0, 1, 2)),
            limit=random.random() < limit,
            retry_failed=random.random() < 0.3,
        )
        script.append(lambda _luck, asked=asked: asked)  # type: ignore[misc]
    return Client(f"runner-{number}", script)


def _meddler(random: Random, number: int) -> Client:
    """Somebody who cancels, retries and makes rules."""
    client = Client(f"meddler-{number}", [])
    for turn in range(random.choice((1, 2, 3))):
        kind = random.choice(_MEDDLING)
        client.script.append(_meddling(client, kind, f"meddle-{kind}-{number}-{turn}"))
    return client


def _meddling(client: Client, kind: str, request_id: str) -> Ask:
    def ask(luck: int) -> control.Request:
        store = client.world.store
        newest = list(store.jobs) or [1]
        job_id = newest[luck % len(newest)]
        match kind:
            case "cancel":
                return control.CancelJob(request_id=request_id, job_id=job_id)
            case "retry":
                ended = [j.job_id for j in store.jobs.values() if j.state in ("failed", "aborted")]
                job_id = ended[luck % len(ended)] if ended else job_id
                return control.RetryJob(request_id=request_id, job_id=job_id)
            case "run":
                runs = store.running_runs() or ["run-0-0"]
                return control.CancelJob(request_id=request_id, run_id=runs[luck % len(runs)])
            case "retry all":
                return control.RetryJobs(request_id=request_id)
            case "everything":
                return control.CancelJob(request_id=request_id, everything=True)
            case "reset":
                return control.ResetParser(request_id=request_id, parser="p")
            case _:
                return control.AddRule(request_id=request_id, pattern=request_id, tag="t")

    return ask


def draw(
    seed: int,
    *,
    wrong: str | None = None,
    tolerated: Container[str] = frozenset(),
    without: frozenset[str] = frozenset(),
) -> Outcome:
    """One seed, one history; `without` some faults it is another one."""
    world = setup(seed, wrong=wrong, tolerated=tolerated)
    random = Random(~seed)
    enabled = frozenset(f for f in FAULTS if random.random() < 0.3) - without
    rate = random.choice((0.02, 0.05, 0.12))
    strikes = [name for name in STRIKES if name in enabled]
    actions: list[Action] = []
    try:
        for _ in range(random.randint(40, 150)):
            action = _next(world, random, enabled, strikes, rate)
            actions.append(action)
            world.perform(action)
            if action.kind == "tick" and world.at_rest():
                break
        world.settle()
    except Violation as violation:
        return _outcome(seed, actions, world, violation)
    return _outcome(seed, actions, world, None)


def _next(
    world: World, random: Random, enabled: frozenset[str], strikes: Sequence[str], rate: float
) -> Action:
    luck = random.getrandbits(24)
    if strikes and random.random() < rate:
        kind = strikes[luck % len(strikes)]
        struck = {"worker": list(world.workers), "client": list(world.clients)}
        whom = struck.get(STRIKES[kind])
        key = random.choice(whom) if whom else ""
        if key or not STRIKES[kind]:
            return Action(kind, key, luck)
    choices = list(world.choices())
    point = random.random() * sum(weight for weight, _, _ in choices)
    for weight, kind, key in choices:  # noqa: B007 - the last one is meant when rounding errs
        point -= weight
        if point < 0:
            break
    fault = None
    during = DURING.get((kind, key)) or DURING.get((kind, ""))
    # A task is rare and has many ways to fail; deliveries are what most of a history is.
    if during and random.random() < (0.5 if kind == "task" else rate):
        possible = [f for f in during if f in enabled]
        fault = random.choice(possible) if possible else None
    return Action(kind, key, luck, fault)


def _outcome(
    seed: int, actions: list[Action], world: World, violation: Violation | None
) -> Outcome:
    return Outcome(
        seed=seed,
        actions=tuple(actions),
        name=violation.name if violation else None,
        message=violation.message if violation else "",
        noted=world.noted,
        events=world.actions,
    )


def repeat(
    seed: int,
    actions: Sequence[Action],
    *,
    wrong: str | None = None,
    tolerated: Container[str] = frozenset(),
    trace: Callable[[str], None] | None = None,
) -> Outcome:
    """The same world, these actions, and the quiet end."""
    world = setup(seed, wrong=wrong, tolerated=tolerated, trace=trace)
    try:
        for action in actions:
            world.perform(action)
        world.settle()
    except Violation as violation:
        if trace is not None:
            trace(f"VIOLATION  {violation.name}: {violation.message}")
        return _outcome(seed, list(actions), world, violation)
    return _outcome(seed, list(actions), world, None)


def shorten(
    outcome: Outcome,
    *,
    wrong: str | None = None,
    tolerated: Container[str] = frozenset(),
    tries: int = 600,
) -> Outcome:
    """Drop actions, many at a time and then one by one, while the same invariant is violated."""
    best = outcome
    size = max(len(best.actions) // 2, 1)
    while size and tries:
        start, dropped = 0, False
        while start < len(best.actions) and tries:
            tries -= 1
            fewer = (*best.actions[:start], *best.actions[start + size :])
            again = repeat(best.seed, fewer, wrong=wrong, tolerated=tolerated)
            if again.name == outcome.name:
                best, dropped = again, True
            else:
                start += size
        if not dropped or size > 1:
            size //= 2
    return best
