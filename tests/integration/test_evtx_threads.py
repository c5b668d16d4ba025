"""A log decoded on several threads gives the very bytes that one thread gives."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from test_worker_parsers import log_of, run
from worker_world import World, home_at, rows

from casparian import _native
from casparian.worker.executor import Services

HEADER = 4096
CHUNK = 65_536
BLOCK = 64  # chunks of a block, which a batch never leaves


def large_log(seed: int, chunks: int) -> bytes:
    """A log of many chunks, some of them damaged, one cut."""
    chance = random.Random(seed)
    made = log_of(2_500)
    header, pool = made[:HEADER], [made[at : at + CHUNK] for at in range(HEADER, len(made), CHUNK)]
    log = bytearray(header)
    for _ in range(chunks):
        chunk = bytearray(chance.choice(pool))
        if chance.random() < 0.2:
            at = chance.randrange(CHUNK)
            chunk[at : at + chance.choice((1, 64, 512))] = b""
            chunk = chunk.ljust(CHUNK, b"\0")[:CHUNK]
        if chance.random() < 0.05:
            chunk = bytearray(CHUNK)
        log += chunk
    return bytes(log[: len(log) - chance.randrange(CHUNK)])


def decoded(path: Path, threads: int, **options: int) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        reader = _native.EvtxReader(file.fileno(), path.stat().st_size, threads=threads, **options)
        return [(name, pa.record_batch(batch).serialize().to_pybytes()) for name, batch in reader]


@pytest.mark.parametrize("seed", range(4))
def test_batches_are_the_same_for_any_number_of_threads(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "large.evtx"
    path.write_bytes(large_log(seed, BLOCK * 3 + 7 * seed))
    alone = decoded(path, 1)
    assert {name for name, _ in alone} == {"evtx_events", "evtx_chunks", "@quarantine"}
    for threads in (2, 3, 5, 64):
        assert decoded(path, threads) == alone, threads
    small = decoded(path, 1, batch_rows=997)
    assert len(small) > len(alone)
    assert decoded(path, 4, batch_rows=997) == small


def test_reader_that_is_left_early_ends_its_threads(tmp_path: Path) -> None:
    path = tmp_path / "large.evtx"
    path.write_bytes(large_log(1, BLOCK * 8))
    before = len(os.listdir("/proc/self/task"))
    with path.open("rb") as file:
        reader = _native.EvtxReader(file.fileno(), path.stat().st_size, threads=3)
        next(reader)
        assert len(os.listdir("/proc/self/task")) >= before + 1
        del reader
    assert len(os.listdir("/proc/self/task")) == before


def test_log_that_shrinks_is_an_error_on_threads_as_well(tmp_path: Path) -> None:
    path = tmp_path / "large.evtx"
    path.write_bytes(large_log(2, BLOCK * 4))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(HEADER + BLOCK * CHUNK + 5)
        for threads in (1, 3):
            reader = _native.EvtxReader(file.fileno(), size, threads=threads)
            with pytest.raises(_native.SourceError) as raised:
                for _ in reader:
                    pass
            assert raised.value.code == "source.changed"
            with pytest.raises(RuntimeError):
                next(reader)


def test_guest_decodes_on_threads_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(home_at(tmp_path))
    try:
        receipts = []
        for threads in (1, 4):
            (tmp_path / str(threads)).mkdir()
            world = World(tmp_path / str(threads), services)
            world.source(large_log(3, BLOCK * 3), name="large.evtx")
            dispatch = world.dispatch
            monkeypatch.setattr(
                world,
                "dispatch",
                lambda threads=threads, dispatch=dispatch, **changes: dispatch(
                    threads=threads, **changes
                ),
            )
            receipts.append(run(world, "windows.evtx"))
        one, four = receipts
        assert one.sources == four.sources
        assert one.sources[0].code is None
        for table in ("evtx_events", "evtx_chunks", "quarantine"):
            assert rows(one, table) == rows(four, table)
    finally:
        services.close()
