"""Event records as the `evtx` package (Rust) reads them: header number, header time, event id."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import evtx

from casparian.sdk import Context, RowBuilder

_DAYS_TO_1601 = 134_774
_PROBLEMS_MAX = 100_000


def parse(ctx: Context) -> Iterator[Any]:
    """Rows of `events`, and of `problems` for what the reader says it cannot read; it goes on after each."""
    events, problems = RowBuilder("events"), RowBuilder("problems")
    records: Any = evtx.PyEvtxParser(io.BufferedReader(ctx.source), 1).records_json()
    failed = 0
    while failed < _PROBLEMS_MAX:
        try:
            record = next(records)
        except StopIteration:
            break
        except RuntimeError as error:
            failed += 1
            yield from problems.append(0, 0, 0, message=str(error))
            continue
        yield from events.append(
            0,
            0,
            0,
            record_id=record["event_record_id"],
            written=_filetime(record["timestamp"]),
            event_id=_event_id(record["data"]),
            recovered=False,
        )
    yield from events.flush()
    yield from problems.flush()


def _filetime(text: str) -> int | None:
    """`2015-08-08T02:06:17.0781250Z UTC` in units of 100 ns since 1601."""
    day, _, clock = text.removesuffix(" UTC").removesuffix("Z").replace("T", " ").partition(" ")
    try:
        year, month, date = map(int, day.split("-"))
        hours, minutes, rest = clock.split(":")
        seconds, _, fraction = rest.partition(".")
        days = _days(year, month, date) + _DAYS_TO_1601
        whole = ((days * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
        return whole * 10_000_000 + int(fraction.ljust(7, "0")[:7])
    except ValueError:
        return None


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970; years beyond 9999 occur in damaged records."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _event_id(document: str) -> int | None:
    try:
        found = json.loads(document)["Event"]["System"]["EventID"]
        return int(found["#text"] if isinstance(found, dict) else found)
    except (ValueError, KeyError, TypeError):
        return None
