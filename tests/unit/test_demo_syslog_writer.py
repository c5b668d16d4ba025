"""Lines and files of text logs are what their formats and encodings say."""

import re
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from casparian import _native
from casparian.demo.syslog_cases import CORNER_CASES, CornerCase
from casparian.demo.syslog_writer import (
    Entry,
    LogFile,
    is_blank,
    iso_time,
    rfc3164,
    rfc5424,
    rsyslog_iso,
    year_rollover,
)

ENTRY = Entry(
    time=datetime(2024, 3, 1, 22, 5, 1, 123456, tzinfo=UTC),
    host="gw01",
    application="sshd",
    process_id=7,
    message="hello",
    facility=10,
    severity=4,
)


def with_zone(zone: str) -> Entry:
    return Entry(time=ENTRY.time, host="h", application="a", message="m", zone=zone)


def test_rfc3164_pads_the_day_with_a_space_and_names_no_year() -> None:
    assert rfc3164(ENTRY) == "Mar  1 22:05:01 gw01 sshd[7]: hello"
    assert rfc3164(ENTRY, priority=True) == "<84>Mar  1 22:05:01 gw01 sshd[7]: hello"


def test_rfc5424_writes_dashes_for_what_is_absent() -> None:
    bare = Entry(time=ENTRY.time, host="", application="", message="")
    assert rfc5424(bare, digits=3) == "<30>1 2024-03-01T22:05:01.123Z - - - - -"


def test_rfc5424_escapes_values_and_marks_utf8_messages() -> None:
    entry = Entry(
        time=ENTRY.time,
        host="h",
        application="a",
        message="é",
        message_id="ID1",
        structured_data=[("x@32473", [("k", 'a"b\\c]d')]), ("y@32473", [])],
    )
    assert rfc5424(entry, message_bom=True, digits=0) == (
        '<30>1 2024-03-01T22:05:01Z h a - ID1 [x@32473 k="a\\"b\\\\c\\]d"][y@32473] \ufeffé'
    )


def test_rsyslog_writes_iso_times_with_microseconds() -> None:
    assert rsyslog_iso(ENTRY) == "2024-03-01T22:05:01.123456Z gw01 sshd[7]: hello"


@pytest.mark.parametrize(
    ("zone", "local"),
    [
        ("Z", "22:05:01"),
        ("+00:00", "22:05:01"),
        ("-00:00", "22:05:01"),
        ("+05:45", "03:50:01"),
        ("-09:30", "12:35:01"),
    ],
)
def test_a_zone_moves_the_local_time_and_never_the_instant(zone: str, local: str) -> None:
    text = iso_time(with_zone(zone))
    assert f"T{local}." in text
    assert text.endswith(zone)
    assert datetime.fromisoformat(text) == ENTRY.time


def test_rfc3164_shows_the_local_time_of_its_zone() -> None:
    assert rfc3164(with_zone("+05:45")).startswith("Mar  2 03:50:01 ")


def test_year_rollover_goes_from_december_to_january() -> None:
    entries = year_rollover(2023)
    months = [rfc3164(entry)[:3] for entry in entries]
    assert months == ["Dec"] * 36 + ["Jan"] * 36
    assert {b.time - a.time for a, b in pairwise(entries)} == {timedelta(hours=1)}


def test_files_carry_their_encoding_bom_and_newlines() -> None:
    lines = ["é", "b"]
    assert LogFile(lines=lines).to_bytes() == b"\xc3\xa9\nb\n"
    assert LogFile(lines=lines, final_newline=False, newline="\r\n").to_bytes() == b"\xc3\xa9\r\nb"
    assert LogFile(lines=lines, encoding="utf-16-le", bom=True).to_bytes() == (
        b"\xff\xfe\xe9\0\n\0b\0\n\0"
    )
    assert LogFile(lines=lines, encoding="utf-16-be", bom=True).to_bytes() == (
        b"\xfe\xff\0\xe9\0\n\0b\0\n"
    )
    assert LogFile(lines=["a", b"\xff\0"]).to_bytes() == b"a\n\xff\0\n"
    assert LogFile(lines=[]).to_bytes() == b""


@pytest.mark.parametrize(
    ("line", "blank"),
    [("", True), (" \t ", True), ("\r", True), (b"\t\r", True), ("x", False), (b"\0", False),
     ("\u00a0", False), ("\r\r", False)],
)  # fmt: skip
def test_blank_is_spaces_and_tabs_only(line: str | bytes, *, blank: bool) -> None:
    assert is_blank(line) is blank


@pytest.mark.parametrize("case", CORNER_CASES.values(), ids=CORNER_CASES.keys())
def test_the_accounting_counts_the_lines_of_every_corner_case(case: CornerCase) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(case.data)
        file.flush()
        account = _native.account_lines(file.fileno(), len(case.data))
    assert account.present == case.records
    assert account.unit == "line"


@pytest.mark.parametrize("case", CORNER_CASES.values(), ids=CORNER_CASES.keys())
def test_corner_cases_say_what_is_special_and_stay_in_bounds(case: CornerCase) -> None:
    assert case.title
    assert 0 <= case.unparsable <= case.records
    assert len(case.data) < 1_100_000


def test_corner_cases_hold_what_they_are_named_for() -> None:
    data = {name: case.data for name, case in CORNER_CASES.items()}
    assert not data["no_final_newline"].endswith(b"\n")
    assert b"\r\n" in data["crlf"]
    assert data["utf16_le_bom"].startswith(b"\xff\xfe")
    assert data["utf16_be_bom"].startswith(b"\xfe\xff")
    assert bytes(64) in data["nul_bytes"]
    assert max(map(len, data["very_long_line"].split(b"\n"))) > 1 << 20
    assert b"Feb 29" in data["leap_day"]
    assert re.search(rb"\+05:45 .*\n.*-09:30 ", data["iso_zones"])
    with pytest.raises(UnicodeDecodeError):
        data["latin1_bytes"].decode()
