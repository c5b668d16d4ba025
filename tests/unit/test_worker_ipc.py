"""No bytes of a guest can crash the host, and no bad batch gets through."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casparian.domain.contracts import Column, OutputContract
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import BATCH_ROWS_MAX
from casparian.worker.faults import GuestFault
from casparian.worker.ipc import read_batch

OUTPUT = OutputContract(
    table="t",
    columns=(
        Column(name="text", type="utf8"),
        Column(name="raw", type="binary"),
        Column(name="names", type="list<utf8>"),
        Column(name="time", type="timestamp[ns, UTC]"),
        Column(name="yes", type="bool"),
    ),
)
SCHEMA = bridge_schema(OUTPUT)
SIZE = 10_000


def batch(rows: int = 50, **columns: Any) -> pa.RecordBatch:
    values: dict[str, Any] = {
        "@offset": range(rows),
        "@length": [1] * rows,
        "@flags": [0] * rows,
        "text": [f"text {n}" if n % 3 else None for n in range(rows)],
        "raw": [bytes([n % 256]) * (n % 7) for n in range(rows)],
        "names": [["a", None, "b"][: n % 4] if n % 5 else None for n in range(rows)],
        "time": list(range(rows)),
        "yes": [bool(n % 2) for n in range(rows)],
    }
    values.update(columns)
    return pa.record_batch(
        [pa.array(values[field.name], field.type) for field in SCHEMA], schema=SCHEMA
    )


VALID = batch().serialize().to_pybytes()


def refused(payload: bytes | pa.Buffer, schema: pa.Schema = SCHEMA, size: int = SIZE) -> str:
    with pytest.raises(GuestFault) as caught:
        read_batch(pa.py_buffer(payload), schema, size)
    assert caught.value.code == "bridge.invalid_batch"
    return caught.value.message


def stream(batches: list[pa.RecordBatch], **options: Any) -> list[bytes]:
    """Messages of an IPC stream, each as the bytes of one frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        for one in batches:
            writer.write_batch(one)
    return [
        message.serialize().to_pybytes()
        for message in pa.ipc.MessageReader.open_stream(sink.getvalue())
    ]


def test_good_batch_comes_through_unchanged() -> None:
    assert read_batch(pa.py_buffer(VALID), SCHEMA, SIZE).equals(batch())


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_batch_is_refused_before_it_is_decompressed(codec: str) -> None:
    message = stream([batch()], compression=codec)[1]
    assert "compressed" in refused(message)


def test_schema_message_is_refused() -> None:
    assert "schema" in refused(stream([batch()])[0])


def test_dictionary_message_is_refused() -> None:
    rows = pa.record_batch({"a": pa.array(["x", "y"]).dictionary_encode()})
    assert "dictionary" in refused(stream([rows])[1])


def test_dictionary_encoded_column_does_not_fit_the_hosts_schema() -> None:
    columns = batch().columns
    columns[3] = columns[3].dictionary_encode()
    rows = pa.record_batch(columns, names=SCHEMA.names)
    refused(stream([rows])[-1])


def test_view_column_is_refused() -> None:
    columns = batch().columns
    columns[3] = columns[3].cast(pa.string_view())
    rows = pa.record_batch(columns, names=SCHEMA.names)
    assert "view" in refused(rows.serialize())


def test_batch_of_another_shape_is_refused() -> None:
    fewer = pa.record_batch({"@offset": pa.array([1], pa.uint64())})
    refused(fewer.serialize())
    other = batch().set_column(3, "text", pa.array(range(50), pa.int64()))
    refused(other.serialize())


def test_empty_batch_is_refused() -> None:
    assert "0 rows" in refused(batch(0).serialize())


def test_batch_of_too_many_rows_is_refused_before_it_is_decoded() -> None:
    rows = BATCH_ROWS_MAX + 1
    schema = bridge_schema(OutputContract(table="t", columns=()))
    zeros = pa.py_buffer(bytes(8 * rows))
    columns = [pa.Array.from_buffers(field.type, rows, [None, zeros]) for field in schema]
    payload = pa.record_batch(columns, schema=schema).serialize()
    assert f"{rows} rows" in refused(payload, schema)


def test_columns_that_share_their_bytes_are_refused() -> None:
    """A body of 40 kB that would be many times that in a sink."""
    contract = OutputContract(
        table="t", columns=tuple(Column(name=f"c{n}", type="utf8") for n in range(20))
    )
    schema = bridge_schema(contract)
    honest = pa.record_batch(
        [pa.array([0], f.type) for f in list(schema)[:3]]
        + [pa.array(["x" * 4000]), *[pa.array(["y"])] * 19],
        schema=schema,
    )
    payload = bytearray(honest.serialize().to_pybytes())
    metadata = int.from_bytes(payload[4:8], "little")
    head = payload[: 8 + metadata]
    # Each column: (offset, length) pairs of validity, offsets and data; point every data buffer at the first.
    buffers = {
        position: (
            int.from_bytes(head[position : position + 8], "little"),
            int.from_bytes(head[position + 8 : position + 16], "little"),
        )
        for position in range(8, len(head) - 15, 8)
    }
    large = next(position for position, (_, length) in buffers.items() if length == 4000)
    wanted = head[large : large + 16]
    positions = [
        position
        for position, (offset, length) in buffers.items()
        if length == 1
        and 4000 < offset < 20_000
        and position > large
        and not (position - large) % 16
    ]
    for position in positions:
        head[position : position + 16] = wanted
        offsets = int.from_bytes(head[position - 16 : position - 8], "little")
        body = 8 + metadata + offsets
        payload[body + 4 : body + 8] = (4000).to_bytes(4, "little")
    assert len(positions) > 5
    assert "overlap" in refused(bytes(head) + bytes(payload[8 + metadata :]), schema)


@pytest.mark.parametrize(
    "columns",
    [
        {"@offset": [0] * 49 + [SIZE + 1]},
        {"@length": [1] * 49 + [SIZE]},
        {"@length": [2**64 - 1] * 50},
        {"@offset": [2**64 - 1] * 50, "@length": [2] * 50},
        {"@flags": [None] * 50},
        {"@offset": [None] * 50},
    ],
)
def test_span_outside_of_the_source_is_refused(columns: dict[str, Any]) -> None:
    nullable = pa.schema([field.with_nullable(True) for field in SCHEMA])
    rows = pa.record_batch(batch().columns, schema=nullable)
    for name, values in columns.items():
        position = SCHEMA.get_field_index(name)
        column = pa.array(values, SCHEMA.field(name).type)
        rows = rows.set_column(position, nullable.field(name), column)
    refused(rows.serialize())


def test_invalid_utf8_is_refused() -> None:
    at = VALID.index(b"text 1")
    refused(VALID[:at] + b"\xff" + VALID[at + 1 :])


def test_offsets_that_point_outside_are_refused() -> None:
    payload = batch(2).serialize().to_pybytes()
    text = b"".join(number.to_bytes(4, "little") for number in (0, 0, 6))  # null, "text 1"
    at = payload.index(text)
    refused(payload[: at + 8] + (1 << 30).to_bytes(4, "little") + payload[at + 12 :])


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_mutated_batch_never_crashes_the_host(edits: list[tuple[int, int]]) -> None:
    mutated = bytearray(VALID)
    for position, value in edits:
        mutated[position] = value
    survives(bytes(mutated))


@settings(max_examples=200, deadline=None)
@given(
    position=st.integers(0, len(VALID) - 8),
    number=st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32]),
)
def test_mutated_integer_never_crashes_the_host(position: int, number: int) -> None:
    raw = number.to_bytes(8, "little", signed=True)
    survives(VALID[:position] + raw + VALID[position + 8 :])


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(VALID) - 1), tail=st.binary(max_size=64))
@example(cut=0, tail=b"")
def test_cut_or_foreign_bytes_never_crash_the_host(cut: int, tail: bytes) -> None:
    survives(VALID[:cut] + tail)
    survives(tail)


def survives(payload: bytes) -> None:
    """Either refused, or every value can be touched."""
    try:
        rows = read_batch(pa.py_buffer(payload), SCHEMA, SIZE)
    except GuestFault:
        return  # what `refused` checks
    assert rows.schema.equals(SCHEMA)
    for column in rows.columns:
        column.to_string()
        pa.concat_arrays([column.slice(1), column])
