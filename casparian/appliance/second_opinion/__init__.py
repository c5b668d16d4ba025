"""Read the sources of committed rows with other, independent readers, and say where they disagree with us.

Rules:
  * Only sources whose rows are in the view are read, and only while their bytes are the recorded ones.
  * The other readers run as parsers do: confined, with the evidence as an open descriptor. Nothing they give is stored.
  * A disagreement is reported, never decided: who is right is for the examiner, with the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from casparian.appliance import evidence
from casparian.appliance.second_opinion import known, ours, theirs
from casparian.appliance.second_opinion.compare import Ours, Theirs, compare
from casparian.appliance.second_opinion.known import Reader
from casparian.appliance.second_opinion.report import (
    Missing,
    NotCompared,
    ReaderOpinion,
    SecondOpinion,
    SourceOpinion,
)
from casparian.config import load
from casparian.domain.isolation import IsolationLevel
from casparian.errors import CasparianError, UsageError
from casparian.paths import Home
from casparian.protocol.worker import SourceTask
from casparian.query import lineage
from casparian.query.engine import Query

_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 64 * 1024 * 1024

Progress = Callable[[str, int, int], None]
"""`progress(reader, sources_done, sources_total)`."""


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source with rows of ours, and where it can be read."""

    task: SourceTask
    root: str
    path: str


def second_opinion(
    home: Home,
    *,
    readers: tuple[str, ...] = (),
    pattern: str | None = None,
    sink: str | None = None,
    progress: Progress = lambda _reader, _done, _total: None,
) -> SecondOpinion:
    """Ask other readers about every source that has rows in our tables.

    Args:
        home: whose outputs.
        readers: names; all that are installed when none is given.
        pattern: glob on the source's path; all sources when it is not given.
        sink: read our tables from this sink.
        progress: called after each batch.

    Raises:
        UsageError: `reader.unknown`, `reader.missing`: one that was named, or all of them, are not installed.
        CasparianError: `query.no_outputs`: nothing was committed yet.
    """
    wanted = known.chosen(readers)
    usable = [reader for reader in wanted if reader.installed]
    if not usable:
        raise UsageError(
            "no other reader is installed", code="reader.missing", hint=known.how_to_install()
        )
    min_isolation = IsolationLevel(load(home).settings.min_isolation)
    with Query(home, sink) as query:
        opinions = [
            _ask(home, query, reader, pattern, min_isolation, progress)
            for reader in usable
            if reader.table in query.tables
        ]
    return SecondOpinion(
        readers=tuple(opinions),
        missing=tuple(
            Missing(reader=r.name, module=r.module, distribution=r.distribution)
            for r in wanted
            if not r.installed
        ),
    )


def _ask(
    home: Home,
    query: Query,
    reader: Reader,
    pattern: str | None,
    min_isolation: IsolationLevel,
    progress: Progress,
) -> ReaderOpinion:
    found, not_compared = _sources(query, reader, pattern)
    opinions: list[SourceOpinion] = []
    done = 0
    progress(reader.name, done, len(found))
    for batch in _batches(found):
        given = [
            msgspec.structs.replace(source.task, display_path=theirs.place(index))
            for index, source in enumerate(batch)
        ]
        try:
            answers = theirs.read(home, reader, given, min_isolation)
        except CasparianError as error:
            answers = [theirs.Read(code=error.code, message=error.message)] * len(batch)
        own = ours.of(query, reader, [source.task.source_id for source in batch])
        for source, answer in zip(batch, answers, strict=True):
            if answer.code is not None:
                problem = NotCompared(path=source.path, code=answer.code, message=answer.message)
                not_compared.append(problem)
            else:
                opinions.append(_opinion(source, own[source.task.source_id], answer))
        done += len(batch)
        progress(reader.name, done, len(found))
    return ReaderOpinion(
        reader=reader.label,
        note=reader.note,
        sources=tuple(opinions),
        not_compared=tuple(not_compared),
    )


def _opinion(source: _Source, own: dict[str, Ours], answer: theirs.Read) -> SourceOpinion:
    compared = {kind: compare(mine, answer.kinds.get(kind, Theirs())) for kind, mine in own.items()}
    return SourceOpinion(
        path=source.path,
        root=source.root,
        source_hash=source.task.source_hash,
        sha256=source.task.sha256,
        kinds={kind: one.counts for kind, one in compared.items()},
        disagreements={kind: one.disagreements for kind, one in compared.items()},
        problems=answer.problems,
        first_problems=answer.first_problems,
    )


def _batches(found: Sequence[_Source]) -> list[list[_Source]]:
    batches: list[list[_Source]] = []
    size = 0
    for source in found:
        if not batches or len(batches[-1]) == _BATCH_FILES or size > _BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(source)
        size += source.task.size_bytes
    return batches


def _sources(
    query: Query, reader: Reader, pattern: str | None
) -> tuple[list[_Source], list[NotCompared]]:
    """Sources that the reader's table has rows or a materialization of, and those that cannot be found any more."""
    lines = query.fetch(
        "SELECT DISTINCT ON (source_id) source_id, source_hash, sha256, root, source_path "
        f"FROM {query.control('materializations')} WHERE table_name = ? AND NOT retired AND NOT superseded "
        "ORDER BY source_id, committed_at DESC",
        [reader.table],
    )
    found: list[_Source] = []
    lost: list[NotCompared] = []
    for line in sorted(lines, key=lambda line: (line["root"], line["source_path"])):
        path = line["source_path"]
        if pattern is not None and not fnmatchcase(path, pattern):
            continue
        task = _task(query, line)
        if task is None:
            lost.append(
                NotCompared(
                    path=path, code="evidence.missing", message="the evidence is not where it was"
                )
            )
        else:
            found.append(_Source(task=task, root=line["root"], path=path))
    return found, lost


def _task(query: Query, line: dict[str, Any]) -> SourceTask | None:
    """The source at the first place where it still is; the worker checks that its bytes are the recorded ones."""
    sightings = lineage.paths_of(query, line["source_id"])
    first = (line["root"], line["source_path"])
    for place in evidence.recorded_places(sightings, first):
        try:
            size = os.stat(place.path, follow_symlinks=False).st_size
        except OSError:
            continue
        return SourceTask(
            index=0,
            source_id=line["source_id"],
            source_hash=line["source_hash"],
            sha256=line["sha256"],
            size_bytes=size,
            path=place.path,
            display_path=line["source_path"],
        )
    return None
