"""Environments of parsers: prepared once, by one worker, before a job that needs it is given to any.

* A queued job whose environment nobody has prepared asks for it, and waits; jobs of other parsers go on.
* One worker prepares it (PREPARE_ENV) and says every second how it goes (ENV_READY); workers share what they make.
* An environment that could not be prepared keeps no job waiting: the job goes to a worker, which meets the same fault and
  gives it as the job's own code. The next job asks anew.
* What is known here is only who need not wait. Each worker looks for itself, and makes what was removed meanwhile.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from casparian.domain.jobs import JobState
from casparian.errors import ExitCode
from casparian.protocol import control, identity
from casparian.protocol.worker import PrepareEnvironment
from casparian.sentinel import answering
from casparian.sentinel import events as ev
from casparian.sentinel.effects import SendWorker, StartWorker
from casparian.sentinel.state import (
    STARTS_MAX,
    EnvironmentEntry,
    EnvironmentState,
    JobEntry,
    WorkerEntry,
    WorkerState,
)
from casparian.sentinel.turn import Turn

LOST_MAX: Final = 3  # workers that may end over one environment


def may_start(turn: Turn, job: JobEntry) -> bool:
    """Whether a queued job need not wait for its environment; asks for it if nobody did."""
    requirements = job.spec.parser.requirements
    if not requirements:
        return True
    known = turn.state.environments.get(job.spec.env_hash)
    if known is None:
        turn.put_environment(
            EnvironmentEntry(env_hash=job.spec.env_hash, requirements=requirements)
        )
        return False
    return known.state is EnvironmentState.SETTLED


def ask(turn: Turn, event: ev.ClientAsked, request: control.PrepareEnvironment) -> None:
    """A person wants an environment prepared now."""
    if identity.environment_hash(request.requirements) != request.env_hash:
        failure = control.Failure(
            code="env.hash",
            message="the requirements are not those of this environment",
            exit_code=ExitCode.USAGE,
        )
        answering.answer_asker(turn, event.client_id, event.number, failure)
        return
    entry = turn.state.environments.get(request.env_hash) or EnvironmentEntry(
        env_hash=request.env_hash, requirements=request.requirements
    )
    state = entry.state
    if state is EnvironmentState.SETTLED:  # it may have been removed since: a worker looks again
        state = EnvironmentState.WANTED
    turn.change(starts_failed=0)
    turn.put_environment(
        structs.replace(entry, state=state, requests=(*entry.requests, request.request_id))
    )


def schedule(turn: Turn) -> None:
    """Give wanted environments to idle workers, and start workers for them."""
    state = turn.state
    wanted = [e for e in state.environments.values() if e.state is EnvironmentState.WANTED]
    if state.stopping or state.draining or not wanted:
        return
    idle = [w for w in state.workers.values() if w.state is WorkerState.IDLE]
    for entry, worker in zip(wanted, idle, strict=False):
        _give(turn, entry, worker)
    waiting = len(wanted) - len(idle)
    starting = sum(w.state is WorkerState.STARTING for w in turn.state.workers.values())
    room = state.workers_max - len(turn.state.workers) if state.starts_failed < STARTS_MAX else 0
    for _ in range(min(waiting - starting, room)):
        start_worker(turn)


def start_worker(turn: Turn) -> None:
    """One more worker process."""
    number = turn.state.workers_started + 1
    worker_id = f"w{number}"
    turn.change(workers_started=number)
    turn.put_worker(WorkerEntry(worker_id=worker_id, since_ns=turn.state.monotonic_ns))
    turn.emit(StartWorker(worker_id=worker_id))


def _give(turn: Turn, entry: EnvironmentEntry, worker: WorkerEntry) -> None:
    turn.put_environment(structs.replace(entry, state=EnvironmentState.BUILDING))
    turn.put_worker(
        structs.replace(
            worker,
            state=WorkerState.BUSY,
            preparing=entry.env_hash,
            since_ns=turn.state.monotonic_ns,
        )
    )
    message = PrepareEnvironment(env_hash=entry.env_hash, requirements=entry.requirements)
    turn.emit(SendWorker(worker_id=worker.worker_id, message=message))


def heard(turn: Turn, event: ev.WorkerPrepared) -> None:
    """A worker says how it goes; at the end it is free again."""
    ready = event.ready
    worker = turn.state.workers.get(event.worker_id)
    entry = turn.state.environments.get(ready.env_hash)
    if worker is None or worker.preparing != ready.env_hash or worker.state is WorkerState.KILLED:
        return
    if ready.state == "building":
        turn.put_worker(structs.replace(worker, since_ns=turn.state.monotonic_ns))
        if entry is not None and entry.message != ready.message:
            turn.put_environment(structs.replace(entry, message=ready.message))
            _tell(turn, entry, ready.message)
        return
    turn.put_worker(structs.replace(worker, state=WorkerState.IDLE, preparing=""))
    if entry is None:
        return
    if ready.state == "ready":
        _settle(
            turn,
            entry,
            control.Done(
                message=f"environment {entry.env_hash[:12]} is ready",
                count=1,
                fields={"env_hash": entry.env_hash, "size_bytes": ready.size_bytes},
            ),
        )
    else:
        _settle(turn, entry, _failure(ready.code or "env.install", ready.message))


def lost(turn: Turn, worker: WorkerEntry, reason: str) -> None:
    """A worker ended while it prepared an environment: another one tries, a few times."""
    entry = turn.state.environments.get(worker.preparing)
    if entry is None or entry.state is not EnvironmentState.BUILDING:
        return
    if entry.lost + 1 < LOST_MAX:
        turn.put_environment(
            structs.replace(entry, state=EnvironmentState.WANTED, lost=entry.lost + 1)
        )
        return
    message = f"{LOST_MAX} workers ended over the environment, the last one: {reason}"
    _settle(turn, entry, _failure("worker.lost", message))


def forget_failed(turn: Turn) -> None:
    """An environment that could not be prepared is asked for anew by the next job, once those that waited are under way."""
    for entry in list(turn.state.environments.values()):
        if entry.state is EnvironmentState.SETTLED and entry.failed and not _waits(turn, entry):
            turn.drop_environment(entry.env_hash)


def give_up(turn: Turn) -> None:
    """No worker can be started: those who asked are told, and nothing waits for it any more."""
    for entry in list(turn.state.environments.values()):
        if entry.state is EnvironmentState.WANTED:
            _settle(turn, entry, _failure("worker.unstartable", "no worker could be started"))


def _waits(turn: Turn, entry: EnvironmentEntry) -> bool:
    return any(
        job.state is JobState.QUEUED and job.spec.env_hash == entry.env_hash
        for job in turn.state.jobs.values()
    )


def _settle(turn: Turn, entry: EnvironmentEntry, reply: control.Done | control.Failure) -> None:
    turn.put_environment(
        structs.replace(
            entry,
            state=EnvironmentState.SETTLED,
            failed=isinstance(reply, control.Failure),
            lost=0,
            requests=(),
            message="",
        )
    )
    for request_id in entry.requests:
        answering.answer(turn, request_id, reply)


def _failure(code: str, message: str) -> control.Failure:
    return control.Failure(
        code=code,
        message=message,
        exit_code=ExitCode.FAILED,
        hint="`casparian config show` names the wheelhouse; its wheels must be those of the lock",
    )


def _tell(turn: Turn, entry: EnvironmentEntry, message: str) -> None:
    """Who waits hears of it: those who asked, and the runs of jobs that need it."""
    told = control.Preparing(env_hash=entry.env_hash, message=message)
    for request_id in entry.requests:
        for client_id, number in turn.state.requests_open.get(request_id, ()):
            turn.tell(client_id, number, told)
    runs = {
        run_id
        for job in turn.state.jobs.values()
        if job.spec.env_hash == entry.env_hash
        for run_id in job.run_ids
    }
    for run_id in sorted(runs):
        run = turn.state.runs.get(run_id)
        if run is not None:
            turn.tell(run.client_id, run.number, told)
