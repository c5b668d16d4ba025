"""Shapes that more than one command prints: plan lines, job lines, bytes as hex and text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from casparian import clock
from casparian.display import path_text, show

_HEX_WIDTH: Final = 16
HASH_SHOWN: Final = 12
_FACTS_IN_LINE: Final = 4


def plan_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plan lines as plain values."""
    return [plain(row) for row in rows]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON: bytes as text, and also as `<name>_hex` where they are not UTF-8."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list | tuple):
            out[name] = [plain(item) if isinstance(item, Mapping) else item for item in value]
            continue
        if not isinstance(value, bytes):
            out[name] = value
            continue
        out[name] = path_text(value)
        if not _is_utf8(value):
            out[f"{name}_hex"] = value.hex()
    return out


def short(text: str | None) -> str:
    """The first twelve digits of a hash."""
    return (text or "")[:HASH_SHOWN]


def time_text(ns: Any) -> str:
    """ISO time of nanoseconds since 1970; empty for none."""
    return clock.iso(ns) if isinstance(ns, int) and ns > 0 else ""


def hex_lines(raw: bytes, *, offset: int = 0, lines_max: int | None = None) -> list[str]:
    """A hex and text dump, sixteen bytes a line, at the offsets of the file.

    Args:
        raw: the bytes.
        offset: of the first byte in its file.
        lines_max: more are cut, and the cut is said.
    """
    lines: list[str] = []
    for start in range(0, len(raw), _HEX_WIDTH):
        if lines_max is not None and len(lines) >= lines_max:
            lines.append(f"… {len(raw) - start} more bytes; `--json` has all")
            break
        part = raw[start : start + _HEX_WIDTH]
        digits = " ".join(f"{byte:02x}" for byte in part)
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{offset + start:010x}  {digits:<{_HEX_WIDTH * 3}} {text}")
    return lines


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def chain_lines(chain: Any) -> list[str]:
    """A lineage chain, one link a paragraph, each of its facts on a line."""
    links = chain.items() if isinstance(chain, Mapping) else enumerate(chain)
    lines: list[str] = []
    for name, link in links:
        facts = link if isinstance(link, Mapping) else {"": link}
        title = facts.get("kind", facts.get("link", name)) if isinstance(name, int) else name
        shown = [(key, value) for key, value in facts.items() if value not in (None, "", [], {})]
        shown = [(key, value) for key, value in shown if key not in ("kind", "link")]
        for number, (key, value) in enumerate(shown):
            head = show(str(title)) if number == 0 else ""
            first, *more = [isolation_text(value)] if key == "isolation" else _fact_lines(value)
            lines.append(f"{head:<12} {key:<20} {first}".rstrip())
            lines += [f"{'':<12} {'':<20} {text}" for text in more]
    return lines


def isolation_text(record: Mapping[str, str]) -> str:
    """How a guest was confined, in one line; `--json` and `jobs logs` have the whole record."""
    parts = [
        record.get("level", "unknown"),
        *(record[k] for k in ("self_attacks", "user") if k in record),
    ]
    return show(", ".join([*parts, f"missing: {record.get('missing', 'unknown')}"]))


def _fact_lines(value: Any) -> list[str]:
    """One fact as text; a list gives one line an item."""
    if isinstance(value, list | tuple):
        return [line for item in value for line in _fact_lines(item)] or [""]
    if isinstance(value, Mapping):
        facts = [f"{key} {show(str(item))}" for key, item in value.items() if item is not None]
        return facts if len(facts) > _FACTS_IN_LINE else [", ".join(facts)]
    return [show(str(value))]
