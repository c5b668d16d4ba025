"""The ledger is no mirror: a decoder that loses records in silence turns every affected ledger red.

Two builds of the product lose on purpose: one record row in a thousand of each log, or the chunk in
slot 1 of each log. What each of them must lose is worked out here with the honest decoder. Then the
whole product runs with the faulty one, over made logs, and over the corpus when there is one:

  * an affected source does not balance, `lost` is exactly what was dropped, and for each chunk
    concerned a finding with its offset says how many are missing;
  * every other source balances, as with the honest decoder;
  * `run --strict` ends with exit code 7, without `--strict` the run says so and ends with 0.

Records of the slack lie outside `present`, so dropping one of them changes no balance.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from casparian import _native
from casparian.demo import damage
from tests.corpus.reading import in_memory, read
from tests.sabotage.environment import SabotagedWorld, sabotaged_python
from tests.support.small import small_log, syslog_lines
from tests.support.world import World

FILE_HEADER_BYTES, SLOT_BYTES, SLACK = 4096, 65_536, 2
EVERY, SLOT = 1000, 1
Slots = Counter[int]  # units that are missing, by slot


def dropped_records(data: bytes) -> Slots:
    """What a decoder loses that drops every thousandth row, by slot; slack rows are not units."""
    with in_memory(data) as descriptor:
        events = read(descriptor, len(data)).events
    if events is None:
        return Counter()
    rows = list(zip(events["@offset"].to_pylist(), events["@flags"].to_pylist(), strict=True))
    return Counter(_slot(offset) for offset, flags in rows[EVERY - 1 :: EVERY] if not flags & SLACK)


def dropped_chunk(data: bytes) -> Slots:
    """What a decoder loses that leaves out slot 1: every unit in it, rows and quarantined ones."""
    with in_memory(data) as descriptor:
        found = read(descriptor, len(data))
    units: Slots = Counter()
    for table in (found.events, found.quarantine):
        if table is not None:
            rows = zip(table["@offset"].to_pylist(), table["@flags"].to_pylist(), strict=True)
            units.update(_slot(offset) for offset, flags in rows if not flags & SLACK)
    return Counter({SLOT: units[SLOT]}) if units[SLOT] else Counter()


def _slot(offset: int) -> int:
    return (offset - FILE_HEADER_BYTES) // SLOT_BYTES


FAULTS: dict[str, Callable[[bytes], Slots]] = {
    f"drop-record:{EVERY}": dropped_records,
    f"drop-chunk:{SLOT}": dropped_chunk,
}


@pytest.fixture(scope="module", params=sorted(FAULTS))
def fault(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(fault: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    # The workers of one run under xdist share the parent of their directories.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return sabotaged_python(fault, shared)


@pytest.fixture
def sabotaged(tmp_path: Path, python: Path) -> Iterator[SabotagedWorld]:
    world = SabotagedWorld(tmp_path, python)
    yield world
    world.stop()


def _check(world: SabotagedWorld, expected: dict[str, Slots]) -> None:
    """Run everything, then hold each ledger against what its log must have lost."""
    summary = world.run()
    lost = sum(slots.total() for slots in expected.values())
    assert lost > 0, "the fault must cost something"
    assert summary["files"]["failed"] == 0
    assert not summary["ledger"]["balanced"]
    assert summary["ledger"]["lost"] == lost
    strict = world.directory / "strict"
    assert world.run("--strict", code=7, home=strict)["ledger"] == summary["ledger"]
    world.call("sentinel", "stop", home=strict)

    ledgers = {source["source_path"]: source for source in world.json("ledger")["sources"]}
    assert expected.keys() <= ledgers.keys()
    for path, ledger in ledgers.items():
        slots = expected.get(path, Counter())
        where = f"{path}: {ledger}"
        assert ledger["balanced"] == (not slots), where
        assert ledger["lost"] == slots.total(), where
        live = ledger["rows"] + ledger["recovered_live"] + ledger["quarantined"]
        assert live + ledger["lost"] == ledger["present"], where
        assert _findings_of_loss(ledger) == slots, where


def _findings_of_loss(ledger: dict[str, Any]) -> Slots:
    """Records that findings report as lost, by slot, read from their text."""
    found: Slots = Counter()
    for finding in ledger["findings"]:
        if finding["code"] == "record.lost":
            present, accounted = (
                int(word) for word in finding["message"].split() if word.isdecimal()
            )
            assert finding["length"] == SLOT_BYTES
            assert (finding["offset"] - FILE_HEADER_BYTES) % SLOT_BYTES == 0
            found[_slot(finding["offset"])] += present - accounted
    return found


def test_losses_in_made_logs_turn_exactly_their_ledgers_red(
    sabotaged: SabotagedWorld, fault: str
) -> None:
    several = small_log(events=2_500, seed=1)
    logs = {
        "several.evtx": several,
        "damaged.evtx": damage.zero_sectors(small_log(events=1_400, seed=2), 1, 40),
        "slack.evtx": damage.leave_slack(small_log(events=1_200, seed=3), 0, keep_records=30),
        "one chunk.evtx": small_log(events=100, seed=4),
        "no events.evtx": several[:FILE_HEADER_BYTES],
    }
    expected = {name: FAULTS[fault](data) for name, data in logs.items()}
    assert expected["several.evtx"]
    assert not expected["one chunk.evtx"]
    for name, data in logs.items():
        sabotaged.file(name, data)
    sabotaged.file("syslog", syslog_lines(host="h", count=50, bad=2))
    _check(sabotaged, expected)


@pytest.mark.corpus
def test_losses_in_real_logs_turn_exactly_their_ledgers_red(
    tmp_path: Path, python: Path, fault: str, corpus: Path
) -> None:
    evidence = corpus / "evtx"
    world = SabotagedWorld(tmp_path, python, evidence=evidence)
    expected = {
        str(path.relative_to(evidence)): FAULTS[fault](path.read_bytes())
        for path in sorted(evidence.rglob("*.evtx"))
    }
    try:
        _check(world, {path: slots for path, slots in expected.items() if slots})
    finally:
        world.stop()


def test_the_environment_runs_the_sabotaged_decoder_and_nothing_else_has_changed(
    sabotaged: SabotagedWorld,
) -> None:
    info = sabotaged.build_info()
    assert info["features"] == "sabotage"
    assert Path(info["file"]).is_relative_to(sabotaged.python.parents[1])
    assert info["engine_sources_hash"] == _native.engine_sources_hash(), (
        "the installed module was not built from the sources that lie here"
    )


def test_no_installed_decoder_can_be_made_to_lose_anything(tmp_path: Path) -> None:
    assert _native.build_info()["features"] == ""
    path = tmp_path / "log.evtx"
    path.write_bytes(small_log(events=3))
    with path.open("rb") as log:
        for name in ("drop-record:1", "drop-chunk:0", ""):
            with pytest.raises(ValueError, match="sabotage"):
                _native.EvtxReader(log.fileno(), path.stat().st_size, fault=name)
    module = Path(_native.__file__).read_bytes()
    for name in FAULTS:
        assert name.partition(":")[0].encode() not in module, f"the code for {name} is in there"


def test_a_configured_fault_is_refused_before_anything_runs(world: World) -> None:
    world.file("log.evtx", small_log(events=3))
    refused = world.json(
        "run", str(world.evidence), "--set", "windows.evtx.fault=drop-record:1", code=2
    )
    assert "fault" in refused["error"]["message"]
