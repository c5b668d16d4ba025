"""The whole corpus before other readers: nothing that one of them finds is missing from our tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.world import World

pytestmark = pytest.mark.corpus

LOGS = 134


def test_no_other_reader_finds_what_our_tables_lack(tmp_path: Path, corpus: Path) -> None:
    world = World(tmp_path, evidence=corpus)
    try:
        world.json("run", str(corpus / "evtx"))
        world.json("run", str(corpus / "registry"))
        document = world.json("verify", "--second-opinion")
    finally:
        world.stop()
    assert document["lacking"] == 0
    assert document["missing"] == []
    readers = {reader["reader"].partition(" ")[0]: reader for reader in document["readers"]}
    for name in ("evtx", "libevtx"):
        reader = readers[name]
        assert (len(reader["sources"]), reader["not_compared"]) == (LOGS, [])
        totals = reader["totals"]["events"]
        assert totals["differing"] == 0
        assert totals["theirs"] == totals["both"] + totals["set_aside"] + totals["as_recovered"]
        assert totals["both"] > 9_000
    # libevtx recovers records from slack: each of them is a row of ours, or set aside with its bytes.
    recovered = readers["libevtx"]["totals"]["events"]
    assert recovered["recovered_theirs"] > 1_000
    assert recovered["recovered_only_theirs"] == 0
