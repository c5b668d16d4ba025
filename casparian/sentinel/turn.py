"""One step under way: the state so far and the effects so far. Lives only inside `step`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from casparian.db.operations import Operation, StepJob
from casparian.domain.breakers import Breaker
from casparian.domain.jobs import JobState, check_step
from casparian.domain.outputs import Sink
from casparian.protocol import control
from casparian.sentinel.effects import Effect, Persist, RemoveStages, SendEvent, SendReply
from casparian.sentinel.state import EnvironmentEntry, JobEntry, RunEntry, State, WorkerEntry


class Turn:
    """Collects changes; handlers read `turn.state` and change it only through these methods.

    A mapping is copied once in a step, at its first change: afterwards it is the step's own.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.effects: list[Effect] = []
        self._own: dict[str, dict[Any, Any]] = {}

    def change(self, **fields: Any) -> None:
        """Replace fields of the state."""
        for name in fields:
            self._own.pop(name, None)
        self.state = structs.replace(self.state, **fields)

    def _mapping(self, name: str) -> dict[Any, Any]:
        """A mapping of the state that this step may change in place."""
        own = self._own.get(name)
        if own is None:
            own = dict(getattr(self.state, name))
            self.state = structs.replace(self.state, **{name: own})
            self._own[name] = own
        return own

    def emit(self, effect: Effect) -> None:
        """Add an effect; effects are carried out in order."""
        self.effects.append(effect)

    def persist(self, *operations: Operation, then: Any = None, patient: bool = False) -> None:
        """Make operations durable, then continue with `then`; acceptances of their jobs that wait go before them.

        With `patient` they may wait for others when there is so much to do that nobody can be waiting for them alone.
        """
        waiting = self.state.accepts
        if waiting:
            jobs = [getattr(operation, "job_id", None) for operation in operations]
            accepts = tuple(waiting[job] for job in jobs if job in waiting)
            if accepts:
                mapping = self._mapping("accepts")
                for accept in accepts:
                    mapping.pop(accept.job_id, None)
                operations = (*accepts, *operations)
        patient = patient and self.state.has_many_jobs
        self.emit(Persist(operations=operations, then=then, patient=patient))

    def accept_later(self, step: StepJob) -> None:
        """Record a job's step to RUNNING with whatever is recorded of it next, or at the next tick: most jobs end sooner."""
        self._mapping("accepts")[step.job_id] = step

    def record_accepts(self) -> None:
        """Record the acceptances that wait, in one transaction."""
        accepts = tuple(self.state.accepts.values())
        if accepts:
            self.change(accepts={})
            self.persist(*accepts)

    # -- jobs

    def put_job(self, job: JobEntry) -> JobEntry:
        """Add or replace a live job."""
        self._mapping("jobs")[job.job_id] = job
        return job

    def move_job(self, job: JobEntry, after: JobState, **fields: Any) -> JobEntry:
        """Take a job to another state; an illegal step is a programmer's mistake and raises."""
        check_step(job.state, after)
        return self.put_job(structs.replace(job, state=after, **fields))

    def drop_job(self, job: JobEntry) -> None:
        """Forget a job that has ended."""
        del self._mapping("jobs")[job.job_id]
        self.release(job.job_id)
        in_flight = self._mapping("keys_in_flight")
        keys = job.keys or [key for key, job_id in in_flight.items() if job_id == job.job_id]
        for key in keys:
            if in_flight.get(key) == job.job_id:
                del in_flight[key]
        self.change(catalog_dirty=True)
        if self.state.loads:
            self.change(ended=self.state.ended | {job.job_id})

    def loading(self, client_id: int, number: int) -> None:
        """Jobs are read for a request; `loaded` follows."""
        self.change(loads=self.state.loads | {(client_id, number)})

    def loaded(self, client_id: int, number: int) -> frozenset[int]:
        """What was read for a request is here, or was refused; the jobs of which it may be old."""
        ended = self.state.ended
        loads = self.state.loads - {(client_id, number)}
        self.change(loads=loads, ended=ended if loads else frozenset())
        return ended

    def hold(self, job_id: int, waits_for: tuple[int, ...]) -> None:
        """Note that a job's commit begins after those of others have ended."""
        self._mapping("held")[job_id] = waits_for

    def release(self, job_id: int) -> None:
        """A job waits for no other job's commit any more."""
        if job_id in self.state.held:
            del self._mapping("held")[job_id]

    def take_keys(self, job: JobEntry) -> None:
        """Note that a job is on its way to materialize its keys."""
        self._mapping("keys_in_flight").update(dict.fromkeys(job.keys, job.job_id))

    def remove_stages(self, job: JobEntry, epoch: int) -> None:
        """Clear what one epoch of a job staged."""
        self.emit(RemoveStages(job_id=job.job_id, epoch=epoch, sinks=stage_sinks(job)))

    # -- workers and runs

    def put_worker(self, worker: WorkerEntry) -> None:
        """Add or replace a worker."""
        self._mapping("workers")[worker.worker_id] = worker

    def put_environment(self, entry: EnvironmentEntry) -> None:
        """Add or replace an environment."""
        self._mapping("environments")[entry.env_hash] = entry

    def drop_environment(self, env_hash: str) -> None:
        """Forget an environment; the next job that needs it asks anew."""
        self._mapping("environments").pop(env_hash, None)

    def drop_worker(self, worker_id: str) -> None:
        """Forget a worker that has ended."""
        self._mapping("workers").pop(worker_id, None)

    def put_run(self, run: RunEntry) -> RunEntry:
        """Add or replace a run."""
        self._mapping("runs")[run.run_id] = run
        return run

    def drop_run(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self._mapping("runs").pop(run_id, None)

    def put_breaker(self, breaker: Breaker) -> Breaker:
        """Add or replace a circuit breaker; one without failures is forgotten."""
        breakers = self._mapping("breakers")
        key = (breaker.parser, breaker.artifact_hash)
        breakers.pop(key, None)
        if breaker.failures:
            breakers[key] = breaker
        return breaker

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
    return tuple(job.spec.sinks.values())
