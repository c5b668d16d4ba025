"""The circuit breaker of a parser artifact: when a parser fails again and again by its own doing, its jobs stop being tried.

    CLOSED     jobs run; consecutive failures are counted, a success forgets them
    OPEN       after `FAILURES_MAX` of them: queued jobs fail at once, new ones are refused
    HALF_OPEN  after `COOL_DOWN_NS`, or by a person's word: one job is let through; its success closes, its failure opens again

Which failures are a parser's own doing is said by `faults`: one of the disk, the worker or the evidence says nothing about it.
Pure values; the sentinel keeps them and stores each change together with the job's end that caused it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import structs

FAILURES_MAX: Final = 5
COOL_DOWN_NS: Final = 300 * 1_000_000_000
CIRCUIT_OPEN: Final = "parser.circuit_open"


class BreakerState(StrEnum):
    """Whether jobs of a parser artifact are tried."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One job that failed."""

    job_id: int
    code: str
    message: str
    at_ns: int


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one parser artifact since its last success."""

    parser: str  # name@version
    artifact_hash: str
    state: BreakerState = BreakerState.CLOSED
    failures: tuple[BreakerFailure, ...] = ()  # the newest last, at most `FAILURES_MAX`
    opened_at_ns: int | None = None  # wall clock
    half_open_at_ns: int = 0  # monotonic; of an open one
    probe: int | None = None  # the job that was let through

    @property
    def name(self) -> str:
        """The parser without its version."""
        return self.parser.partition("@")[0]


def failed(breaker: Breaker, failure: BreakerFailure, *, monotonic_ns: int) -> Breaker:
    """The breaker after one more failure of the parser's own making."""
    failures = (*breaker.failures, failure)[-FAILURES_MAX:]
    half_open = breaker.state is BreakerState.HALF_OPEN
    if not half_open and len(failures) < FAILURES_MAX:
        return structs.replace(breaker, failures=failures)
    return structs.replace(
        breaker,
        failures=failures,
        state=BreakerState.OPEN,
        opened_at_ns=failure.at_ns,
        half_open_at_ns=monotonic_ns + COOL_DOWN_NS,
        probe=None,
    )


def half_open(breaker: Breaker) -> Breaker:
    """The breaker that lets one job through."""
    return structs.replace(breaker, state=BreakerState.HALF_OPEN, probe=None)


def restored(breaker: Breaker, *, now_ns: int, monotonic_ns: int) -> Breaker:
    """A stored breaker after a restart: what is left of its cool-down counts from now, whatever the wall clock did."""
    if breaker.state is not BreakerState.OPEN or breaker.opened_at_ns is None:
        return breaker
    left = breaker.opened_at_ns + COOL_DOWN_NS - now_ns
    return structs.replace(breaker, half_open_at_ns=monotonic_ns + min(max(left, 0), COOL_DOWN_NS))


def explanation(breaker: Breaker) -> str:
    """Why jobs of this parser are not tried, and how to go on; one sentence each."""
    codes: dict[str, int] = {}
    for failure in breaker.failures:
        codes[failure.code] = codes.get(failure.code, 0) + 1
    counted = ", ".join(f"{count} of {code}" for code, count in sorted(codes.items()))
    jobs = ", ".join(str(failure.job_id) for failure in breaker.failures)
    return (
        f"{breaker.parser} failed {len(breaker.failures)} times in a row ({counted}; jobs {jobs});"
        f" it is tried again in five minutes, after `casparian parser reset {breaker.name}`,"
        " or by `casparian run … --retry-failed`"
    )
