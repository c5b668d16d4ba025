"""The hive decoder alone, against the figures of five independent readers and against Windows itself.

`ORACLE.json` holds what regipy, python-registry, dissect.regf, libregf and yarp found in each of the 56
hives, and what yarp found once the transaction logs were replayed. `DECIDED` says, from the bytes,
what is right where they disagree or where all of them miss something.
"""

from __future__ import annotations

import json
import lzma
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from casparian import _native

pytestmark = pytest.mark.corpus

HIVES = 56
YARP = "registry/msuhanov-yarp"


@dataclass(frozen=True)
class Decision:
    """What the bytes say of a hive: live keys and values, orphans of both, cells in quarantine."""

    keys: int
    values: int
    orphans: tuple[int, int]
    quarantined: int
    why: str


DECIDED = {
    "registry/log2timeline-plaso/corrupt_sub_key_list.hiv": Decision(
        100,
        99,
        (1, 1),
        0,
        "one item of the root's list is no reference; its key is whole and not reached",
    ),
    f"{YARP}/BadListHive": Decision(
        6,
        0,
        (1, 0),
        0,
        "two lists name one key: readers count it twice, and miss the one nobody names",
    ),
    f"{YARP}/TruncatedNameHive": Decision(
        1, 0, (0, 0), 1, "the name of the second key is longer than its cell"
    ),
    "registry/puffyCid-artemis/NTUSER_Bad.DAT": Decision(
        665,
        1079,
        (1, 10),
        0,
        "one list names its own ancestor: walkers go round, yarp stops one key early",
    ),
}


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def decode(hive: bytes, logs: dict[str, bytes] | None = None) -> dict[str, pa.Table]:
    """Every output of the decoder, read from files without names."""
    with ExitStack() as stack:

        def lend(data: bytes) -> tuple[int, int]:
            descriptor = os.memfd_create("hive")
            stack.callback(os.close, descriptor)
            os.write(descriptor, data)
            return descriptor, len(data)

        lent = [(role, *lend(data)) for role, data in (logs or {}).items()]
        batches: dict[str, list[pa.RecordBatch]] = {}
        for name, batch in _native.HiveReader(*lend(hive), logs=lent):
            batches.setdefault(name, []).append(pa.record_batch(batch))
    return {name: pa.Table.from_batches(parts) for name, parts in batches.items()}


def states(tables: dict[str, pa.Table], name: str) -> Counter[str]:
    return Counter(tables[name]["state"].to_pylist() if name in tables else ())


def live(tables: dict[str, pa.Table], name: str, *columns: str) -> list[tuple[Any, ...]]:
    if name not in tables:
        return []
    table = tables[name]
    rows = table.filter(pc.equal(table["state"], "live")).select(columns).to_pylist()
    return [tuple(row.values()) for row in rows]


def oracle(corpus: Path) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((corpus / "ORACLE.json").read_text())["files"]
    return {
        path: figures
        for path, figures in files.items()
        if path.startswith("registry/") and "bytes_read_directly" in figures
    }


def test_every_hive_has_the_keys_and_values_that_readers_found(corpus: Path) -> None:
    hives = oracle(corpus)
    assert len(hives) == HIVES
    for path, figures in hives.items():
        tables = decode(content(corpus / path))
        keys, values = states(tables, "registry_keys"), states(tables, "registry_values")
        quarantined = tables["registry_hives"]["quarantined_cells"].to_pylist()[0]
        found = (keys["live"], values["live"])
        if decision := DECIDED.get(path):
            assert found == (decision.keys, decision.values), path
            assert (keys["orphaned"], values["orphaned"]) == decision.orphans, path
            assert quarantined == decision.quarantined, path
        else:
            assert found == (figures["expected_keys"], figures["expected_values"]), path
            assert quarantined == 0, path


def test_replayed_logs_give_what_yarp_gives_and_are_refused_where_it_refuses(corpus: Path) -> None:
    replayed = 0
    for path, figures in oracle(corpus).items():
        if "with_logs" not in figures:
            continue
        with_logs = figures["with_logs"]
        logs = {role.upper(): content(corpus / log) for role, log in with_logs["logs"].items()}
        tables = decode(content(corpus / path), logs)
        hive = tables["registry_hives"]
        theirs = with_logs["yarp"]
        assert hive["is_recovered"].to_pylist() == [theirs.get("recovered", False)], path
        if "error" in theirs:
            assert hive["problems"].to_pylist() == [["hive.not_recovered"]], path
            continue
        found = tuple(states(tables, f"registry_{kind}")["live"] for kind in ("keys", "values"))
        assert found == (theirs["keys"], theirs["values"]), path
        replayed += theirs["recovered"]
    assert replayed == 6


@pytest.mark.parametrize(
    ("folder", "dirty", "recovered"),
    [
        ("NewDirtyHive1", "NewDirtyHive", "RecoveredHive_Windows10"),
        ("OldDirtyHive", "OldDirtyHive", "RecoveredHive_Windows7"),
    ],
)
def test_replayed_hives_are_what_windows_made_of_them(
    corpus: Path, folder: str, dirty: str, recovered: str
) -> None:
    place = corpus / YARP / folder
    logs = {role: content(place / f"{dirty}.{role}") for role in ("LOG1", "LOG2")}
    ours = decode(content(place / dirty), logs)
    windows = decode(content(place / recovered))
    for name, columns in {
        "registry_keys": ("key_path", "value_count", "subkey_count", "owner_sid"),
        "registry_values": (
            "key_path",
            "value_name",
            "type",
            "value_text",
            "value_int",
            "value_list",
            "value_raw",
        ),
    }.items():
        assert live(ours, name, *columns) == live(windows, name, *columns)
    assert len(ours["registry_changes"]) > 0


def test_a_hive_with_a_loop_ends_and_tells_of_it(corpus: Path) -> None:
    data = content(corpus / "registry/puffyCid-artemis/NTUSER_Bad.DAT")
    tables = decode(data)
    problems = [codes for codes in tables["registry_keys"]["problems"].to_pylist() if codes]
    assert problems == [["subkeys.repeated"]]


def test_deleted_keys_and_values_come_back(corpus: Path) -> None:
    place = corpus / YARP
    tree = decode(content(place / "DeletedTreeHive"))["registry_keys"]
    tree = tree.select(["key_path", "state"]).to_pydict()
    found = {
        path
        for path, state in zip(tree["key_path"], tree["state"], strict=True)
        if state == "deleted"
    }
    assert {r"?\1\2\3", r"?\1\2\3\4", r"?\1\2\3\4\5"} <= found
    values = decode(content(place / "DeletedDataHive"))["registry_values"].to_pylist()
    deleted = [row for row in values if row["state"] == "deleted"]
    assert {(row["value_name"], row["value_text"]) for row in deleted} == {
        ("v", "123456"),
        ("v2", "456"),
    }
