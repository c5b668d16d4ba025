"""The header of a syslog line, and what follows it. Pure functions of text.

    [<PRI>]Jan 22 07:52:33[.123] …               RFC 3164 4.1; also with a year, as network devices
    write it Thu Nov 14 20:14:37.123 <name[pid]> …        macOS wifi.log
    <PRI>1 2021-03-06T04:07:33.2+00:00 …         RFC 5424 6
    [<PRI>]2021-03-06T04:07:33.2+00:00 …         rsyslog's file format, ChromeOS
    2021-08-11 05:50:23-0700 name[pid]: …        macOS logd

A line is taken for what it says: no field is guessed from another line.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final, NamedTuple

from .patterns import Pattern

MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        start=1,
    )
}
FACILITIES: Final = (
    *(
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
    ),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
PRIORITY_MAX: Final = 191

_PRIORITY: Final = r"(?:<(\d{1,3})>)?"
_CLOCK: Final = r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
_MONTH: Final = "|".join(MONTHS)
_CLASSIC: Final = Pattern(
    rf"{_PRIORITY}((?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
    rf"(?:{_MONTH}) {{1,2}}\d{{1,2}} (?:\d{{4}} )?\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?)(?=[ :]|\Z)",
    re.ASCII,
)
_CLASSIC_TIME: Final = Pattern(rf"(?:\w+ )?({_MONTH}) +(\d+) (?:(\d{{4}}) )?{_CLOCK}", re.ASCII)
_YEAR_BEHIND: Final = Pattern(r" \d{4}(?= |\Z)", re.ASCII)  # `date` and ctime(3): no syslog
_ISO: Final = Pattern(
    rf"{_PRIORITY}(1 )?((\d{{4}})-(\d\d)-(\d\d)([T ]){_CLOCK}(Z|[+-]\d\d:?\d\d)?)(?= )", re.ASCII
)
_NO_TIME: Final = Pattern(r"<(\d{1,3})>1 -(?= )", re.ASCII)

# Host, tag, process, level. A host is a word without brackets that does not end in a colon; a tag
# is followed by `[process]`, or by a colon and a space.
_LEVEL: Final = r"(?: <(Emergency|Alert|Critical|Error|Warning|Notice|Info|Debug)>)?"
_REST: Final = Pattern(
    r":?"
    r"(?: +(?!---)([^\s\[\]]*[^\s\[\]:])(?= |\Z))?"
    rf"(?: +([^\s\[\]:]+(?::+[^\s\[\]:]+)*)(?:\[([^\]\s]*)\]{_LEVEL}:?|:(?= |\Z)))?"
    r" ?(.*)",
    re.DOTALL,
)
_WIFI: Final = Pattern(r" (?:<([^\s\[\]<>]+)\[([^\]\s]*)\]> ?)?(.*)", re.DOTALL)
_LOGD: Final = Pattern(r" ([^\s\[\]:]+)\[([^\]\s]*)\]: ?(.*)", re.DOTALL)
_RFC5424: Final = Pattern(r" (\S+) (\S+) (\S+) (\S+) (?=(\S))(.*)", re.DOTALL)
_SD_ELEMENT: Final = Pattern(
    r'\[([^\s="\]]{1,255})((?: +[^\s="\]]+="(?:[^"\\\]]|\\.)*")*) *\]', re.DOTALL
)
_SD_PARAMETER: Final = Pattern(r' +([^\s="\]]+)="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_SD_ESCAPE: Final = Pattern(r'\\(["\\\]])')

_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_new: Final = (
    tuple.__new__
)  # a named tuple without the call of its own `__new__`: it counts, a line
_LEVELS: Final = {
    **{
        name: number
        for number, name in enumerate(
            ("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG")
        )
    },
    **{
        name: number
        for number, name in enumerate(
            ("Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Info", "Debug")
        )
    },
}


class When(NamedTuple):
    """A time as numbers, not checked; the year is `None` where the line names none."""

    year: int | None
    month: int
    day: int
    hour: int
    minute: int
    second: int
    nanosecond: int


class Stamp(NamedTuple):
    """The beginning of a line as written: priority and time. `end` is where the rest begins."""

    format: str
    end: int
    priority: str | None
    text: str | None
    zone: str | None
    when: When | None


class Fields(NamedTuple):
    """What follows the time."""

    format: str
    hostname: str | None
    app_name: str | None
    proc_id: str | None
    msg_id: str | None
    structured_data: str | None
    severity: int | None
    message: str


class BadLine(ValueError):
    """A line that is no syslog line.

    Args:
        reason: stable code.
        message: what is wrong.
        field: the column concerned.
    """

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field


def stamp(text: str) -> Stamp | None:
    """Priority and time at the beginning of a line, not checked yet; `None` without a header."""
    match = _CLASSIC.match(text)
    if match is not None:
        priority, written, weekday = match.groups()
        if weekday is None:
            kind = "rfc3164"
        elif _YEAR_BEHIND.match(text, match.end()):
            return None
        else:
            kind = "mac_wifi"
        return _new(Stamp, (kind, match.end(), priority, written, None, _classic_time(written)))
    match = _ISO.match(text)
    if match is not None:
        priority, version, written, year, month, day, separator, *clock, zone = match.groups()
        iso = _iso_format(priority, version, separator, zone)
        if iso is None:
            return None
        hour, minute, second, fraction = clock
        nanosecond = int(fraction.ljust(9, "0")) if fraction else 0
        when = _new(
            When, (int(year), int(month), int(day), int(hour), int(minute), int(second), nanosecond)
        )
        return _new(Stamp, (iso, match.end(), priority, written, zone, when))
    match = _NO_TIME.match(text)
    if match is not None:
        return Stamp("rfc5424", match.end(), match[1], None, None, None)
    return None


@lru_cache(maxsize=4096)
def _classic_time(written: str) -> When:
    """Numbers of a time with a month's name; many lines in a row carry the same one."""
    match = _CLASSIC_TIME.match(written)
    assert match is not None
    month, day, year, hour, minute, second, fraction = match.groups()
    return When(
        None if year is None else int(year),
        MONTHS[month],
        int(day),
        int(hour),
        int(minute),
        int(second),
        int(fraction.ljust(9, "0")) if fraction else 0,
    )


def _iso_format(
    priority: str | None, version: str | None, separator: str, zone: str | None
) -> str | None:
    """Which format a numeric date belongs to; many logs that are not syslog begin with one."""
    if version is not None:
        return "rfc5424" if priority is not None and separator == "T" and zone is not None else None
    if separator == "T":
        return "rsyslog_iso"
    return "mac_logd" if zone is not None and priority is None else None


def fields(text: str, begun: Stamp) -> Fields:
    """Host, program and message behind the time.

    Raises:
        BadLine: `syslog.no_header` or `syslog.bad_structured_data`.
    """
    kind = begun.format
    if kind == "rfc3164" or kind == "rsyslog_iso":
        match = _REST.match(text, begun.end)
        assert match is not None
        host, app, process, level, message = match.groups()
        severity = None if level is None else _LEVELS[level]
        if kind == "rsyslog_iso":
            if host is None:
                raise BadLine("syslog.no_header", "no host follows the time", "hostname")
            if app is not None and host in _LEVELS and host.isupper():
                return Fields("chromeos", None, app, process, None, None, _LEVELS[host], message)
        return _new(Fields, (kind, host, app, process, None, None, severity, message))
    if kind == "rfc5424":
        return _rfc5424(text, begun.end)
    match = (_WIFI if kind == "mac_wifi" else _LOGD).match(text, begun.end)
    if match is None:
        raise BadLine("syslog.no_header", "no process follows the time", "app_name")
    app, process, message = match.groups()
    return Fields(kind, None, app, process, None, None, None, message)


def _rfc5424(text: str, start: int) -> Fields:
    match = _RFC5424.match(text, start)
    if match is None:
        raise BadLine("syslog.no_header", "the header ends before its structured data")
    host, app, process, identifier, first, rest = match.groups()
    if first == "-":
        data, end = None, 1
    else:
        data, end = structured_data(rest)
    if end < len(rest) and rest[end] != " ":
        raise BadLine(
            "syslog.bad_structured_data", "something follows the structured data", "structured_data"
        )
    message = rest[end + 1 :].removeprefix("\ufeff")  # RFC 5424 6.4: a mark says that UTF-8 follows
    return Fields(
        "rfc5424",
        _value(host),
        _value(app),
        _value(process),
        _value(identifier),
        data,
        None,
        message,
    )


def _value(text: str) -> str | None:
    return None if text == "-" else text


def structured_data(text: str) -> tuple[str, int]:
    """STRUCTURED-DATA at the beginning of a text as JSON, and where it ends (RFC 5424 6.3).

    Raises:
        BadLine: `syslog.bad_structured_data`.
    """
    elements: dict[str, dict[str, str | list[str]]] = {}
    position = 0
    while match := _SD_ELEMENT.match(text, position):
        identifier, parameters = match.groups()
        if identifier in elements:
            raise BadLine(
                "syslog.bad_structured_data", "an identifier is there twice", "structured_data"
            )
        values: dict[str, str | list[str]] = {}
        for name, escaped in _SD_PARAMETER.findall(parameters):
            value = _SD_ESCAPE.sub(r"\1", escaped)
            known = values.get(name)
            if known is None:
                values[name] = value
            elif isinstance(known, list):
                known.append(value)
            else:
                values[name] = [known, value]
        elements[identifier] = values
        position = match.end()
    if not elements:
        raise BadLine(
            "syslog.bad_structured_data", "the structured data is malformed", "structured_data"
        )
    return _json.encode(elements), position


def priority(text: str) -> int:
    """PRI as a number.

    Raises:
        BadLine: `syslog.bad_priority`: above 191.
    """
    value = int(text)
    if value > PRIORITY_MAX:
        raise BadLine(
            "syslog.bad_priority", f"the priority {value} is above {PRIORITY_MAX}", "priority"
        )
    return value
