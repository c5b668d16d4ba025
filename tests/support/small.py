"""Small files, made on the spot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from casparian.demo.evtx_writer import values
from casparian.demo.evtx_writer.log import event_log
from casparian.demo.evtx_writer.windows import System, event_data, windows_event
from casparian.demo.syslog_writer import Entry, LogFile, rsyslog_iso

START = datetime(2024, 3, 5, 8, 0, tzinfo=UTC)


def syslog_lines(*, host: str, count: int, bad: int = 0) -> bytes:
    """An rsyslog file with `count` good lines, then `bad` ones."""
    lines: list[str | bytes] = [
        rsyslog_iso(
            Entry(
                time=START + timedelta(seconds=number),
                host=host,
                application="cron",
                process_id=100 + number,
                message=f"message {number} of {host}",
            )
        )
        for number in range(count)
    ]
    lines += [f"no header here {number}" for number in range(bad)]
    return LogFile(lines=lines).to_bytes()


def small_log(*, events: int, seed: int = 0, provider: str = "Example-Provider") -> bytes:
    """A valid event log; `seed` makes its content differ from others."""
    made = [
        windows_event(
            System(
                provider=provider,
                event_id=1000 + number % 7,
                time_created=values.to_filetime(
                    START + timedelta(seconds=number), ticks=number % 10
                ),
                event_record_id=seed * 100_000 + number + 1,
                channel="Application",
                computer=f"host{seed}.example.org",
            ),
            event_data(
                ("Name", values.string(f"value {number} of {seed}")),
                ("Count", values.uint32(number)),
                (None, values.string("unnamed")),
            ),
        )
        for number in range(events)
    ]
    return event_log(made).to_bytes()
