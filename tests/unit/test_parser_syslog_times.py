"""`linux.syslog`: the zone and the year of a line, by stated rules."""

import os
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.sdk.testing import collect
from tests.factories.syslog_parser import (
    ARTIFACT,
    CONFIG,
    DIRECTORY,
    YEAR,
    ZONE,
    parser,
    quarantined,
    rows,
    times_of,
)

# ---------------------------------------------------------------- time zone


def test_a_zone_in_the_bytes_wins_and_needs_no_flag() -> None:
    (row,) = rows("2021-03-06T04:07:33.194677001+05:30 h app: x", timezone="Europe/Berlin")
    assert row["time"] == "2021-03-05 22:37:33.194677001"
    assert (row["time_text"], row["time_zone"]) == ("2021-03-06T04:07:33.194677001+05:30", "+05:30")
    assert row["@flags"] == 0


ZONES = {
    ("UTC", "Jul  1 12:00:00"): "2021-07-01 12:00:00",
    ("+02:00", "Jul  1 12:00:00"): "2021-07-01 10:00:00",
    ("-0330", "Jul  1 12:00:00"): "2021-07-01 15:30:00",
    ("Europe/Berlin", "Jul  1 12:00:00"): "2021-07-01 10:00:00",
    ("Europe/Berlin", "Jan  1 12:00:00"): "2021-01-01 11:00:00",
    ("Europe/Berlin", "Oct 31 02:30:00"): "2021-10-31 00:30:00",  # shown twice: the earlier one
    ("Europe/Berlin", "Mar 28 02:30:00"): "2021-03-28 01:30:00",  # skipped: the offset before
}


@pytest.mark.parametrize(("zone", "written"), ZONES)
def test_a_missing_zone_is_the_declared_one(zone: str, written: str) -> None:
    (row,) = rows(f"{written} h app: x", timezone=zone, year=2021)
    assert row["time"][:19] == ZONES[zone, written]
    assert row["time_zone"] == zone
    assert row["@flags"] == YEAR | ZONE


def test_a_year_in_the_bytes_needs_the_zone_only() -> None:
    (row,) = rows("Jul  1 2021 12:00:00.5 h app: x", timezone="+01:00", year=1999)
    assert row["time"][:21] == "2021-07-01 11:00:00.5"
    assert row["@flags"] == ZONE


def test_an_unknown_zone_fails_before_a_row_is_made() -> None:
    for wrong in ("Mars/Olympus", "../etc/passwd", "", "+2:00"):
        with pytest.raises(ValueError, match="timezone"):
            rows("Jul  1 12:00:00 h app: x", timezone=wrong)


# ---------------------------------------------------------------- year

LINES = "Nov 30 10:00:00 h app: x\nDec 31 23:59:59 h app: x\nJan  1 00:00:01 h app: x\nFeb 28 10:00:00 h app: x\n"


def test_without_any_word_on_the_year_the_time_is_null_and_its_text_is_kept() -> None:
    for row in rows(LINES):
        assert row["time"] is None
        assert row["time_zone"] is None
        assert row["time_text"]
        assert row["@flags"] == 0


def test_the_declared_year_is_that_of_the_first_line() -> None:
    assert times_of(LINES, "syslog-20160101", year=2011) == [
        "2011-11-30 10:00:00",
        "2011-12-31 23:59:59",
        "2012-01-01 00:00:01",
        "2012-02-28 10:00:00",
    ]


def test_a_line_that_names_its_year_dates_the_others() -> None:
    text = LINES + "2013-03-01T00:00:00Z h app: x\nMar  2 00:00:00 h app: x\n"
    assert [t and t[:10] for t in times_of(text, "syslog-20990101")] == [
        *("2012-11-30", "2012-12-31", "2013-01-01", "2013-02-28", "2013-03-01", "2013-03-02"),
    ]
    flags = [row["@flags"] for row in rows(text)]
    assert flags == [YEAR | ZONE] * 4 + [0, YEAR | ZONE]


def test_a_bad_line_dates_nothing() -> None:
    assert times_of("2013-02-30T00:00:00Z h app: x\nMar  2 00:00:00 h app: x\n") == [None]


PATHS = {
    "var/log/syslog-20130303": "2013-02-28",
    "var/log/syslog-20130221": "2013-02-28",  # within a week of the rotation
    "var/log/syslog-20130220": "2012-02-28",
    "2013-03-03/messages": "2013-02-28",
    "2013/03/03/messages": "2013-02-28",
    "case-2013-03/messages": "2013-02-28",
    "20010101/syslog-20130303": "2013-02-28",  # the last date
    "var/log/messages.1": None,
    "4213030312/messages": None,
    "201303/messages": None,
    "2013-13-45/messages": None,
    "2013-02-30/messages": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_a_date_in_the_path_dates_the_last_line(path: str) -> None:
    found = times_of(LINES, path)
    assert (found[-1] and found[-1][:10]) == PATHS[path]
    if PATHS[path]:
        assert found[0] is not None
        assert int(found[0][:4]) == int(PATHS[path][:4]) - 1


def test_late_lines_do_not_turn_the_year() -> None:
    text = "".join(
        f"{day} 00:00:00 h app: x\n"
        for day in (
            "Feb 28",
            "Mar  1",
            "Feb 28",
            "Mar  2",
            "Dec 31",
            "Jan  1",
            "Dec 31",
            "Jan  1",
            "Feb  1",
        )
    )
    assert [t and t[:7] for t in times_of(text, year=2010)] == [
        *(
            "2010-02",
            "2010-03",
            "2010-02",
            "2010-03",
            "2010-12",
            "2011-01",
            "2010-12",
            "2011-01",
            "2011-02",
        ),
    ]


def test_february_29_depends_on_the_year() -> None:
    line = "Feb 29 01:15:43 h app: x"
    assert times_of(line, year=2012) == ["2012-02-29 01:15:43"]
    assert times_of(line) == [None]
    assert quarantined(line.encode(), year=2011) == [(0, len(line), "syslog.bad_time")]
    assert times_of(line, "syslog-20120301") == ["2012-02-29 01:15:43"]


def test_no_row_depends_on_the_clock_or_on_when_a_file_was_touched(tmp_path: Any) -> None:
    path = tmp_path / "syslog-20130303"
    path.write_text(LINES)
    outputs = ARTIFACT.contract.outputs
    seen = []
    for stamp in (0, 2_000_000_000):
        os.utime(path, (stamp, stamp))
        collected = collect(
            parser.parse, path.read_bytes(), outputs=outputs, config=CONFIG, display_path=path.name
        )
        seen.append(collected.tables["syslog_events"])
    assert seen[0].equals(seen[1])
    assert "time.time" not in (DIRECTORY / "times.py").read_text()


@given(st.dates(date(1970, 1, 1), date(2260, 1, 1)), st.times(), st.integers(-23, 23))
def test_iso_times_are_what_the_calendar_says(day: date, clock: Any, hours: int) -> None:
    from datetime import datetime, timedelta, timezone

    moment = datetime.combine(day, clock, timezone(timedelta(hours=hours))).replace(fold=0)
    (row,) = rows(f"{moment.isoformat(timespec='microseconds')} h app: x")
    expected = moment.astimezone(timezone.utc).replace(tzinfo=None)  # noqa: UP017
    assert row["time"] == expected.strftime("%Y-%m-%d %H:%M:%S.") + f"{expected.microsecond:06}000"
