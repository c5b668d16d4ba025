"""What a row of a wide table must be, worked out from the row of `evtx_events` in another way than the product does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from casparian import _native

TABLES = {
    (provider, event_id): (table, columns)
    for table, provider, event_id, _, columns in _native.evtx_wide_tables()
}
"""Table and columns of the payload, by event."""

COMMON = [name for name, _, _ in _native.evtx_wide_common()[0]]
_MISFIT = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def typed(kind: str, text: str) -> Any:
    """The value that a text is in a column of this type; `_MISFIT` when it is none."""
    if kind == "utf8":
        return text
    if match := re.fullmatch(r"(u?)int(\d+)", kind):
        if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", text):
            value = int(text, 16)
        elif re.fullmatch(r"0|-?[1-9][0-9]*", text):
            value = int(text)
        else:
            return _MISFIT
        bits = int(match[2])
        low, high = (0, 2**bits - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return value if low <= value <= high else _MISFIT
    if kind == "bool":
        return {"true": True, "false": False}.get(text, _MISFIT)
    if kind == "binary":
        return bytes.fromhex(text) if re.fullmatch(r"([0-9A-F]{2})*", text) else _MISFIT
    if kind == "timestamp[ns, UTC]":
        match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z?", text)
        if match is None:
            return _MISFIT
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) - _EPOCH
        value = (whole.days * 86_400 + whole.seconds) * 10**9 + int((match[2] or "0").ljust(9, "0"))
        return value if -(2**63) <= value < 2**63 else _MISFIT
    raise AssertionError(kind)


def expected(event: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Table and row of an event; `None` when no table is its. Times are nanoseconds since 1970."""
    found = TABLES.get((event["provider_name"], event["event_id"]))
    if found is None:
        return None
    table, columns = found
    places = {(source, occurrence): (name, kind) for name, kind, source, occurrence in columns}
    row = {name: event[name] for name in COMMON}
    row |= {name: None for name, *_ in columns}
    others: list[tuple[str | None, str | None, int]] = []
    counts: Counter[str | None] = Counter()
    misfits = 0
    for name, text, code in zip(
        event["data_names"], event["data_values"], event["data_types"], strict=True
    ):
        counts[name] += 1
        column = places.get((name, counts[name]))
        if column is None or code & 0x80:
            misfits += column is not None
            others.append((name, text, code))
        elif text is not None:
            value = typed(column[1], text)
            if value is _MISFIT:
                misfits += 1
                others.append((name, text, code))
            else:
                row[column[0]] = value
    row["misfits"] = misfits
    row["others"] = sorted(others, key=repr)
    return table, row


def comparable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a wide table in the shape of `expected`: its lists as one, in an order of their own."""
    bare = {name: value for name, value in row.items() if not name.startswith(("@", "_cf_"))}
    lists = (bare.pop(name) for name in ("other_names", "other_values", "other_types"))
    return bare | {"others": sorted(zip(*lists, strict=True), key=repr)}
