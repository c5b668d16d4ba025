"""What a fuzzer begins with: small logs of our own with every kind of damage, and pieces of real ones."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from casparian.demo import damage
from casparian.demo.evtx_writer import (
    CHUNK_BYTES,
    CHUNK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    Event,
    EventLog,
    System,
    ValueType,
    array,
    classic_data,
    event_data,
    forwarded_event,
    user_data,
    windows_event,
)
from casparian.demo.evtx_writer import values as make
from tests.fuzz.hives import hives, transaction_logs
from tests.fuzz.texts import delimited_texts, json_texts

LOG_BYTES_MAX = 3 * CHUNK_BYTES
"""Of a seed that is a whole log: small ones are tried more often."""

PIECES_OF_A_LOG = 4
"""Chunks taken from each real log, spread over it."""


def event_logs(corpus: Path | None) -> Iterator[bytes]:
    """Whole logs."""
    whole = EventLog(tuple(_events())).build(records_per_chunk=6).data
    yield whole
    yield from _harmed(whole)
    for event in _events():
        # One record, the chunk cut behind it: mutations hit it rather than zeros.
        built = EventLog((event,)).build()
        yield built.data[: built.records[0].offset + built.records[0].size + 8]
    for log in _real_logs(corpus):
        if len(log) <= LOG_BYTES_MAX:
            yield log
        else:
            yield log[:FILE_HEADER_BYTES] + next(_chunks(log), b"")


def event_records(corpus: Path | None) -> Iterator[bytes]:
    """Live areas of chunks: the bytes behind a chunk's header, up to its free space."""
    for event in _events():
        yield from map(_live_area, _chunks(EventLog((event,)).build().data))
    yield from map(_live_area, _chunks(EventLog(tuple(_events())).build().data))
    for log in _real_logs(corpus):
        chunks = list(_chunks(log))
        for chunk in chunks[:: max(1, len(chunks) // PIECES_OF_A_LOG)]:
            area = _live_area(chunk)
            yield area
            yield area[: struct.unpack_from("<I", area, 4)[0]]  # its first record alone


SEEDS: dict[str, Callable[[Path | None], Iterator[bytes]]] = {
    "event_log": event_logs,
    "event_records": event_records,
    "hive": hives,
    "transaction_log": transaction_logs,
    "delimited": delimited_texts,
    "json_lines": json_texts,
}
"""The seeds of each target."""


def write_seeds(target: str, into: Path, corpus: Path | None) -> int:
    """Write a target's seeds, each named by its content; gives how many there are."""
    into.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[target](corpus):
        into.joinpath(hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return sum(1 for _ in into.iterdir())


def _events() -> Iterator[Event]:
    """An event of each shape, with a value of each type in it."""
    system = System(
        provider="Microsoft-Windows-Fuzz",
        event_id=4624,
        time_created=133_000_000_000_000_001,
        event_record_id=7,
        channel="Security",
        computer="ws07.example.org",
    )
    fields = [("TargetUserName", make.string("ines.märlow")), (None, make.string("unnamed"))]
    fields += [("Long", make.string("C:\\Windows\\System32\\cmd.exe /c " * 12))]
    fields += [(f"Null{size}", make.null(bytes(size))) for size in (0, 4)]
    yield windows_event(system, event_data(*fields))
    numbers = [kind for kind in ValueType if kind.name.startswith(("INT", "UINT", "HEX", "BOOL"))]
    yield windows_event(
        system, event_data(*((kind.name, make.number(kind, 1)) for kind in numbers))
    )
    yield windows_event(
        system,
        event_data(
            ("Sid", make.sid("S-1-5-21-1-2-3-500")),
            ("Time", make.filetime(133_000_000_000_000_123)),
            ("Binary", make.binary(bytes(range(64)))),
            ("Ansi", make.ansi("caf\xe9")),
            ("Size", make.size_t(7, width_bytes=8)),
        ),
    )
    arrays = [array(kind, [1, 2, 3]) for kind in numbers]
    arrays.append(array(ValueType.STRING, ["a", "", "ü\U0001f4d3"]))
    arrays.append(array(ValueType.SID, ["S-1-5-18", "S-1-5-19"]))
    yield windows_event(system, event_data(*((f"A{i}", value) for i, value in enumerate(arrays))))
    yield windows_event(system, user_data("LogFileCleared", ("SubjectUserName", fields[0][1])))
    yield windows_event(system, classic_data(["one", "two", "three"], bytes(12)))
    yield forwarded_event(system, [("Name", "value"), (None, "unnamed")])


def _harmed(log: bytes) -> Iterator[bytes]:
    """A log of at least two chunks, broken in every way that `casparian.demo.damage` knows."""
    yield damage.flip_file_header_checksum(log)
    yield damage.break_file_magic(log)
    yield damage.flip_chunk_header_checksum(log)
    yield damage.flip_chunk_data_checksum(log)
    yield damage.flip_both_chunk_checksums(log)
    yield damage.break_chunk_magic(log)
    for sector in (1, 3, 8):
        yield damage.zero_sectors(log, 0, sector)
        yield damage.zero_sectors(log, 0, sector, count=2, reseal=True)
    for kept in (1, 8, 513, 3_000, CHUNK_BYTES - 1):
        yield damage.cut(log, keep_bytes_of_last_chunk=kept)
    yield damage.stale_header(log, chunks=0)
    yield damage.leave_slack(log, 0, keep_records=1)
    for size in (0, 27, 65_536, 2**32 - 8):
        yield damage.break_record_size(log, 0, 1, size=size, reseal=True)
    yield damage.break_binxml(log, 0, 1)
    yield damage.duplicate_chunk(log, 0)
    yield damage.splice_chunk(log, log, 1, before=0)
    yield damage.drop_chunk(log, 0)
    yield damage.insert_blank_chunk(log, before=1)


def _real_logs(corpus: Path | None) -> Iterator[bytes]:
    if corpus is not None:
        for path in sorted(corpus.glob("evtx/**/*.evtx")):
            yield path.read_bytes()


def _chunks(log: bytes) -> Iterator[bytes]:
    for start in range(FILE_HEADER_BYTES, len(log), CHUNK_BYTES):
        chunk = log[start : start + CHUNK_BYTES]
        if len(chunk) == CHUNK_BYTES and chunk.startswith(b"ElfChnk"):
            yield chunk


def _live_area(chunk: bytes) -> bytes:
    end = struct.unpack_from("<I", chunk, 48)[0]
    return chunk[CHUNK_HEADER_BYTES : end if CHUNK_HEADER_BYTES + 8 < end <= CHUNK_BYTES else None]
