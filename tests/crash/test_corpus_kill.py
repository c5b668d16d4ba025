"""`kill -9` at random moments of a run over the corpus; then the same rows as an undisturbed run, none twice."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.world import World

ROLES = ("sentinel", "worker", "zygote", "guest")
TABLES = ("evtx_events", "syslog_events", "quarantine")
VOLATILE = "_cf_row_id, _cf_job_id, _cf_processed_at"


def fingerprint(
    world: World, tables: tuple[str, ...], *arguments: str
) -> dict[str, list[tuple[str, int]]]:
    """Every row of every table with how often it is there, order aside."""
    found = {}
    for table in tables:
        rows = world.query(
            f"SELECT to_json(r)::VARCHAR, count(*) FROM (SELECT * EXCLUDE ({VOLATILE}) FROM {table}) r "
            "GROUP BY 1 ORDER BY 1",
            *arguments,
        )
        found[table] = [(text, count) for text, count in rows]
    return found


def kill_one(world: World, dice: random.Random, run: subprocess.Popen[str]) -> bool:
    """SIGKILL one of the processes that live now, of a role drawn at random; `False` when the run was over before."""
    while run.poll() is None:
        present = [role for role in ROLES if world.processes(role)]
        if present and world.kill(dice.choice(present)):
            return True
        time.sleep(0.01)
    return False


def storm(
    world: World, *, kills: int, seed: int, span_seconds: float, arguments: tuple[str, ...]
) -> int:
    """Run and kill, again and again; how many processes were really killed."""
    dice = random.Random(seed)
    killed = 0
    for _ in range(3 * kills):
        process = world.start("run", str(world.evidence), "--json", *arguments)
        time.sleep(dice.random() * span_seconds)
        if kill_one(world, dice, process):
            killed += 1
        else:
            span_seconds /= 2  # a run that has less to do is over sooner
        try:
            process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"a run hung after a kill (seed {seed})\n{world.logs()}") from None
        if killed == kills:
            break
    return killed


def check_storm(
    world: World,
    calm: World,
    *,
    kills: int,
    tables: tuple[str, ...] = TABLES,
    arguments: tuple[str, ...] = (),
) -> None:
    seed = int(os.environ.get("CASPARIAN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed} (set CASPARIAN_SEED to repeat)")
    calmly = [a.replace(str(world.directory), str(calm.directory)) for a in arguments]
    started = time.monotonic()
    calm.run(*calmly)
    span = time.monotonic() - started
    expected = fingerprint(calm, tables, *calmly)
    assert all(count == 1 for rows in expected.values() for _, count in rows)
    killed = storm(world, kills=kills, seed=seed, span_seconds=span, arguments=arguments)
    assert killed > 0, f"no process was ever caught (seed {seed})"
    world.run(*arguments)
    assert fingerprint(world, tables, *arguments) == expected, f"seed {seed}"
    stages = [p for p in world.directory.rglob(".casparian-stage/*/*") if p.is_dir()]
    assert stages == [], f"staging left behind (seed {seed})"
    states = {job["state"] for job in world.json("jobs")["jobs"]}
    assert states <= {"completed"}, f"seed {seed}: {states}"
    ledger = world.json("ledger")
    assert all(source["balanced"] for source in ledger["sources"])


@pytest.mark.corpus
def test_ten_kills_of_a_run_over_the_corpus(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    world, calm = (
        World(tmp_path, evidence=corpus / "evtx"),
        World(tmp_path / "calm", evidence=corpus / "evtx"),
    )
    try:
        check_storm(world, calm, kills=10, tables=("evtx_events", "quarantine"))
    finally:
        world.stop()
        calm.stop()
