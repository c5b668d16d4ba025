"""What the sentinel looks up for a request, in the model's record: jobs to try again, and how a job ended."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Final

import msgspec

from casparian.domain.jobs import JobState
from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import JobSpec

if TYPE_CHECKING:
    from tests.simulation.world import World

Steps = Generator[None, None, ev.Event | None]  # a task that pauses where a crash may come
_RETRYABLE: Final = (JobState.FAILED, JobState.ABORTED)


def load(world: World, effect: eff.LoadJob) -> ev.Event:
    loaded = _retryable(world, effect.request.job_id)
    if loaded is None:
        refusal = _conflict("job.not_retryable")
        return ev.RowsRead(client_id=effect.client_id, number=effect.number, reply=refusal)
    return ev.JobLoaded(
        client_id=effect.client_id,
        number=effect.number,
        request_id=effect.request.request_id,
        **msgspec.structs.asdict(loaded),
    )


def load_many(world: World, effect: eff.LoadJobs) -> ev.Event:
    """Failed jobs; the product leaves out those that were tried again since, which is a matter of its view."""
    failed = [job.job_id for job in world.store.jobs.values() if job.state == "failed"]
    loaded = [_retryable(world, job_id) for job_id in failed]
    return ev.JobsLoaded(
        client_id=effect.client_id,
        number=effect.number,
        request_id=effect.request.request_id,
        jobs=tuple(job for job in loaded if job is not None),
    )


def _retryable(world: World, job_id: int) -> ev.LoadedJob | None:
    found = world.store.jobs_for_retry([job_id]).get(job_id)
    if found is None or found[0] not in _RETRYABLE:
        return None
    state, epoch, spec, has_rows = found
    return ev.LoadedJob(
        job_id=job_id,
        state=JobState(state),
        epoch=epoch,
        spec=msgspec.msgpack.decode(spec, type=JobSpec),
        has_rows=has_rows and world.wrong != "quarantine is written twice",
    )


def find_end(world: World, effect: eff.FindEnd) -> ev.Event:
    job = world.store.jobs.get(effect.job_id)
    reply: control.Reply = _conflict("job.not_live")
    if job is not None and job.state == "aborted":
        reply = control.Done(message=f"job {effect.job_id} is cancelled already")
    return ev.RowsRead(client_id=effect.client_id, number=effect.number, reply=reply)


def _conflict(code: str) -> control.Failure:
    return control.Failure(code=code, message=code, exit_code=int(ExitCode.CONFLICT))


def at_once(result: ev.Event | None) -> Steps:
    """A task without a point at which a crash would matter."""
    yield from ()
    return result
