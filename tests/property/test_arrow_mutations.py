"""Thousands of mutated record batches: the worker's reader never crashes, and what it accepts keeps every promise."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories.arrow_lies import honest_message, mutant
from tests.fuzz_ipc import judge

ROOT = Path(__file__).parent.parent.parent


def fuzz(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz_ipc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_mutants_crash_nothing(seed: int, tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--count", "3000", "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3000 mutants" in done.stdout
    accepted = int(done.stdout.split(" accepted")[0].split()[-1])
    assert accepted > 50  # not refused wholesale: harmless changes of values come through


@pytest.mark.slow
def test_many_more_mutants_crash_nothing(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--minutes", "3")
    assert done.returncode == 0, done.stdout + done.stderr


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_a_mutant_is_refused_or_keeps_its_promises(seed: int) -> None:
    """In this process, so that Hypothesis can make a failing one small."""
    judge(mutant(random.Random(seed), honest_message()))


def test_the_same_seed_gives_the_same_mutants(tmp_path: Path) -> None:
    first, second = (fuzz(tmp_path, "--count", "300", "--seed", "9") for _ in range(2))
    assert first.stdout == second.stdout
    assert "300 mutants" in first.stdout


CRASH = """
import tests.fuzz_ipc as fuzz
import sys, os, signal
honest = fuzz.judge
def judge(payload):
    if len(payload) % 3 == 0: {what}
    return honest(payload)
fuzz.judge = judge
sys.argv = ["fuzz_ipc", "--count", "300", "--seed", "5"]
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise ValueError", "raised what it must not"),
    ],
)
def test_a_reader_that_breaks_is_caught_with_its_mutant(
    what: str, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(what=what).replace("% 3 == 0", "% 8")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1, done.stderr
    assert said in done.stdout
    assert len(list(tmp_path.glob("fuzz_ipc_5_*.bin"))) == 1
