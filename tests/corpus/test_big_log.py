"""Big logs: memory stays bounded, and queries answer with the sentinel and without it.

The logs are made of the chunks of real ones by the corpus' own `scale_evtx.py`; no record is invented. What
is measured is the anonymous memory of every process of the home (the command, the sentinel, workers, zygotes, guests),
seen every 50 ms: file pages that the kernel may drop at any time do not count.

    CASPARIAN_CORPUS=DIR .venv/bin/python -m pytest -s tests/corpus/test_big_log.py -m slow
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.reading import event_logs
from tests.support.world import World

pytestmark = pytest.mark.corpus

LIMIT_BYTES = 300_000_000
POLL_SECONDS = 0.05
ROWS_MIN = 100_000
ROLES = ("sentinel", "worker", "guest")


class MemoryWatch:
    """The most anonymous memory that each process of a home was seen with."""

    def __init__(self, home: Path) -> None:
        self._home = str(home).encode()
        self._stop = threading.Event()
        self.peaks: dict[str, int] = {}  # role -> bytes
        self.looks = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look every 50 ms while the block runs."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._look(entry)

    def _look(self, process: Path) -> None:
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"--home" not in command or self._home not in command:
                return
            status = (process / "status").read_text()
        except OSError:  # it ended in between
            return
        anonymous = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        if anonymous:
            role = next((r for r in ROLES if f"casparian.{r}".encode() in command), "command")
            self.peaks[role] = max(self.peaks.get(role, 0), int(anonymous[1]) * 1024)


def big_log(corpus: Path, path: Path, megabytes: int) -> int:
    """Make a log of about this size; gives the number of its records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(log) for log in event_logs(corpus)]
    command = [sys.executable, str(corpus / "scale_evtx.py"), str(path), str(megabytes), "7"]
    made = subprocess.run([*command, *sources], check=True, capture_output=True, text=True)
    return int(made.stdout.split()[-1])


def check(world: World, records: int, watch: MemoryWatch) -> dict[str, Any]:
    """Run, query with the sentinel and without, hold the rows against what was made."""
    live = (
        "NOT list_contains(_cf_flags, 'slack')"  # some of the chunks have old records behind them
    )
    figures = (
        "SELECT count(*), count(DISTINCT header_record_id), min(header_record_id),"
        f" max(header_record_id) FROM evtx_events WHERE {live}"
    )
    by_event = (
        "SELECT provider_name, event_id, count(*) AS n FROM evtx_events"
        " WHERE time_created >= '2000-01-01' GROUP BY ALL ORDER BY n DESC, 1, 2 LIMIT 20"
    )
    one = f"SELECT header_record_id FROM evtx_events WHERE {live} AND header_record_id = {records - 7}"
    world.json("sentinel", "start")
    with watch.running():
        summary = world.run()
        assert world.processes("sentinel")
        with_sentinel = [world.query(sql) for sql in (figures, by_event, one)]
    world.stop()
    assert not world.processes()
    with watch.running():
        without_sentinel = [world.query(sql) for sql in (figures, by_event, one)]
    assert with_sentinel == without_sentinel
    assert with_sentinel[0] == [[records, records, 1, records]]
    assert with_sentinel[2] == [[records - 7]]
    ledger = summary["ledger"]
    assert ledger["balanced"]
    assert (ledger["present"], ledger["rows"], ledger["lost"]) == (records, records, 0)
    print(f"{records} records, {watch.looks} looks, peaks in MB:",
          {role: round(peak / 1e6, 1) for role, peak in sorted(watch.peaks.items())},
          f"{summary['elapsed_seconds']} s")  # fmt: skip
    assert set(watch.peaks) == {"command", *ROLES}
    for role, peak in watch.peaks.items():
        assert peak < LIMIT_BYTES, f"{role}: {peak} bytes"
    found: dict[str, Any] = summary
    return found


def test_queries_answer_on_a_hundred_thousand_rows_with_the_sentinel_and_without(
    corpus: Path, world: World
) -> None:
    records = big_log(corpus, world.evidence / "big.evtx", 160)
    assert records >= ROWS_MIN
    check(world, records, MemoryWatch(world.home))


@pytest.mark.slow
def test_memory_stays_bounded_on_a_log_of_a_gigabyte(corpus: Path, world: World) -> None:
    path = world.evidence / "big.evtx"
    records = big_log(corpus, path, 1_024)
    assert path.stat().st_size > 1_000_000_000
    check(world, records, MemoryWatch(world.home))
