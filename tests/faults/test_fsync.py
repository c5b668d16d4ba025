"""An fsync that fails: the job fails with a reason, nothing of it is visible, it is never asked again for that file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disks import (
    FaultWorld,
    assert_clear,
    assert_only_whole_sources,
    assert_recovers,
)
from tests.storm.verdict import Fingerprint

_DURABLE = ("could not be made durable", "staging.fsync", "input/output error", "fsync")

# what fails -> (kind of sink, regex on its path)
_PLACES = {
    "a staged Parquet file": ("parquet", r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/.*\.parquet$"),
    "a staged CSV file": ("csv", r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/.*\.csv$"),
    "a staged file for DuckDB": ("duckdb", r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/.*\.parquet$"),
    "a stage directory": ("parquet", r"/sink/\.casparian-stage/[^/]+/\d+\.\d+$"),
    "the directory of all stages": ("csv", r"/sink/\.casparian-stage/[^/]+$"),
    "a file of quarantined rows": ("parquet", r"/home/quarantine/\.casparian-stage/.*\.parquet$"),
    "the output directory": ("parquet", r"/sink$"),
    "the directory of a DuckDB file": ("duckdb", r"/sink$"),
    "the new catalog": ("parquet", r"/catalog\.duckdb\.new$"),
    "the home, after the catalog was renamed": ("parquet", r"/home$"),
}


# One for each sink and each phase; the others are slow tests.
_SOON = {
    ("a staged CSV file", 1),
    ("a staged file for DuckDB", 3),
    ("a stage directory", 1),
    ("the output directory", 1),
    ("the directory of a DuckDB file", 1),
}


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        pytest.param(place, nth, marks=() if (place, nth) in _SOON else pytest.mark.slow)
        for place in _PLACES
        for nth in (1, 3)
    ],
)
def test_a_failing_fsync(place: str, nth: int, faulty: FaultWorld, expected: Fingerprint) -> None:
    kind, pattern = _PLACES[place]
    sink = faulty.directory / "sink"
    uri = f"{kind}:{sink / 'out.duckdb' if kind == 'duckdb' else sink}"
    faulty.plan(fsync=[{"match": pattern, "nth": nth}])
    code, document = faulty.attempt("--sink", uri)
    faulty.stop()
    failed = [sync for sync in faulty.fsyncs if sync["failed"]]
    if not failed:
        assert nth > 1, "the fault never came"
        assert code == 0
        pytest.skip(f"not run: fewer than {nth} fsyncs of {place}")
    assert code == 1, document
    assert_clear(document, *_DURABLE)
    assert_only_whole_sources(
        faulty.rows("--sink", uri) if document.get("outputs") else {}, expected
    )
    assert_never_asked_again(faulty, failed[0])
    faulty.plan()
    assert_recovers(faulty, expected, sink, "--sink", uri)


def assert_never_asked_again(world: FaultWorld, failed: dict[str, object]) -> None:
    """After a failure the kernel may call the lost pages clean: a second fsync would lie."""
    if Path(str(failed["path"])).is_dir():
        return  # a directory is synced for other files as well
    asked = [
        sync
        for sync in world.fsyncs
        if (sync["path"], sync["inode"]) == (failed["path"], failed["inode"])
    ]
    assert len(asked) == 1, asked
