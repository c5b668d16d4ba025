"""`kill -9` at each step of a copy and of a restore of the control database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("what", "steps_min"), [("take", 8), ("restore", 12)])
def test_a_kill_at_any_step_loses_no_database(what: str, steps_min: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.snapshot_steps", what, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= steps_min, "too few steps were tried to mean anything"
