"""One run of the installed command over the event logs of the corpus, shared by the tests that read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import World


@dataclass(frozen=True)
class EvtxRun:
    """What `casparian run CORPUS/evtx` made.

    Attributes:
        world: its home and its evidence.
        summary: the document that `run --json` printed.
        ledgers: by path; content that lies at several paths was read once and has the same ledger.
    """

    world: World
    summary: dict[str, Any]
    ledgers: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def evtx_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvtxRun]:
    world = World(tmp_path_factory.mktemp("evtx_run"), evidence=corpus / "evtx")
    try:
        summary = world.run()
        by_hash = {found["source_hash"]: found for found in world.json("ledger")["sources"]}
        paths = world.query("SELECT display_path, source_hash FROM sources")
        yield EvtxRun(world, summary, {path: by_hash[source] for path, source in paths})
    finally:
        world.stop()
