"""Batches that lie, through a real guest and the real frame reader: the source fails with its code, all else goes on.

The source's bytes are what the hostile parser sends, so each attack is one line of a table.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.ipc
import pytest
from worker_world import World, rows

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.parsers import Limits
from casparian.protocol import frame
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.frame import Opcode
from casparian.protocol.guest import BATCH_ROWS_MAX, SourceEnd
from casparian.worker.executor import Services
from tests.factories.arrow_lies import Message, Place

EPOCH = 3  # of the dispatches that `worker_world` makes
PARSER = """
import os, socket, time
from casparian.sdk import Row

def parse(ctx):
    data = ctx.source.read()
    if data.startswith(b"EVIL"):
        channel = socket.socket(fileno=os.dup(3))
        channel.sendall(data[5:])
        if data[4:5] == b"!":
            time.sleep(3600)        # it says END itself, or waits for what the host will do
        return
    yield "lines", Row(0, len(data), {"number": 1, "text": data.decode().strip()})
"""
OUTPUT = OutputContract(
    table="lines",
    main=True,
    columns=(
        Column(name="number", type="int64", nullable=False),
        Column(name="text", type="utf8"),
        Column(name="names", type="list<utf8>"),
    ),
)
SCHEMA = bridge_schema(OUTPUT)


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    world = World(tmp_path, services)
    world.parser(PARSER)
    world.outputs = (OUTPUT,)
    world.limits = Limits(memory_mb=1024, idle_seconds=60, rows_max=5_000, output_mb_max=64)
    return world


def honest(count: int = 3, **changed: pa.Array) -> pa.RecordBatch:
    columns: dict[str, pa.Array] = {
        "@offset": pa.array([0] * count, pa.uint64()),
        "@length": pa.array([1] * count, pa.uint64()),
        "@flags": pa.array([0] * count, pa.uint32()),
        "number": pa.array(range(count), pa.int64()),
        "text": pa.array(["forged"] * count),
        "names": pa.array([["a", "b"]] * count, pa.list_(pa.string())),
    }
    columns.update(changed)
    return pa.record_batch(list(columns.values()), names=list(columns))


def message(batch: pa.RecordBatch | None = None) -> Message:
    return Message((batch or honest()).serialize().to_pybytes())


def sent(payload: bytes | pa.Buffer, output: int = 1) -> bytes:
    data = payload if isinstance(payload, bytes) else payload.to_pybytes()
    return frame.encode(Opcode.BRIDGE_BATCH, data, number=EPOCH, flags=output)


def end(count: int, index: int = 1) -> bytes:
    payload = msgspec.msgpack.encode(SourceEnd(index=index, rows={1: count} if count else {}))
    return frame.encode(Opcode.BRIDGE_END, payload, number=EPOCH)


def column(values: pa.Array) -> bytes:
    """A batch whose `text` is something else."""
    return sent(honest(len(values), text=values).serialize())


def stream(batch: pa.RecordBatch, which: int, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_batch(batch)
    parts = [m.serialize() for m in pa.ipc.MessageReader.open_stream(sink.getvalue())]
    return sent(parts[which])


def wide(count: int) -> bytes:
    one = pa.array([1], pa.int8())
    return sent(pa.record_batch([one] * count, names=[f"c{n}" for n in range(count)]).serialize())


def nested(depth: int) -> pa.Array:
    kind: pa.DataType = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.array([None], kind)


def annotated(size: int) -> bytes:
    sink = pa.BufferOutputStream()
    batch = honest()
    with pa.ipc.new_stream(sink, batch.schema) as out:
        out.write_batch(batch, custom_metadata={"x": "y" * size})
    parts = [m.serialize() for m in pa.ipc.MessageReader.open_stream(sink.getvalue())]
    return sent(parts[1])


def overlapping() -> bytes:
    """`text` and the values of `names` in the same bytes."""
    told = message()
    offset, _ = told.buffer(10)
    return sent(told.with_buffer(14, offset=offset))


def forged(*names: str) -> bytes:
    batch = honest()
    extra = pa.array(["forged"] * batch.num_rows)
    columns = [*batch.columns, *[extra] * len(names)]
    return sent(pa.record_batch(columns, names=[*batch.schema.names, *names]).serialize())


view = pa.array(["x" * 40] * 3, pa.string_view())
BAD, INVALID = "bridge.protocol", "bridge.invalid_batch"

# name -> (what the guest sends, the code its source is excluded with)
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    # types that may not cross (58)
    "string_view": (lambda: column(view), INVALID),
    "dictionary indices": (
        lambda: stream(honest(text=pa.array(["a"] * 3).dictionary_encode()), -1),
        INVALID,
    ),
    "dictionary batch": (
        lambda: stream(honest(text=pa.array(["a"] * 3).dictionary_encode()), 1),
        INVALID,
    ),
    "run-end encoding": (
        lambda: column(
            pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["x"]))
        ),
        INVALID,
    ),
    "fixed_size_binary(0)": (
        lambda: column(pa.Array.from_buffers(pa.binary(0), 3, [None, pa.py_buffer(b"")])),
        INVALID,
    ),
    "two billion rows of nothing": (
        lambda: sent(
            pa.record_batch(
                [pa.Array.from_buffers(pa.binary(0), 2**31 - 1, [None, pa.py_buffer(b"")])], ["x"]
            ).serialize()
        ),
        INVALID,
    ),
    "null type": (lambda: column(pa.nulls(3)), INVALID),
    "extension type": (
        lambda: column(
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 3, pa.binary(16)))
        ),
        INVALID,
    ),
    "zstd": (lambda: stream(honest(), 1, compression="zstd"), INVALID),
    "lz4": (lambda: stream(honest(), 1, compression="lz4"), INVALID),
    "zstd bomb": (
        lambda: stream(honest(text=pa.array(["\0" * (1 << 20)] * 3)), 1, compression="zstd"),
        INVALID,
    ),
    # shapes
    "nested beyond depth": (lambda: column(nested(60)), INVALID),
    "200,000 columns": (lambda: wide(200_000), INVALID),
    "no columns": (
        lambda: sent(pa.record_batch([pa.nulls(3)], ["x"]).select([]).serialize()),
        INVALID,
    ),
    "a column too few": (lambda: sent(honest().select(range(5)).serialize()), INVALID),
    "metadata of its own": (lambda: annotated(10), INVALID),
    "a metadata bomb": (lambda: annotated(10 << 20), INVALID),
    "empty batch": (lambda: sent(honest(0).serialize()), INVALID),
    "empty payload": (lambda: sent(b""), INVALID),
    "garbage": (lambda: sent(os.urandom(5000)), INVALID),
    # lies about lengths
    "rows 2^62": (lambda: sent(message().with_rows(2**62)), INVALID),
    "rows below zero": (lambda: sent(message().with_rows(-1)), INVALID),
    "a row more than there are": (lambda: sent(message().with_rows(4)), INVALID),
    "rows over the cap": (lambda: sent(message().with_rows(BATCH_ROWS_MAX + 1)), INVALID),
    "column length 2^62": (lambda: sent(message().with_node(3, length=2**62)), INVALID),
    "column length below zero": (lambda: sent(message().with_node(3, length=-3)), INVALID),
    "a column that is shorter": (lambda: sent(message().with_node(4, length=2)), INVALID),
    "null count below zero": (lambda: sent(message().with_node(3, nulls=-1)), INVALID),
    "null count above the length": (lambda: sent(message().with_node(3, nulls=4)), INVALID),
    "nulls that are not there": (lambda: sent(message().with_node(3, nulls=2)), INVALID),
    "buffer offset 2^62": (lambda: sent(message().with_buffer(7, offset=2**62)), INVALID),
    "buffer offset below zero": (lambda: sent(message().with_buffer(7, offset=-8)), INVALID),
    "buffer length 2^62": (lambda: sent(message().with_buffer(7, length=2**62)), INVALID),
    "buffer length below zero": (lambda: sent(message().with_buffer(7, length=-8)), INVALID),
    "buffer beyond the body": (lambda: sent(message().with_buffer(14, length=10**6)), INVALID),
    "buffer off its alignment": (
        lambda: sent(message().with_buffer(7, offset=message().buffer(7)[0] + 4)),
        INVALID,
    ),
    "overlapping buffers": (overlapping, INVALID),
    "buffers in another order": (lambda: sent(message().with_buffer(3, offset=0)), INVALID),
    "offsets out of order": (lambda: sent(message().with_body(9, 4, "<i", 2**30)), INVALID),
    "offsets below zero": (lambda: sent(message().with_body(9, 0, "<i", -6)), INVALID),
    "list offsets out of range": (
        lambda: sent(message().with_body(12, 12, "<i", 2**31 - 1)),
        INVALID,
    ),
    "text that is no UTF-8": (lambda: sent(message().with_body(10, 0, "<B", 0xFF)), INVALID),
    "body length 2^62": (lambda: sent(message().changed((message().body_length, 2**62))), INVALID),
    "body length too small": (
        lambda: sent(message().changed((message().body_length, 64))),
        INVALID,
    ),
    "metadata length 2^32": (lambda: sent(message().changed((Place(4, "<I"), 2**32 - 1))), INVALID),
    "four billion columns": (
        lambda: sent(message().changed((message().node_count, 2**32 - 1))),
        INVALID,
    ),
    "four billion buffers": (
        lambda: sent(message().changed((message().buffer_count, 2**32 - 1))),
        INVALID,
    ),
    # messages
    "schema message": (lambda: stream(honest(), 0), INVALID),
    "another kind in the header": (
        lambda: sent(message().changed((message().header_type, 4))),
        INVALID,
    ),
    "two messages in one frame": (lambda: sent(message().raw * 2), INVALID),
    "a message and a byte": (lambda: sent(message().raw + b"\0"), INVALID),
    "half a message": (lambda: sent(message().raw[: len(message().raw) // 2]), INVALID),
    # names and numbers of outputs (60, 61)
    "forged lineage": (lambda: forged("_cf_source_hash", "_cf_job_id"), INVALID),
    "a column twice": (lambda: forged("text"), INVALID),
    "an output that is not there": (lambda: sent(message().raw, 2), BAD),
    "quarantine of an output that is not there": (lambda: sent(message().raw, 0x8002), BAD),
    "quarantine of quarantine": (lambda: sent(message().raw, 0x8000), BAD),
    "the rows of an output as quarantine": (lambda: sent(message().raw, 0), INVALID),
    "schema drift in mid-stream": (
        lambda: sent(message().raw) + column(pa.array([1.5] * 3)),
        INVALID,
    ),
    "a span beyond the source": (
        lambda: sent(honest(**{"@offset": pa.array([2**40] * 3, pa.uint64())}).serialize()),
        INVALID,
    ),
    # what comes when, and how much of it: attacks 51, 52 and 56
    "data after END": (lambda: sent(message().raw) + end(3) + sent(message().raw), BAD),
    "END twice": (lambda: end(0) + end(0), BAD),
    "END counts too much": (lambda: sent(message().raw) + end(2**62), BAD),
    "END counts too little": (lambda: sent(message().raw) + end(2), BAD),
    "END of no text": (
        lambda: frame.encode(
            Opcode.BRIDGE_FAILED,
            b"\x84\xa5index\x01\xa4code\xa2\xff\xff\xa7message\xa0",
            number=EPOCH,
        ),
        BAD,
    ),
    "rows above the limit": (lambda: sent(honest(5_001).serialize()) + end(5_001), "limit.rows"),
    "random frames": (lambda: bytes(range(3, 250)) * 20, BAD),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_lie_costs_the_guest_its_source_and_nobody_else(world: World, attack: str) -> None:
    make, expected = ATTACKS[attack]
    world.source(b"first\n")
    world.source(b"EVIL!" + make())
    world.source(b"third\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, expected, None], receipt
    assert [row["text"] for row in rows(receipt, "lines")] == ["first", "third"]
    assert receipt.sources[1].rows == {}
    assert all(1 not in file.sources for file in receipt.files)


def test_an_honest_batch_in_the_same_way_is_taken(world: World) -> None:
    """The control: what the attacks differ from. Its guest sleeps after its own END, until it is idle for too long."""
    world.limits = Limits(memory_mb=1024, idle_seconds=5)
    world.source(b"EVIL!" + sent(message().raw) + end(3, index=0))
    world.source(b"second\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, None], receipt
    assert receipt.sources[0].rows == {"lines": 3}


def test_same_layout_under_another_name_is_the_hosts_column(world: World) -> None:
    """Names and types come from the host alone: what a guest calls its columns does not matter."""
    batch = honest().rename_columns(["a", "b", "c", "_cf_job_id", "_cf_parser", "f"])
    world.source(b"EVIL!" + sent(batch.serialize()) + end(3, index=0))
    receipt = world.run()
    assert receipt.sources[0].code is None
    found = rows(receipt, "lines")
    assert [row["text"] for row in found] == ["forged"] * 3
    assert {row["_cf_job_id"] for row in found} == {7}
    assert {row["_cf_parser"] for row in found} == {"test.lines@1.0"}


def test_bytes_above_the_limit_end_the_source(world: World) -> None:
    world.limits = Limits(memory_mb=1024, idle_seconds=60, output_mb_max=1)
    big = sent(honest(text=pa.array(["x" * 200_000] * 3)).serialize())
    world.source(b"EVIL!" + big * 3 + end(9, index=0))
    world.source(b"second\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == ["limit.output", None]


@pytest.mark.parametrize("cut", [1, 15, 16, 200])
def test_half_a_frame_and_silence_is_given_up(world: World, cut: int) -> None:
    world.limits = Limits(memory_mb=1024, idle_seconds=1)
    world.source(b"EVIL!" + sent(message().raw)[:cut])
    world.source(b"second\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == ["limit.idle", None]


def test_bombs_cost_the_worker_no_memory(world: World) -> None:
    """All attacks of a kind one after another; the process that reads them stays as small as it was."""
    import resource

    for name in ("200,000 columns", "zstd bomb", "a metadata bomb", "rows 2^62"):
        world.source(b"EVIL!" + ATTACKS[name][0]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = threading.active_count()
    receipt = world.run()
    assert {source.code for source in receipt.sources} == {INVALID}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
    assert threading.active_count() <= threads + 1
