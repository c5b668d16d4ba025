"""Times of syslog lines: the zone and the year that the bytes may leave open.

Rules:
  * The bytes win. A zone or a year that a line names is used as it is.
  * A missing zone is the one that the settings declare. A local time that the zone's clock shows
    twice is the earlier one; one that it skips is read with the offset before the change.
  * A missing year is, in this order: the setting `year` for the first line; what another line of
    the file says; the latest year that puts the last line no more than a week past a date in the
    path (`syslog-20151118`); else unknown. Never the clock, never a modification time.
  * Months only go forward: a step back by two months or more begins the next year. A step back by
    one is a late line. December right after a new year began is a late line of the old year.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from .patterns import Pattern

_EPOCH: Final = date(1970, 1, 1).toordinal()
_OFFSET: Final = Pattern(r"([+-])(\d\d):?(\d\d)\Z")
_LEAP_YEAR: Final = 2000  # stands in for an unknown year: February may have 29 days
_PATH_SLACK: Final = timedelta(days=7)
# What nanoseconds in 64 bits can hold, less two days: one for the time of day, one for the zone.
_SECONDS_MIN: Final = -(2**63) // 1_000_000_000 + 2 * 86_400
_SECONDS_MAX: Final = 2**63 // 1_000_000_000 - 2 * 86_400
_PATH_DATE: Final = Pattern(
    r"(?<!\d)((?:19|20)\d\d)([-_./]?)(0[1-9]|1[0-2])(?:\2(0[1-9]|[12]\d|3[01]))?(?![\d])"
)


class BadTime(ValueError):
    """A time that no calendar or clock has."""


class Zone:
    """The zone of times that name none.

    Args:
        name: IANA name or `+hh:mm`; anything else is a `ValueError`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._zone = _zone(name)
        self._fixed = 0 if self._zone is UTC else None

    def seconds(self, year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
        """Seconds since 1970 of a local time."""
        local = civil_seconds(year, month, day, hour, minute, second)
        if self._fixed is not None:
            return local
        offset = datetime(year, month, day, hour, minute, second, tzinfo=self._zone).utcoffset()
        assert offset is not None
        # Historic offsets have seconds; fractions of one are not possible.
        return local - int(offset.total_seconds())


def _zone(name: str) -> tzinfo:
    if name in ("UTC", "Z", "+00:00"):
        return UTC
    if name[:1] in ("+", "-") and _OFFSET.match(name):
        return timezone(timedelta(seconds=offset_seconds(name)))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"the setting `timezone` is {name!r}, expected an IANA name or +hh:mm"
        ) from error


@lru_cache(maxsize=1024)
def offset_seconds(text: str) -> int:
    """Seconds east of Greenwich of `Z`, `+hh:mm` or `+hhmm`.

    Raises:
        BadTime: no such offset.
    """
    if text == "Z":
        return 0
    match = _OFFSET.match(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise BadTime(f"the zone {text} does not exist")
    seconds = int(match[2]) * 3600 + int(match[3]) * 60
    return -seconds if match[1] == "-" else seconds


def civil_seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since 1970 of a date and time, as if it were UTC.

    Raises:
        BadTime: no such date, no such time, or outside what nanoseconds in 64 bits can hold.
    """
    if hour > 23 or minute > 59 or second > 59:
        raise BadTime(f"there is no {hour:02}:{minute:02}:{second:02}")
    return _midnight(year, month, day) + hour * 3600 + minute * 60 + second


@lru_cache(maxsize=1024)
def _midnight(year: int, month: int, day: int) -> int:
    try:
        seconds = (date(year, month, day).toordinal() - _EPOCH) * 86_400
    except ValueError:
        raise BadTime(f"there is no day {day} in month {month} of {year}") from None
    if not _SECONDS_MIN < seconds < _SECONDS_MAX:
        raise BadTime(f"the year {year} is out of range")
    return seconds


def check_without_year(month: int, day: int, hour: int, minute: int, second: int) -> None:
    """Refuse a time that no year has.

    Raises:
        BadTime: no such day or time in any year.
    """
    civil_seconds(_LEAP_YEAR, month, day, hour, minute, second)


class YearTracker:
    """The year of lines that name none, from the order of their months.

    Args:
        first: year of the first line; `None` while it is not known.
    """

    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self.shift = 0  # years since the first line
        self._month: int | None = None
        self._rolled = False

    @property
    def year(self) -> int | None:
        """Year of the line that was seen last."""
        return None if self.first is None else self.first + self.shift

    def see(self, month: int) -> None:
        """A line of this month comes next."""
        if self._month is not None and month != self._month:
            step = month - self._month
            if step <= -2:
                self.shift += 1
                self._rolled = True
            elif step == 11 and self._rolled:
                self.shift -= 1
        self._month = month

    def pin(self, year: int, month: int) -> None:
        """A line that names its year comes next: from here on the years are known."""
        self.see(month)
        self.first = year - self.shift


def date_in_path(path: str) -> date | None:
    """The last date in a path: `20151118`, `2015-11-18`, `2015/11/18`, or a month, `2015-11`."""
    for match in reversed(list(_PATH_DATE.finditer(path))):
        year, separator, month, day = match.groups()
        if day is None and not separator:
            continue  # six digits are rarely a year and a month
        try:
            return (
                _end_of_month(int(year), int(month))
                if day is None
                else date(int(year), int(month), int(day))
            )
        except ValueError:
            continue
    return None


def year_before(limit: date, month: int, day: int) -> int:
    """The latest year in which this day is not more than a week past the limit."""
    latest = limit + _PATH_SLACK
    return latest.year if (month, day) <= (latest.month, latest.day) else latest.year - 1


def _end_of_month(year: int, month: int) -> date:
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
