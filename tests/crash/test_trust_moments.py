"""A deployment or an import of trust that is killed at any step has happened, or has not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # a new process and a new home for each step
_STEPS = Path(__file__).with_name("trust_steps.py")


def lines(directory: Path, kind: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(_STEPS), str(directory), kind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_deployment_is_whole_or_not_there(tmp_path: Path) -> None:
    found = lines(tmp_path, "deploy")
    for line in found:
        assert line["whole"], line
        assert line["rows"] == line["index"] == line["folders"], line
        assert line["serials"] == ({"acme.lines": 1} if line["rows"] else {}), line
        assert line["replies"] == 1 + len(line["rows"]), line
    assert [line["complete"] for line in found].index(True) == len(found) - 1
    assert len(found[-1]["rows"]) == 1
    assert found[0]["rows"] == []
    # Some of the cuts lie behind the point from which it has happened, and the next start brought it to its end.
    assert any(line["rows"] and not line["complete"] for line in found)


def test_an_import_is_in_force_or_not(tmp_path: Path) -> None:
    found = lines(tmp_path, "import")
    for line in found:
        assert line["policies"] in ([1], [1, 2]), line
        assert line["policy"] == line["policies"][-1], line
        assert line["replies"] == len(line["policies"]), line
    assert found[0]["policy"] == 1
    assert found[-1]["policy"] == 2
    assert any(line["policy"] == 2 and not line["complete"] for line in found)
