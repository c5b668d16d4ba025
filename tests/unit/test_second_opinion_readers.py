"""How readers' values are brought into one form: names, paths, times, and numbers seen in quarantined bytes."""

from __future__ import annotations

import datetime as dt
import struct
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.appliance.second_opinion import ours
from casparian.appliance.second_opinion.ours import filetime, folded, folded_path


def test_names_of_both_code_pages_look_the_same_and_end_at_a_nul() -> None:
    assert folded("\u20acuro") == folded("\x80uro") == "\x80uro"
    assert folded("test\0more") == "test"
    assert folded("\0") is None
    assert folded(None) is None
    assert folded("größe") == "größe"


def test_paths_are_folded_name_by_name_and_the_root_is_empty() -> None:
    assert folded_path("\\") == folded_path("") == folded_path(None) == ""
    assert folded_path("\\a\0x\\b\u20ac") == "\\a\\b\x80"


def test_times_are_counted_from_1601() -> None:
    assert filetime(0) == 116_444_736_000_000_000
    assert filetime(-116_444_736_000_000_000 * 100) == 0
    assert filetime(None) is None


def test_numbers_of_records_are_seen_in_quarantined_bytes_wherever_they_begin() -> None:
    def record(number: int) -> bytes:
        return struct.pack("<4sIQ", b"\x2a\x2a\0\0", 64, number) + bytes(48)

    raw = b"xyz" + record(7) + bytes(5) + record(2**64 - 1)
    assert list(ours._record_numbers(raw)) == [7, 2**64 - 1]
    assert list(ours._record_numbers(raw[:-49])) == [7]
    assert list(ours._record_numbers(b"")) == []


@pytest.fixture(scope="module")
def rust_reader() -> Iterator[ModuleType]:
    from casparian.appliance.second_opinion.readers import evtx_rust

    yield evtx_rust
    sys.modules.pop(evtx_rust.__name__, None)


@given(st.datetimes(min_value=dt.datetime(1601, 1, 1)), st.integers(0, 9))
def test_a_readers_time_is_read_to_its_last_digit(
    rust_reader: ModuleType, when: dt.datetime, digit: int
) -> None:
    text = f"{when.year:04}-{when:%m-%dT%H:%M:%S}.{when.microsecond:06}{digit}Z UTC"
    microseconds = (when - dt.datetime(1601, 1, 1)) // dt.timedelta(microseconds=1)
    assert rust_reader._filetime(text) == microseconds * 10 + digit


def test_a_time_beyond_the_calendar_and_text_that_is_none(rust_reader: ModuleType) -> None:
    assert rust_reader._filetime("30828-09-14T02:48:05.4775807Z UTC") == 2**63 - 1
    assert rust_reader._filetime("1601-01-01T00:00:00Z UTC") == 0
    assert rust_reader._filetime("never") is None


def test_event_ids_with_and_without_attributes(rust_reader: ModuleType) -> None:
    assert rust_reader._event_id('{"Event":{"System":{"EventID":4624}}}') == 4624
    assert (
        rust_reader._event_id(
            '{"Event":{"System":{"EventID":{"#attributes":{"Qualifiers":1},"#text":7}}}}'
        )
        == 7
    )
    assert rust_reader._event_id('{"Event":{}}') is None
