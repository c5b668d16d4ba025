"""Turn what was typed and configured into requests.

Text is checked here, before a sentinel is started for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from casparian import clock, config, ids
from casparian.config import ConfigValue, Settings
from casparian.display import show_bytes
from casparian.domain.isolation import IsolationLevel
from casparian.domain.outputs import Sink, SinkMode
from casparian.errors import UsageError
from casparian.protocol import control
from casparian.sinks.uri import parse_sink, parse_table_sink

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\Z")
_LIMIT: Final = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,9})?)(?P<percent>%?)\Z", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SETTING: Final = re.compile(r"(?P<parser>[^=]+)\.(?P<key>[^.=]+)=(?P<value>.*)\Z", re.DOTALL)


def evidence_path(directory: str | bytes) -> bytes:
    """Absolute, byte-exact path of an evidence root.

    Raises:
        UsageError: nothing is there.
    """
    path = os.path.abspath(os.fsencode(directory))
    if not os.path.lexists(path):
        raise UsageError(
            f"there is no `{show_bytes(path)}`",
            code="evidence.missing",
            hint="name a directory of evidence, or a single file",
        )
    return path


def selection(
    *,
    tags: Sequence[str] = (),
    parsers: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    since: str | None = None,
) -> control.Selection:
    """Which files; a parser that is written as a path is made absolute."""
    return control.Selection(
        tags=tuple(tags),
        parsers=tuple(_parser_name(parser) for parser in parsers),
        include=tuple(include),
        exclude=tuple(exclude),
        since_ns=None if since is None else since_ns(since),
    )


def run_request(
    settings: Settings,
    *,
    evidence: str | bytes,
    sinks: Sequence[str] = (),
    mode: str | None = None,
    chosen: control.Selection | None = None,
    parser_settings: Sequence[str] = (),
    retry_failed: bool = False,
    accept_engine: bool = False,
    dry_run: bool = False,
    max_quarantine: str | None = None,
    min_isolation: str | None = None,
    batch_files: int | None = None,
    carve: bool = False,
) -> control.Run:
    """The request of `casparian run`: flags over configured settings.

    Raises:
        UsageError: a sink, setting or limit that cannot be read; no such evidence.
    """
    rows_max, percent_max = settings.quarantine_rows_max, settings.quarantine_percent_max
    if max_quarantine is not None:
        rows_max, percent_max = quarantine_limit(max_quarantine)
    return control.Run(
        request_id=ids.new_request_id(),
        evidence=evidence_path(evidence),
        sinks=sink_map(sinks, settings.default_sink),
        mode=SinkMode(mode or settings.mode),
        selection=chosen if chosen is not None else control.Selection(),
        parser_config=merged_settings(settings.parsers, parser_settings),
        retry_failed=retry_failed,
        accept_engine=accept_engine,
        dry_run=dry_run,
        quarantine_rows_max=rows_max,
        quarantine_percent_max=percent_max,
        min_isolation=IsolationLevel(min_isolation or settings.min_isolation),
        batch_files=batch_files,
        carve=carve,
    )


def sink_map(typed: Iterable[str], default: str | None) -> dict[str, Sink]:
    """Sinks by table; the key `""` is the default one. Empty means the home's own outputs."""
    base = os.getcwd()
    sinks: dict[str, Sink] = {}
    for text in typed:
        table, sink = parse_table_sink(text, base=base)
        key = table or ""
        if key in sinks:
            which = f"of `{key}`" if key else "for all tables"
            raise UsageError(
                f"the sink {which} is given twice", code="usage.sink", hint="--sink [TABLE=]URI"
            )
        sinks[key] = sink
    if "" not in sinks and default is not None:
        sinks[""] = parse_sink(default, base=base)
    return sinks


def merged_settings(
    configured: dict[str, dict[str, ConfigValue]], typed: Iterable[str]
) -> dict[str, dict[str, ConfigValue]]:
    """Settings of parsers: configured ones, and over them those typed as `PARSER.KEY=VALUE`."""
    merged = {parser: dict(options) for parser, options in configured.items()}
    for text in typed:
        match = _SETTING.match(text)
        if match is None:
            raise UsageError(
                f"`{text}` is not PARSER.KEY=VALUE",
                code="usage.setting",
                hint="for example `--set linux.syslog.timezone=Europe/Oslo`",
            )
        merged.setdefault(match["parser"], {})[match["key"]] = config.scalar(match["value"])
    return merged


def since_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO time (UTC unless it says so), or of an age such as `36h`."""
    if match := _DURATION.match(text.strip()):
        return clock.now_ns() - int(float(match[1]) * _SECONDS[match[2]] * 1e9)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"`{text}` is neither a time nor a duration",
            code="usage.since",
            hint="for example 2024-03-01, 2024-03-01T12:00:00Z, 36h or 7d",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


def quarantine_limit(text: str) -> tuple[int | None, float | None]:
    """Rows or percent of `N` or `P%`."""
    match = _LIMIT.match(text.strip())
    if match is not None and match["percent"] and float(match["number"]) <= 100:
        return None, float(match["number"])
    if match is not None and not match["percent"] and match["number"].isdigit():
        return int(match["number"]), None
    raise UsageError(
        f"`{text}` is not a limit",
        code="usage.limit",
        hint="a number of rows such as 100, or a share such as 0.5%",
    )


def _parser_name(text: str) -> str:
    return os.path.abspath(text) if os.sep in text or text in (".", "..") else text
