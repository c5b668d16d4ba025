"""Decode one Arrow record batch from an untrusted process.

In this order, so that nothing is allocated or followed before it is known to be sane:
  1. the payload is exactly one encapsulated message, whose header ends where its body begins and whose body ends where the
     payload does: read here, before pyarrow sees a byte;
  2. its header says record batch, no metadata of its own, no compression, no variadic buffers, at most `BATCH_ROWS_MAX` rows;
  3. it has the nodes and buffers that the host's own schema has, no more; each node's counts are possible, each buffer lies
     within the body, aligned, and behind the one before: so nothing overlaps (a small body that is 2 GB of columns);
  4. it is decoded against the host's schema;
  5. `validate(full=True)`: without it mutated offsets crash the reader;
  6. the span columns have no nulls, and each span lies within the source.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from casparian.protocol.arrow import spread
from casparian.protocol.guest import BATCH_ROWS_MAX
from casparian.worker.faults import GuestFault

_RECORD_BATCH: Final = "record batch"
_HEADER_TYPE_FIELD: Final = 1  # org.apache.arrow.flatbuf.Message (Message.fbs)
_HEADER_FIELD: Final = 2
_CUSTOM_METADATA_FIELD: Final = 4
_CONTINUATION: Final = (
    0xFFFFFFFF  # of an encapsulated message (Columnar.rst); then the metadata's length
)
_PREFIX: Final = struct.Struct("<II")
_PAIR: Final = struct.Struct(
    "<qq"
)  # FieldNode (length, null count) and Buffer (offset, length) alike
_ALIGNMENT: Final = 8
_METADATA_BYTES_MAX: Final = 1024 * 1024
_UNION_RECORD_BATCH: Final = 3  # MessageHeader
_KINDS: Final = {1: "schema", 2: "dictionary", 3: "record batch", 4: "tensor", 5: "sparse tensor"}
_BODY_LENGTH_FIELD: Final = 3
_LENGTH_FIELD: Final = 0  # org.apache.arrow.flatbuf.RecordBatch
_NODES_FIELD: Final = 1
_BUFFERS_FIELD: Final = 2
_COMPRESSION_FIELD: Final = 3
_VARIADIC_FIELD: Final = 4
_U16: Final = struct.Struct("<H")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")
_I64: Final = struct.Struct("<q")


def read_batch(payload: pa.Buffer, schema: pa.Schema, source_bytes: int) -> pa.RecordBatch:
    """Decode and check one frame's payload.

    Args:
        payload: memory that only the host can write.
        schema: bridge schema of the output that the frame names.
        source_bytes: size of the source, which every row's span must lie in.

    Raises:
        GuestFault: `bridge.invalid_batch`; nothing of the batch may be used.
    """
    try:
        rows = _look(payload, schema)
        message = pa.ipc.read_message(payload)
        if message.type != _RECORD_BATCH:
            raise _invalid(f"a `{message.type}` message instead of a record batch")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
    except GuestFault:
        raise
    except struct.error as error:
        raise _invalid("a message header that points outside of itself") from error
    except Exception as error:  # bytes of an untrusted process break pyarrow in many ways
        raise _invalid(f"bytes that are no batch: {type(error).__name__}: {error}") from error
    if batch.num_rows != rows or not batch.schema.equals(schema):
        raise _invalid("a batch that is not what its header says")
    if batch.nbytes > payload.size:
        raise _invalid("a batch whose buffers overlap")
    _check_spans(batch, source_bytes)
    return batch


def _look(payload: pa.Buffer, schema: pa.Schema) -> int:
    """Rows of the one record batch that this payload is, refusing what may not cross."""
    view = memoryview(payload).cast("B")
    continuation, metadata_bytes = _PREFIX.unpack_from(view, 0)
    body_at = _PREFIX.size + metadata_bytes
    if continuation != _CONTINUATION or metadata_bytes > _METADATA_BYTES_MAX or body_at > len(view):
        raise _invalid("bytes that do not begin with one message header")
    metadata = view[_PREFIX.size : body_at]
    message = _Table(metadata, _U32.unpack_from(metadata, 0)[0])
    header_type = message.position(_HEADER_TYPE_FIELD)
    header = message.position(_HEADER_FIELD)
    if header_type is None or header is None:
        raise _invalid("a message without a record batch")
    if metadata[header_type] != _UNION_RECORD_BATCH:
        kind = _KINDS.get(metadata[header_type], "unknown")
        raise _invalid(f"a `{kind}` message instead of a record batch")
    if message.position(_CUSTOM_METADATA_FIELD) is not None:
        raise _invalid("a message with metadata of its own")
    body_bytes = message.number(_BODY_LENGTH_FIELD)
    if body_bytes != len(view) - body_at:
        raise _invalid(f"a message of {body_bytes} bytes in a frame for {len(view) - body_at}")
    batch = _Table(metadata, header + _U32.unpack_from(metadata, header)[0])
    if batch.position(_COMPRESSION_FIELD) is not None:
        raise _invalid("a compressed batch")
    if batch.position(_VARIADIC_FIELD) is not None:
        raise _invalid("a batch with view columns")
    rows = batch.number(_LENGTH_FIELD)
    if not 0 < rows <= BATCH_ROWS_MAX:
        raise _invalid(f"a batch of {rows} rows")
    nodes, buffers = _layout(schema)
    _check_nodes(batch.pairs(_NODES_FIELD, nodes), rows)
    _check_buffers(batch.pairs(_BUFFERS_FIELD, buffers), body_bytes)
    return rows


@lru_cache(maxsize=256)
def _layout(schema: pa.Schema) -> tuple[int, int]:
    """How many field nodes and buffers a batch of this schema has; the vocabulary of `protocol.arrow` only."""
    nodes = buffers = 0
    for field in schema:
        kind = field.type
        while pa.types.is_list(kind):  # validity and offsets, then the values
            nodes, buffers, kind = nodes + 1, buffers + 2, kind.value_type
        is_text = pa.types.is_string(kind) or pa.types.is_binary(kind)
        nodes, buffers = nodes + 1, buffers + (3 if is_text else 2)
    return nodes, buffers


def _check_nodes(nodes: list[tuple[int, int]], rows: int) -> None:
    """Lengths of nested values are bounded by their buffers; validation compares the two."""
    for length, null_count in nodes:
        if length < 0 or not 0 <= null_count <= length:
            raise _invalid(f"a column of {length} values with {null_count} nulls, in {rows} rows")


def _check_buffers(buffers: list[tuple[int, int]], body_bytes: int) -> None:
    free = 0
    for offset, length in buffers:
        if offset < 0 or length < 0 or offset + length > body_bytes or offset % _ALIGNMENT:
            raise _invalid("a buffer that is not within the body")
        if length and offset < free:
            raise _invalid("a batch whose buffers overlap, or lie out of order")
        free = max(free, offset + length)


class _Table:
    """A flatbuffer table: where its fields are. Every read is bounds-checked by `struct`."""

    def __init__(self, view: memoryview, position: int) -> None:
        self._view = view
        self._position = position
        self._vtable = position - _I32.unpack_from(view, position)[0]
        if self._vtable < 0:
            raise struct.error("vtable before the buffer")
        self._size = _U16.unpack_from(view, self._vtable)[0]

    def number(self, field: int) -> int:
        """A 64-bit field; 0 when the table does not have it."""
        position = self.position(field)
        found: int = 0 if position is None else _I64.unpack_from(self._view, position)[0]
        return found

    def pairs(self, field: int, expected: int) -> list[tuple[int, int]]:
        """A vector of two 64-bit numbers each; it must have just as many as expected."""
        position = self.position(field)
        if position is None:
            raise struct.error("no vector")
        vector = position + _U32.unpack_from(self._view, position)[0]
        count = _U32.unpack_from(self._view, vector)[0]
        if count != expected:
            raise _invalid(f"a batch of other columns: {count} parts where {expected} belong")
        start = vector + _U32.size
        end = start + _PAIR.size * count
        if end > len(self._view):
            raise struct.error("vector beyond the buffer")
        return list(_PAIR.iter_unpack(self._view[start:end]))

    def position(self, field: int) -> int | None:
        """Absolute position of a field; `None` when the table does not have it."""
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return None
        offset = _U16.unpack_from(self._view, self._vtable + slot)[0]
        if not offset:
            return None
        position: int = self._position + offset
        if position >= len(self._view):
            raise struct.error("field beyond the buffer")
        return position


def check_spans_by_source(
    batch: pa.RecordBatch, counts: Sequence[int], sizes: Sequence[int]
) -> None:
    """As `read_batch` checks spans, where so many rows belong to each source of these sizes in bytes, in order.

    Raises:
        GuestFault: `bridge.invalid_batch`.
    """
    ends = pc.add(
        batch.column(0), batch.column(1)
    )  # cannot overflow: each is a position in a source
    if pc.any(pc.greater(ends, spread(pa.array(sizes, pa.uint64()), counts))).as_py():
        raise _invalid("a row that claims bytes beyond the end of its source")


def _check_spans(batch: pa.RecordBatch, source_bytes: int) -> None:
    spans = [batch.column(position) for position in range(3)]
    if any(column.null_count for column in spans):
        raise _invalid("a row without a span")
    offsets, lengths = spans[0], spans[1]
    if pc.max(offsets).as_py() > source_bytes or pc.max(lengths).as_py() > source_bytes:
        raise _invalid("a row that claims bytes beyond the end of the source")
    if pc.max(pc.add(offsets, lengths)).as_py() > source_bytes:
        raise _invalid("a row that claims bytes beyond the end of the source")


def _invalid(what: str) -> GuestFault:
    return GuestFault("bridge.invalid_batch", f"the guest sent {what}")
