"""Write text logs of Unix systems, and the odd ones that evidence is full of.

Three line formats: RFC 3164 (`Mar 11 22:05:01 host sshd[7]: …`, no year and no zone), RFC 5424
(version, structured data, BOM in the message) and the file format of rsyslog with ISO 8601 times.
A line is text or, where no encoding would give them, bytes; `LogFile` joins lines to a file.

A line ends at LF, a CR before it belongs to the terminator; a line of nothing but spaces and tabs
is blank and holds no record. `syslog_cases` lists files that readers get wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal, TypeAlias

Encoding: TypeAlias = Literal["utf-8", "utf-16-le", "utf-16-be"]
StructuredData: TypeAlias = Sequence[tuple[str, Sequence[tuple[str, str]]]]

_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_BOMS: Final[dict[Encoding, bytes]] = {
    "utf-8": b"\xef\xbb\xbf",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
}
MESSAGE_BOM: Final = "\ufeff"
"""RFC 5424 section 6.4: a BOM says that the message is UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One log message, before it takes the form of a line.

    Attributes:
        time: aware; shown at `zone`'s offset, truncated to what the format holds.
        zone: offset as ISO 8601 writes it: `Z`, `+05:45`, or `-00:00` (RFC 3339: UTC is known,
            the local offset is not). RFC 3164 shows the local time and drops the offset.
        process_id: also any other text that stands between the brackets.
    """

    time: datetime
    host: str
    application: str
    message: str
    process_id: int | str | None = None
    facility: int = 3
    severity: int = 6
    zone: str = "Z"
    message_id: str | None = None
    structured_data: StructuredData = ()

    @property
    def priority(self) -> int:
        """RFC 5424 section 6.2.1: facility times 8, plus severity."""
        return self.facility * 8 + self.severity

    @property
    def local_time(self) -> datetime:
        """`time` at the offset of `zone`."""
        return self.time.astimezone(_offset(self.zone))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """Lines and how they become a file. Lines given as bytes are written untouched."""

    lines: Sequence[str | bytes]
    encoding: Encoding = "utf-8"
    bom: bool = False
    newline: str = "\n"
    final_newline: bool = True

    def to_bytes(self) -> bytes:
        """The file."""
        newline = self.newline.encode(self.encoding)
        lines = [
            line if isinstance(line, bytes) else line.encode(self.encoding, "surrogatepass")
            for line in self.lines
        ]
        end = newline if lines and self.final_newline else b""
        return (_BOMS[self.encoding] if self.bom else b"") + newline.join(lines) + end

    @property
    def record_count(self) -> int:
        """Lines that are not blank. A line break inside a line given here makes two of it."""
        return sum(not is_blank(line) for line in self.lines)


def is_blank(line: str | bytes) -> bool:
    """Nothing but ASCII spaces and tabs, or nothing at all, before the terminator."""
    if isinstance(line, bytes):
        return not line.removesuffix(b"\r").strip(b" \t")
    return not line.removesuffix("\r").strip(" \t")


def rfc3164(entry: Entry, *, priority: bool = False) -> str:
    """`Mmm dd hh:mm:ss host tag[pid]: message`; files hold no priority, the wire does."""
    time = entry.local_time
    stamp = f"{_MONTHS[time.month - 1]} {time.day:2} {time:%H:%M:%S}"
    head = f"<{entry.priority}>" if priority else ""
    return f"{head}{stamp} {entry.host} {_tag(entry)}: {entry.message}"


def rfc5424(entry: Entry, *, message_bom: bool = False, digits: int = 6) -> str:
    """`<PRI>1 TIME HOST APP PROCID MSGID SD MSG`; what is absent is `-`.

    Args:
        entry: the message; values of structured data are escaped as section 6.3.3 says.
        message_bom: start the message with a BOM.
        digits: of the fraction of a second, 0 to 6.
    """
    elements = "".join(
        f"[{name}{''.join(_parameter(key, value) for key, value in parameters)}]"
        for name, parameters in entry.structured_data
    )
    fields = (
        f"<{entry.priority}>1",
        iso_time(entry, digits=digits),
        entry.host or "-",
        entry.application or "-",
        "-" if entry.process_id is None else str(entry.process_id),
        entry.message_id or "-",
        elements or "-",
    )
    bom = MESSAGE_BOM if message_bom else ""
    return " ".join(fields) + (f" {bom}{entry.message}" if entry.message or message_bom else "")


def rsyslog_iso(entry: Entry, *, digits: int = 6) -> str:
    """RSYSLOG_FileFormat of rsyslog: `TIME host tag[pid]: message`, ISO 8601 with offset."""
    return f"{iso_time(entry, digits=digits)} {entry.host} {_tag(entry)}: {entry.message}"


def iso_time(entry: Entry, *, digits: int = 6) -> str:
    """RFC 3339 time with `digits` of fraction and the entry's own spelling of its zone."""
    time = entry.local_time
    fraction = f".{time.microsecond:06}"[: digits + 1] if digits else ""
    return f"{time:%Y-%m-%dT%H:%M:%S}{fraction}{entry.zone}"


def year_rollover(year: int, *, host: str = "gw01") -> list[Entry]:
    """Entries an hour apart from 30 December of `year` to 2 January: the year is in no line."""
    start = datetime(year, 12, 30, 12, 0, 0, tzinfo=UTC)
    return [
        Entry(
            time=start + timedelta(hours=hour),
            host=host,
            application="CRON",
            process_id=1000 + hour,
            facility=9,
            message="(root) CMD (run-parts /etc/cron.hourly)",
        )
        for hour in range(72)
    ]


def _tag(entry: Entry) -> str:
    bracket = "" if entry.process_id is None else f"[{entry.process_id}]"
    return f"{entry.application}{bracket}"


def _parameter(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    return f' {name}="{escaped}"'


def _offset(zone: str) -> timezone:
    if zone in {"Z", "z"}:
        return UTC
    hours, minutes = zone[1:].split(":")
    size = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-size if zone[0] == "-" else size)
