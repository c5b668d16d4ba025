"""Syslog text to `syslog_events`: one row a line, or one quarantined line; blank lines are neither.

The spans of rows, quarantined and blank lines tile the file exactly: `lines` cuts, `grammar` reads
a line, `times` settles what a line leaves open. Memory is bounded: a block of lines and a batch of
rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from casparian.sdk import LOSSY_TEXT, TZ_DECLARED, YEAR_INFERRED, Context

from . import grammar, lines, times

OUTPUT: Final = "syslog_events"
_ROWS_MAX: Final = 8_192
_TEXT_MAX: Final = 4 << 20  # characters of one batch, about
_SECONDS_KEPT: Final = 4_096

_SCHEMA: Final = pa.schema(
    [
        pa.field("@offset", pa.uint64(), nullable=False),
        pa.field("@length", pa.uint64(), nullable=False),
        pa.field("@flags", pa.uint32(), nullable=False),
        pa.field("time", pa.timestamp("ns", tz="UTC")),
        pa.field("time_text", pa.utf8()),
        pa.field("time_zone", pa.utf8()),
        pa.field("priority", pa.uint8()),
        pa.field("facility", pa.uint8()),
        pa.field("facility_name", pa.utf8()),
        pa.field("severity", pa.uint8()),
        pa.field("severity_name", pa.utf8()),
        pa.field("hostname", pa.utf8()),
        pa.field("app_name", pa.utf8()),
        pa.field("proc_id", pa.utf8()),
        pa.field("msg_id", pa.utf8()),
        pa.field("structured_data", pa.utf8()),
        pa.field("message", pa.utf8()),
        pa.field("format", pa.utf8()),
        pa.field("encoding", pa.utf8()),
    ]
)

# Priority text -> (priority, facility, its name, severity).
_PRIORITIES: Final = {
    str(value): (value, value >> 3, grammar.FACILITIES[value >> 3], value & 7)
    for value in range(grammar.PRIORITY_MAX + 1)
}
_NO_PRIORITY: Final = (None, None, None, None)


def parse(ctx: Context) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Entry: batches of rows; bad lines go to quarantine with their span."""
    size = ctx.source.size
    encoding = lines.detect(ctx.source.pread(lines.SAMPLE_BYTES, 0))
    reader = LineParser(
        zone=times.Zone(str(ctx.config.get("timezone", "UTC"))),
        first_year=first_year(ctx, size, encoding),
        codec=encoding.codec,
    )
    rows: list[tuple[Any, ...]] = []
    characters = 0
    for part in lines.read_lines(ctx.source.pread, size, encoding):
        if isinstance(part, lines.LongLine):
            if not part.blank:
                ctx.quarantine(
                    part.offset,
                    part.length,
                    "text.too_long",
                    f"a line of {part.length} bytes, more than {lines.LINE_BYTES_MAX}",
                )
            continue
        offset = part.offset
        lossy = part.lossy
        for index, (text, length) in enumerate(zip(part.texts, part.lengths, strict=True)):
            flags = LOSSY_TEXT if lossy and index in lossy else 0
            try:
                rows.append(reader.row(text, offset, length, flags))
                characters += length
            except grammar.BadLine as error:
                if not lines.is_blank(text):
                    ctx.quarantine(
                        offset, length, error.reason, error.message, field=error.field, flags=flags
                    )
            offset += length
            if len(rows) >= _ROWS_MAX or characters >= _TEXT_MAX:
                yield OUTPUT, batch_of(rows)
                rows, characters = [], 0
    if rows:
        yield OUTPUT, batch_of(rows)


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows as one record batch, column by column."""
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


class LineParser:
    """Reads line after line; remembers only what a later line depends on: the year.

    Args:
        zone: of times that name none.
        first_year: of the first line that names none; `None` when it cannot be known.
        codec: for the column `encoding`.
    """

    def __init__(self, *, zone: times.Zone, first_year: int | None, codec: str) -> None:
        self._zone = zone
        self._codec = codec
        self._years = times.YearTracker(first_year)
        self._seconds: dict[tuple[int, str | None], int] = {}

    def row(self, text: str, offset: int, length: int, flags: int) -> tuple[Any, ...]:
        """One line as a row in the order of the schema.

        Raises:
            BadLine: it is none; blank lines are none either.
        """
        if length > lines.LINE_BYTES_MAX:
            raise grammar.BadLine(
                "text.too_long", f"a line of {length} bytes, more than {lines.LINE_BYTES_MAX}"
            )
        begun = grammar.stamp(text)
        if begun is None:
            if flags & LOSSY_TEXT:
                raise grammar.BadLine(
                    "text.undecodable", f"bytes that are not {self._codec}, and no syslog header"
                )
            raise grammar.BadLine(
                "syslog.no_header", "the line does not begin with a syslog header"
            )
        if begun.priority is None:
            number, facility, facility_name, severity = _NO_PRIORITY
        else:
            # A leading zero is not in the table, and is allowed.
            number, facility, facility_name, severity = (
                _PRIORITIES.get(begun.priority)
                or _PRIORITIES[str(grammar.priority(begun.priority))]
            )
        found = grammar.fields(text, begun)
        time, zone, more = self._time(begun)
        if severity is None:
            severity = found.severity
        return (
            offset,
            length,
            flags | more,
            time,
            begun.text,
            zone,
            number,
            facility,
            facility_name,
            severity,
            None if severity is None else grammar.SEVERITIES[severity],
            found.hostname,
            found.app_name,
            found.proc_id,
            found.msg_id,
            found.structured_data,
            found.message,
            found.format,
            self._codec,
        )

    def _time(self, begun: grammar.Stamp) -> tuple[int | None, str | None, int]:
        """Nanoseconds since 1970, the zone that was used, and flags."""
        when = begun.when
        if when is None:
            return None, None, 0
        year, month, day, hour, minute, second, nanosecond = when
        zone = begun.zone
        try:
            flags = 0
            if year is None:
                times.check_without_year(month, day, hour, minute, second)
                self._years.see(month)
                year = self._years.year
                if year is None:
                    return None, None, 0
                flags = YEAR_INFERRED
            else:
                seconds = times.civil_seconds(year, month, day, hour, minute, second)
                offset = 0 if zone is None else times.offset_seconds(zone)
                self._years.pin(year, month)
                if zone is not None:
                    return (seconds - offset) * 1_000_000_000 + nanosecond, zone, 0
            key = (year, begun.text)
            known = self._seconds.get(key)
            if known is None:
                known = self._zone.seconds(year, month, day, hour, minute, second)
                if len(self._seconds) >= _SECONDS_KEPT:
                    self._seconds.clear()
                self._seconds[key] = known
        except times.BadTime as error:
            raise grammar.BadLine("syslog.bad_time", str(error), "time") from None
        return known * 1_000_000_000 + nanosecond, self._zone.name, flags | TZ_DECLARED


def first_year(ctx: Context, size: int, encoding: lines.Encoding) -> int | None:
    """Year of the first line that names none, by the rules of `times`; `None` if unknown."""
    declared = int(ctx.config.get("year", 0))
    if declared:
        return declared
    years = times.YearTracker()
    last: tuple[int, int] | None = None
    for part in lines.read_lines(ctx.source.pread, size, encoding):
        if isinstance(part, lines.LongLine):
            continue
        for text, length in zip(part.texts, part.lengths, strict=True):
            begun = grammar.stamp(text)
            when = None if begun is None else begun.when
            if when is None or length > lines.LINE_BYTES_MAX:
                continue
            try:
                if when.year is not None:
                    times.civil_seconds(when.year, *when[1:6])
                    years.pin(when.year, when.month)
                    return years.first
                times.check_without_year(*when[1:6])
            except times.BadTime:
                continue
            years.see(when.month)
            last = (when.month, when.day)
    limit = times.date_in_path(ctx.display_path)
    if last is None or limit is None:
        return None
    return times.year_before(limit, *last) - years.shift
