"""The quarantine table: rows that were set aside, with the bytes they came from.

Nothing from the evidence is lost: up to 64 KiB are kept inline, longer spans by offset, length and
BLAKE3. A row has the full lineage of any other row, so it can be proven and retried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import blake3
import pyarrow as pa
import pyarrow.compute as pc

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import RAW_INLINE_BYTES_MAX

QUARANTINE_CONTRACT: Final = OutputContract(
    table=QUARANTINE_TABLE,
    doc="Rows that were set aside, with their reason and their bytes.",
    columns=(
        Column(
            name="table_name", type="utf8", doc="The output the row would have gone to, when known."
        ),
        Column(name="reason", type="utf8", nullable=False, doc="Stable code."),
        Column(
            name="field",
            type="utf8",
            doc="The column or part that is wrong, when one can be named.",
        ),
        Column(name="message", type="utf8", nullable=False, doc="What is wrong, in words."),
        Column(
            name="raw", type="binary", doc="The bytes, up to 64 KiB; longer ones are null here."
        ),
        Column(name="raw_length", type="uint64", nullable=False, doc="Length of the bytes."),
        Column(
            name="raw_blake3", type="utf8", doc="BLAKE3 of bytes that are too long to keep here."
        ),
    ),
)
_HASH_BLOCK_BYTES: Final = 1 << 20

ReadSpan = Callable[[int, int], bytes]
"""`read(offset, length)` gives the evidence's bytes at a span; fewer at the end of the file."""


def rows(
    batch: pa.RecordBatch, *, table_name: str | None, read: ReadSpan | None = None
) -> pa.RecordBatch:
    """Turn a quarantine batch into a bridge-shaped batch of `QUARANTINE_CONTRACT`.

    Args:
        batch: `@offset, @length, @flags, reason, field, message, raw`, from a guest or from a
            contract's rejections.
        table_name: the output the rows would have gone to; `None` when the parser did not say.
        read: reads the evidence for rows that came without bytes, or with more than may be kept
            inline. Without it such rows keep offset and length only.
    """
    count = batch.num_rows
    offsets, lengths = batch.column("@offset"), batch.column("@length")
    raw = batch.column("raw")
    sizes = pc.cast(pc.binary_length(raw), pa.uint64())
    inline = pc.fill_null(pc.less_equal(sizes, RAW_INLINE_BYTES_MAX), fill_value=False)
    raw_length = pc.coalesce(sizes, lengths)
    digests = pa.nulls(count, pa.utf8())
    if pc.all(inline).as_py() is False:
        kept = pc.if_else(inline, raw, pa.scalar(None, pa.binary()))
        raw, digests = _complete(kept, raw, inline, offsets, lengths, read)
    return pa.RecordBatch.from_arrays(
        [
            offsets,
            lengths,
            batch.column("@flags"),
            pa.repeat(pa.scalar(table_name, pa.utf8()), count),
            batch.column("reason"),
            batch.column("field"),
            batch.column("message"),
            raw,
            raw_length,
            digests,
        ],
        schema=bridge_schema(QUARANTINE_CONTRACT),
    )


def _complete(
    kept: pa.Array,
    given: pa.Array,
    inline: pa.Array,
    offsets: pa.Array,
    lengths: pa.Array,
    read: ReadSpan | None,
) -> tuple[pa.Array, pa.Array]:
    """Fill in what is not inline: short spans by reading them, long ones by their hash. One Python step for each such row."""
    mask = pc.invert(inline)
    found: list[bytes | None] = []
    digests: list[str | None] = []
    for position in pc.indices_nonzero(mask).to_pylist():
        offset, length = offsets[position].as_py(), lengths[position].as_py()
        content: bytes | None = None
        digest: str | None = None
        if read is not None and length <= RAW_INLINE_BYTES_MAX:
            content = read(offset, length)
        elif read is not None:
            digest = _digest_span(read, offset, length)
        elif given[position].is_valid:
            digest = blake3.blake3(given[position].as_buffer()).hexdigest()
        found.append(content)
        digests.append(digest)
    return (
        pc.replace_with_mask(kept, mask, pa.array(found, pa.binary())),
        pc.replace_with_mask(pa.nulls(len(kept), pa.utf8()), mask, pa.array(digests, pa.utf8())),
    )


def _digest_span(read: ReadSpan, offset: int, length: int) -> str:
    hasher = blake3.blake3()
    end = offset + length
    while offset < end:
        block = read(offset, min(_HASH_BLOCK_BYTES, end - offset))
        if not block:  # the source ends before the span does
            break
        hasher.update(block)
        offset += len(block)
    return hasher.hexdigest()
