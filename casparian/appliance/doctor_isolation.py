"""What confines a guest on this machine: the level, each group of self-attacks, what the kernel offers.

The record is a receipt's, made by a worker that started as every worker does; nothing is tried here.
A line is a warning when the level is below `full`, and a failure when it is below `min_isolation`:
then no parser runs.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from casparian import _native
from casparian.appliance.doctor_check import Check, Status
from casparian.domain.isolation import (
    ATTACK_PREFIX,
    ATTACKS,
    NOTHING_MISSING,
    IsolationLevel,
    outcomes_of,
    repelled,
)

_ACTIONS: Final = "/proc/sys/kernel/seccomp/actions_avail"
_STEPS: Final = (
    "seccomp",
    "no_new_privs",
    "capabilities",
    "user",
    "landlock",
    "namespaces",
    "rlimits",
    "dumpable",
    "parent_death_signal",
    "descriptors",
    "session",
    "oom_score_adj",
)


def checks(record: Mapping[str, str], minimum: IsolationLevel) -> Iterator[Check]:
    """What `doctor` says about one isolation record.

    Args:
        record: of a receipt.
        minimum: what the home's policy asks for.
    """
    level = IsolationLevel(record.get("level", IsolationLevel.NONE))
    below: Status = "warn" if level.satisfies(minimum) else "fail"
    walls = [name for name in _missing(record) if not name.startswith(ATTACK_PREFIX)]
    yield Check(
        check="isolation",
        status="ok" if level is IsolationLevel.FULL else below,
        message=f"guests are confined at `{level}`, `min_isolation` is `{minimum}`; "
        f"missing walls: {', '.join(walls) or 'none'}",
        hint=None if level is IsolationLevel.FULL else _hint(record, refused=below == "fail"),
        details=tuple({"step": step, "state": record[step]} for step in _STEPS if step in record),
    )
    yield from _attacks(outcomes_of(record.get("self_attack_outcomes", "")), below)
    yield kernel()


def _missing(record: Mapping[str, str]) -> list[str]:
    missing = record.get("missing", NOTHING_MISSING)
    return [] if missing == NOTHING_MISSING else missing.split(", ")


def _hint(record: Mapping[str, str], *, refused: bool) -> str:
    """What to do about the first wall that is missing."""
    missing = _missing(record)
    if "seccomp" in missing:
        cause = "no system-call filter is in force: this kernel or its container refuses it"
    elif "user" in missing:
        cause = "run casparian as an ordinary user, or give guests one"
    else:
        cause = "look which attacks succeeded"
    consequence = (
        "; no parser runs until then, or until `min_isolation` is lowered" if refused else ""
    )
    return f"{cause}{consequence}"


def _attacks(outcomes: Mapping[str, str], below: Status) -> Iterable[Check]:
    """One line for each group, in the order of `ATTACKS`."""
    for group in dict.fromkeys(attack.group for attack in ATTACKS.values()):
        names = [name for name, attack in ATTACKS.items() if attack.group == group]
        found = {name: outcomes.get(name, "not run") for name in names}
        through = [f"{name} ({found[name]})" for name in names if not repelled(found[name])]
        message = f"{len(names) - len(through)} of {len(names)} self-attacks repelled"
        if through:
            message += f"; not: {', '.join(through)}"
        yield Check(
            check=f"isolation: {group}",
            status=below if through else "ok",
            message=message,
            details=tuple(
                {"attack": name, "aim": ATTACKS[name].aim, "outcome": outcome}
                for name, outcome in found.items()
            ),
        )


def kernel() -> Check:
    """What this kernel offers; a newer one than we know is fine."""
    support = {"kernel": platform.release(), "machine": platform.machine()}
    try:
        with open(_ACTIONS, encoding="ascii") as file:
            support["seccomp actions"] = file.read().strip()
    except OSError as error:
        support["seccomp actions"] = f"unknown: {error.strerror}"
    ask = getattr(_native, "confinement_support", None)  # a build for another system has none
    if ask is not None:
        support |= {str(name): str(value) for name, value in ask().items()}
    lacking = "kill_process" not in support["seccomp actions"]
    return Check(
        check="isolation: kernel",
        status="warn" if lacking else "ok",
        message=", ".join(f"{name} {value}" for name, value in support.items()),
        hint="the kernel cannot kill a process for a forbidden system call" if lacking else None,
        details=tuple({"name": name, "value": value} for name, value in support.items()),
    )
