"""Decode one Arrow record batch from an untrusted process.

In this order, so that nothing is allocated or followed before it is known to be sane:
  1. the message is exactly one record batch (no schema, no dictionary);
  2. its header says no compression, no variadic buffers and at most `BATCH_ROWS_MAX` rows: read
     here, because pyarrow would decompress first;
  3. it is decoded against the host's own schema;
  4. `validate(full=True)`: without it mutated offsets crash the reader;
  5. buffers do not overlap (a small body that is 2 GB of columns), the span columns have no nulls,
     and each span lies within the source.
"""

from __future__ import annotations

import struct
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from casparian.protocol.guest import BATCH_ROWS_MAX
from casparian.worker.faults import GuestFault

_RECORD_BATCH: Final = "record batch"
_HEADER_TYPE_FIELD: Final = 1  # org.apache.arrow.flatbuf.Message (Message.fbs)
_HEADER_FIELD: Final = 2
_CUSTOM_METADATA_FIELD: Final = 4
_UNION_RECORD_BATCH: Final = 3  # MessageHeader
_LENGTH_FIELD: Final = 0  # org.apache.arrow.flatbuf.RecordBatch
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
        message = pa.ipc.read_message(payload)
        if message.type != _RECORD_BATCH:
            raise _invalid(f"a `{message.type}` message instead of a record batch")
        rows = _look(message.metadata)
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


def _look(metadata: pa.Buffer) -> int:
    """Rows of the record batch that this flatbuffer describes, refusing what may not cross."""
    view = memoryview(metadata)
    message = _Table(view, _U32.unpack_from(view, 0)[0])
    header_type = message.position(_HEADER_TYPE_FIELD)
    header = message.position(_HEADER_FIELD)
    if header_type is None or view[header_type] % 256 != _UNION_RECORD_BATCH or header is None:
        raise _invalid("a message without a record batch")
    if message.position(_CUSTOM_METADATA_FIELD) is not None:
        raise _invalid("a message with metadata of its own")
    batch = _Table(view, header + _U32.unpack_from(view, header)[0])
    if batch.position(_COMPRESSION_FIELD) is not None:
        raise _invalid("a compressed batch")
    if batch.position(_VARIADIC_FIELD) is not None:
        raise _invalid("a batch with view columns")
    length = batch.position(_LENGTH_FIELD)
    rows: int = 0 if length is None else _I64.unpack_from(view, length)[0]
    if not 0 < rows <= BATCH_ROWS_MAX:
        raise _invalid(f"a batch of {rows} rows")
    return rows


class _Table:
    """A flatbuffer table: where its fields are. Every read is bounds-checked by `struct`."""

    def __init__(self, view: memoryview, position: int) -> None:
        self._view = view
        self._position = position
        self._vtable = position - _I32.unpack_from(view, position)[0]
        if self._vtable < 0:
            raise struct.error("vtable before the buffer")
        self._size = _U16.unpack_from(view, self._vtable)[0]

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
