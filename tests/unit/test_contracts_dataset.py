"""Dataset contracts: what is accepted, what is refused and how it is said, and the canonical form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from casparian.contracts.dataset import canonical, dataset_hash, dataset_of, read_dataset
from casparian.domain.contracts import Action
from casparian.errors import ContractError
from tests.factories.datasets import EVENTS, FIREWALL, as_bytes, dataset, document


@pytest.mark.parametrize("base", [FIREWALL, EVENTS], ids=["delimited", "jsonl"])
def test_the_canonical_form_is_read_as_the_same_contract(base: dict[str, Any]) -> None:
    read = read_dataset(as_bytes(base))
    again = read_dataset(canonical(read))
    assert again == read
    assert dataset_hash(again) == dataset_hash(read)


def test_order_and_space_of_the_document_are_not_part_of_its_identity() -> None:
    turned = dict(reversed(list(document().items())))
    assert dataset_hash(read_dataset(json.dumps(turned))) == dataset_hash(dataset())


def test_the_output_has_the_constraints_of_the_columns() -> None:
    def constrain(values: dict[str, Any]) -> None:
        values["columns"][2] |= {"unique": True, "action": "fail_job", "nullable": False}

    output = dataset(constrain).output
    assert output.table == "firewall"
    assert output.main
    column = output.columns[2]
    assert (column.minimum, column.unique, column.nullable) == (0, True, False)
    assert column.action is Action.FAIL_JOB


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = to

    return change


def _drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "version": (_set("schema_version", to=2), "contract.version", "version 1"),
    "version as text": (_set("schema_version", to="1"), "contract.version", "version 1"),
    "unknown key": (_set("tabel", to="x"), "contract.key", "tabel"),
    "unknown key of a column": (_set("columns", 0, "nulable", to=1), "contract.key", "nulable"),
    "unknown parser": (_set("parser", to="text.csv"), "contract.value", "text.csv"),
    "table of the host": (_set("table", to="quarantine"), "contract.table", "host"),
    "table that is no name": (_set("table", to="a b"), "contract.table", "a b"),
    "no globs": (_set("match", to=[]), "contract.value", "match"),
    "no layout": (_drop("layout"), "contract.key", "layout"),
    "no columns": (_set("columns", to=[]), "contract.value", "0 columns"),
    "empty delimiter": (_set("layout", "delimiter", to=""), "contract.value", "delimiter"),
    "quote is the delimiter": (_set("layout", "quote", to=","), "contract.value", "quote"),
    "doubles no quote": (_set("layout", "quote", to=None), "contract.value", "escape"),
    "unknown encoding": (_set("layout", "encoding", to="ebcdic"), "contract.value", "ebcdic"),
    "no headers": (_set("layout", "headers", to=[]), "contract.value", "header rows"),
    "second cell of a name": (_set("layout", "headers", to=[["time", "src", "src", "n"]]), "contract.value", "src#2"),
    "cells that look the same": (_set("layout", "headers", to=[["a", "a", "a#2"]]), "contract.value", "told apart"),
    "header twice": (_set("layout", "headers", to=[["time", "src", "n"]] * 2), "contract.value", "twice"),
    "cell without a column": (
        _set("layout", "headers", to=[["time", "src", "n", "port"]]),
        "contract.value",
        "'port'",
    ),
    "column without a cell": (_set("layout", "headers", to=[["time", "src"]]), "contract.value", "`n`"),
    "type": (_set("columns", 2, "type", to="int33"), "contract.type", "int33"),
    "reserved name": (_set("columns", 2, "name", to="_cf_x"), "contract.reserved", "_cf_x"),
    "name twice but for case": (_set("columns", 2, "name", to="SRC"), "contract.value", "SRC"),
    "source twice": (_set("columns", 2, "source", to="src"), "contract.value", "same source"),
    "source of another kind": (_set("columns", 2, "source", to=["n"]), "contract.value", "source"),
    "format of another type": (_set("columns", 2, "format", to="%Y"), "contract.format", "format"),
    "unknown code": (_set("columns", 0, "format", to="%Q"), "contract.format", "%Q"),
    "part twice": (_set("columns", 0, "format", to="%Y %Y"), "contract.format", "%Y %Y"),
    "zone that is none": (_set("columns", 0, "zone", to="Here!"), "contract.format", "zone"),
    "zone of a text": (_set("columns", 1, "zone", to="UTC"), "contract.format", "zone"),
    "meaning of a number": (_set("columns", 2, "meaning", to="ipv4"), "contract.format", "meaning"),
    "group that is the decimal sign": (_set("columns", 2, "format", to="decimal group ."), "contract.format", "group"),
    "bytes": (_set("columns", 1, "type", to="binary"), "contract.format", "binary"),
    "list in a cell": (_set("columns", 1, "type", to="list<utf8>"), "contract.type", "list"),
    "unknown meaning": (_set("columns", 1, "meaning", to="colour"), "contract.format", "colour"),
    "bound of a text": (_set("columns", 1, "minimum", to=1), "contract.value", "minimum"),
    "pattern of a number": (_set("columns", 2, "pattern", to="x"), "contract.value", "pattern"),
    "unknown action": (_set("columns", 2, "action", to="warn"), "contract.value", "warn"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_contract_that_cannot_hold_is_refused_and_named(what: str) -> None:
    change, code, named = REFUSED[what]
    with pytest.raises(ContractError) as caught:
        dataset(change)
    assert caught.value.code == code
    assert named in caught.value.message


def test_half_a_surrogate_is_no_text() -> None:
    with pytest.raises(ContractError) as caught:
        read_dataset(as_bytes(document(lambda v: v["columns"][1].update(doc="\ud800"))))
    assert caught.value.code == "contract.syntax"


def test_unique_needs_values_that_are_equal_or_not() -> None:
    def change(values: dict[str, Any]) -> None:
        values["columns"][2] |= {"type": "float64", "unique": True}

    with pytest.raises(ContractError, match="unique"):
        dataset(change)


def test_a_column_that_a_known_header_lacks_must_be_nullable() -> None:
    def change(values: dict[str, Any]) -> None:
        values["layout"]["headers"].append(["time", "src"])
        values["columns"][2]["nullable"] = False

    with pytest.raises(ContractError, match="may not be null"):
        dataset(change)


def test_without_a_header_line_widths_tell_the_names_apart() -> None:
    def change(second: list[str]) -> Callable[[dict[str, Any]], None]:
        headers = [["time", "src", "n"], second]
        return lambda v: v["layout"].update(header=False, headers=headers)

    assert dataset(change(["time", "src"])).columns[2].nullable
    with pytest.raises(ContractError, match="nothing tells them apart"):
        dataset(change(["n", "src", "time"]))


def test_the_second_cell_of_a_name_has_a_column_of_its_own() -> None:
    def change(values: dict[str, Any]) -> None:
        values["layout"]["headers"] = [["time", "src", "src", "n"]]
        values["columns"].append({"name": "dst", "source": "src#2", "type": "utf8"})

    assert dataset(change).columns[3].source == "src#2"


def test_json_lines_may_know_more_paths_than_there_are_columns() -> None:
    contract = dataset(lambda v: v["layout"].update(known=[["user", "id"]]), base=EVENTS)
    assert [column.source for column in contract.columns] == [("id",), ("user", "name")]


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"nonsense", b'{"a": 1, "a": 2}', b"\xff", b'{"schema_version": NaN}', b"[" * 100_000],
    ids=["list", "no json", "key twice", "not utf-8", "nan", "deep"],
)
def test_what_is_no_document_is_a_syntax_error(raw: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        read_dataset(raw)
    assert caught.value.code == "contract.syntax"


def test_defaults_may_be_left_out_and_rare_keys_are_written_only_when_they_say_something() -> None:
    plain = dataset()
    assert "shared" not in plain.document()
    assert dataset_of({**document(), "shared": True}).document()["shared"] is True
    assert plain.document()["columns"][1]["nullable"] is True
