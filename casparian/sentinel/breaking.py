"""Circuit breakers in the sentinel: what a job's end means for its parser, and which jobs may be tried.

Every change of a breaker is stored in the transaction of the job's end that caused it. That a cool-down is over is noticed when
the breaker is next asked about. Its probe is kept in memory only: after a crash no parser waits for a job that is gone.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import structs

from casparian.db.operations import SaveBreaker
from casparian.domain import breakers
from casparian.domain.breakers import Breaker, BreakerFailure, BreakerState
from casparian.domain.faults import speaks_against_parser
from casparian.domain.jobs import JobState
from casparian.sentinel.state import JobEntry, JobSpec
from casparian.sentinel.turn import Turn


def breaker_of(turn: Turn, spec: JobSpec) -> Breaker | None:
    """The breaker of a job's parser as it stands now; `None` while nothing speaks against the parser."""
    breaker = turn.state.breakers.get((spec.label, spec.parser.artifact_hash))
    if (
        breaker is not None
        and breaker.state is BreakerState.OPEN
        and breaker.half_open_at_ns <= turn.state.monotonic_ns
    ):
        return half_open(turn, breaker, "breaker.cooled_down")
    return breaker


def is_open(turn: Turn, spec: JobSpec) -> bool:
    """Whether jobs of this parser are refused."""
    breaker = breaker_of(turn, spec)
    return breaker is not None and breaker.state is BreakerState.OPEN


def may_start(turn: Turn, job: JobEntry) -> bool:
    """Whether a queued job may go to a worker; a half-open breaker lets one through and holds the others."""
    breaker = breaker_of(turn, job.spec)
    if breaker is None or breaker.state is BreakerState.CLOSED:
        return True
    if breaker.state is BreakerState.OPEN:
        return False
    probe = turn.state.jobs.get(breaker.probe) if breaker.probe is not None else None
    return probe is None or probe.job_id == job.job_id or probe.state is JobState.ABORTED


def started(turn: Turn, job: JobEntry) -> None:
    """A job goes to a worker: it is the probe if its breaker is half open."""
    breaker = breaker_of(turn, job.spec)
    if breaker is not None and breaker.state is BreakerState.HALF_OPEN:
        turn.put_breaker(structs.replace(breaker, probe=job.job_id))


def after_failure(turn: Turn, job: JobEntry, code: str, message: str) -> tuple[SaveBreaker, ...]:
    """What a failed job means for its parser, to be recorded with the failure."""
    if not speaks_against_parser(code):
        return ()
    spec = job.spec
    before = turn.state.breakers.get(
        (spec.label, spec.parser.artifact_hash),
        Breaker(parser=spec.label, artifact_hash=spec.parser.artifact_hash),
    )
    failure = BreakerFailure(
        job_id=job.job_id, code=code, message=message[:500], at_ns=turn.state.now_ns
    )
    after = breakers.failed(before, failure, monotonic_ns=turn.state.monotonic_ns)
    opened = after.state is BreakerState.OPEN and before.state is not BreakerState.OPEN
    return (_saved(turn, turn.put_breaker(after), "breaker.opened" if opened else ""),)


def after_success(turn: Turn, job: JobEntry) -> tuple[SaveBreaker, ...]:
    """A job of the parser was committed: its failures are forgotten."""
    before = turn.state.breakers.get((job.spec.label, job.spec.parser.artifact_hash))
    if before is None:
        return ()
    closed = Breaker(parser=before.parser, artifact_hash=before.artifact_hash)
    was_open = before.state is not BreakerState.CLOSED
    return (_saved(turn, turn.put_breaker(closed), "breaker.closed" if was_open else ""),)


def half_open(turn: Turn, breaker: Breaker, kind: str, actor: str = "") -> Breaker:
    """Let one job of a parser through; recorded with whoever said so."""
    changed = turn.put_breaker(breakers.half_open(breaker))
    turn.persist(_saved(turn, changed, kind, actor))
    return changed


def reset(turn: Turn, name: str, actor: str) -> tuple[SaveBreaker, ...]:
    """Let open breakers of a parser (name, or name@version) try one job now; the operations that record it."""
    found: list[SaveBreaker] = []
    for breaker in list(turn.state.breakers.values()):
        if breaker.state is BreakerState.OPEN and name in (breaker.name, breaker.parser):
            changed = turn.put_breaker(breakers.half_open(breaker))
            found.append(_saved(turn, changed, "breaker.reset", actor))
    return tuple(found)


def open_ones(turn: Turn) -> set[tuple[str, str]]:
    """Breakers that are open and stay so for now."""
    now = turn.state.monotonic_ns
    return {
        key
        for key, breaker in turn.state.breakers.items()
        if breaker.state is BreakerState.OPEN and breaker.half_open_at_ns > now
    }


def queued_of(turn: Turn, shut: Collection[tuple[str, str]]) -> list[JobEntry]:
    """Queued jobs of the parsers with these breakers."""
    if not shut:
        return []
    return [
        job
        for job in turn.state.jobs.values()
        if job.state is JobState.QUEUED and (job.spec.label, job.spec.parser.artifact_hash) in shut
    ]


def why(turn: Turn, spec: JobSpec) -> str:
    """The sentence that a refused job carries."""
    return breakers.explanation(turn.state.breakers[spec.label, spec.parser.artifact_hash])


def _saved(turn: Turn, breaker: Breaker, kind: str, actor: str = "") -> SaveBreaker:
    return SaveBreaker(
        at_ns=turn.state.now_ns,
        parser=breaker.parser,
        artifact_hash=breaker.artifact_hash,
        state=breaker.state.value,
        opened_at_ns=breaker.opened_at_ns,
        failures=breaker.failures,
        kind=kind,
        actor=actor,
    )
