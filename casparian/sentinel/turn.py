"""One step under way: the state so far and the effects so far. Lives only inside `step`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from casparian.db.operations import Operation
from casparian.domain.jobs import JobState, check_step
from casparian.domain.outputs import Sink
from casparian.protocol import control
from casparian.sentinel.effects import Effect, Persist, RemoveStages, SendEvent, SendReply
from casparian.sentinel.state import JobEntry, RunEntry, State, WorkerEntry


class Turn:
    """Collects changes; handlers read `turn.state` and change it only through these methods."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.effects: list[Effect] = []

    def change(self, **fields: Any) -> None:
        """Replace fields of the state."""
        self.state = structs.replace(self.state, **fields)

    def emit(self, effect: Effect) -> None:
        """Add an effect; effects are carried out in order."""
        self.effects.append(effect)

    def persist(self, *operations: Operation, then: Any = None) -> None:
        """Make operations durable, then continue with `then`."""
        self.emit(Persist(operations=operations, then=then))

    # -- jobs

    def put_job(self, job: JobEntry) -> JobEntry:
        """Add or replace a live job."""
        self.change(jobs={**self.state.jobs, job.job_id: job})
        return job

    def move_job(self, job: JobEntry, after: JobState, **fields: Any) -> JobEntry:
        """Take a job to another state; an illegal step is a programmer's mistake and raises."""
        check_step(job.state, after)
        return self.put_job(structs.replace(job, state=after, **fields))

    def drop_job(self, job: JobEntry) -> None:
        """Forget a job that has ended."""
        jobs = {k: v for k, v in self.state.jobs.items() if k != job.job_id}
        keys = {k: v for k, v in self.state.keys_in_flight.items() if v != job.job_id}
        self.change(jobs=jobs, keys_in_flight=keys, catalog_dirty=True)

    def remove_stages(self, job: JobEntry, epoch: int) -> None:
        """Clear what one epoch of a job staged."""
        self.emit(RemoveStages(job_id=job.job_id, epoch=epoch, sinks=stage_sinks(job)))

    # -- workers and runs

    def put_worker(self, worker: WorkerEntry) -> None:
        """Add or replace a worker."""
        self.change(workers={**self.state.workers, worker.worker_id: worker})

    def drop_worker(self, worker_id: str) -> None:
        """Forget a worker that has ended."""
        self.change(workers={k: v for k, v in self.state.workers.items() if k != worker_id})

    def put_run(self, run: RunEntry) -> RunEntry:
        """Add or replace a run."""
        self.change(runs={**self.state.runs, run.run_id: run})
        return run

    def drop_run(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self.change(runs={k: v for k, v in self.state.runs.items() if k != run_id})

    # -- clients

    def reply(self, client_id: int | None, number: int, reply: control.Reply) -> None:
        """Answer a client that is still there."""
        if client_id is not None and client_id in self.state.clients:
            self.emit(SendReply(client_id=client_id, number=number, reply=reply))

    def tell(self, client_id: int | None, number: int, event: control.Event) -> None:
        """Tell a client that is still there how it goes."""
        if client_id is not None and client_id in self.state.clients:
            self.emit(SendEvent(client_id=client_id, number=number, event=event))


def stage_sinks(job: JobEntry) -> tuple[Sink, ...]:
    """Every sink in which a job may have a staging directory."""
    sinks = {output.sink.uri: output.sink for output in (*job.spec.outputs, job.spec.quarantine)}
    return tuple(sinks.values())
