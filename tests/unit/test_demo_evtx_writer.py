"""Logs written by the factory, read by an independent reader."""

import dataclasses
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings

from casparian.demo.evtx_writer import (
    CHUNK_BYTES,
    Attribute,
    CData,
    CharacterReference,
    Element,
    EntityReference,
    Event,
    EventLog,
    Fragment,
    Instance,
    PlacedRecord,
    ProcessingInstruction,
    Slot,
    System,
    Template,
    Text,
    Value,
    ValueType,
    array,
    classic_data,
    element,
    event_data,
    event_log,
    forwarded_event,
    made_up_guid,
    processing_error,
    slots_of,
    user_data,
    windows_event,
)
from casparian.demo.evtx_writer import values as make
from casparian.demo.evtx_writer.binxml import name_hash
from tests.factories import wheel
from tests.factories.evtx_events import (
    PLAIN_TEXT,
    WHEEL_ARRAY_TYPES,
    Sample,
    expected_events,
    logs,
)

TICKS = 133_546_683_011_234_567  # 2024-03-11T22:05:01.1234567Z
SYSTEM = System(
    provider="Example",
    event_id=7,
    time_created=TICKS,
    event_record_id=1,
    channel="Application",
    computer="ws.example.org",
)


def numbered(record_id: int) -> System:
    return dataclasses.replace(SYSTEM, event_record_id=record_id)


def wheel_payload(*payloads: Instance | Element) -> list[tuple[tuple[str | None, str], ...]]:
    events = [windows_event(numbered(i), payload) for i, payload in enumerate(payloads, 1)]
    return [fact.payload for fact in wheel.facts(event_log(events).to_bytes())]


@given(logs(expected_events(PLAIN_TEXT, WHEEL_ARRAY_TYPES), unique_ids=True))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_an_independent_reader_finds_every_record_id_and_named_value(
    sample: Sample,
) -> None:
    expected = sample.expected
    found = wheel.facts(sample.built.data)
    assert [fact.header_record_id for fact in found] == [e.event.record_id for e in expected]
    assert [fact.event_record_id for fact in found] == [
        str(e.system.event_record_id) for e in expected
    ]
    assert [fact.event_id for fact in found] == [str(e.system.event_id) for e in expected]
    assert [fact.provider for fact in found] == [e.system.provider for e in expected]
    for fact, wanted in zip(found, expected, strict=True):
        assert wheel.agrees(fact, wanted), (fact.payload, wheel.as_wheel(wanted))


def test_records_that_do_not_fit_start_a_new_chunk_and_all_are_read() -> None:
    text = ("Text", make.string("x" * 3000))
    events = [
        windows_event(numbered(i), event_data(text, ("N", make.uint32(i)))) for i in range(1, 101)
    ]
    built = EventLog(tuple(events)).build()
    assert built.chunk_count > 5
    found = wheel.facts(built.data)
    assert [fact.payload[1] for fact in found] == [("N", str(i)) for i in range(1, 101)]


def test_placed_records_say_where_each_record_lies() -> None:
    events = [windows_event(numbered(i), event_data(("A", make.uint8(i)))) for i in range(1, 30)]
    built = EventLog(tuple(events)).build(records_per_chunk=4)
    for placed in built.records:
        record = built.data[placed.offset : placed.offset + placed.size]
        assert record[:4] == b"\x2a\x2a\0\0"
        assert struct.unpack("<IQ", record[4:16]) == (placed.size, placed.event.record_id)
        assert record[-4:] == record[4:8]
        assert placed.size % 8 == 0
        assert (placed.offset - 4096) // CHUNK_BYTES == placed.chunk


def test_a_template_is_defined_once_in_a_chunk_and_again_in_the_next() -> None:
    events = [windows_event(numbered(i), event_data(("A", make.uint8(i)))) for i in range(1, 9)]
    built = EventLog(tuple(events)).build(records_per_chunk=4)
    first, second = built.records[0], built.records[1]
    assert first.size > 3 * second.size
    assert built.records[4].size == first.size
    assert isinstance(events[0].body, Instance)
    guid = events[0].body.template.guid.bytes_le
    assert built.data.count(guid) == 2


def test_names_are_written_once_in_a_chunk_and_chained_in_their_buckets() -> None:
    data = event_log([windows_event(SYSTEM, event_data(("A", make.null())))]).to_bytes()
    chunk = data[4096:]
    names = {}
    for bucket, head in enumerate(struct.unpack_from("<64I", chunk, 128)):
        at = head
        while at:
            following, hashed, count = struct.unpack_from("<IHH", chunk, at)
            name = chunk[at + 8 : at + 8 + 2 * count].decode("utf-16-le")
            assert hashed == name_hash(name)
            assert hashed % 64 == bucket
            assert name not in names
            names[name] = at
            at = following
    assert {"Event", "System", "Provider", "EventData", "Data", "Name"} <= set(names)
    for name in names:
        units = struct.pack("<H", len(name)) + name.encode("utf-16-le") + b"\0\0"
        assert chunk.count(struct.pack("<H", name_hash(name)) + units) == 1


def test_the_hash_of_a_name_is_the_one_in_real_logs() -> None:
    assert name_hash("Event") == 3258
    assert name_hash("EventSourceName") == 54880
    assert name_hash("RelatedActivityID") == 50485


def test_threads_that_build_at_once_build_the_same_bytes() -> None:
    def build(provider: str) -> bytes:
        barrier.wait()
        events = [
            windows_event(
                dataclasses.replace(numbered(number), provider=provider),
                event_data((provider, make.uint8(number))),
            )
            for number in range(1, 30)
        ]
        return event_log(events).to_bytes()

    interval = sys.getswitchinterval()
    barrier = threading.Barrier(4)
    sys.setswitchinterval(1e-6)  # so that they get into each other's way
    try:
        with ThreadPoolExecutor(4) as pool:
            for number in range(40):  # each time with templates that nobody has made yet
                assert len(set(pool.map(build, [f"never seen {number}"] * 4))) == 1
    finally:
        sys.setswitchinterval(interval)


def test_one_guid_with_two_definitions_is_two_templates() -> None:
    guid = made_up_guid("twice")
    events = []
    for number, tag in enumerate(("First", "Second"), 1):
        template = Template(guid, element("EventData", element(tag, Slot(0, ValueType.UINT8))))
        events.append(windows_event(numbered(number), Instance(template, (make.uint8(number),))))
    found = wheel.facts(EventLog(tuple(events)).to_bytes(records_per_chunk=1))
    assert [fact.payload for fact in found] == [(("First", "1"),), (("Second", "2"),)]
    together = wheel.facts(event_log(events).to_bytes())
    assert [fact.payload for fact in together] == [(("First", "1"),), (("Second", "2"),)]


def test_duplicate_unnamed_and_empty_data_are_kept() -> None:
    payload = event_data(
        ("Same", make.string("a")),
        ("Same", make.string("b")),
        (None, make.string("c")),
        (None, make.string("")),
        ("Null", make.null()),
    )
    assert wheel_payload(payload) == [
        (("Same", "a"), ("Same", "b"), (None, "c"), (None, ""), ("Null", ""))
    ]


def test_text_beyond_the_bmp_and_null_terminated_text_are_read() -> None:
    payload = event_data(
        ("Astral", make.string("key \U0001f511 é 漢")),
        ("Terminated", make.string("end", terminated=True)),
        ("Ansi", make.ansi("caf\u00e9 \u20ac", terminated=True)),
    )
    assert wheel_payload(payload) == [
        (("Astral", "key \U0001f511 é 漢"), ("Terminated", "end"), ("Ansi", "café €"))
    ]


def test_a_lone_surrogate_is_stored_as_it_is() -> None:
    value = make.string("a\ud800b")
    assert value.data == b"a\0\x00\xd8b\0"
    log = event_log([windows_event(SYSTEM, event_data(("Odd", value)))]).to_bytes()
    assert value.data in log
    assert wheel.readable_count(log) == 1


def test_user_data_classic_data_and_processing_errors_are_read() -> None:
    cleared = user_data(
        "LogFileCleared", ("SubjectUserName", make.string("t.bergman")), namespace="urn:example"
    )
    payloads = wheel_payload(
        cleared,
        classic_data(["one", "", "three"], b"\x01\xff"),
        processing_error(15005, "X", b"\1"),
    )
    assert payloads == [
        (("LogFileCleared/SubjectUserName", "t.bergman"),),
        ((None, "one"), (None, ""), (None, "three"), ("Binary", "01FF")),
        (
            ("ProcessingErrorData/ErrorCode", "15005"),
            ("ProcessingErrorData/DataItemName", "X"),
            ("ProcessingErrorData/EventPayload", "01"),
        ),
    ]


def test_a_forwarded_event_needs_no_template_and_carries_its_message() -> None:
    event = forwarded_event(
        numbered(77), [("User", "t.bergman"), (None, "")], message="hello <b> & all", record_id=3
    )
    data = event_log([event]).to_bytes()
    assert data[4096 + 512 + 24 : 4096 + 512 + 29] == b"\x0f\x01\x01\x00\x41"
    assert struct.unpack_from("<32I", data, 4096 + 384) == (0,) * 32
    (fact,) = wheel.facts(data)
    assert (fact.header_record_id, fact.event_record_id) == (3, "77")
    assert fact.payload[:3] == (
        ("User", "t.bergman"),
        (None, ""),
        ("RenderingInfo/Message", "hello <b> & all"),
    )
    assert "2024-03-11T22:05:01.123456700Z" in wheel.texts(data)[0][1]


def test_references_to_entities_are_read_as_their_characters() -> None:
    payload = element(
        "EventData",
        element("Data", "1 ", EntityReference("lt"), " 2 ", EntityReference("amp"), Name="Logic"),
        ProcessingInstruction("note", "passed over"),
    )
    assert wheel_payload(payload) == [(("Logic", "1 < 2 &"),)]


def test_tokens_that_the_independent_reader_lacks_are_written_as_specified() -> None:
    payload = element("EventData", element("Data", CharacterReference(0x41), CData("x<y")))
    data = event_log([windows_event(SYSTEM, payload)]).to_bytes()
    # 48: character reference, more follows; 07: CDATA, the last of its content
    assert b"\x48\x41\x00\x07\x03\x00x\0<\0y\0\x04" in data


def test_an_optional_null_leaves_out_its_attribute_and_a_dependency_its_element() -> None:
    template = Template(
        made_up_guid("optional"),
        element(
            "EventData",
            Element("Gone", (), (Slot(0, ValueType.UINT8, optional=True),), dependency=0),
            element(
                "Kept", Slot(1, ValueType.UINT8), Extra=Slot(0, ValueType.UINT8, optional=True)
            ),
        ),
    )
    log = event_log([windows_event(SYSTEM, Instance(template, (make.null(), make.uint8(5))))])
    (_, xml) = wheel.texts(log.to_bytes())[0]
    assert "<Kept>5</Kept>" in xml
    assert "Extra" not in xml
    assert "<Gone>" not in xml or "<Gone>\n" in xml  # the wheel keeps the empty element


def test_several_values_and_text_may_make_one_attribute() -> None:
    template = Template(
        made_up_guid("mixed"),
        Element(
            "EventData",
            (Attribute("Mixed", (Text("a"), Slot(0, ValueType.UINT8), Text("b"))),),
            (element("Data", "x"),),
        ),
    )
    log = event_log([windows_event(SYSTEM, Instance(template, (make.uint8(5),)))])
    assert 'Mixed="a5b"' in wheel.texts(log.to_bytes())[0][1]


def test_nested_fragments_may_be_elements_and_instances_of_any_depth() -> None:
    wrap = Template(made_up_guid("wrap"), element("UserData", Slot(0, ValueType.BINXML)))
    inner = Fragment(element("Outer", element("Inner", "deep")))
    (payload,) = wheel_payload(Instance(wrap, (inner,)))
    assert payload == (("Outer/Inner", "deep"),)


def test_the_header_may_differ_from_the_body_and_its_time_may_be_unset() -> None:
    event = windows_event(numbered(900), event_data(("A", make.uint8(1))), record_id=4, written=0)
    data = event_log([event]).to_bytes()
    assert struct.unpack_from("<QQ", data, 4096 + 512 + 8) == (4, 0)
    (fact,) = wheel.facts(data)
    assert (fact.header_record_id, fact.event_record_id) == (4, "900")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (make.null(b"left over"), "0009hex"),
        (make.number(ValueType.INT8, -1), "03:ff"),
        (make.number(ValueType.INT64, -2), "09:feffffffffffffff"),
        (make.number(ValueType.REAL32, 1.5), "0b:0000c03f"),
        (make.boolean(16), "0d:10000000"),
        (make.size_t(16, width_bytes=4), "10:10000000"),
        (make.guid("00112233-4455-6677-8899-aabbccddeeff"), "0f:33221100554477668899aabbccddeeff"),
        (make.sid("S-1-5-18"), "13:010100000000000512000000"),
        (make.hex32(0xDEAD), "14:adde0000"),
        (make.evt_handle(9), "20:09000000"),
        (make.evt_xml("<"), "23:3c00"),
        (array(ValueType.STRING, ["a", ""]), "81:610000000000"),
        (array(ValueType.ANSI_STRING, ["a", ""]), "82:610000"),
        (array(ValueType.UINT16, [1, 2]), "86:01000200"),
        (array(ValueType.BOOL, [0, 1]), "8d:0000000001000000"),
        (array(ValueType.BINARY, [b"a", b"b"]), "8e:6162"),
        (array(ValueType.SIZE_T, [1]), "90:0100000000000000"),
        (array(ValueType.EVT_HANDLE, [1]), "a0:01000000"),
    ],
)
def test_values_are_encoded_as_the_specification_says(value: Value, expected: str) -> None:
    if expected == "0009hex":
        assert value == Value(ValueType.NULL, b"left over")
    else:
        assert f"{value.type_code:02x}:{value.data.hex()}" == expected


def test_every_scalar_type_has_an_array_but_those_that_hold_markup() -> None:
    assert all(
        array(kind, []).type_code == 0x80 | kind
        for kind in ValueType
        if kind not in {ValueType.NULL, ValueType.BINXML, ValueType.EVT_XML}
    )


def test_checksums_and_counts_of_a_written_log_are_right() -> None:
    events = [windows_event(numbered(i)) for i in range(5, 15)]
    data = EventLog(tuple(events), dirty=True, full=True).to_bytes(records_per_chunk=4)
    magic, first, last, following, size, minor, major, block, count = struct.unpack_from(
        "<8sQQQIHHHH", data
    )
    assert (magic, first, last, following) == (b"ElfFile\0", 0, 2, 15)
    assert (size, minor, major, block, count) == (128, 1, 3, 4096, 3)
    assert struct.unpack_from("<II", data, 120) == (3, zlib.crc32(data[:120]))
    second = data[4096 + CHUNK_BYTES :]
    assert struct.unpack_from("<QQQQ", second, 8) == (5, 8, 9, 12)
    last_record, free_space, data_checksum = struct.unpack_from("<III", second, 44)
    assert second[last_record : last_record + 4] == b"\x2a\x2a\0\0"
    assert last_record + struct.unpack_from("<I", second, last_record + 4)[0] == free_space
    assert zlib.crc32(second[512:free_space]) == data_checksum


def test_an_empty_log_is_a_header_and_nothing_else() -> None:
    data = event_log([]).to_bytes()
    assert len(data) == 4096
    assert wheel.facts(data) == []


def test_a_record_that_fills_a_chunk_to_the_last_byte_fits_and_one_byte_more_does_not() -> None:
    def log(padding: int) -> EventLog:
        event = windows_event(SYSTEM, event_data(("A", make.string("x"))))
        return event_log([dataclasses.replace(event, padding=b"\xab" * padding)])

    room = CHUNK_BYTES - 512 - log(0).build().records[0].size
    (record,) = log(room).build().records
    assert record.offset + record.size == 4096 + CHUNK_BYTES
    assert len(wheel.facts(log(room).to_bytes())) == 1
    with pytest.raises(ValueError, match="does not fit"):
        log(room + 1).build()


def test_what_did_not_fit_leaves_no_name_and_no_template_behind() -> None:
    small = windows_event(numbered(1), event_data(("A", make.string("x" * 30_000))))
    other = user_data("Elsewhere", ("OnlyHere", make.string("y" * 10_000)))
    big = windows_event(numbered(2), other)
    data = event_log([small, big]).to_bytes()
    assert len(wheel.facts(data)) == 2
    assert "OnlyHere".encode("utf-16-le") not in data[4096 : 4096 + CHUNK_BYTES]
    places: tuple[PlacedRecord, ...] = event_log([small, big]).build().records
    assert [place.chunk for place in places] == [0, 1]


def test_a_value_too_long_for_its_descriptor_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        make.string("x" * 40_000)


def test_slots_are_found_in_document_order() -> None:
    tree = element("A", element("B", Slot(1, 1), Key=Slot(0, 1)), "text", Slot(2, 1))
    assert [slot.index for slot in slots_of(tree)] == [0, 1, 2]


def test_a_dependency_outside_a_template_is_refused() -> None:
    bare = Element("Event", (), (Text("x"),), dependency=0)
    with pytest.raises(ValueError, match="dependency"):
        event_log([Event(1, 0, bare)]).to_bytes()
