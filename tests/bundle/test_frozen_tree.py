"""A tree of each form, made and used: with no PATH, no environment and no other Python.

Slow: the frozen one is compiled. `CASPARIAN_TREES=DIR:DIR` takes trees that are there already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

_GIVEN = [Path(one) for one in os.environ.get("CASPARIAN_TREES", "").split(":") if one]


@pytest.fixture(params=_GIVEN, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy elsewhere: nothing in it may know where it was made."""
    return Path(shutil.copytree(request.param, tmp_path / "moved" / "version"))


def _casparian(tree: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tree / "bin" / "casparian"), "--home", str(home), *arguments],
        env={"PATH": "/nonexistent", "HOME": str(home.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def _names(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*")}


@pytest.mark.skipif(not _GIVEN, reason="CASPARIAN_TREES names no tree")
def test_the_demo_runs_with_nothing_but_the_tree(tree: Path, tmp_path: Path) -> None:
    before = _names(tree)
    done = subprocess.run(
        [str(tree / "bin" / "casparian"), "demo", "--into", str(tmp_path / "demo")],
        env={"PATH": "/nonexistent", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bytes give the same row" in done.stdout + done.stderr
    assert _names(tree) == before  # nothing is written into an installation


@pytest.mark.skipif(not _GIVEN, reason="CASPARIAN_TREES names no tree")
def test_doctor_and_a_skeleton_find_what_came_along(tree: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    listed = _casparian(tree, home, "parser", "list", "--json")
    names = json.dumps(json.loads(listed.stdout))
    assert "windows.evtx" in names
    assert "linux.syslog" in names
    made = _casparian(tree, home, "parser", "new", "acme.trial", "--into", str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert _casparian(tree, home, "sentinel", "stop").returncode in (0, 1, 3)


def _document(tree: Path) -> Any:
    return json.loads((tree / "runtime" / "pruned.json").read_text("utf-8"))


@pytest.mark.skipif(not _GIVEN, reason="CASPARIAN_TREES names no tree")
def test_what_was_left_out_is_listed_and_not_there(tree: Path) -> None:
    files = _document(tree)["files"]
    assert files
    library = next((tree / "runtime" / "lib").glob("python3.*"))
    assert not [one["path"] for one in files if (library / one["path"]).exists()]
