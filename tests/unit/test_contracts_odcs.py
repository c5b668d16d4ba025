"""Contracts as Open Data Contract Standard documents: there and back they are the same, and others' are read or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.contracts import odcs
from casparian.contracts.dataset import dataset_of
from casparian.domain.contracts import Action
from casparian.domain.datasets import Dataset
from casparian.errors import ContractError
from tests.factories.datasets import EVENTS, FIREWALL, dataset, document

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_NAMES = st.text(
    "abcdefghijklmnopqrstuvwxyzäöü _-'\"#:&*!%@`{}[],0123456789~", min_size=1, max_size=10
).filter(lambda name: name.strip() == name and not name.startswith(("@", "_cf_")))
_TYPES: dict[str, dict[str, Any]] = {
    "utf8": {
        "pattern": st.sampled_from([None, "a+", "[^x]*"]),
        "allowed": st.none() | st.lists(_TEXT, min_size=1, max_size=4, unique=True),
        "meaning": st.sampled_from([None, "ipv4", "json"]),
    },
    "int64": {
        "minimum": st.none() | st.integers(-(2**62), 0),
        "maximum": st.none() | st.integers(0, 2**62),
        "format": st.sampled_from([None, "decimal", "hex"]),
    },
    "float64": {
        "minimum": st.none() | st.floats(-1e30, 0),
        "maximum": st.none() | st.floats(0, 1e30),
    },
    "bool": {"format": st.sampled_from([None, "yes/no"])},
    "decimal128(18, 2)": {"format": st.sampled_from(["point", "comma"])},
    "timestamp[us, UTC]": {
        "format": st.sampled_from(["iso8601", "%d.%m.%Y %H:%M"]),
        "zone": st.sampled_from(["UTC", "Europe/Berlin", "+02:00"]),
    },
    "date32": {"format": st.just("%Y-%m-%d")},
    "time64[us]": {"format": st.sampled_from([None, "iso8601", "%-I:%M %p"])},
}


@st.composite
def _contracts(draw: st.DrawFn) -> Dataset:
    names = draw(st.lists(_NAMES, min_size=1, max_size=5, unique_by=lambda n: n.casefold()))
    sources = draw(st.lists(_TEXT, min_size=len(names), max_size=len(names), unique=True))
    columns = []
    for name, source in zip(names, sources, strict=True):
        kind = draw(st.sampled_from(sorted(_TYPES)))
        column = {"name": name, "source": source, "type": kind}
        column |= {key: draw(drawn) for key, drawn in _TYPES[kind].items()}
        column |= {
            "null": draw(st.lists(_TEXT, max_size=2, unique=True)),
            "nullable": draw(st.booleans()),
            "unique": kind in ("utf8", "int64") and draw(st.booleans()),
            "action": draw(st.sampled_from(list(Action))).value,
            "doc": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        }
        columns.append(column)
    return dataset_of(
        document(
            lambda v: v.update(
                layout={**FIREWALL["layout"], "headers": [sources]},
                columns=columns,
                shared=draw(st.booleans()),
                doc=draw(_TEXT),
            )
        )
    )


@settings(max_examples=100, deadline=None)
@given(_contracts(), st.integers(1, 1000))
def test_export_then_import_is_the_identity(contract: Dataset, revision: int) -> None:
    assert odcs.read(odcs.export(contract, revision=revision)) == contract


def test_contracts_of_json_lines_come_back_too() -> None:
    contract = dataset(base=EVENTS)
    assert odcs.read(odcs.export(contract, revision=3)) == contract


# What v3.1.0 allows at each place, as far as a contract of ours goes there; the standard's schema forbids other keys.
_DOCUMENT = {"apiVersion", "kind", "id", "name", "version", "status", "schema", "customProperties"}
_OBJECT = {"name", "logicalType", "physicalType", "description", "properties"}
_PROPERTY = {
    *("name", "logicalType", "physicalType", "description", "required", "unique", "items"),
    *("logicalTypeOptions", "quality", "customProperties"),
}
_LOGICAL = {
    "string",
    "date",
    "timestamp",
    "time",
    "number",
    "integer",
    "object",
    "array",
    "boolean",
}
_OPTIONS = {
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "string": {"pattern"},
}


@settings(deadline=None)
@given(_contracts())
def test_what_is_written_is_in_the_words_of_the_standard(contract: Dataset) -> None:
    said = yaml.safe_load(odcs.export(contract, revision=2))
    assert set(said) == _DOCUMENT
    assert (said["apiVersion"], said["kind"], said["version"]) == (
        "v3.1.0",
        "DataContract",
        "2.0.0",
    )
    (table,) = said["schema"]
    assert set(table) <= _OBJECT
    for column in table["properties"]:
        assert set(column) <= _PROPERTY
        assert column["logicalType"] in _LOGICAL
        allowed = _OPTIONS.get(column["logicalType"], set())
        assert set(column.get("logicalTypeOptions", {})) <= allowed
        for rule in column.get("quality", []):
            assert (rule["metric"], rule["mustBe"]) == ("invalidValues", 0)
    for custom in said["customProperties"]:
        assert set(custom) == {"property", "value"}


def test_a_reader_of_the_standard_learns_types_bounds_and_documentation() -> None:
    def say_more(values: dict[str, Any]) -> None:
        values["columns"][2] |= {"doc": "packets", "maximum": 9, "nullable": False, "unique": True}

    (table,) = yaml.safe_load(odcs.export(dataset(say_more), revision=1))["schema"]
    assert table["properties"][2] == {
        "name": "n",
        "logicalType": "integer",
        "physicalType": "int32",
        "description": "packets",
        "required": True,
        "unique": True,
        "logicalTypeOptions": {"minimum": 0, "maximum": 9},
    }


def _exported(change: Callable[[dict[str, Any]], None]) -> bytes:
    said = yaml.safe_load(odcs.export(dataset(), revision=1))
    change(said)
    raw: bytes = yaml.safe_dump(said).encode()
    return raw


def test_types_may_be_those_of_the_standard_alone() -> None:
    def plain(said: dict[str, Any]) -> None:
        for column in said["schema"][0]["properties"][1:]:
            del column["physicalType"]
        said["customProperties"].append({"property": "owner", "value": "lab"})

    read = odcs.read(_exported(plain))
    assert [column.type for column in read.columns] == ["timestamp[us, UTC]", "utf8", "int64"]


def _no_layout(said: dict[str, Any]) -> None:
    said["customProperties"] = [
        c for c in said["customProperties"] if "Layout" not in c["property"]
    ]


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another kind": (lambda s: s.update(kind="DataProduct"), "DataContract"),
    "another version": (lambda s: s.update(apiVersion="v2.2.2"), "apiVersion"),
    "no object": (lambda s: s.update(schema=[]), "exactly one object"),
    "two objects": (lambda s: s["schema"].append({"name": "x"}), "exactly one object"),
    "no layout": (_no_layout, "casparianLayout"),
    "no properties": (lambda s: s["schema"][0].pop("properties"), "properties"),
    "an option that is not kept": (
        lambda s: s["schema"][0]["properties"][1].update(logicalTypeOptions={"minLength": 3}),
        "minLength",
    ),
    "a rule that is not kept": (
        lambda s: s["schema"][0]["properties"][1].update(
            quality=[{"metric": "rowCount", "mustBe": 3}]
        ),
        "quality",
    ),
    "no type": (
        lambda s: s["schema"][0]["properties"][0].pop("physicalType"),
        "physicalType",
    ),
    "custom twice": (
        lambda s: s["customProperties"].append(dict(s["customProperties"][0])),
        "twice",
    ),
    "custom that is no json": (
        lambda s: s["customProperties"][0].update(value="not json"),
        "no JSON text",
    ),
    "required as text": (
        lambda s: s["schema"][0]["properties"][0].update(required="yes"),
        "neither true nor false",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_document_that_cannot_be_kept_whole_is_refused(what: str) -> None:
    change, named = REFUSED[what]
    with pytest.raises(ContractError) as caught:
        odcs.read(_exported(change))
    assert caught.value.code == "contract.odcs"
    assert named in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00",
        b"a: [",
        b"!!python/object/apply:os.system [echo]",
        b"a: &x [1]\nb: *x\n",
        b"a: 1\na: 2\n",
        b"[" * 5000,
        b"a" * (2 << 20),
    ],
    ids=["nul", "cut off", "object", "alias", "key twice", "deep", "large"],
)
def test_what_is_no_harmless_yaml_is_a_syntax_error(raw: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        odcs.read(raw)
    assert caught.value.code == "contract.syntax"


def test_a_changed_document_is_another_contract() -> None:
    def change(said: dict[str, Any]) -> None:
        said["schema"][0]["properties"][2]["logicalTypeOptions"] = {"minimum": 5}

    read = odcs.read(_exported(change))
    columns = [
        msgspec.structs.replace(c, minimum=5) if c.name == "n" else c for c in dataset().columns
    ]
    assert list(read.columns) == columns


def test_dates_and_times_of_day_are_read_in_the_words_of_the_standard_alone() -> None:
    def say_more(values: dict[str, Any]) -> None:
        values["columns"][1] |= {"type": "time64[us]"}
        values["columns"][2] |= {"type": "date32", "minimum": None}

    contract = dataset(say_more)
    document = yaml.safe_load(odcs.export(contract, revision=1))
    _, time, date = document["schema"][0]["properties"]
    assert (time["logicalType"], date["logicalType"]) == ("time", "date")
    del time["physicalType"], date["physicalType"]
    assert odcs.read(yaml.safe_dump(document).encode()) == contract
