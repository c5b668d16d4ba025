"""A source's rows are all there or not at all; a failing disk fails the job and never lies."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import blake3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sinks_world as world

from casparian.sinks import csv, hashed, staging
from casparian.sinks.faults import StagingFault, is_transient

KINDS = ("parquet", "csv", "duckdb")


def _sources(path: str) -> set[str]:
    is_csv = path.endswith(".csv")
    table = csv.read_back(path, world.SMALL) if is_csv else pq.read_table(path)
    return set(table["_cf_source_id"].to_pylist())


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SOURCE_BUFFER_BYTES_MAX", 4_000)
    monkeypatch.setattr(staging, "ROW_GROUP_BYTES_MAX", 4_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_rolled_back_leaves_no_row_in_any_file(tmp_path: Path, kind: str) -> None:
    stage = world.stage(world.sink(kind, tmp_path), world.SMALL)
    for index in range(6):
        stage.begin_source(index)
        stage.write(world.small(index, 10))
        if index % 2:
            stage.rollback_source()
        else:
            assert stage.commit_source() == 10
    (file,) = stage.finish()
    assert (file.sources, file.rows) == ((0, 2, 4), 30)
    assert _sources(file.path) == {world.source(index).source_id for index in (0, 2, 4)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_outgrows_the_buffer_has_a_part_of_its_own(
    tmp_path: Path, kind: str, small_buffers: None
) -> None:
    sink = world.sink(kind, tmp_path)
    stage = world.stage(sink, world.SMALL)
    for index, batches in enumerate((1, 40, 1, 40, 1)):
        stage.begin_source(index)
        for number in range(batches):
            stage.write(world.small(index, 10, first=number * 10))
        if index == 3:
            assert len([f for f in world.tree(tmp_path) if "events_7_1_" in f]) >= 2
            stage.rollback_source()
        else:
            assert stage.commit_source() == batches * 10
    files = stage.finish()
    assert sorted(file.sources for file in files) == [(0, 2, 4), (1,)]
    assert {os.path.basename(file.path).split(".")[0] for file in files} <= {
        f"events_7_1_{n}" for n in range(3)
    }
    for file in files:
        assert _sources(file.path) == {world.source(i).source_id for i in file.sources}
    assert sum(file.rows for file in files) == 430
    assert len(world.tree(tmp_path)) == 2  # nothing of the source that was rolled back


def test_a_table_without_rows_makes_no_file(tmp_path: Path) -> None:
    stage = world.stage(world.sink("parquet", tmp_path), world.SMALL)
    stage.begin_source(0)
    stage.write(world.small(0, 0))
    assert stage.commit_source() == 0
    assert stage.finish() == ()
    assert world.tree(tmp_path) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_receipt_names_the_bytes_that_are_there(tmp_path: Path, kind: str) -> None:
    batches = {index: world.small(index, 50) for index in range(3)}
    (file,) = world.staged(world.sink(kind, tmp_path), world.SMALL, batches)
    content = Path(file.path).read_bytes()
    assert (len(content), blake3.blake3(content).hexdigest()) == (file.size_bytes, file.blake3)


@pytest.mark.parametrize("kind", KINDS)
def test_abort_leaves_nothing(tmp_path: Path, kind: str, small_buffers: None) -> None:
    stage = world.stage(world.sink(kind, tmp_path), world.SMALL)
    for index in range(3):
        stage.begin_source(index)
        for number in range(20):
            stage.write(world.small(index, 10, first=10 * number))
        if index < 2:
            stage.commit_source()
    stage.abort()
    assert world.tree(tmp_path) == set()


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path, "?row_group_rows=1024")
    batches = {index: world.small(index, 300) for index in range(20)}
    (file,) = world.staged(sink, world.SMALL, batches)
    metadata = pq.read_metadata(file.path)
    groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert sum(groups) == 6000
    assert max(groups) <= 1024
    assert len(groups) <= 7
    column = metadata.row_group(0).column(0)
    assert column.statistics.has_min_max
    assert column.has_offset_index


def test_sources_are_taken_one_after_the_other(tmp_path: Path) -> None:
    stage = world.stage(world.sink("parquet", tmp_path), world.SMALL)
    with pytest.raises(RuntimeError, match="no source is open"):
        stage.write(world.small(0))
    stage.begin_source(0)
    with pytest.raises(RuntimeError, match="still open"):
        stage.begin_source(1)
    with pytest.raises(RuntimeError, match="still open"):
        stage.finish()


def test_a_retry_never_meets_the_files_of_the_attempt_before(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path)
    (first,) = world.staged(sink, world.SMALL, {0: world.small(0)}, epoch=1)
    (second,) = world.staged(sink, world.SMALL, {0: world.small(0)}, epoch=2)
    assert os.path.basename(first.path) != os.path.basename(second.path)
    with pytest.raises(StagingFault):  # the same attempt twice is a mistake, not an overwrite
        world.staged(sink, world.SMALL, {0: world.small(0)}, epoch=2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_fsync_error_fails_the_job_for_good(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = world.stage(world.sink(kind, tmp_path), world.SMALL)
    stage.begin_source(0)
    stage.write(world.small(0))
    stage.commit_source()
    calls = []

    def broken(descriptor: int) -> None:
        if os.path.isfile(f"/proc/self/fd/{descriptor}"):
            calls.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashed.os, "fsync", broken)
    with pytest.raises(StagingFault) as caught:
        stage.finish()
    assert caught.value.code == "staging.fsync"
    assert not is_transient(caught.value)
    assert len(calls) == 1
    stage.abort()
    assert world.tree(tmp_path) == set()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_a_transient_fault_and_leaves_no_file(tiny_disk: Path, kind: str) -> None:
    stage = world.stage(world.sink(kind, tiny_disk), world.SMALL)
    texts = pa.array([os.urandom(512).hex() for _ in range(4_000)])

    def write_four_sources() -> None:
        for index in range(4):
            stage.begin_source(index)
            stage.write(world.batch(world.SMALL, index, [pa.array(range(4_000)), texts]))
            stage.commit_source()
        stage.finish()

    with pytest.raises(StagingFault) as caught:
        write_four_sources()
    assert caught.value.code == "staging.no_space"
    assert is_transient(caught.value)
    assert caught.value.hint is not None
    stage.abort()
    assert world.tree(tiny_disk) == set()
