"""`windows.registry`: its contract is what the native decoder sends, and what it sends is what the factory wrote."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from casparian.contracts.check import split
from casparian.demo.hive_writer import (
    BASE_BYTES,
    Hive,
    Key,
    Value,
    entry_log,
    interrupted,
    sector_log,
    text,
)
from casparian.domain.parsers import ParserKind
from casparian.paths import first_party_parsers
from casparian.protocol.arrow import bridge_schema
from casparian.scout.identify import identify
from casparian.trust.library import load_parser
from tests.factories.hives import (
    CHANGES,
    HIVES,
    KEYS,
    QUARANTINE,
    VALUES,
    Reading,
    read,
    rich_hive,
    rich_root,
)

ARTIFACT = load_parser(first_party_parsers() / "windows.registry")
BUILT = rich_hive()
AFTER = rich_hive(
    root=rich_root(Key(name="Zeta", values=(text("New", "from the log"),))), sequence=8
)


def dirty_reading() -> Reading:
    log = entry_log([(BUILT.data, AFTER.data)], first=8)
    return read(interrupted(BUILT.data), [("LOG1", log)])


def test_the_manifest_asks_for_the_native_decoder_and_its_own_account() -> None:
    manifest = ARTIFACT.manifest
    assert (manifest.kind, manifest.entry) == (ParserKind.NATIVE, "registry")
    assert (manifest.unit, manifest.account) == ("cell", "hive")
    assert manifest.tags == ("registry",)
    assert [output.table for output in ARTIFACT.contract.mains] == [KEYS, VALUES]
    assert [output.table for output in ARTIFACT.contract.outputs] == [KEYS, VALUES, HIVES, CHANGES]
    assert all(column.doc for output in ARTIFACT.contract.outputs for column in output.columns)


@pytest.mark.parametrize("reading", [read(BUILT.data), dirty_reading()], ids=["clean", "dirty"])
def test_every_batch_keeps_the_contract(reading: Reading) -> None:
    assert {KEYS, VALUES, HIVES} <= reading.tables.keys()
    for output in ARTIFACT.contract.outputs:
        if output.table not in reading.tables:
            continue
        expected = bridge_schema(output)
        table = reading.tables[output.table]
        assert [(f.name, f.type) for f in table.schema] == [(f.name, f.type) for f in expected]
        for batch in table.to_batches():
            bridged = pa.RecordBatch.from_arrays(batch.columns, schema=expected)
            assert split(bridged, output).rejected.num_rows == 0


def test_each_key_and_value_of_the_factory_is_a_row_at_its_place() -> None:
    reading = read(BUILT.data)
    assert reading.ledger.balanced
    keys = {row["@offset"]: row for row in reading.rows(KEYS)}
    values = {row["@offset"]: row for row in reading.rows(VALUES)}
    for cell in BUILT.cells:
        row = (keys if cell.key else values)[cell.offset]
        assert row["state"] == cell.state
        if cell.state == "live":
            assert (row["key_path"], row["@length"]) == (cell.path, cell.length)
        if cell.key:
            expected = (cell.key.name, cell.key.class_name, cell.key.owner, cell.key.group)
            assert (
                row["name"],
                row["class_name"],
                row["owner_sid"],
                row["group_sid"],
            ) == expected or cell.state == "deleted"
        elif cell.value:
            assert row["value_name"] == (cell.value.name or None)
            assert row["type"] == cell.value.type
            assert row["data_size"] == len(cell.value.data)


def test_data_comes_out_by_its_type() -> None:
    rows = {
        row["value_name"]: row
        for row in read(BUILT.data).rows(VALUES)
        if row["key_path"] == r"\Run"
    }

    def columns(name: str | None) -> tuple[object, ...]:
        row = rows[name]
        return (row["value_text"], row["value_int"], row["value_list"], row["value_raw"])

    assert columns(None) == ("the default value", None, None, None)
    assert columns("Path") == (r"%SystemRoot%\x", None, None, None)
    assert columns("Number") == ("4294967295", 0xFFFFFFFF, None, None)
    assert columns("Big-endian") == ("256", 256, None, None)
    assert columns("Long") == (str(2**63 + 1), 2**63 + 1, None, None)
    assert columns("Several") == (None, None, ["one", "zwei", "три"], None)
    assert columns("Bytes") == (None, None, None, bytes(range(40)))
    assert columns("Big") == (None, None, None, bytes(range(251)) * 200)
    assert columns("Type of its own") == (None, None, None, b"0123456789")
    assert columns("Short number")[3] == b"abc"
    assert columns("Ключ") == ("name in UTF-16", None, None, None)


@pytest.mark.parametrize("form", ["entries", "sectors"])
def test_a_dirty_hive_gives_what_was_being_written_and_says_from_where(form: str) -> None:
    log = (
        ("LOG1", entry_log([(BUILT.data, AFTER.data)], first=8))
        if form == "entries"
        else ("LOG", sector_log(BUILT.data, AFTER.data, sequence=8))
    )
    reading = read(interrupted(BUILT.data), [log])
    assert reading.ledger.balanced
    assert reading.live_spans() == read(AFTER.data).live_spans()
    added = AFTER.key(r"\Zeta")
    (row,) = [row for row in reading.rows(KEYS) if row["@offset"] == added.offset]
    assert (row["key_path"], row["state"], row["from_log"]) == (r"\Zeta", "live", log[0])
    changes = {
        (row["change"], row["subject"], row["key_path"], row["value_name"], row["after"])
        for row in reading.rows(CHANGES)
    }
    assert ("added", "value", r"\Zeta", "New", "from the log") in changes
    (hive,) = reading.rows(HIVES)
    assert (hive["is_dirty"], hive["is_recovered"], hive["logs"]) == (True, True, [log[0]])
    assert hive["log_verdicts"] == ["log.applied"]


def test_what_a_log_removes_is_a_row_outside_of_the_ledger() -> None:
    shorter = Hive(root=Key(name="CMI-CreateHive{0}"), sequence=8).to_bytes()
    padded = shorter + BUILT.data[len(shorter) :]
    log = entry_log([(BUILT.data, padded[: len(BUILT.data)])], first=8)
    reading = read(interrupted(BUILT.data), [("LOG2", log)])
    assert reading.ledger.balanced
    superseded = {row["key_path"] for row in reading.rows(KEYS) if row["state"] == "superseded"}
    assert {r"\Run", r"\Services"} <= superseded
    removed = {row["key_path"] for row in reading.rows(CHANGES) if row["change"] == "removed"}
    assert {r"\Run", r"\Services"} <= removed


def test_damage_gives_quarantine_in_its_shape() -> None:
    data = bytearray(BUILT.data)
    run = BUILT.key(r"\Run")
    data[run.offset : run.offset + 4] = bytes(4)
    reading = read(bytes(data))
    assert reading.ledger.balanced
    table = reading.tables[QUARANTINE]
    assert [(f.name, f.type) for f in table.schema] == [
        (f.name, f.type) for f in bridge_schema(None)
    ]
    (row,) = reading.rows(QUARANTINE)
    assert (row["@offset"], row["reason"]) == (run.offset, "cell.damaged")
    assert "cell.damaged" in reading.codes


def test_a_name_that_does_not_fit_is_set_aside() -> None:
    data = bytearray(BUILT.data)
    run, value = BUILT.key(r"\Run"), BUILT.value(r"\Run", "Long")
    struct.pack_into("<H", data, run.offset + 4 + 72, 9_999)
    struct.pack_into("<H", data, value.offset + 4 + 2, 9_999)
    reading = read(bytes(data))
    assert reading.ledger.balanced
    places = {row["@offset"] for row in reading.rows(QUARANTINE)}
    assert places == {run.offset, value.offset}
    assert {"key.cut", "value.cut"} <= reading.codes


def test_hives_and_logs_are_known_by_content() -> None:
    assert _tags(BUILT.data) == ["registry"]
    log = bytearray(entry_log([(BUILT.data, AFTER.data)], first=8))
    assert _tags(bytes(log)) == ["registry-log"]
    log[28:32] = bytes(4)
    assert _tags(bytes(log)) == ["registry-log"]
    broken = bytes(4) + BUILT.data[4:]
    assert _tags(broken) == ["registry"]
    gone = bytes(BASE_BYTES) + BUILT.data[BASE_BYTES:]
    assert _tags(gone, head=8192) == ["registry"]
    assert read(gone).ledger.balanced


def _tags(data: bytes, head: int = 4096) -> list[str]:
    return [tag for tag, _ in identify(data[:head], b"SYSTEM", len(data))]


def test_a_value_without_an_owner_keeps_its_data() -> None:
    root = Key(name="R", values=(Value(name="V", type=1, data="x\0".encode("utf-16-le")),))
    built = Hive(root=root).build()
    data = bytearray(built.data)
    place = built.key("\\").offset
    struct.pack_into("<I", data, place + 4 + 36, 0)
    reading = read(bytes(data))
    (row,) = reading.rows(VALUES)
    assert (row["state"], row["value_text"]) == ("orphaned", "x")
    assert reading.codes == {"value.unlisted"}
