"""Read committed rows of the quarantine by their places, with the hash of the bytes of each: what a decision is bound to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import blake3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from casparian.domain.lineage import RowId
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.domain.quarantine import RowPlace, Span
from casparian.protocol import identity

_COLUMNS = [
    "reason", "raw", "raw_blake3", "_cf_job_id", "_cf_source_id", "_cf_source_path", "_cf_ordinal", "_cf_offset",
    "_cf_length", "_cf_parser",
]  # fmt: skip
_BATCH_ROWS = 1024


class HeldRow(NamedTuple):
    """One quarantined row; rows sort by job, source and ordinal."""

    place: RowPlace
    row_id: str
    parser: str  # name@version
    reason: str
    source_path: str
    bytes_hash: str


def held_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[HeldRow]:
    """Rows of batches of the quarantine, in the order they come in."""
    for batch in batches:
        columns = [batch.column(name).to_pylist() for name in _COLUMNS]
        for reason, raw, long, job, source, path, ordinal, offset, length, parser in zip(
            *columns, strict=True
        ):
            row_id = RowId(
                table=QUARANTINE_TABLE, source_prefix=source[:16], job_id=job, ordinal=ordinal
            )
            yield HeldRow(
                (job, source, ordinal),
                str(row_id),
                parser,
                reason,
                path,
                _bytes_hash(raw, long, offset, length),
            )


def read_held(paths: Iterable[str], spans: Iterable[Span]) -> list[HeldRow]:
    """Rows of committed files that lie in the spans, sorted.

    Raises:
        OSError: a file is gone or cannot be read.
    """
    wanted: dict[tuple[int, str], list[Span]] = {}
    for span in spans:
        wanted.setdefault((span.job_id, span.source_id), []).append(span)
    sources = pa.array(sorted({source for _, source in wanted}), pa.utf8())
    found: list[HeldRow] = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=_COLUMNS):
                ids = batch.column("_cf_source_id").cast(pa.utf8())
                near = batch.filter(pc.is_in(ids, sources))
                found += [
                    row
                    for row in held_rows([near])
                    if any(
                        span.first <= row.place[2] <= span.last
                        for span in wanted.get(row.place[:2], ())
                    )
                ]
    return sorted(found)


def rows_hash(rows: Iterable[HeldRow]) -> str:
    """One hash over the ids and bytes of rows, which must be sorted."""
    return identity.quarantine_rows_hash((row.row_id, row.bytes_hash) for row in rows)


def _bytes_hash(raw: bytes | None, long: str | None, offset: int | None, length: int | None) -> str:
    """BLAKE3 of a row's bytes; where neither bytes nor hash were kept, the span says which they are."""
    if raw is not None:
        return blake3.blake3(raw).hexdigest()
    return long or f"span:{offset}:{length}"
