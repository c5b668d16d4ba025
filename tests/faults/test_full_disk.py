"""A disk that fills up at any write: whole sources or nothing, a reason, and the next run completes."""

from __future__ import annotations

import pytest

from tests.faults.disks import (
    Disk,
    FaultWorld,
    assert_clear,
    assert_only_whole_sources,
    assert_recovers,
)
from tests.storm.verdict import Fingerprint

_ROOMY_KIB = 512 * 1024
_FULL = ("no space", "no_space", "space left", "sink.no_space")

# From a disk that holds not even a directory to one that holds nearly everything: it fills in every phase.
_SINK_KIB = {
    "parquet": (8, 64, 300, 600, 900, 1200, 1500, 1620),
    "csv": (8, 500, 4000, 9000, 14_000, 18_000),
    "duckdb": (16, 400, 900, 1600, 2400, 3600, 5000, 7000, 9000, 10_200),
}


# While staging in each sink, and while DuckDB's file is published; the others are slow tests.
_SINK_KIB_SOON = {("parquet", 900), ("csv", 9000), ("duckdb", 1600), ("duckdb", 7000)}


@pytest.mark.parametrize(
    ("kind", "kib"),
    [
        pytest.param(kind, kib, marks=() if (kind, kib) in _SINK_KIB_SOON else pytest.mark.slow)
        for kind, sizes in _SINK_KIB.items()
        for kib in sizes
    ],
)
def test_a_sink_that_fills_up(
    kind: str, kib: int, faulty: FaultWorld, disk: Disk, expected: Fingerprint
) -> None:
    place = disk.path / "sink"
    uri = f"{kind}:{place / 'out.duckdb' if kind == 'duckdb' else place}"
    faulty.plan(free_bytes_min=0)
    disk.resize(kib)
    code, document = faulty.attempt("--sink", uri)
    faulty.stop()
    if code != 0:
        assert_clear(document, *_FULL)
        assert_only_whole_sources(faulty.rows("--sink", uri) if _any(document) else {}, expected)
    else:
        assert faulty.rows("--sink", uri) == expected
    print("exit", code, "used", disk.used_kib, "of", kib)
    disk.resize(_ROOMY_KIB)
    faulty.plan()
    assert_recovers(faulty, expected, place, "--sink", uri)


def _any(document: dict[str, object]) -> bool:
    return bool(document.get("outputs"))


def test_a_sink_with_little_space_is_refused_before_any_work(
    faulty: FaultWorld, disk: Disk, expected: Fingerprint
) -> None:
    place = disk.path / "sink"
    disk.resize(32 * 1024)
    code, document = faulty.attempt("--sink", f"parquet:{place}")
    assert code == 1
    assert_clear(document, "sink.no_space")
    assert not list(place.rglob("*.parquet"))
    disk.resize(_ROOMY_KIB)
    assert_recovers(faulty, expected, place, "--sink", f"parquet:{place}")


@pytest.mark.parametrize(
    "kib",
    [
        pytest.param(kib, marks=() if kib == 3000 else pytest.mark.slow)
        for kib in (64, 2000, 3000, 3600, 4200, 5000, 6000, 9000)
    ],
)
def test_a_home_that_fills_up(
    kib: int, faulty: FaultWorld, disk: Disk, expected: Fingerprint
) -> None:
    """Control database, catalog, logs, quarantine and the default sink on one small disk."""
    faulty.home = disk.path / "home"
    faulty.plan(free_bytes_min=0)
    disk.resize(kib)
    code, document = faulty.attempt()
    faulty.stop()
    print("exit", code, "used", disk.used_kib, "of", kib)
    if code != 0:
        assert_clear(document, *_FULL)
    disk.resize(_ROOMY_KIB)
    faulty.plan()
    assert_only_whole_sources(faulty.rows(), expected)
    assert_recovers(faulty, expected, faulty.home / "outputs")
