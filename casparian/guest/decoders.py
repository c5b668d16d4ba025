"""The decoders of the native module, by the name that `entry` in parser.toml gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa

from casparian import _native
from casparian.guest.infer import infer
from casparian.guest.input import Input
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import INFER_ENTRY, RENDER_ENTRY, RENDERED, GuestJob

Batches = Iterator[tuple[str, Any]]  # name of an output, and what holds a batch of it
Decoder = Callable[[Input, GuestJob], Batches]


class GroupReader(Protocol):
    """Batches of several sources; at the end it knows the rows of each by output."""

    def __iter__(self) -> Batches:
        """The batches, once."""

    @property
    def rows(self) -> Sequence[Mapping[str, int]]:
        """Rows of each source, by output."""


GroupDecoder = Callable[[list[Input], GuestJob], GroupReader]

# Compiled templates: a guest serves one job, and logs of one machine have the same ones.
_PLANS: Final = _native.EvtxPlans()


def _evtx(given: Input, job: GuestJob) -> Batches:
    size_bytes = given.source.size_bytes
    if job.config.get("carve"):
        return _native.EvtxCarveReader(given.descriptor, size_bytes)
    return _native.EvtxReader(
        given.descriptor,
        size_bytes,
        fault=_fault(job),
        plans=_PLANS,
        threads=job.threads,
        wide=str(job.config.get("wide", "none")),
    )


def _evtx_group(given: list[Input], job: GuestJob) -> GroupReader:
    sources = [(one.descriptor, one.source.size_bytes) for one in given]
    return _native.EvtxGroupReader(sources, fault=_fault(job), plans=_PLANS)


def _fault(job: GuestJob) -> str | None:
    """A fault is taken only by a build made to prove that the ledger sees it; every other build refuses."""
    fault = job.config.get("fault")
    return None if fault is None else str(fault)


def _evtx_render(given: Input, job: GuestJob) -> Batches:
    """One row: the record at a place, rendered; or why it cannot be."""
    offset, length = int(job.config["offset"]), int(job.config["length"])
    carved = bool(job.config["carved"])
    xml, json, unfit, problem = "", "", 0, None
    try:
        xml, json, unfit = _native.render_evtx(
            given.descriptor, given.source.size_bytes, offset, length, carved=carved
        )
    except ValueError as error:
        problem = str(error)
    columns = [
        pa.array([offset], pa.uint64()),
        pa.array([length], pa.uint64()),
        pa.array([0], pa.uint32()),
        pa.array([xml]),
        pa.array([json]),
        pa.array([unfit], pa.int64()),
        pa.array([problem], pa.utf8()),
    ]
    yield RENDERED.table, pa.record_batch(columns, schema=bridge_schema(RENDERED))


def _registry(given: Input, job: GuestJob) -> Batches:
    del job  # it has no settings
    return _native.HiveReader(given.descriptor, given.source.size_bytes, logs=given.logs)


def _text(given: Input, job: GuestJob) -> Batches:
    return _native.TextReader(given.descriptor, given.source.size_bytes, str(job.config["dataset"]))


DECODERS: Final[dict[str, Decoder]] = {
    "evtx": _evtx,
    INFER_ENTRY: infer,
    RENDER_ENTRY: _evtx_render,
    "registry": _registry,
    "delimited": _text,
    "jsonl": _text,
}
GROUP_DECODERS: Final[dict[str, GroupDecoder]] = {"evtx": _evtx_group}
