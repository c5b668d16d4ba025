"""One sink in one mode: rounds of clients and strikes, and peace at the end of each step."""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.storm import verdict
from tests.storm.history import GROUPS, History
from tests.storm.strike import Strikes
from tests.storm.verdict import Fingerprint, Violation
from tests.support.launching import launched
from tests.support.orders import Orders
from tests.support.world import World

SINKS = ("parquet", "csv", "duckdb")
MODES = ("append", "replace", "error")
_CLIENT_SECONDS_MAX = 600
_PEACEFUL_RUNS_MAX = 4
_BATCH_FILES_MAX = 6  # many small jobs, so that many commits are under way
# 3: the sentinel went away too often; 8: error mode; -9, 130, -2: killed or interrupted.
_EXITS = frozenset({0, 1, 3, 8, 130, -9, -2})

Say = Callable[[str], None]


class Arena:
    """A home, its evidence and its sink.

    Args:
        directory: empty; kept when something is violated.
        calm: fingerprints of an undisturbed world, by step.
        count: what happened.
        every_step: judge at the end of each step, not only of the last.
    """

    def __init__(
        self,
        directory: Path,
        sink: str,
        mode: str,
        *,
        seed: int,
        corpus: Path | None,
        calm: list[Fingerprint],
        count: Counter[str],
        say: Say,
        every_step: bool,
    ) -> None:
        self.name = f"{sink}/{mode}"
        self._sink_kind = sink
        self._place = directory / "sink"
        uri = f"{sink}:{self._place / 'out.duckdb' if sink == 'duckdb' else self._place}"
        self._sink = ("--sink", uri)
        self._mode = ("--mode", mode)
        self._dice = random.Random(f"{seed} {self.name}")
        self.world = World(directory, evidence=directory / "evidence")
        self._history = History(directory / "evidence", seed, corpus)
        self._calm = calm
        self._count = count
        self._say = say
        orders = Orders(directory / "orders")
        self.world.program = launched(
            directory / "plan.json", orders=str(orders.directory), batch_files_max=_BATCH_FILES_MAX
        )
        self._strikes = Strikes(self.world, self._place, sink, mode, orders, self._dice, count)
        self._every_step = every_step
        self._earlier_jobs: set[int] = set()
        self.kills = 0

    def storm(self, kills: int) -> None:
        """Go through all steps with so many kills in all.

        Raises:
            Violation: something that must never be.
        """
        steps = len(self._calm)
        try:
            for step in range(steps):
                options = self._history.advance()
                goal = kills * (step + 1) // steps
                for _ in range(4 * kills + 4):
                    if self.kills >= goal:
                        break
                    self._round(options, goal - self.kills)
                self._history.settle()
                self._make_peace(options)
                if self._every_step or step == steps - 1:
                    self._check(step)
        finally:
            self.world.stop()

    def _round(self, options: tuple[str, ...], wanted: int) -> None:
        """Clients, and what happens to them and to their processes."""
        self._history.stir(self._dice)  # so that there is something to do
        clients = self._start(options)
        try:
            killed = 0
            for _ in range(min(wanted, self._dice.choice((1, 2, 3, 4)))):
                self._mischief(clients)
                killed += self._strikes.kill(clients)
                if killed < wanted and self._dice.random() < 0.2:
                    killed += self._strikes.kill_the_newborn(clients)
            if killed < wanted and self._dice.random() < 0.15:
                killed += self._strikes.kill_a_client(clients)
            self.kills += killed
        finally:
            self._reap(clients)
        self._say(f"{self.name}: {self.kills} kills, {self._count['runs']} runs")

    def _mischief(self, clients: list[subprocess.Popen[str]]) -> None:
        if self._dice.random() < 0.35:
            self._strikes.cancel(clients)
        if self._dice.random() < 0.3:
            self._strikes.retry(lambda job: job not in self._earlier_jobs)
        if self._dice.random() < 0.3:
            self._history.stir(self._dice)
            self._count["evidence changed"] += 1
        if self._dice.random() < 0.1:
            self._strikes.interrupt(clients)

    def _start(self, options: tuple[str, ...]) -> list[subprocess.Popen[str]]:
        clients = []
        for _ in range(self._dice.choice((1, 1, 2))):
            include: tuple[str, ...] = ()
            if self._dice.random() < 0.4:
                include = ("--include", f"g{self._dice.randrange(GROUPS)}/**")
            arguments = ("run", str(self.world.evidence), *self._sink, *self._mode, *options)
            clients.append(self.world.start(*arguments, *include, "--json"))
            self._count["runs"] += 1
        return clients

    def _reap(self, clients: list[subprocess.Popen[str]]) -> None:
        for client in clients:
            try:
                out, err = client.communicate(timeout=_CLIENT_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                client.kill()
                client.communicate()
                raise Violation("a run hung") from None
            self._count[f"exit {client.returncode}"] += 1
            if client.returncode not in _EXITS:
                raise Violation(f"exit {client.returncode}\n{out[-2000:]}\n{err[-2000:]}")

    def _make_peace(self, options: tuple[str, ...]) -> None:
        """Runs that nobody disturbs, until one finds nothing left to do."""
        arguments = ("run", str(self.world.evidence), *self._sink, *self._mode, *options)
        for _ in range(_PEACEFUL_RUNS_MAX):
            result = self.world.json(*arguments, code=None)
            if "error" in result:
                raise Violation(f"a run in peace ended with {result['error']}")
            jobs = result["jobs"]
            if not jobs["failed"] and not jobs["aborted"] and not result["files"]["failed"]:
                return
        raise Violation(f"runs in peace go on failing: {result['problems'][:3]}")

    def _check(self, step: int) -> None:
        known = verdict.wait_until_quiet(self.world)
        self.world.stop()
        self._tally(known)
        found = verdict.fingerprint(self.world, *self._sink)
        problems = verdict.compare(found, self._calm[step], self._history)
        completed = {job["job_id"] for job in known.jobs if job["state"] == "completed"}
        for job, rows in verdict.rows_by_job(
            self.world, {view for view, _, _ in found}, *self._sink
        ).items():
            if job not in completed:
                problems.append(f"{rows} rows of job {job}, which is not completed, are visible")
        problems += verdict.judge(
            self.world, known, self._place, is_database=self._sink_kind == "duckdb"
        )
        if problems:
            more = f"\n  … {len(problems) - 20} more" if len(problems) > 20 else ""
            raise Violation(f"step {step}\n  " + "\n  ".join(problems[:20]) + more)
        self._earlier_jobs = {job["job_id"] for job in known.jobs}

    def _tally(self, known: verdict.Control) -> None:
        began: dict[int, int] = {}
        for event in known.events:
            if event["job_id"] in self._earlier_jobs:
                continue
            if event["to_state"] == "queued" and event["from_state"] not in (None, ""):
                self._count["requeued"] += 1
            if event["to_state"] == "committing":
                began[event["job_id"]] = event["at_ns"]
            if event["to_state"] == "completed":
                since = began.get(event["job_id"], event["at_ns"])
                if any(since <= at <= event["at_ns"] for at in self._strikes.sentinels_killed_ns):
                    self._count["commits completed by recovery"] += 1
        for job in known.jobs:
            if job["job_id"] not in self._earlier_jobs:
                self._count[f"jobs {job['state']}"] += 1


def undisturbed(
    directory: Path, mode: str, *, seed: int, corpus: Path | None, steps: int
) -> list[Fingerprint]:
    """Fingerprints of a world that goes through the same steps in peace. The same for every sink."""
    world = World(directory, evidence=directory / "evidence")
    history = History(directory / "evidence", seed, corpus)
    found = []
    try:
        for _ in range(steps):
            options = history.advance()
            history.settle()
            world.run("--mode", mode, *options, code=None)
            found.append(verdict.fingerprint(world))
    finally:
        world.stop()
    for rows in found:
        for key, value in rows.items():
            assert not value.doubled(key[0]), f"the evidence itself holds equal rows: {key}"
    return found


def corpus_directory() -> Path | None:
    """The development corpus, if one is named."""
    chosen = os.environ.get("CASPARIAN_CORPUS")
    return Path(chosen) if chosen and Path(chosen, "evtx").is_dir() else None
