"""Which sources of a job go through the guests together: small neighbours, for a decoder that takes them so.

Taking sources together is only a way to be quick. When anything about one of them is not as it should be, nothing was done, and
each is taken alone: what becomes of a source never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

from casparian.domain.parsers import ParserKind
from casparian.protocol.guest import (
    GROUP_BYTES_MAX,
    GROUP_ENTRIES,
    GROUP_SOURCE_BYTES_MAX,
    GROUP_SOURCES_MAX,
)
from casparian.protocol.worker import Dispatch, SourceTask


def groups(dispatch: Dispatch) -> Iterator[tuple[SourceTask, ...]]:
    """The sources of a job in order, those that go together in one tuple."""
    parser = dispatch.parser
    together = (
        parser.kind is ParserKind.NATIVE
        and parser.entry in GROUP_ENTRIES
        and not parser.config.get("carve")
        and dispatch.sparse is None  # whose rows are counted source by source
    )
    waiting: list[SourceTask] = []
    size_bytes = 0
    for task in dispatch.sources:
        is_small = together and not task.companions and task.size_bytes <= GROUP_SOURCE_BYTES_MAX
        fits = size_bytes + task.size_bytes <= GROUP_BYTES_MAX and len(waiting) < GROUP_SOURCES_MAX
        if waiting and not (is_small and fits):
            yield tuple(waiting)
            waiting, size_bytes = [], 0
        if is_small:
            waiting.append(task)
            size_bytes += task.size_bytes
        else:
            yield (task,)
    if waiting:
        yield tuple(waiting)
