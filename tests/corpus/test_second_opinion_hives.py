"""libregf on a hive that Windows itself recovered, against rows as a decoder would commit them: five keys, one value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from casparian.appliance.second_opinion import second_opinion
from casparian.appliance.second_opinion.report import SourceOpinion
from casparian.domain.contracts import Column, OutputContract
from tests.factories.committed import CommittedHome

pytestmark = pytest.mark.corpus

HIVE = "registry/msuhanov-yarp/NewDirtyHive1/RecoveredHive_Windows10"
_UNIX_EPOCH = 116_444_736_000_000_000
# Path and FILETIME, from the bytes of the hive.
KEYS = [
    ("\\", 131331344451123376),
    ("\\Key3", 131331345337530678),
    ("\\Key3\\Key3_1", 131331344225655030),
    ("\\Key3\\Key3_2", 131331344270498744),
    ("\\Key3\\Key3_3", 131331345372216912),
]
KEYS_CONTRACT = OutputContract(
    table="registry_keys",
    main=True,
    columns=(
        Column(name="key_path", type="utf8"),
        Column(name="last_write", type="timestamp[ns, UTC]"),
        Column(name="state", type="utf8"),
    ),
)
VALUES_CONTRACT = OutputContract(
    table="registry_values",
    columns=(
        Column(name="key_path", type="utf8"),
        Column(name="value_name", type="utf8"),
        Column(name="type", type="uint32"),
        Column(name="data_size", type="uint32"),
        Column(name="state", type="utf8"),
    ),
)
CHANGES_CONTRACT = OutputContract(
    table="registry_changes",
    columns=(Column(name="key_path", type="utf8"), Column(name="value_name", type="utf8")),
)


def key(path: str, time: int, state: str = "live") -> dict[str, Any]:
    return {"key_path": path, "last_write": (time - _UNIX_EPOCH) * 100, "state": state}


def value(path: str, kind: int = 1) -> dict[str, Any]:
    return {"key_path": path, "type": kind, "data_size": 2, "state": "live"}


def opinion(
    directory: Path,
    corpus: Path,
    keys: list[dict[str, Any]],
    values: list[dict[str, Any]],
    changes: list[dict[str, Any]] | None = None,
) -> SourceOpinion:
    home = CommittedHome(directory)
    source = home.source("hive", (corpus / HIVE).read_bytes())
    sink = home.sink("parquet:outputs")
    home.commit(sink, 1, [(source, keys)], output=KEYS_CONTRACT)
    home.commit(sink, 1, [(source, values)], output=VALUES_CONTRACT)
    if changes is not None:
        home.commit(sink, 1, [(source, changes)], output=CHANGES_CONTRACT)
    home.publish()
    (reader,) = second_opinion(home.home, readers=("libregf",)).readers
    (found,) = reader.sources
    return found


def test_equal_keys_and_values_agree(tmp_path: Path, corpus: Path) -> None:
    found = opinion(tmp_path, corpus, [key(*one) for one in KEYS], [value("\\Key3")])
    assert found.agrees
    assert (found.kinds["keys"].both, found.kinds["values"].both) == (5, 1)
    assert (found.problems, found.lacking) == (0, 0)


def test_a_key_and_a_value_that_our_tables_lack_are_named(tmp_path: Path, corpus: Path) -> None:
    keys = [key(*one) for one in KEYS if one[0] != "\\Key3\\Key3_2"]
    found = opinion(tmp_path, corpus, keys, [value("\\Key3\\Key3_1")])
    assert found.lacking == 2
    (lost_key,) = found.disagreements["keys"]
    assert (lost_key.what, lost_key.identity) == ("only_theirs", ("\\Key3\\Key3_2",))
    assert [(one.what, one.identity) for one in found.disagreements["values"]] == [
        ("only_theirs", ("\\Key3", None)),
        ("only_ours", ("\\Key3\\Key3_1", None)),
    ]


def test_other_times_and_types_differ_and_what_is_not_live_is_apart(
    tmp_path: Path, corpus: Path
) -> None:
    keys = [key(*one) for one in KEYS[:3]]
    keys += [
        key("\\Key3\\Key3_2", KEYS[3][1] + 1),
        key(*KEYS[4], "superseded"),
        key("?\\x", KEYS[0][1], "deleted"),
    ]
    found = opinion(tmp_path, corpus, keys, [value("\\Key3", kind=3)])
    counts = found.kinds["keys"]
    assert (counts.both, counts.differing, counts.as_recovered) == (3, 1, 1)
    assert (counts.recovered_ours, counts.lacking) == (2, 0)
    assert found.kinds["values"].differing == 1


def test_what_logs_change_is_no_disagreement(tmp_path: Path, corpus: Path) -> None:
    keys = [key(*one) for one in KEYS[:4]] + [key("\\Key4", KEYS[0][1])]
    changes = [{"key_path": "\\Key4"}, {"key_path": "\\Key3\\Key3_3"}, {"key_path": "\\Key3"}]
    found = opinion(tmp_path, corpus, keys, [], changes)
    assert found.agrees
    counts = found.kinds["keys"]
    assert (counts.by_logs_ours, counts.by_logs_theirs) == (1, 1)
    assert found.kinds["values"].by_logs_theirs == 1
