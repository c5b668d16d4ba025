"""The scripts that measure still run: a figure that nobody can take again is worth nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("module", "arguments", "lines"),
    [
        (
            "guests",
            ("--runs", "3", "guest", "jobs"),
            ("fresh guest", "a guest takes", "casparian jobs"),
        ),
        (
            "bench_control_plane",
            ("--jobs", "20", "--files", "3", "--skip-baselines"),
            ("control plane", "end to end"),
        ),
    ],
)
def test_script_measures(module: str, arguments: tuple[str, ...], lines: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.perf.{module}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for line in lines:
        assert line in ended.stdout
