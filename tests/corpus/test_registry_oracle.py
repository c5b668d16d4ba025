"""Every hive of the corpus: figures of independent tools, what Windows itself made of dirty ones, and the ledger of each.

Counts are compared with `ORACLE.json`. Where the tools do not agree the bytes decide; `DECIDED` has each such case with
its reason. Hives whose logs lie beside them are compared with what `yarp` gives after replay.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.hives import CHANGES, HIVES, KEYS, VALUES, Reading, read
from tests.support.world import World

pytestmark = pytest.mark.corpus
ROLES = ("LOG", "LOG1", "LOG2")

# Live keys and values, where the tools differ among each other or stop early.
DECIDED = {
    # The size of one list entry is damaged: one key of 101 cannot be reached, and is a row as `orphaned`.
    "log2timeline-plaso/corrupt_sub_key_list.hiv": (100, 99),
    # One subkey is listed twice, so one key is not listed at all: it is `orphaned`.
    "msuhanov-yarp/BadListHive": (6, 0),
    # The one subkey's name is longer than its cell: it is quarantined.
    "msuhanov-yarp/TruncatedNameHive": (1, 0),
    # A list of subkeys leads back to a key above. One tool stops at the loop with 664 keys; all others do not end.
    "puffyCid-artemis/NTUSER_Bad.DAT": (665, 1079),
}
# Fragments and hives in compressed clusters: material for carving, no hives by themselves.
FRAGMENTS = "msuhanov-yarp/Carving/"


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    return lzma.decompress(raw) if path.suffix == ".xz" else raw


def is_hive(data: bytes) -> bool:
    return data.startswith(b"regf") and int.from_bytes(data[28:32], "little") == 0


def logs_of(path: Path) -> list[tuple[str, bytes]]:
    """The transaction logs beside a hive; upper and lower case are the same."""
    name = path.name.removesuffix(".xz").lower()
    by_name = {other.name.removesuffix(".xz").lower(): other for other in path.parent.iterdir()}
    found = [(role, by_name.get(f"{name}.{role.lower()}")) for role in ROLES]
    return [(role, content(log)) for role, log in found if log is not None]


def hives(corpus: Path) -> Iterator[tuple[str, Path]]:
    registry = corpus / "registry"
    for path in sorted(registry.rglob("*")):
        if path.is_file() and is_hive(content(path)):
            yield str(path.relative_to(registry)), path


def figures(corpus: Path) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((corpus / "ORACLE.json").read_text())["files"]
    return {
        path.removeprefix("registry/"): found
        for path, found in files.items()
        if path.startswith("registry/")
    }


def live(reading: Reading) -> tuple[int, int]:
    states = [Counter(row["state"] for row in reading.rows(table)) for table in (KEYS, VALUES)]
    return states[0]["live"], states[1]["live"]


def test_keys_and_values_of_every_hive_are_those_of_independent_tools(corpus: Path) -> None:
    oracle, compared = figures(corpus), 0
    for name, path in hives(corpus):
        reading = read(content(path))
        assert reading.ledger.balanced, (name, reading.findings)
        found = oracle.get(name, {})
        expected = DECIDED.get(name) or (found.get("expected_keys"), found.get("expected_values"))
        if name.startswith(FRAGMENTS) and expected == (None, None):
            continue
        assert live(reading) == expected, name
        compared += 1
    assert compared > 40


def test_replay_gives_what_independent_replay_gives(corpus: Path) -> None:
    oracle, compared = figures(corpus), 0
    for name, path in hives(corpus):
        logs = logs_of(path)
        reading = read(content(path), logs)
        assert reading.ledger.balanced, (name, reading.findings)
        replayed = oracle.get(name, {}).get("with_logs", {}).get("yarp", {})
        if "keys" in replayed:
            assert live(reading) == (replayed["keys"], replayed["values"]), name
            (hive,) = reading.rows(HIVES)
            assert hive["is_recovered"] == replayed["recovered"], name
            compared += 1
        elif "error" in replayed:  # logs that no tool can apply are not applied
            (hive,) = reading.rows(HIVES)
            assert not hive["is_recovered"], name
            assert "hive.dirty" in reading.codes, name
    assert compared >= 7


@pytest.mark.parametrize(
    ("dirty", "recovered"),
    [
        ("NewDirtyHive1/NewDirtyHive", "NewDirtyHive1/RecoveredHive_Windows10"),
        ("NewDirtyHive2/NewDirtyHive", "NewDirtyHive1/RecoveredHive_Windows10"),
        ("OldDirtyHive/OldDirtyHive", "OldDirtyHive/RecoveredHive_Windows7"),
        ("BadBaseBlockHive/BadBaseBlockHive", "OldDirtyHive/RecoveredHive_Windows7"),
    ],
)
def test_a_dirty_hive_with_its_logs_is_what_windows_made_of_it(
    corpus: Path, dirty: str, recovered: str
) -> None:
    folder = corpus / "registry" / "msuhanov-yarp"
    ours = read(content(folder / dirty), logs_of(folder / dirty))
    theirs = read(content(folder / recovered))
    assert ours.ledger.balanced
    assert _content(ours) == _content(theirs)
    before = read(content(folder / dirty))
    assert _content(before) != _content(theirs)
    assert ours.rows(CHANGES)


def _content(reading: Reading) -> tuple[Counter[Any], Counter[Any]]:
    """Live keys by path, live values with their data."""
    keys = Counter(row["key_path"] for row in reading.rows(KEYS) if row["state"] == "live")
    values = Counter(
        (
            row["key_path"],
            row["value_name"],
            row["type"],
            row["value_text"],
            row["value_int"],
            str(row["value_list"]),
            row["value_raw"],
        )
        for row in reading.rows(VALUES)
        if row["state"] == "live"
    )
    return keys, values


def test_the_installed_command_reads_every_hive(corpus: Path, tmp_path: Path) -> None:
    """`casparian run` over all of them, each decompressed; rows drawn at random are proven."""
    world = World(tmp_path)
    expected = {}
    try:
        for name, path in hives(corpus):
            data = content(path)
            world.file(name.removesuffix(".xz"), data)
            expected[name.removesuffix(".xz")] = data
        summary = world.run()
        assert summary["files"]["failed"] == 0
        ledgers = {source["source_path"]: source for source in world.json("ledger")["sources"]}
        assert len(ledgers) == len(set(expected.values()))
        for path, ledger in ledgers.items():
            assert ledger["balanced"], path
            assert ledger["unit"] == "cell", path
        counted = world.query(
            "SELECT (SELECT count(*) FROM registry_keys) + (SELECT count(*) FROM registry_values)"
        )
        total = sum(source["rows"] + source["recovered"] for source in ledgers.values())
        assert counted == [[total]]
        for table in (KEYS, VALUES):
            row_ids = world.column(
                f"SELECT _cf_row_id FROM {table} ORDER BY hash(_cf_source_id, _cf_ordinal) LIMIT 8"
            )
            for row_id in row_ids:
                assert world.json("why", str(row_id))["proven"] is True, row_id
    finally:
        world.stop()


def test_a_hive_with_a_loop_ends_with_findings(corpus: Path) -> None:
    reading = read((corpus / "registry/puffyCid-artemis/NTUSER_Bad.DAT").read_bytes())
    assert reading.ledger.balanced
    assert {"key.listed_twice", "key.unlisted"} <= reading.codes


def test_what_a_clean_hive_says_of_itself_is_what_is_there(corpus: Path) -> None:
    """No finding on hives that no tool finds fault with: a reader that cries wolf is not read."""
    for name in ("SYSTEM.xz", "SAM.xz", "NTUSER.DAT.xz", "BCD.xz", "NTUSER-WSL.DAT.xz"):
        reading = read(content(corpus / "registry/mkorman90-regipy" / name))
        assert reading.findings == (), name
        assert reading.ledger.declared == reading.ledger.present, name
