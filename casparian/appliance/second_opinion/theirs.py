"""Let another reader read sources, in a confined guest of a worker of its own, and take what it gave.

The reader's module is loaded before the guest is forked and confined. Evidence comes as an open descriptor whose content the
worker hashes beside it, so a source that is not the recorded one any more is not compared.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq

from casparian import clock, installation
from casparian.appliance import worker_once
from casparian.appliance.second_opinion.compare import Item, Theirs
from casparian.appliance.second_opinion.known import Reader
from casparian.appliance.second_opinion.ours import EVENTS, KEYS, VALUES, folded, folded_path
from casparian.domain.isolation import IsolationLevel
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import Limits, ParserKind
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.guest.preload import READER_PREFIX
from casparian.paths import Home
from casparian.protocol.identity import contract_hash
from casparian.protocol.worker import Dispatch, OutputTask, ParserTask, Receipt, SourceTask
from casparian.query import scratch
from casparian.sinks.uri import default_settings
from casparian.trust.artifact import hash_artifact, read_artifact

PROBLEMS_MAX: Final = 20  # that a report quotes for one source
_CODE: Final = installation.package() / "appliance" / "second_opinion" / "readers"
_LIMITS: Final = Limits(memory_mb=4096, cpu_seconds=3600, idle_seconds=1800)


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader gave of one source, or why it gave nothing."""

    kinds: dict[str, Theirs] = {}
    problems: int = 0
    first_problems: tuple[str, ...] = ()
    code: str | None = None
    message: str = ""


def read(
    home: Home, reader: Reader, sources: Sequence[SourceTask], min_isolation: IsolationLevel
) -> list[Read]:
    """Read sources, in their order.

    Raises:
        CasparianError: the worker could not run, or the reader could not be loaded.
    """
    directory = scratch.make(home, "opinion")
    try:
        receipt = worker_once.run(home, _dispatch(str(directory), reader, sources, min_isolation))
        return _collect(reader, receipt, len(sources))
    finally:
        scratch.remove(directory)


def _dispatch(
    directory: str, reader: Reader, sources: Sequence[SourceTask], min_isolation: IsolationLevel
) -> Dispatch:
    sink = Sink(
        kind=SinkKind.PARQUET, location=directory, settings=default_settings(SinkKind.PARQUET)
    )
    return Dispatch(
        epoch=1,
        job_id=1,
        home_id="second-opinion",
        parser=ParserTask(
            name=f"second-opinion.{reader.name}",
            version="1.0.0",
            kind=ParserKind.PYTHON,
            entry=f"{reader.code}.py:parse",
            directory=str(_CODE),
            artifact_hash=hash_artifact(read_artifact(str(_CODE))),
            account="lines",  # any: what it says of a reader's rows is not used
            unit="line",
            config={},
            limits=_LIMITS,
            preload=(f"{READER_PREFIX}{reader.module}",),
            trust=TrustRecord(
                verdict=TrustVerdict.VALID,
                origin=TrustOrigin.FIRST_PARTY,
                notes=("a part of the program; its rows are compared and never kept",),
            ),
        ),
        sources=tuple(
            msgspec.structs.replace(source, index=index, companions=())
            for index, source in enumerate(sources)
        ),
        outputs=tuple(
            OutputTask(
                contract=output,
                contract_hash=contract_hash(output),
                sink=sink,
                stage=os.path.join(directory, "stage"),
            )
            for output in reader.outputs
        ),
        quarantine=sink,
        quarantine_stage=os.path.join(directory, "quarantine"),
        processed_at_ns=clock.now_ns(),
        lineage_version=LINEAGE_VERSION,
        min_isolation=min_isolation,
    )


def _collect(reader: Reader, receipt: Receipt, sources: int) -> list[Read]:
    # Files of one table may hold several sources; which one a row is of, its path says, unique here by construction.
    tables: defaultdict[str, defaultdict[str, list[tuple[Any, ...]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for file in receipt.files:
        columns = [
            column.name for o in reader.outputs if o.table == file.table for column in o.columns
        ]
        if not columns:
            continue  # its quarantine: rows that do not fit its own columns
        table = pq.read_table(file.path, columns=["_cf_source_path", *columns])
        for batch in table.to_batches():
            for path, *row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                tables[file.table][path].append(tuple(row))
    found = []
    receipts = {source.index: source for source in receipt.sources}
    for index in range(sources):
        source, path = receipts[index], place(index)
        if source.code is not None:
            found.append(Read(code=source.code, message=source.message))
            continue
        problems = [message for (message,) in tables["problems"][path]]
        kinds = {
            kind: _KINDS[kind](tables[kind][path])
            for kind in (output.table for output in reader.outputs if output.table in _KINDS)
        }
        found.append(
            Read(
                kinds=kinds,
                problems=len(problems) + source.quarantined,
                first_problems=tuple(problems[:PROBLEMS_MAX]),
            )
        )
    return found


def place(index: int) -> str:
    """The path under which a source is given to a reader: none of them needs to know the real one."""
    return f"source-{index}"


def _events(rows: Sequence[tuple[Any, ...]]) -> Theirs:
    items: dict[bool, list[Item]] = {False: [], True: []}
    for record_id, written, event_id, recovered in rows:
        items[recovered].append(Item((record_id,), (written or None, event_id)))
    return Theirs(live=tuple(items[False]), recovered=tuple(items[True]))


def _keys(rows: Sequence[tuple[Any, ...]]) -> Theirs:
    return Theirs(live=tuple(_key(path, written) for path, written in rows))


def _key(path: str, written: int | None) -> Item:
    return Item((folded_path(path),), (written or None,))


def _values(rows: Sequence[tuple[Any, ...]]) -> Theirs:
    return Theirs(
        live=tuple(
            Item((folded_path(path), folded(name)), (kind, size)) for path, name, kind, size in rows
        )
    )


_KINDS: Final[dict[str, Callable[[Sequence[tuple[Any, ...]]], Theirs]]] = {
    EVENTS: _events,
    KEYS: _keys,
    VALUES: _values,
}
