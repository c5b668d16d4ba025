"""Crash everywhere: after every step, in every state a power cut can leave, again and again in recovery.

Each life of the program is watched; the disk after every step is a point to crash at. A `kill -9` leaves the disk as it is, a
power cut leaves one of many. Each different disk gets a new life, whose steps are crash points again. Two states from which
everything goes on in the same way are explored once, so the number of crashes in a row has no limit: the search ends when
no new disk is found. Only attempts are limited: a job that has been dispatched `EPOCH_MAX` times runs to its end undisturbed.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from casparian.errors import CasparianError
from tests.crash_model import invariants
from tests.crash_model.machine import Disk, Machine, Violation, first_disk
from tests.crash_model.scenario import Scenario

EPOCH_MAX: Final = 2


class Report(msgspec.Struct, kw_only=True):
    """What a search found."""

    scenario: Scenario
    crash_points: int = 0  # different moments: disk and database after some step
    disks: int = 0  # different disks after a crash: each was looked at by a reader and recovered
    requeued: int = 0  # disks that had lost both copies of a file after the point of no return
    violations: Counter[str] = msgspec.field(default_factory=Counter)
    examples: dict[str, str] = {}

    @property
    def clean(self) -> bool:
        """Whether every rule held."""
        return not self.violations


def explore(
    scenario: Scenario,
    machine: type[Machine] = Machine,
    *,
    drop_sync: Callable[[str], bool] | None = None,
    crashes_max: int | None = None,
    first_crash: str = "",
    stop_on: str | None = None,
) -> Report:
    """Search all crashes of a scenario.

    Args:
        scenario: the world.
        machine: the program, or a mutation of it.
        drop_sync: fsyncs that do nothing, by path: another mutation.
        crashes_max: how many crashes in a row; `None` for any number.
        first_crash: how the step begins after which the first crash comes.
        stop_on: a violation that is enough.
    """
    report = Report(scenario=scenario, examples={})
    start = first_disk(scenario)
    seen_disks = {start.key()}
    seen_points: set[Any] = set()
    todo: deque[tuple[Disk, int, str]] = deque([(start, 0, "")])
    while todo:
        disk, crashes, story = todo.popleft()
        report.disks += 1
        points: list[tuple[str, Disk]] = []
        life = machine(scenario, disk, lambda what, d: points.append((what, d)), drop_sync)  # noqa: B023
        problems: list[str] = []
        try:
            life.run()
        except Violation as error:
            problems.append(str(error))
        except (CasparianError, OSError, AssertionError, LookupError, ValueError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            problems.append(f"fault: {error!r} at {where.name}")
        else:
            problems += invariants.after_recovery(scenario, life.disk())
        report.requeued += life.requeued
        if life.requeued and not invariants.may_be_requeued(scenario, disk):
            problems.append("lost after the point of no return")
        for problem in problems:
            report.violations[problem] += 1
            report.examples.setdefault(problem, story)
        if stop_on in report.violations:
            return report
        if crashes_max is not None and crashes >= crashes_max:
            continue
        if any(job.epoch > EPOCH_MAX for job in disk.store.tables["jobs"].values()):
            continue
        for number, (what, point) in enumerate(points):
            if any(job.epoch > EPOCH_MAX for job in point.store.tables["jobs"].values()):
                break
            if not crashes and not what.startswith(first_crash):
                continue
            if (key := point.key()) in seen_points:
                continue
            seen_points.add(key)
            report.crash_points += 1
            for how, files in (
                ("killed", point.files),
                *(("cut", files) for files in point.files.after_power_cut()),
            ):
                after = msgspec.structs.replace(point, files=files)
                if (key := after.key()) in seen_disks:
                    continue
                seen_disks.add(key)
                told = f"{story}\n  {how} at step {number}: {what}"
                for problem in invariants.as_seen(scenario, after):
                    report.violations[problem] += 1
                    report.examples.setdefault(problem, told)
                todo.append((after, crashes + 1, told))
    return report
