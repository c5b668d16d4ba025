"""Wide tables: each row is its event's again, typed, and nothing of the event is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian import _native
from casparian.demo.evtx_writer import (
    Event,
    System,
    ValueType,
    array,
    event_data,
    event_log,
    forwarded_event,
    user_data,
    windows_event,
)
from casparian.demo.evtx_writer import values as make
from tests.corpus.reading import in_memory
from tests.factories.wide import TABLES, comparable, expected

SECURITY = "Microsoft-Windows-Security-Auditing"
SYSTEM = System(
    provider=SECURITY,
    event_id=4624,
    time_created=133_546_683_011_234_567,
    event_record_id=1,
    channel="Security",
    computer="ws.example.org",
)
LOGON = event_data(
    ("SubjectUserSid", make.sid("S-1-5-18")),
    ("TargetUserName", make.string("ines.marlow")),
    ("TargetLogonId", make.hex64(0x3E7)),
    ("LogonType", make.uint32(10)),
    ("ProcessId", make.size_t(0x2CC)),
    ("ip", make.string("not a column")),
)


def read(events: list[Event], **options: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows by table; times as nanoseconds."""
    data = event_log(events).to_bytes()
    found: dict[str, list[dict[str, Any]]] = {}
    with in_memory(data) as descriptor:
        for name, exported in _native.EvtxReader(descriptor, len(data), **options):
            batch = pa.record_batch(exported)
            for place, field in enumerate(batch.schema):
                if pa.types.is_timestamp(field.type):
                    batch = batch.set_column(
                        place, field.name, batch.column(place).cast(pa.int64())
                    )
            found.setdefault(name, []).extend(batch.to_pylist())
    return found


def numbered(event_id: int, number: int, payload: Any, provider: str = SECURITY) -> Event:
    system = replace(SYSTEM, event_id=event_id, event_record_id=number, provider=provider)
    return windows_event(system, payload)


def test_values_have_the_types_of_their_columns() -> None:
    found = read([windows_event(SYSTEM, LOGON)], wide="curated")
    (event,), (row,) = found["evtx_events"], found["evtx_security_4624"]
    assert row["subject_user_sid"] == "S-1-5-18"
    assert row["target_user_name"] == "ines.marlow"
    assert row["target_logon_id"] == 999
    assert row["logon_type"] == 10
    assert row["process_id_data"] == 0x2CC
    assert row["process_id"] == event["process_id"] == 4
    assert row["ip_address"] is None
    assert (row["misfits"], row["other_names"], row["other_values"]) == (
        0,
        ["ip"],
        ["not a column"],
    )
    assert [row[name] for name in ("@offset", "@length", "@flags")] == [
        event[name] for name in ("@offset", "@length", "@flags")
    ]
    assert expected(event) == ("evtx_security_4624", comparable(row))


def test_a_value_that_does_not_fit_is_kept_as_it_is() -> None:
    payload = event_data(
        ("LogonType", make.string("ten")),
        ("KeyLength", make.uint64(2**32)),
        ("TargetUserName", array(ValueType.STRING, ["a", "b"])),
        ("TargetLogonId", make.null()),
    )
    (row,) = read([windows_event(SYSTEM, payload)], wide="curated")["evtx_security_4624"]
    assert row["logon_type"] is row["key_length"] is row["target_user_name"] is None
    assert row["target_logon_id"] is None
    kept = set(zip(row["other_names"], row["other_values"], row["other_types"], strict=True))
    assert kept == {
        ("LogonType", "ten", 1),
        ("KeyLength", str(2**32), 10),
        ("TargetUserName", "a", 0x81),
        ("TargetUserName", "b", 0x81),
    }
    assert row["misfits"] == 3  # two values, and the array's first item; its second has no column


def test_a_forwarded_event_is_typed_from_its_text() -> None:
    fields = [("TargetUserName", "ines"), ("LogonType", "10"), ("TargetLogonId", "0x3E7")]
    (row,) = read([forwarded_event(SYSTEM, fields)], wide="curated")["evtx_security_4624"]
    assert (row["target_user_name"], row["logon_type"], row["target_logon_id"]) == ("ines", 10, 999)
    assert row["@flags"] & next(bit for bit, name in _native.FLAG_NAMES.items() if name == "inline")


def test_user_data_and_repeated_names_find_their_columns() -> None:
    cleared = user_data("LogFileCleared", ("SubjectUserName", make.string("ines")))
    twice = event_data(("LogonGuid", make.string("first")), ("LogonGuid", make.string("second")),
                       ("LogonGuid", make.string("third")))  # fmt: skip
    found = read(
        [numbered(1102, 1, cleared, "Microsoft-Windows-Eventlog"), numbered(4648, 2, twice)],
        wide="curated",
    )
    assert found["evtx_security_1102"][0]["subject_user_name"] == "ines"
    (row,) = found["evtx_security_4648"]
    assert (row["logon_guid"], row["logon_guid_2"]) == ("first", "second")
    assert row["other_values"] == ["third"]


def test_tables_are_made_only_when_asked_for_and_only_with_rows() -> None:
    events = [windows_event(SYSTEM, LOGON), numbered(4634, 2, None), numbered(9999, 3, LOGON),
              numbered(4624, 4, LOGON, "Another-Provider")]  # fmt: skip
    plain = {"evtx_events", "evtx_chunks"}
    assert set(read(events)) == set(read(events, wide="none")) == plain
    assert set(read(events, wide="curated")) == plain | {"evtx_security_4624", "evtx_security_4634"}
    assert set(read(events, wide=f"{SECURITY}/4634, evtx_sysmon_1")) == plain | {
        "evtx_security_4634"
    }
    assert len(read(events, wide="curated")["evtx_security_4624"]) == 1


def test_a_table_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the list"):
        read([], wide="evtx_security_4624,evtx_security_1")


def test_rows_do_not_depend_on_how_events_are_batched() -> None:
    events = [numbered(4624 if n % 3 else 4634, n, LOGON) for n in range(1, 400)]
    whole = read(events, wide="curated")
    for rows in (1, 7, 64):
        assert read(events, wide="curated", batch_rows=rows) == whole
    offsets = [row["@offset"] for row in whole["evtx_security_4624"]]
    assert offsets == sorted(offsets)


def test_events_with_thousands_of_values_lose_none_of_them() -> None:
    many = event_data(
        ("LogonType", make.uint32(3)), ("TargetUserName", array(ValueType.STRING, ["a"] * 1_999))
    )
    names = event_data(*((f"N{n}", make.uint8(1)) for n in range(300)))
    events = [numbered(4624, 1, many), numbered(4624, 2, names), numbered(4624, 3, LOGON)]
    rows = read(events, wide="curated")["evtx_security_4624"]
    assert [len(row["other_names"]) for row in rows] == [2_000, 300, 1]
    assert [row["logon_type"] for row in rows] == [None, None, 10]


NAMES = st.sampled_from([*(source for _, _, source, _ in TABLES[SECURITY, 4624][1]), None, "Else"])
VALUES = st.one_of(
    st.builds(make.string, st.text("0x19afTZ:-.true é", max_size=24)),
    st.builds(make.uint64, st.integers(0, 2**64 - 1)),
    st.builds(make.hex32, st.integers(0, 2**32 - 1)),
    st.builds(make.boolean, st.integers(0, 3)),
    st.builds(make.filetime, st.integers(0, 2**62)),
    st.builds(make.binary, st.binary(max_size=6)),
    st.builds(lambda texts: array(ValueType.STRING, texts), st.lists(st.text("ab", max_size=3))),
    st.just(make.null()),
)
EVENTS = st.sampled_from(sorted(TABLES))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.lists(st.tuples(NAMES, VALUES), max_size=8)), max_size=6))
def test_every_wide_row_is_its_event_again(kinds: list[Any]) -> None:
    events = []
    for number, ((provider, event_id), fields) in enumerate(kinds, start=1):
        own = [source for _, _, source, _ in TABLES[provider, event_id][1]]
        named = [(own[place % len(own)] if own and place % 2 else name, value)
                 for place, (name, value) in enumerate(fields)]  # fmt: skip
        events.append(numbered(event_id, number, event_data(*named), provider))
    found = read(events, wide="curated", batch_rows=2)
    made = Counter()
    for event in found.get("evtx_events", []):
        table, row = expected(event) or ("", {})
        assert comparable(found[table][made[table]]) == row
        made[table] += 1
    assert {name: len(rows) for name, rows in found.items() if name in made} == dict(made)


def test_the_list_names_every_event_that_is_curated(tmp_path: Path) -> None:
    from casparian.contracts.wide_templates import CURATED

    wanted = {(provider, number) for _, provider, numbers in CURATED for number in numbers}
    assert set(TABLES) == wanted
