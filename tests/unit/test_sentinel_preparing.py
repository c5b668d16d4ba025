"""Environments in the sentinel: asked for once, prepared by one worker, and never the reason why others wait."""

from __future__ import annotations

from msgspec import structs

from casparian.domain.jobs import JobState
from casparian.errors import ExitCode
from casparian.protocol import control, identity
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.preparing import LOST_MAX
from casparian.sentinel.scheduling import LEASE_NS
from casparian.sentinel.state import EnvironmentState, State, WorkerEntry, WorkerState
from tests.support.sentinel_state import queued, take

LINES = ("acme==1.0 --hash=sha256:" + "0" * 64,)
HASH = identity.environment_hash(LINES)


def waiting(*jobs: int, workers: int = 2, of_environment: tuple[int, ...] = ()) -> State:
    """Queued jobs, some of a parser with an environment, and idle workers."""
    state = queued(*jobs)
    entries = dict(state.jobs)
    for job_id in of_environment or jobs:
        job = entries[job_id]
        parser = structs.replace(job.spec.parser, environment="l", requirements=LINES)
        entries[job_id] = structs.replace(
            job, spec=structs.replace(job.spec, parser=parser, env_hash=HASH)
        )
    idle = {
        f"w{number}": WorkerEntry(worker_id=f"w{number}", state=WorkerState.IDLE)
        for number in range(1, workers + 1)
    }
    return structs.replace(state, jobs=entries, workers=idle, workers_max=workers)


def asked(effects: list[eff.Effect]) -> list[str]:
    """Workers that are to prepare an environment."""
    return [
        e.worker_id
        for e in effects
        if isinstance(e, eff.SendWorker) and isinstance(e.message, messages.PrepareEnvironment)
    ]


def says(worker_id: str, state: str, message: str = "") -> ev.WorkerPrepared:
    ready = messages.EnvironmentReady(
        env_hash=HASH,
        state=state,  # type: ignore[arg-type]
        message=message,
        code="env.missing" if state == "failed" else None,
    )
    return ev.WorkerPrepared(worker_id=worker_id, ready=ready)


def states(state: State) -> list[JobState]:
    return [job.state for job in state.jobs.values()]


def replies(effects: list[eff.Effect]) -> list[control.Reply]:
    return [e.reply for e in effects if isinstance(e, eff.SendReply)]


def test_one_worker_prepares_and_the_jobs_wait_for_it() -> None:
    state, effects = take(waiting(1, 2, 3), ev.Tick())
    assert asked(effects) == ["w1"]
    assert states(state) == [JobState.QUEUED] * 3
    state, effects = take(state, ev.Tick())
    assert asked(effects) == []  # it is under way
    state, effects = take(state, says("w1", "ready"))
    assert states(state) == [JobState.DISPATCHED, JobState.DISPATCHED, JobState.QUEUED]
    assert state.environments[HASH].state is EnvironmentState.SETTLED


def test_jobs_of_other_parsers_go_on_meanwhile() -> None:
    state, effects = take(waiting(1, 2, of_environment=(1,)), ev.Tick())
    assert states(state) == [JobState.QUEUED, JobState.DISPATCHED]
    assert asked(effects) == ["w2"]


def test_what_could_not_be_prepared_keeps_no_job_waiting_and_is_forgotten() -> None:
    state, _ = take(waiting(1, workers=1), ev.Tick())
    state, _ = take(state, says("w1", "failed", "there is no wheel"))
    assert states(state) == [JobState.DISPATCHED]  # its worker gives the reason as the job's own
    assert HASH not in state.environments
    assert not state.is_preparing


def test_a_worker_that_ends_is_replaced_a_few_times() -> None:
    state, _ = take(waiting(1, workers=1), ev.Tick())
    for attempt in range(1, LOST_MAX + 1):
        worker_id = next(iter(state.workers))
        assert state.workers[worker_id].preparing == HASH
        state, effects = take(state, ev.WorkerGone(worker_id=worker_id, reason="killed"))
        if attempt == LOST_MAX:
            break
        (started,) = [e.worker_id for e in effects if isinstance(e, eff.StartWorker)]
        state, effects = take(state, ev.WorkerIdentified(worker_id=started))
        assert asked(effects) == [started]
    assert not state.is_preparing


def test_a_silent_worker_is_killed_and_one_that_speaks_is_not() -> None:
    state, _ = take(waiting(1, workers=1), ev.Tick())
    now = 1
    for _ in range(4):
        now += LEASE_NS
        state, effects = take(state, ev.Tick(), at_ns=now)
        assert not [e for e in effects if isinstance(e, eff.KillWorker)]
        state, _ = take(state, says("w1", "building"), at_ns=now)
    state, effects = take(state, ev.Tick(), at_ns=now + LEASE_NS + 1)
    assert [e.worker_id for e in effects if isinstance(e, eff.KillWorker)] == ["w1"]


def test_a_person_is_answered_with_the_size_or_with_the_reason() -> None:
    request = control.PrepareEnvironment(request_id="r", env_hash=HASH, requirements=LINES)
    client = ev.ClientConnected(client_id=7, actor="uid 1000")
    state, _ = take(structs.replace(waiting(1, workers=1), jobs={}), client)
    state, effects = take(state, ev.ClientAsked(client_id=7, number=1, request=request))
    assert asked(effects) == ["w1"]
    assert state.busy
    state, effects = take(state, says("w1", "building", "package 1 of 1: acme"))
    told = [e.event for e in effects if isinstance(e, eff.SendEvent)]
    assert told == [control.Preparing(env_hash=HASH, message="package 1 of 1: acme")]
    ready, effects = take(state, says("w1", "ready"))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Done)
    assert not ready.busy
    _, effects = take(state, says("w1", "failed", "there is no wheel"))
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert (reply.code, reply.message) == ("env.missing", "there is no wheel")


def test_a_hash_that_is_not_that_of_the_lines_is_refused() -> None:
    request = control.PrepareEnvironment(request_id="r", env_hash="0" * 64, requirements=LINES)
    state, _ = take(waiting(1), ev.ClientConnected(client_id=7, actor="uid 1000"))
    state, effects = take(
        structs.replace(state, jobs={}), ev.ClientAsked(client_id=7, number=1, request=request)
    )
    (reply,) = replies(effects)
    assert isinstance(reply, control.Failure)
    assert reply.exit_code == ExitCode.USAGE
