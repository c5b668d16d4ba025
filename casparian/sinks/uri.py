"""Read sink URIs: `parquet:DIR`, `duckdb:FILE`, `csv:DIR`, with `?key=value&…` settings.

Rules:
  * A location is made absolute and its links are resolved: two spellings of one place are one
    dataset.
  * Settings are filled with their defaults: saying the default and saying nothing give the same
    key.
  * Only what changes the written bytes is a setting; memory and threads are not, they would force
    needless work.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Final

from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import UsageError

Setting = str | int | bool

_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HINT: Final = "a sink is `parquet:DIR`, `duckdb:FILE` or `csv:DIR`"

LEVELS_MAX: Final = 22  # of zstd
DELIMITERS: Final[dict[str, str]] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
NEWLINES: Final[dict[str, str]] = {"crlf": "\r\n", "lf": "\n"}


def _choice(*allowed: str) -> Callable[[str, str], Setting]:
    def check(key: str, text: str) -> Setting:
        if text not in allowed:
            raise UsageError(
                f"sink setting `{key}` cannot be `{text}`: it is one of {', '.join(allowed)}"
                + _closest(text, allowed),
                code="usage.sink_setting",
                setting=key,
            )
        return text

    return check


def _whole_number(low: int, high: int, step: int = 1) -> Callable[[str, str], Setting]:
    def check(key: str, text: str) -> Setting:
        value = int(text) if re.fullmatch(r"\d{1,12}", text, re.ASCII) else -1
        if not low <= value <= high or value % step:
            of = f", a multiple of {step}" if step > 1 else ""
            raise UsageError(
                f"sink setting `{key}` cannot be `{text}`: it is a whole number from {low} to {high}{of}",
                code="usage.sink_setting",
                setting=key,
            )
        return value

    return check


# kind -> setting -> (default, reader of its text)
_SETTINGS: Final[dict[SinkKind, dict[str, tuple[Setting, Callable[[str, str], Setting]]]]] = {
    SinkKind.PARQUET: {
        "compression": ("zstd", _choice("zstd", "snappy", "none")),
        "level": (1, _whole_number(1, LEVELS_MAX)),
        "row_group_rows": (131_072, _whole_number(1_024, 16_777_216)),
    },
    SinkKind.DUCKDB: {
        "row_group_rows": (122_880, _whole_number(2_048, 1_048_576, 2_048)),
    },
    SinkKind.CSV: {
        "delimiter": ("comma", _choice(*DELIMITERS)),
        "newline": ("crlf", _choice(*NEWLINES)),
    },
}


def parse_sink(text: str, *, base: str) -> Sink:
    """Read one sink URI.

    Args:
        text: `kind:location[?key=value&…]`; a location that holds a `?` is written with `%3F`, a
            `%` with `%25`.
        base: absolute directory that a relative location is taken from.

    Raises:
        UsageError: unknown kind or setting (the closest one is named), an empty or unusable
            location.
    """
    kind_text, colon, rest = text.partition(":")
    if not colon:
        raise UsageError(f"`{text}` is not a sink URI", code="usage.sink", hint=_HINT)
    try:
        kind = SinkKind(kind_text.lower())
    except ValueError:
        raise UsageError(
            f"unknown sink kind `{kind_text}`" + _closest(kind_text, [k.value for k in SinkKind]),
            code="usage.sink_kind",
            hint=_HINT,
        ) from None
    location, _, query = rest.partition("?")
    return Sink(
        kind=kind,
        location=_location(kind, location.replace("%3F", "?").replace("%25", "%"), base),
        settings=_settings(kind, query),
    )


def parse_table_sink(text: str, *, base: str) -> tuple[str | None, Sink]:
    """Read `[TABLE=]URI`: the table (`None`: for all outputs) and its sink."""
    kind_end = text.find(":")
    name, equals, rest = text.partition("=")
    if equals and (kind_end < 0 or len(name) < kind_end):
        if not _TABLE.match(name):
            raise UsageError(
                f"`{name}` is not a table name", code="usage.table", hint="--sink TABLE=URI"
            )
        return name, parse_sink(rest, base=base)
    return None, parse_sink(text, base=base)


def default_settings(kind: SinkKind) -> dict[str, Setting]:
    """Effective settings of a sink that names none."""
    return _settings(kind, "")


def check_sink(sink: Sink) -> None:
    """Check that a sink that another process named is one that `parse_sink` gives.

    Raises:
        UsageError: its location is relative, not canonical or unusable, or its settings are not all there and good.
    """
    if not os.path.isabs(sink.location):
        raise UsageError(
            f"`{sink.location}` is not an absolute path", code="usage.sink", hint=_HINT
        )
    if parse_sink(sink_text(sink), base="/") != sink:
        raise UsageError(
            f"`{sink.uri}` is not the canonical form of a sink, with all its settings",
            code="usage.sink",
            hint=_HINT,
        )


def sink_text(sink: Sink) -> str:
    """The URI with the settings that differ from their defaults: what a user would type."""
    defaults = default_settings(sink.kind)
    changed = [f"{k}={v}" for k, v in sorted(sink.settings.items()) if defaults.get(k) != v]
    place = sink.location.replace("%", "%25").replace("?", "%3F")
    return f"{sink.kind.value}:{place}" + (f"?{'&'.join(changed)}" if changed else "")


def _location(kind: SinkKind, location: str, base: str) -> str:
    if not location or "\0" in location:
        raise UsageError(f"a {kind.value} sink needs a location", code="usage.sink", hint=_HINT)
    try:
        location.encode()
    except UnicodeEncodeError:
        raise UsageError(
            "a sink's location must be valid UTF-8",
            code="usage.sink",
            hint="choose another directory name",
        ) from None
    absolute = os.path.realpath(os.path.join(base, os.path.expanduser(location)))
    if kind is SinkKind.DUCKDB and ("?" in absolute or "\\" in absolute):
        raise UsageError(
            f"DuckDB cannot keep a database at `{absolute}`: it takes `?` and `\\` for something else",
            code="usage.sink",
            hint="choose another path for the duckdb file",
        )
    if kind is SinkKind.DUCKDB and (location.endswith("/") or os.path.isdir(absolute)):
        raise UsageError(
            f"`{absolute}` is a directory; a duckdb sink is a file",
            code="usage.sink",
            hint=f"--sink duckdb:{os.path.join(location, 'outputs.duckdb')}",
        )
    if kind is not SinkKind.DUCKDB and os.path.lexists(absolute) and not os.path.isdir(absolute):
        raise UsageError(
            f"`{absolute}` is a file; a {kind.value} sink is a directory", code="usage.sink"
        )
    return absolute


def _settings(kind: SinkKind, query: str) -> dict[str, Setting]:
    known = _SETTINGS[kind]
    given: dict[str, Setting] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if key not in known:
            raise UsageError(
                f"a {kind.value} sink has no setting `{key}`" + _closest(key, known),
                code="usage.sink_setting",
                hint=f"settings of {kind.value}: {', '.join(known)}",
                setting=key,
            )
        if key in given:
            raise UsageError(
                f"sink setting `{key}` is given twice", code="usage.sink_setting", setting=key
            )
        if not equals:
            raise UsageError(
                f"sink setting `{key}` has no value", code="usage.sink_setting", hint=f"{key}=VALUE"
            )
        given[key] = known[key][1](key, value)
    effective = {key: given.get(key, default) for key, (default, _) in known.items()}
    if kind is SinkKind.PARQUET and effective["compression"] != "zstd":
        if "level" in given:
            raise UsageError(
                f"`level` belongs to zstd, not to {effective['compression']}",
                code="usage.sink_setting",
                setting="level",
            )
        del effective["level"]  # without meaning here, so it must not make a different key
    return effective


def _closest(text: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(text.lower(), list(known), n=1)
    return f"; did you mean `{matches[0]}`?" if matches else ""
