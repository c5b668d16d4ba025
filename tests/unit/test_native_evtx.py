"""The decoder of event logs as an iterator of Arrow batches."""

import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pytest

from casparian import _native

RECORDS = 100
BOOKKEEPING = [
    pa.field("@offset", pa.uint64(), nullable=False),
    pa.field("@length", pa.uint64(), nullable=False),
    pa.field("@flags", pa.uint32(), nullable=False),
]


def record(number: int, position: int) -> bytes:
    """A record with the event `<Event/>` as inline BinXML, its name written in place."""
    checksum = 0
    for character in b"Event":
        checksum = (checksum * 65599 + character) & 0xFFFF
    name = struct.pack("<IHH", 0, checksum, 5) + "Event\0".encode("utf-16-le")
    # Record header, fragment header, element token, element size, name offset.
    name_position = position + 24 + 4 + 1 + 4 + 4
    event = b"\x0f\1\1\0\x01" + struct.pack("<II", 4 + len(name) + 1, name_position)
    event += name + b"\x03\x00"
    size = 24 + len(event) + 4
    head = struct.pack("<4sIQQ", b"**\0\0", size, number, 133_000_000_000_000_001)
    return head + event + struct.pack("<I", size)


def event_log() -> bytes:
    chunk = bytearray(512)
    for number in range(1, RECORDS + 1):
        chunk += record(number, len(chunk))
    end = len(chunk)
    chunk = chunk.ljust(65536, b"\0")
    struct.pack_into("<8sQQ", chunk, 0, b"ElfChnk\0", 1, RECORDS)
    struct.pack_into("<II", chunk, 48, end, zlib.crc32(chunk[512:end]))
    struct.pack_into("<I", chunk, 124, zlib.crc32(chunk[:120] + chunk[128:512]))
    header = bytearray(4096)
    header[:8] = b"ElfFile\0"
    struct.pack_into("<H", header, 42, 1)
    struct.pack_into("<I", header, 124, zlib.crc32(header[:120]))
    return bytes(header + chunk)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a log with one chunk."""
    path = tmp_path / "Security.evtx"
    path.write_bytes(event_log())
    with path.open("rb") as file:
        yield file.fileno(), path.stat().st_size


def batches(reader: _native.EvtxReader) -> dict[str, list[pa.RecordBatch]]:
    result: dict[str, list[pa.RecordBatch]] = {}
    for name, batch in reader:
        converted = pa.record_batch(batch)
        converted.validate(full=True)
        assert converted.num_rows == batch.num_rows
        result.setdefault(name, []).append(converted)
    return result


def test_rows_come_as_arrow_batches_with_their_place_first(log: tuple[int, int]) -> None:
    outputs = batches(_native.EvtxReader(*log))
    assert set(outputs) == {"evtx_events", "evtx_chunks"}
    (events,) = outputs["evtx_events"]
    assert [events.schema.field(index) for index in range(3)] == BOOKKEEPING
    assert events["header_record_id"].to_pylist() == list(range(1, RECORDS + 1))
    assert events["@offset"][0].as_py() == 4096 + 512
    (chunks,) = outputs["evtx_chunks"]
    assert [chunks.schema.field(index) for index in range(3)] == BOOKKEEPING
    assert chunks["records"].to_pylist() == [RECORDS]


def test_a_batch_ends_at_the_rows_asked_for_and_no_row_is_lost(log: tuple[int, int]) -> None:
    events = batches(_native.EvtxReader(*log, batch_rows=7))["evtx_events"]
    assert sum(batch.num_rows for batch in events) == RECORDS
    assert len(events) > 1 or events[0].num_rows == RECORDS


def test_a_batch_outlives_its_reader_and_can_be_imported_again(log: tuple[int, int]) -> None:
    _, batch = next(iter(_native.EvtxReader(*log)))
    first, second = pa.record_batch(batch), pa.record_batch(batch)
    assert first.equals(second)
    assert pa.schema(batch).equals(first.schema)


def test_what_comes_out_balances_with_the_account(log: tuple[int, int]) -> None:
    account = _native.account_evtx(*log)
    tally = _native.Tally(account.window_origin, account.window_bytes)
    for events in batches(_native.EvtxReader(*log))["evtx_events"]:
        offsets, lengths = (events[name].buffers()[1] for name in ("@offset", "@length"))
        rows = 8 * events.num_rows
        tally.add(offsets[:rows], lengths[:rows])
    assert tally.total == account.present == RECORDS
    assert tally.compare(account) == []


def test_a_build_for_use_has_no_faults(log: tuple[int, int]) -> None:
    if "sabotage" in _native.build_info()["features"]:
        reader = _native.EvtxReader(*log, fault="drop-record:10")
        assert sum(batch.num_rows for batch in batches(reader)["evtx_events"]) == RECORDS * 9 // 10
        return
    with pytest.raises(ValueError, match="sabotage"):
        _native.EvtxReader(*log, fault="drop-record:10")


def test_arguments_out_of_range_are_refused(log: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        _native.EvtxReader(*log, batch_rows=0)
    with pytest.raises(OSError, match="descriptor"):
        _native.EvtxReader(1_000_000, 1)


def test_a_reader_that_failed_never_looks_finished(
    log: tuple[int, int], tmp_path: pathlib.Path
) -> None:
    reader = _native.EvtxReader(*log)
    os.truncate(tmp_path / "Security.evtx", 5000)
    with pytest.raises(_native.SourceError) as raised:
        next(reader)
    assert raised.value.code == "source.changed"
    with pytest.raises(RuntimeError, match="not the whole log"):
        next(reader)


def test_a_finished_reader_stays_finished(log: tuple[int, int]) -> None:
    reader = _native.EvtxReader(*log)
    assert list(reader)
    assert list(reader) == []
