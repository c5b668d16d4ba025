"""The only place that reads a clock. One reading per operation; all times are aware, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ns() -> int:
    """Wall-clock time, nanoseconds since 1970-01-01 UTC."""
    return time.time_ns()


def monotonic_ns() -> int:
    """Time that never goes back, for deadlines; meaningless across processes' restarts."""
    return time.monotonic_ns()


def iso(ns: int) -> str:
    """ISO-8601 in UTC, to the microsecond, of nanoseconds since 1970."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat().replace("+00:00", "Z")
