"""What we committed of a source, in the shape in which readers are compared."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import pyarrow as pa

from casparian.appliance.second_opinion.compare import Item, Ours
from casparian.appliance.second_opinion.known import Reader
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.query.engine import Query

EVENTS, KEYS, VALUES = "events", "keys", "values"
_RECORD: Final = b"\x2a\x2a\0\0"
_HEADER: Final = struct.Struct("<4xIQ")  # of an event record: magic, size, number
_UNIX_EPOCH: Final = 116_444_736_000_000_000  # 1970 in units of 100 ns since 1601
_EXTRA: Final = "list_has_any(_cf_flags, ['slack', 'carved'])"
# libyal reads compressed names with Windows' own code page, we with Latin-1, of which it is a variant.
_TO_LATIN: Final = {
    ord(bytes([code]).decode("cp1252")): code
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}

BySource = dict[str, dict[str, Ours]]


def of(query: Query, reader: Reader, source_ids: Collection[str]) -> BySource:
    """Our rows of these sources, by source and kind.

    Raises:
        CasparianError: a committed file is gone, or the table cannot be read.
    """
    return _READ[reader.table](query, list(source_ids))


def filetime(ns: int | None) -> int | None:
    """Nanoseconds since 1970 in units of 100 ns since 1601."""
    return None if ns is None else ns // 100 + _UNIX_EPOCH


def folded(name: str | None) -> str | None:
    """A name as every reader can give it: one code page, and cut at a NUL, which ends a name for libregf."""
    return None if name is None else name.translate(_TO_LATIN).partition("\0")[0] or None


def folded_path(path: str | None) -> str:
    """The same of a key's path, name by name; the root is the empty path."""
    parts = (folded(part) or "" for part in (path or "").split("\\"))
    return "" if path == "\\" else "\\".join(parts)


def _events(query: Query, source_ids: list[str]) -> BySource:
    pools = _Pools()
    rows = _rows(
        query,
        f"SELECT _cf_source_id, {_EXTRA}, header_record_id, epoch_ns(time_written), event_id FROM evtx_events "
        "WHERE list_contains($sources, _cf_source_id)",
        source_ids,
    )
    for source, extra, record_id, written, event_id in rows:
        pools.add(source, EVENTS, Item((record_id,), (filetime(written), event_id)), extra=extra)
    if QUARANTINE_TABLE in query.tables:
        for source, raw in _rows(
            query,
            f"SELECT _cf_source_id, raw FROM {QUARANTINE_TABLE} WHERE list_contains($sources, _cf_source_id)",
            source_ids,
        ):
            pools.aside[source, EVENTS] += [(number,) for number in _record_numbers(raw or b"")]
    return pools.by_source(source_ids, (EVENTS,))


def _record_numbers(raw: bytes) -> Iterator[int]:
    """Numbers of the records whose headers can be seen in quarantined bytes."""
    at = raw.find(_RECORD)
    while 0 <= at <= len(raw) - _HEADER.size:
        yield _HEADER.unpack_from(raw, at)[1]
        at = raw.find(_RECORD, at + 1)


def _hives(query: Query, source_ids: list[str]) -> BySource:
    pools = _Pools()
    where = "WHERE list_contains($sources, _cf_source_id)"
    for source, state, path, written in _rows(
        query,
        f"SELECT _cf_source_id, state, key_path, epoch_ns(last_write) FROM registry_keys {where}",
        source_ids,
    ):
        item = Item((folded_path(path),), (filetime(written),))
        pools.add(source, KEYS, item, extra=state != "live")
    for source, state, path, name, kind, size in _rows(
        query,
        f"SELECT _cf_source_id, state, key_path, value_name, type, data_size FROM registry_values {where}",
        source_ids,
    ):
        item = Item((folded_path(path), folded(name)), (kind, size))
        pools.add(source, VALUES, item, extra=state != "live")
    if "registry_changes" in query.tables:
        for source, path, name in _rows(
            query,
            f"SELECT _cf_source_id, key_path, value_name FROM registry_changes {where}",
            source_ids,
        ):
            pools.by_logs[source, KEYS].add((folded_path(path),))
            pools.by_logs[source, VALUES].add((folded_path(path), folded(name)))
    return pools.by_source(source_ids, (KEYS, VALUES))


_READ: Final[dict[str, Callable[[Query, list[str]], BySource]]] = {
    "evtx_events": _events,
    "registry_keys": _hives,
}


class _Pools:
    """Items by source and kind, as they come."""

    def __init__(self) -> None:
        self._live: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        self._extra: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        self.aside: defaultdict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
        self.by_logs: defaultdict[tuple[str, str], set[tuple[Any, ...]]] = defaultdict(set)

    def add(self, source: str, kind: str, item: Item, *, extra: bool) -> None:
        (self._extra if extra else self._live)[source, kind].append(item)

    def by_source(self, source_ids: list[str], kinds: tuple[str, ...]) -> BySource:
        return {
            source: {
                kind: Ours(
                    live=tuple(self._live[source, kind]),
                    extra=tuple(self._extra[source, kind]),
                    aside=tuple(self.aside[source, kind]),
                    by_logs=frozenset(self.by_logs[source, kind]),
                )
                for kind in kinds
            }
            for source in source_ids
        }


def _rows(query: Query, sql: str, source_ids: list[str]) -> Iterator[tuple[Any, ...]]:
    table: pa.Table = query.arrow(sql, {"sources": source_ids})
    for batch in table.to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
