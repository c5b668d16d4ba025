"""A laboratory's own limits of a parser: lower ones at will, higher ones by an approval.

In force is `min(max(declared, raised), lowered)`, limit by limit. So no lowered bound can ever give a parser more than its
signed manifest, or an accepted approval, allows, whatever version of it comes; and a version that declares more than
was once raised keeps what it declares.

Limits are no part of what decides whether work must be done again (the materialization key). A limit never changes a row: a
source either stays within it and gives the same rows as under any other limit, or ends with a `limit.*` code and gives none.
Were they in the key, raising one for a single huge file would read a whole case again. What a raised limit does change is
that a source that failed for that reason before may succeed now: the planner tries those again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import structs

from casparian.domain.parsers import Limits

# Least and largest value of each limit, here and in `parser.toml`.
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "memory_mb": (64, 1 << 20),
    "cpu_seconds": (1, 1 << 24),
    "wall_seconds": (1, 1 << 24),
    "idle_seconds": (1, 1 << 24),
    "rows_max": (1, 1 << 62),
    "rows_per_kb_max": (1, 1 << 32),
    "output_mb_max": (1, 1 << 40),
    "log_kb_max": (1, 1 << 20),
    "log_mb_max": (1, 1 << 20),
}

# The limits that a source met which ended with a code.
LIMITS_OF: Final[dict[str, tuple[str, ...]]] = {
    "limit.cpu": ("cpu_seconds",),
    "limit.idle": ("idle_seconds",),
    "limit.log": ("log_mb_max",),
    "limit.memory": ("memory_mb",),
    "limit.output": ("output_mb_max",),
    "limit.rows": ("rows_max", "rows_per_kb_max"),
    "limit.wall": ("wall_seconds",),
}


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that was raised: how far, by which approval, when."""

    value: int
    approval_id: str
    at_ns: int = 0


class LaboratoryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a laboratory says of one parser's limits."""

    raised: dict[str, Raised] = {}
    lowered: dict[str, int] = {}

    def effective(self, declared: Limits) -> Limits:
        """The limits in force for a version that declares these."""
        changed = {}
        for name in {*self.raised, *self.lowered}:
            value = max(getattr(declared, name), self.allowed(name))
            changed[name] = min(value, self.lowered.get(name, value))
        return structs.replace(declared, **changed)

    def allowed(self, name: str) -> int:
        """How much of a limit approvals allow; 0 when none is about it."""
        raised = self.raised.get(name)
        return 0 if raised is None else raised.value

    def approvals(self, declared: Limits) -> dict[str, str]:
        """The approval of each limit that is above what this version declares."""
        effective = self.effective(declared)
        return {
            name: raised.approval_id
            for name, raised in sorted(self.raised.items())
            if getattr(effective, name) > getattr(declared, name)
        }

    def raised_since(self, declared: Limits, code: str, at_ns: int) -> str | None:
        """The approval by which a source that met a limit at some moment may succeed now.

        Args:
            declared: limits of the version that would run.
            code: that the source ended with: `limit.memory`, ….
            at_ns: when.
        """
        for name, approval_id in self.approvals(declared).items():
            if name in LIMITS_OF.get(code, ()) and self.raised[name].at_ns > at_ns:
                return approval_id
        return None


def problem_with(limits: Mapping[str, int]) -> str | None:
    """What is wrong with named limits, as the end of a sentence; `None` when nothing is."""
    for name, value in limits.items():
        if name not in BOUNDS:
            return f"{name[:40]!a} is no limit; there are {', '.join(BOUNDS)}"
        least, most = BOUNDS[name]
        if isinstance(value, bool) or not least <= value <= most:
            return f"`{name}` must be a whole number from {least} to {most}"
    return None


LIMITS_RAISED: Final = "limits_raised"  # in a receipt's isolation record
_RAISED: Final = re.compile(r"(\w+)=(\d{1,19}) \(", re.ASCII)


def raised_text(limits: Limits, raised: Mapping[str, str]) -> str:
    """What a receipt says of raised limits: `memory_mb=4096 (approval k7m2q9xd)`."""
    named = (f"{name}={getattr(limits, name)} (approval {raised[name]})" for name in sorted(raised))
    return ", ".join(named)


def with_raised_text(declared: Limits, text: str) -> Limits:
    """The limits that a job had, from what a parser declares and what the job's receipt says of raised ones."""
    found = {name: int(value) for name, value in _RAISED.findall(text) if name in BOUNDS}
    return structs.replace(
        declared, **{name: max(value, getattr(declared, name)) for name, value in found.items()}
    )
