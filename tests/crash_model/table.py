"""The worlds that are explored, and the table that says how large they were.

`python -m tests.crash_model` prints the table of the small form, `--large` of the large one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from casparian.domain.outputs import SinkKind, SinkMode
from tests.crash_model.explore import Report, explore
from tests.crash_model.filesystem import Rename
from tests.crash_model.scenario import Scenario

_REPLACED: Final = (SinkMode.APPEND, SinkMode.REPLACE)


class World(NamedTuple):
    """A scenario, and how many crashes in a row (`None`: any number)."""

    scenario: Scenario
    crashes: int | None = None


SMALL: Final = (
    World(Scenario(name="parquet", outputs=1)),
    World(Scenario(name="parquet, strict POSIX", outputs=1, rename=Rename.STRICT)),
    World(Scenario(name="parquet, by link", outputs=1, by_link=True), 2),
    World(
        Scenario(
            name="parquet, by link, strict POSIX", outputs=1, by_link=True, rename=Rename.STRICT
        )
    ),
    World(Scenario(name="csv", outputs=1, kind=SinkKind.CSV), 2),
    World(Scenario(name="duckdb", outputs=1, kind=SinkKind.DUCKDB), 2),
    World(
        Scenario(
            name="duckdb, strict POSIX", outputs=1, kind=SinkKind.DUCKDB, rename=Rename.STRICT
        ),
        1,
    ),
    World(Scenario(name="two outputs", outputs=2), 1),
    World(Scenario(name="two outputs, strict POSIX", outputs=2, rename=Rename.STRICT), 1),
    World(Scenario(name="two outputs of two files, csv", kind=SinkKind.CSV, sources=2), 1),
    World(Scenario(name="two outputs of two files, duckdb", kind=SinkKind.DUCKDB, sources=2), 1),
    World(Scenario(name="with quarantine", outputs=1, quarantined=True), 1),
    World(Scenario(name="over its policy", outputs=1, quarantined=True, over_policy=True), 1),
    World(Scenario(name="cancelled while running", outputs=1, cancel="running")),
    World(Scenario(name="cancelled when staged", outputs=1, cancel="staged"), 2),
    World(Scenario(name="cancelled when staged, duckdb", kind=SinkKind.DUCKDB, cancel="staged"), 1),
    World(Scenario(name="worker dies", outputs=1, worker_dies=True), 2),
    World(
        Scenario(name="worker dies, late sweep", outputs=1, worker_dies=True, clean_late=True), 2
    ),
    World(Scenario(name="a stranger in the way", outputs=1, stranger=True), 2),
    World(
        Scenario(name="a stranger in the way, by link", outputs=1, stranger=True, by_link=True), 2
    ),
    World(Scenario(name="new directories", outputs=1, bare=True), 1),
    World(Scenario(name="new directories, probed", outputs=1, bare=True, probed=True), 1),
    World(Scenario(name="replaced, parquet", outputs=1, modes=_REPLACED), 1),
    World(Scenario(name="replaced in part, parquet", sources=2, shared=True, modes=_REPLACED), 1),
    World(
        Scenario(
            name="rewritten, csv",
            outputs=1,
            kind=SinkKind.CSV,
            sources=2,
            shared=True,
            modes=_REPLACED,
        ),
        1,
    ),
    World(Scenario(name="replaced, duckdb", outputs=1, kind=SinkKind.DUCKDB, modes=_REPLACED), 1),
)

LARGE: Final = (
    World(Scenario(name="two outputs", outputs=2)),
    World(Scenario(name="two outputs, strict POSIX", outputs=2, rename=Rename.STRICT), 2),
    World(Scenario(name="two outputs, by link", outputs=2, by_link=True), 2),
    World(Scenario(name="two outputs, duckdb", outputs=2, kind=SinkKind.DUCKDB), 2),
    World(Scenario(name="with quarantine", outputs=1, quarantined=True), 2),
    World(Scenario(name="over its policy", outputs=1, quarantined=True, over_policy=True), 2),
    World(Scenario(name="new directories", outputs=1, bare=True), 2),
    World(Scenario(name="replaced, parquet", outputs=1, modes=_REPLACED), 2),
    World(
        Scenario(
            name="rewritten, csv",
            outputs=1,
            kind=SinkKind.CSV,
            sources=2,
            shared=True,
            modes=_REPLACED,
        ),
        2,
    ),
    World(Scenario(name="replaced, duckdb", outputs=1, kind=SinkKind.DUCKDB, modes=_REPLACED), 2),
)


def row(world: World, report: Report, seconds: float) -> str:
    """One line of the table; `seconds` of processor time."""
    crashes = "any" if world.crashes is None else str(world.crashes)
    verdict = "holds" if report.clean else f"{report.violations.total()} VIOLATIONS"
    return (
        f"| {world.scenario.name:34} | {crashes:>7} | {report.crash_points:12,} | {report.disks:9,} "
        f"| {verdict} | {seconds:5.1f} |"
    )


def print_table(worlds: Iterable[World]) -> bool:
    """Explore and print; whether every rule held everywhere."""
    print(
        "| world                              | crashes | crash points |     disks | verdict | CPU s |"
    )
    print("|---|---:|---:|---:|---|---:|")
    clean = True
    for world in worlds:
        start = time.process_time()
        report = explore(world.scenario, crashes_max=world.crashes)
        print(row(world, report, time.process_time() - start), flush=True)
        for problem, story in report.examples.items():
            print(f"\n{problem}, after{story or ' no crash'}\n", file=sys.stderr)
        clean &= report.clean
    return clean
