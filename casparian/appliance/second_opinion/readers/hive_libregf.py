"""Keys and values as libregf reads them: what can be reached from the root, without transaction logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyregf

from casparian.sdk import Context, RowBuilder

_DEPTH_MAX = 1024
_TEXTS = (1, 2, 6)  # REG_SZ, REG_EXPAND_SZ, REG_LINK
_FAULTS = (OSError, ValueError, OverflowError, MemoryError)


def parse(ctx: Context) -> Iterator[Any]:
    """Rows of `keys`, `values`, and of `problems` for what the reader cannot give; it goes on after each.

    The root's own name is left out of the paths. A key that was visited before (by its place) is not visited again.
    """
    file = pyregf.file()
    file.open_file_object(ctx.source)
    keys, values, problems = RowBuilder("keys"), RowBuilder("values"), RowBuilder("problems")
    root = file.get_root_key()
    stack = [] if root is None else [(root, "", 0)]
    visited = set()
    while stack:
        key, path, depth = stack.pop()
        try:
            place = key.offset
            if place in visited:
                continue
            visited.add(place)
            written = key.get_last_written_time_as_integer()
            children, count = key.number_of_sub_keys, key.number_of_values
        except _FAULTS as error:
            yield from problems.append(0, 0, 0, message=f"{_clean(path)}: {error}")
            continue
        yield from keys.append(0, 0, 0, path=_clean(path), written=written)
        for number in range(count):
            try:
                value = key.get_value(number)
                kind = value.type
                fields = {
                    "name": _text(value.name),
                    "type": kind,
                    # Of text it counts the bytes up to the first NUL only.
                    "size": None if kind in _TEXTS else value.data_size,
                }
            except _FAULTS as error:
                yield from problems.append(
                    0, 0, 0, message=f"{_clean(path)} value {number}: {error}"
                )
                continue
            yield from values.append(0, 0, 0, path=_clean(path), **fields)
        if depth == _DEPTH_MAX:
            yield from problems.append(0, 0, 0, message=f"{_clean(path)}: not followed deeper")
            continue
        for number in reversed(range(children)):
            try:
                child = key.get_sub_key(number)
                stack.append((child, f"{path}\\{child.name or ''}", depth + 1))
            except _FAULTS as error:
                yield from problems.append(0, 0, 0, message=f"{_clean(path)} key {number}: {error}")
    yield from keys.flush()
    yield from values.flush()
    yield from problems.flush()


def _text(name: str | None) -> str | None:
    return None if not name else _clean(name)


def _clean(text: str) -> str:
    """Text that UTF-8 can hold: an unpaired surrogate becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
