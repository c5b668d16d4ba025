"""What the factory writes, Casparian's decoder reads: every record, every column, every value."""

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casparian._native import FLAG_NAMES, EvtxReader, Tally, account_evtx
from casparian.demo import damage
from casparian.demo.evtx_reference import read_log
from casparian.demo.evtx_writer import (
    BuiltLog,
    CData,
    CharacterReference,
    EntityReference,
    Event,
    EventLog,
    Fragment,
    Instance,
    Slot,
    System,
    Template,
    ValueType,
    array,
    element,
    event_data,
    event_log,
    forwarded_event,
    made_up_guid,
    processing_error,
    windows_event,
)
from casparian.demo.evtx_writer import values as make
from tests.factories.evtx_events import Expected, Sample, damaged, expected_events, logs
from tests.factories.rendering import render, same_text

FILETIME_TO_UNIX_TICKS = 116_444_736_000_000_000
SLACK = next(bit for bit, name in FLAG_NAMES.items() if name == "slack")
RECOVERED = next(bit for bit, name in FLAG_NAMES.items() if name == "recovered")
INLINE = next(bit for bit, name in FLAG_NAMES.items() if name == "inline")
LOSSY = next(bit for bit, name in FLAG_NAMES.items() if name == "lossy_text")
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SYSTEM = System(
    provider="Example",
    event_id=7,
    time_created=133_546_683_011_234_567,
    event_record_id=1,
    channel="Application",
    computer="ws.example.org",
)

Row = dict[str, Any]


@dataclass
class Decoded:
    """Rows of each output, and what the accounting makes of the same bytes."""

    events: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    chunks: list[Row] = field(default_factory=list)
    balanced: bool = False
    present: int = 0


def decode(data: bytes, *, batch_rows: int = 65536) -> Decoded:
    decoded = Decoded()
    outputs = {
        "evtx_events": decoded.events,
        "@quarantine": decoded.quarantine,
        "evtx_chunks": decoded.chunks,
    }
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        account = account_evtx(file.fileno(), len(data))
        tally = Tally(account.window_origin, account.window_bytes)
        for name, native in EvtxReader(file.fileno(), len(data), batch_rows=batch_rows):
            batch = pa.record_batch(native)
            batch.validate(full=True)
            outputs[name].extend(rows(batch))
            if name != "evtx_chunks":
                live = [row for row in rows(batch) if not row["@flags"] & SLACK]
                tally.add(
                    pa.array([row["@offset"] for row in live], pa.uint64()).buffers()[1] or b"",
                    pa.array([row["@length"] for row in live], pa.uint64()).buffers()[1] or b"",
                )
        decoded.balanced = tally.total == account.present and not tally.compare(account)
        decoded.present = account.present
    return decoded


def rows(batch: Any) -> list[Row]:
    """Rows as dictionaries; times as nanoseconds since 1970."""
    columns = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    ]
    return pa.table(columns, names=batch.schema.names).to_pylist()  # type: ignore[no-any-return]


def decode_events(*events: Event) -> list[Row]:
    decoded = decode(event_log(events).to_bytes())
    assert decoded.balanced
    assert decoded.quarantine == []
    return decoded.events


def nanoseconds(ticks: int) -> int | None:
    return (ticks - FILETIME_TO_UNIX_TICKS) * 100 if ticks else None


def upper(guid: object) -> str | None:
    return None if guid is None else str(guid).upper()


def system_columns(system: System) -> Row:
    return {
        "record_id": system.event_record_id,
        "time_created": nanoseconds(system.time_created),
        "provider_name": system.provider,
        "provider_guid": upper(system.provider_guid),
        "event_source_name": system.event_source_name,
        "event_id": system.event_id,
        "qualifiers": system.qualifiers,
        "version": system.version,
        "level": system.level,
        "task": system.task,
        "opcode": system.opcode,
        "keywords": system.keywords,
        "process_id": system.process_id,
        "thread_id": system.thread_id,
        "channel": system.channel,
        "computer": system.computer,
        "user_sid": system.user_sid,
        "activity_id": upper(system.activity_id),
        "related_activity_id": upper(system.related_activity_id),
    }


def check_payload(row: Row, expected: Expected) -> None:
    assert row["payload_kind"] == expected.kind
    wanted: list[tuple[str | None, int, str | None]] = []
    for name, value in zip(expected.names, expected.values, strict=True):
        text = render(value.type_code, value.data)
        items = (text or [None]) if isinstance(text, list) else [text]
        wanted += [(name, value.type_code, item) for item in items]
    assert row["data_names"] == [name for name, _, _ in wanted]
    assert row["data_types"] == [kind for _, kind, _ in wanted]
    for shown, (_, kind, text) in zip(row["data_values"], wanted, strict=True):
        assert same_text(kind, shown, text), (kind, shown, text)


@given(logs(expected_events()), st.sampled_from((1, 3, 65536)))
@SLOW
def test_every_record_comes_back_with_every_column_and_value(
    sample: Sample, batch_rows: int
) -> None:
    decoded = decode(sample.built.data, batch_rows=batch_rows)
    assert decoded.balanced
    assert decoded.quarantine == []
    assert len(decoded.chunks) == sample.built.chunk_count
    assert len(decoded.events) == len(sample.expected)
    for row, placed, expected in zip(
        decoded.events, sample.built.records, sample.expected, strict=True
    ):
        assert (row["@offset"], row["@length"]) == (placed.offset, placed.size)
        assert (row["chunk"], row["chunk_crc_ok"]) == (placed.chunk, True)
        assert row["header_record_id"] == placed.event.record_id
        assert row["time_written"] == nanoseconds(placed.event.written)
        wanted = system_columns(expected.system)
        assert {name: row[name] for name in wanted} == wanted
        check_payload(row, expected)
        inline = not isinstance(placed.event.body, Instance)
        assert bool(row["@flags"] & INLINE) is inline
        assert not row["@flags"] & ~(INLINE | LOSSY)
        assert (row["template_id"] is None) is inline


def damaged_samples() -> st.SearchStrategy[bytes]:
    return logs(expected_events(), max_size=8).flatmap(lambda sample: damaged(sample.built.data))


@given(damaged_samples())
@SLOW
def test_after_any_damage_each_unit_is_exactly_one_row(data: bytes) -> None:
    decoded, reading = decode(data), read_log(data)
    assert decoded.balanced
    emitted = decoded.events + decoded.quarantine
    live = sorted((r["@offset"], r["@length"]) for r in emitted if not r["@flags"] & SLACK)
    slack = sorted((r["@offset"], r["@length"]) for r in emitted if r["@flags"] & SLACK)
    assert live == sorted((unit.offset, unit.length) for unit in reading.live)
    assert slack == sorted(
        (unit.offset, unit.length) for chunk in reading.chunks for unit in chunk.units if unit.slack
    )
    regions = {unit.offset for unit in reading.live if unit.damaged}
    found = {r["@offset"] for r in decoded.quarantine if r["reason"] == "record.damaged"}
    assert found == regions


@given(damaged_samples())
@SLOW
def test_recovered_rows_are_marked_and_no_others(data: bytes) -> None:
    recovered = {
        unit.offset
        for chunk in read_log(data).chunks
        for unit in chunk.units
        if unit.recovered and not unit.damaged
    }
    assert {r["@offset"] for r in decode(data).events if r["@flags"] & RECOVERED} <= recovered
    assert {r["@offset"] for r in decode(data).events if not r["@flags"] & RECOVERED}.isdisjoint(
        recovered
    )


def test_slack_rows_hold_the_values_that_were_written() -> None:
    events = [
        windows_event(SYSTEM, event_data(("N", make.uint32(number))), record_id=number)
        for number in range(1, 21)
    ]
    data = damage.leave_slack(event_log(events).to_bytes(), 0, keep_records=12)
    decoded = decode(data)
    assert decoded.balanced
    assert decoded.present == 12
    assert [row["data_values"] for row in decoded.events] == [[str(n)] for n in range(1, 21)]
    assert [bool(row["@flags"] & SLACK) for row in decoded.events] == [False] * 12 + [True] * 8


def test_a_record_that_cannot_be_decoded_is_one_quarantined_row_with_its_bytes() -> None:
    built: BuiltLog = event_log(
        windows_event(SYSTEM, event_data(("N", make.uint32(n))), record_id=n) for n in range(5)
    ).build()
    data = damage.break_binxml(built.data, 0, 3)
    decoded = decode(data)
    assert decoded.balanced
    (row,) = decoded.quarantine
    assert row["reason"].startswith("binxml.")
    assert (row["@offset"], row["@length"]) == (built.records[3].offset, built.records[3].size)
    assert row["raw"] == data[row["@offset"] : row["@offset"] + row["@length"]]
    assert [r["header_record_id"] for r in decoded.events] == [0, 1, 2, 4]


def test_two_templates_with_one_guid_are_never_mixed_up() -> None:
    guid = made_up_guid("twice")
    events = []
    for number, tag in enumerate(("First", "Other"), 1):
        template = Template(guid, element("EventData", element(tag, Slot(0, ValueType.UINT8))))
        events.append(windows_event(SYSTEM, Instance(template, (make.uint8(number),))))
    assert [row["data_names"] for row in decode_events(*events)] == [["First"], ["Other"]]
    apart = decode(EventLog(tuple(events)).to_bytes(records_per_chunk=1)).events
    assert [row["data_names"] for row in apart] == [["First"], ["Other"]]


def test_references_and_character_data_become_the_characters_they_stand_for() -> None:
    payload = element(
        "EventData",
        element("Data", "1 ", EntityReference("lt"), " 2", Name="Entity"),
        element("Data", CharacterReference(0x41), CData("x<y"), Name="Section"),
    )
    (row,) = decode_events(windows_event(SYSTEM, payload))
    assert row["data_names"] == ["Entity", "Section"]
    assert row["data_values"] == ["1 < 2", "Ax<y"]


def test_processing_errors_and_rendered_messages_are_kept_by_path() -> None:
    failed, forwarded = decode_events(
        windows_event(SYSTEM, processing_error(15005, "Field", b"\x01\xff")),
        forwarded_event(SYSTEM, [("User", "t.bergman")], message="hello <b> & all"),
    )
    assert failed["payload_kind"] == "ProcessingErrorData"
    assert failed["data_names"] == ["ErrorCode", "DataItemName", "EventPayload"]
    assert failed["data_values"] == ["15005", "Field", "01FF"]
    said = dict(zip(forwarded["data_names"], forwarded["data_values"], strict=True))
    assert said["User"] == "t.bergman"
    assert said["RenderingInfo/Message"] == "hello <b> & all"


def test_nested_elements_without_a_template_are_read() -> None:
    wrap = Template(made_up_guid("wrap"), element("UserData", Slot(0, ValueType.BINXML)))
    inner = Fragment(element("Outer", element("Inner", "deep")))
    (row,) = decode_events(windows_event(SYSTEM, Instance(wrap, (inner,))))
    assert (row["payload_kind"], row["data_names"]) == ("UserData", ["Outer/Inner"])
    assert row["data_values"] == ["deep"]


@pytest.mark.parametrize(
    "value",
    [
        make.evt_handle(9),
        make.evt_xml("<a/>"),
        array(ValueType.SIZE_T, [1, 2**40]),
        array(ValueType.ANSI_STRING, ["a", "é"]),
        array(ValueType.BINARY, [b"\x01\x02"]),
        array(ValueType.EVT_HANDLE, [1]),
        make.Value(ValueType.FILETIME, b"\xff" * 8),
        make.Value(ValueType.SYSTEMTIME, b"\xff" * 16),
        make.string("a\ud800b"),
        make.string("in\0side"),
        make.ansi(b"caf\xe9 \x81"),
        make.null(b"left over"),
    ],
)
def test_rare_values_neither_lose_the_record_nor_their_neighbours(value: make.Value) -> None:
    (row,) = decode_events(
        windows_event(SYSTEM, event_data(("A", make.uint8(1)), ("V", value), ("Z", make.uint8(2))))
    )
    assert (row["data_names"][0], row["data_names"][-1]) == ("A", "Z")
    assert set(row["data_names"][1:-1]) == {"V"}
    assert (row["data_values"][0], row["data_values"][-1]) == ("1", "2")
    assert set(row["data_types"][1:-1]) == {value.type_code}


def test_an_array_is_one_entry_for_each_item_as_windows_repeats_the_element() -> None:
    (row,) = decode_events(
        windows_event(
            SYSTEM,
            event_data(
                ("V", array(ValueType.STRING, ["a", "", "c"])),
                ("E", array(ValueType.UINT16, [])),
                ("N", array(ValueType.HEX_INT32, [1, 255])),
            ),
        )
    )
    assert row["data_names"] == ["V", "V", "V", "E", "N", "N"]
    assert row["data_values"] == ["a", "", "c", None, "0x1", "0xff"]
    assert row["data_types"] == [0x81, 0x81, 0x81, 0x86, 0x94, 0x94]


@pytest.mark.parametrize("value", [make.string("a\ud800b"), make.ansi(b"caf\xe9 \x81")])
def test_text_that_cannot_be_kept_whole_is_marked(value: make.Value) -> None:
    (row,) = decode_events(windows_event(SYSTEM, event_data(("V", value))))
    assert row["@flags"] & LOSSY
    assert "\ufffd" in row["data_values"][0]
