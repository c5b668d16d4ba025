"""Thousands of small files: the control plane holds, in bounded memory."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.support.small import syslog_lines
from tests.support.world import World

FILES = 4_000
ANONYMOUS_MB_MAX = 300


def anonymous_mb(pid: int) -> int:
    """Anonymous memory of a process now; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon:")), None)
    return int(line.split()[1]) // 1024 if line else 0


def test_thousands_of_files_are_committed_and_planned_again_in_bounded_memory(world: World) -> None:
    for number in range(FILES):
        world.file(
            f"d{number // 250:02}/s{number:05}.log", syslog_lines(host=f"h{number}", count=2)
        )
    process = world.start("run", str(world.evidence), "--json")
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in world.processes():
            peaks[pid] = max(peaks.get(pid, 0), anonymous_mb(pid))
        time.sleep(0.2)
    out, errors = process.communicate()
    assert process.returncode == 0, errors + world.logs()
    result = json.loads(out)
    assert result["files"]["selected"] == FILES
    assert result["outputs"][0]["rows"] == 2 * FILES
    assert result["ledger"]["balanced"]
    assert peaks
    assert max(peaks.values()) < ANONYMOUS_MB_MAX, peaks
    assert world.run()["reasons"] == {"done": FILES}
    assert world.query("SELECT count(*), count(DISTINCT _cf_source_id) FROM syslog_events") == [
        [2 * FILES, FILES]
    ]
