"""Event records as libevtx reads them: those in their place, and those it recovers from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyevtx

from casparian.sdk import Context, RowBuilder


def parse(ctx: Context) -> Iterator[Any]:
    """Rows of `events`, and of `problems` for records that the reader counts and cannot give."""
    file = pyevtx.file()
    file.open_file_object(ctx.source)
    events, problems = RowBuilder("events"), RowBuilder("problems")
    for recovered, count, get in (
        (False, file.number_of_records, file.get_record),
        (True, file.number_of_recovered_records, file.get_recovered_record),
    ):
        for number in range(count):
            try:
                record = get(number)
                values = {
                    "record_id": record.identifier,
                    "written": record.get_written_time_as_integer(),
                    "event_id": _or_none(record.get_event_identifier),
                    "recovered": recovered,
                }
            except (OSError, ValueError, OverflowError) as error:
                what = "recovered record" if recovered else "record"
                yield from problems.append(0, 0, 0, message=f"{what} {number}: {error}")
                continue
            yield from events.append(0, 0, 0, **values)
    yield from events.flush()
    yield from problems.flush()


def _or_none(get: Callable[[], int | None]) -> int | None:
    """A value that the reader may not be able to give, although it gives the record."""
    try:
        return get()
    except OSError:
        return None
