"""Each kind of damage does what it says, seen by the reference reader and by the accounting."""

import struct
import tempfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casparian import _native
from casparian.demo import damage
from casparian.demo.evtx_reference import LogReading, read_log
from casparian.demo.evtx_writer import (
    CHUNK_BYTES,
    EventLog,
    System,
    event_data,
    windows_event,
)
from casparian.demo.evtx_writer.values import string, uint32
from tests.factories import wheel
from tests.factories.evtx_events import damaged


def example_log(records: int = 30, records_per_chunk: int = 10) -> bytes:
    events = [
        windows_event(
            System(
                provider="Example",
                event_id=7,
                time_created=133_546_683_011_234_567 + number,
                event_record_id=number,
                channel="Application",
                computer="ws.example.org",
            ),
            event_data(("Number", uint32(number)), ("Text", string("text " * (number % 7)))),
        )
        for number in range(1, records + 1)
    ]
    return EventLog(tuple(events)).to_bytes(records_per_chunk=records_per_chunk)


LOG = example_log()


def account(data: bytes) -> _native.Account:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return _native.account_evtx(file.fileno(), len(data))


def codes(data: bytes) -> set[str]:
    return {finding[0] for finding in account(data).findings}


def recovered(reading: LogReading) -> int:
    return sum(unit.recovered for unit in reading.live if not unit.damaged)


@pytest.mark.parametrize(
    ("broken", "present", "regions", "recovered_rows", "findings"),
    [
        (LOG, 30, 0, 0, set()),
        (damage.flip_file_header_checksum(LOG), 30, 0, 0, {"file.header_crc"}),
        (damage.break_file_magic(LOG), 30, 0, 0, {"file.magic", "file.header_crc"}),
        (damage.flip_chunk_header_checksum(LOG, 1), 30, 0, 0, {"chunk.header_crc"}),
        (damage.flip_chunk_data_checksum(LOG, 1), 30, 0, 0, {"chunk.data_crc"}),
        (damage.flip_both_chunk_checksums(LOG, 1), 30, 0, 10, {"chunk.header_crc", "chunk.data_crc"}),
        (damage.break_chunk_magic(LOG, 1), 30, 0, 0, {"chunk.magic", "chunk.header_crc"}),
        (damage.zero_sectors(LOG, 1, 0), 30, 0, 10, {"chunk.magic", "chunk.header_crc", "chunk.data_crc"}),
        (damage.break_record_size(LOG, 1, 4), 30, 1, 5, {"chunk.data_crc", "chunk.damaged"}),
        (damage.break_record_size(LOG, 1, 4, size=2**32 - 1), 30, 1, 5, {"chunk.data_crc", "chunk.damaged"}),
        (damage.break_record_size(LOG, 1, 9, reseal=True), 30, 1, 0, {"chunk.damaged"}),
        (damage.break_binxml(LOG, 1, 4), 30, 0, 0, set()),
        (damage.stale_header(LOG, chunks=1), 30, 0, 0, {"file.chunk_count"}),
        (damage.duplicate_chunk(LOG, 0), 40, 0, 0, {"file.chunk_count"}),
        (damage.splice_chunk(LOG, example_log(5), 0, before=1), 35, 0, 0, {"file.chunk_count"}),
        (damage.drop_chunk(LOG, 1), 20, 0, 0, {"file.chunk_count", "source.truncated"}),
        (damage.insert_blank_chunk(LOG, before=1), 30, 0, 0, set()),
        (damage.insert_blank_chunk(LOG), 30, 0, 0, set()),
        (damage.leave_slack(LOG, 2, keep_records=4), 24, 0, 0, set()),
        (damage.cut(LOG, keep_bytes_of_last_chunk=511), 20, 0, 0, {"chunk.cut", "source.truncated"}),
        (LOG[:4000], 0, 0, 0, {"file.too_short"}),
    ],
)  # fmt: skip
def test_damage_leaves_what_its_docstring_says(
    broken: bytes, present: int, regions: int, recovered_rows: int, findings: set[str]
) -> None:
    reading = read_log(broken)
    assert (reading.present, reading.damaged) == (present, regions)
    assert recovered(reading) == recovered_rows
    assert findings <= codes(broken)


def test_a_cut_goes_through_one_record_and_spares_those_before() -> None:
    offsets = damage.record_offsets(LOG, 2)
    keep = offsets[6] + 40 - (4096 + 2 * CHUNK_BYTES)
    reading = read_log(damage.cut(LOG, keep_bytes_of_last_chunk=keep))
    assert (reading.present, reading.damaged) == (27, 1)
    assert [unit.record_id for unit in reading.live[20:]] == [21, 22, 23, 24, 25, 26, None]
    assert recovered(reading) == 6
    assert {"chunk.cut", "source.truncated"} <= codes(
        damage.cut(LOG, keep_bytes_of_last_chunk=keep)
    )


def test_a_zeroed_sector_is_one_region_and_the_records_behind_it_survive() -> None:
    offsets = damage.record_offsets(LOG, 1)
    base = 4096 + CHUNK_BYTES
    sector = (offsets[5] - base) // damage.SECTOR_BYTES
    broken = damage.zero_sectors(LOG, 1, sector)
    start = base + sector * damage.SECTOR_BYTES
    assert broken[start : start + 512] == bytes(512)
    assert broken[:start] + LOG[start : start + 512] + broken[start + 512 :] == LOG
    reading = read_log(broken)
    assert reading.damaged == 1
    (region,) = (unit for unit in reading.live if unit.damaged)
    assert region.offset <= start < region.offset + region.length
    assert {"chunk.damaged", "chunk.data_crc"} <= codes(broken)
    assert wheel.readable_count(broken) < reading.present - 1  # what others lose without a word


def test_slack_holds_the_records_behind_free_space() -> None:
    broken = damage.leave_slack(LOG, 2, keep_records=4)
    reading = read_log(broken)
    slack = [unit for chunk in reading.chunks for unit in chunk.units if unit.slack]
    assert [unit.record_id for unit in slack] == [25, 26, 27, 28, 29, 30]
    assert all(unit.recovered for unit in slack)
    assert reading.declared == 24
    assert account(broken).slack_records == 6
    assert len(wheel.facts(broken)) == 24


def test_a_stale_header_keeps_its_checksum_right_and_says_dirty() -> None:
    broken = damage.stale_header(LOG, chunks=2)
    assert struct.unpack_from("<Q", broken, 16) == (1,)
    assert struct.unpack_from("<H", broken, 42) == (2,)
    assert struct.unpack_from("<II", broken, 120) == (1, zlib.crc32(broken[:120]))
    assert struct.unpack_from("<I", damage.stale_header(LOG, chunks=2, dirty=False), 120) == (0,)
    assert len(wheel.facts(broken)) == 30


@pytest.mark.parametrize("reseal", [False, True])
def test_resealing_makes_the_checksums_vouch_for_the_damage(*, reseal: bool) -> None:
    (chunk,) = read_log(damage.zero_sectors(LOG, 1, 4, reseal=reseal)).chunks[1:2]
    assert chunk.header_checksum_ok
    assert chunk.data_checksum_ok is reseal


@pytest.mark.parametrize(
    "function",
    [
        damage.flip_chunk_header_checksum,
        damage.break_chunk_magic,
        lambda log, chunk: damage.zero_sectors(log, chunk, 3),
        lambda log, chunk: damage.drop_chunk(log, chunk),
    ],
)
def test_a_chunk_that_is_not_there_is_refused(function: Callable[[bytes, int], bytes]) -> None:
    with pytest.raises(IndexError, match="no chunk 3"):
        function(LOG, 3)


def test_a_sector_or_header_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError, match="no sector 128"):
        damage.zero_sectors(LOG, 0, 128)
    stump = damage.cut(LOG, keep_bytes_of_last_chunk=100)
    with pytest.raises(IndexError, match="inside its header"):
        damage.flip_chunk_data_checksum(stump, 2)


def test_a_cut_must_fall_inside_the_last_chunk_and_slack_needs_records() -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        damage.cut(LOG, keep_bytes_of_last_chunk=CHUNK_BYTES)
    with pytest.raises(ValueError, match="holds 10 records"):
        damage.leave_slack(LOG, 0, keep_records=10)


@given(damaged(example_log(12, 4)))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_accounting_finds_what_the_reference_reader_finds(broken: bytes) -> None:
    reading, found = read_log(broken), account(broken)
    assert found.present == reading.present
    assert found.damaged == reading.damaged
    assert found.slack_records == reading.slack
    assert found.declared == reading.declared


@given(st.binary(max_size=9000).map(lambda tail: LOG[:4096] + tail))
@settings(deadline=None)
def test_the_reference_reader_takes_any_bytes(data: bytes) -> None:
    reading = read_log(data)
    assert reading.present == account(data).present


def test_record_ids_and_lengths_of_a_healthy_log_are_those_that_were_written() -> None:
    reading = read_log(LOG)
    assert [unit.record_id for unit in reading.live] == list(range(1, 31))
    assert reading.declared == 30
    assert sum(unit.length for unit in reading.live) < len(LOG)
    assert all(LOG[u.offset : u.offset + 2] == b"**" for u in reading.live)
