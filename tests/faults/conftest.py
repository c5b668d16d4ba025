"""Worlds with small disks, and what an undisturbed run would have given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import Disk, FaultWorld
from tests.storm.verdict import Fingerprint


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    """What an undisturbed run over the same evidence gives, whatever the sink."""
    calm = FaultWorld(tmp_path_factory.mktemp("calm"))
    calm.fill()
    try:
        calm.run()
        return calm.rows()
    finally:
        calm.stop()


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultWorld]:
    """A world with evidence; nothing is wrong with it yet."""
    made = FaultWorld(tmp_path)
    made.fill()
    yield made
    made.stop()


@pytest.fixture
def disk(tmp_path: Path, faulty: FaultWorld) -> Iterator[Disk]:
    """A file system of its own, unmounted when the sentinel is gone."""
    made = Disk(tmp_path / "disk")
    yield made
    faulty.stop()
    made.close()
