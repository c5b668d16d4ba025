"""Circuit breakers as `jobs` and `parser show` explain them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from casparian.cli.render import plain, time_text
from casparian.display import show
from casparian.domain.breakers import COOL_DOWN_NS, FAILURES_MAX, BreakerState


def described(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Breakers for `--json`: the failures as objects, and when an open one tries again by itself."""
    found = []
    for row in rows:
        breaker = {**plain(row), "failures": msgspec.json.decode(row["failures"])}
        is_open = breaker["state"] == BreakerState.OPEN
        breaker["tries_again_at_ns"] = breaker["opened_at_ns"] + COOL_DOWN_NS if is_open else None
        found.append(breaker)
    return found


def line_of(breaker: Mapping[str, Any]) -> str | None:
    """One line for a list of jobs; `None` while jobs of the parser run as usual."""
    name = breaker["parser"].partition("@")[0]
    failures = breaker["failures"]
    last = failures[-1]["code"] if failures else ""
    if breaker["state"] == BreakerState.OPEN:
        return (
            f"breaker {breaker['parser']} is open since {time_text(breaker['opened_at_ns'])}: {len(failures)} jobs failed in a"
            f" row, the last with {last}; `casparian parser show {name}` explains"
        )
    if breaker["state"] == BreakerState.HALF_OPEN:
        return f"breaker {breaker['parser']} is half open: its next job decides"
    return None


def lines_of(breaker: Mapping[str, Any]) -> list[str]:
    """What is to be known of one breaker: its state, the last failures, what to do."""
    name = breaker["parser"].partition("@")[0]
    failures = breaker["failures"]
    lines = [f"breaker  {breaker['parser']}  {breaker['state'].replace('_', ' ')}"]
    match breaker["state"]:
        case BreakerState.OPEN:
            lines.append(
                f"         open since {time_text(breaker['opened_at_ns'])}: its jobs are refused"
            )
            lines.append(
                f"         one is tried again after {time_text(breaker['tries_again_at_ns'])},"
                f" or at once after `casparian parser reset {name}`"
            )
        case BreakerState.HALF_OPEN:
            lines.append(
                "         the next job is tried; its success closes, its failure opens again"
            )
        case _:
            lines.append(
                f"         {len(failures)} of {FAILURES_MAX} failures in a row that open it; a success forgets them"
            )
    for failure in failures:
        lines.append(
            f"         {time_text(failure['at_ns'])}  job {failure['job_id']}  {failure['code']}: {show(failure['message'])}"
        )
    return lines
