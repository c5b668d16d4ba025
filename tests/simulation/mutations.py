"""Wrong products. Each is one change of what the sentinel does or is told, and the invariants that must notice it.

A simulation that finds nothing proves nothing until it has found these.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from casparian.db.operations import SaveReply
from casparian.domain.jobs import JobState
from casparian.protocol import control
from casparian.protocol.worker import Abort
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from tests.simulation import disk
from tests.simulation.world import World

WORKER_PROMOTES: Final = "worker promotes"
NO_EPOCH_CHECK: Final = "no epoch check"
CANCEL_LATE: Final = "cancel does not fence first"
RECORD_FIRST: Final = "recorded before promoted"
FORGETS: Final = "recovery forgets committing"
REPLY_APART: Final = "reply stored apart"
BLIND: Final = "commits do not see one another"
POLICY_TWICE: Final = "quarantine is written twice"

# What is wrong, and which invariants see it.
WRONG: Final[dict[str, frozenset[str]]] = {
    WORKER_PROMOTES: frozenset(
        {"visible files are of committed jobs", "visible files are of the current epoch"}
    ),
    NO_EPOCH_CHECK: frozenset({"a late receipt changes nothing"}),
    CANCEL_LATE: frozenset({"a confirmed cancel holds"}),
    RECORD_FIRST: frozenset({"completed means present"}),
    FORGETS: frozenset({"every committing job ends", "visible files are of committed jobs"}),
    REPLY_APART: frozenset({"a rule is added once", "a cancel acts once", "a retry acts once"}),
    BLIND: frozenset(
        {
            "a source is visible once",
            "mode error keeps its promise",
            "mode replace keeps its promise",
        }
    ),
    POLICY_TWICE: frozenset({"a quarantined source is visible once"}),
}


class AllBut:
    """Every violation but these: what a history is not about."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def bend_event(world: World, event: ev.Event) -> ev.Event | None:
    """What a wrong product takes an event for; `None` when it has dealt with it its own way."""
    match event:
        case ev.WorkerConcluded() if world.wrong == NO_EPOCH_CHECK:
            job = world.state.jobs.get(event.conclude.job_id)
            if job is not None:
                conclude = structs.replace(event.conclude, epoch=job.epoch)
                return structs.replace(event, conclude=conclude)
        case ev.ClientAsked(request=control.CancelJob(job_id=int() as job_id)):
            if world.wrong == CANCEL_LATE and _cancel_without_fence(world, event, job_id):
                return None
    return event


def _cancel_without_fence(world: World, event: ev.ClientAsked, job_id: int) -> bool:
    """Stop the worker and say so; the database learns of it from the worker, if that gets to it first."""
    job = world.state.jobs.get(job_id)
    if job is None or job.worker_id is None or job.state is not JobState.RUNNING:
        return False
    abort = Abort(epoch=job.epoch, job_id=job_id)
    world.carry_out(eff.SendWorker(worker_id=job.worker_id, message=abort))
    reply = control.Done(message=f"job {job_id} cancelled", count=1)
    world.carry_out(eff.SendReply(client_id=event.client_id, number=event.number, reply=reply))
    return True


def apart(effect: eff.Persist) -> list[eff.Persist]:
    """What a mutation does and its reply, in two transactions; a crash may come between them."""
    others = tuple(o for o in effect.operations if not isinstance(o, SaveReply))
    (saved,) = (o for o in effect.operations if isinstance(o, SaveReply))
    if saved.template is not None:
        done = control.Done(message=saved.template.format(n=1), count=1)
        saved = structs.replace(saved, reply=control.encode(done), template=None)
    return [
        eff.Persist(operations=others, then=None),
        eff.Persist(operations=(saved,), then=effect.then),
    ]


def record_first(world: World, effect: eff.Promote) -> None:
    """T2 without waiting for P1 and P2."""
    world.recorded_first.add((effect.job_id, effect.epoch))
    world.mailbox.append(disk.promoted(effect, world.wall))
