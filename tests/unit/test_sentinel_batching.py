"""How files are cut into jobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.sentinel import batching

MIB = 1 << 20


def parts(sizes: list[int], workers: int, files_max: int = 512) -> list[list[int]]:
    files = cast("Any", [SimpleNamespace(size_bytes=size) for size in sizes])
    return [[file.size_bytes for file in part] for part in batching._cut(files, workers, files_max)]


@given(
    sizes=st.lists(st.integers(0, 100 * MIB), max_size=60),
    workers=st.integers(1, 8),
    files_max=st.integers(1, 20),
)
def test_every_file_is_in_one_part_and_no_part_is_too_large(
    sizes: list[int], workers: int, files_max: int
) -> None:
    found = parts(sizes, workers, files_max)
    assert [size for part in found for size in part] == sizes
    for part in found:
        assert 0 < len(part) <= files_max
        assert len(part) == 1 or sum(part) <= batching.BATCH_BYTES_MAX


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([], 2, 0),
        ([100], 2, 1),  # nothing to share
        ([69_632] * 870, 2, 2),  # small logs: one job for each worker
        ([69_632] * 2_000, 2, 4),  # no more than 512 files each
        ([20 * MIB] * 20, 2, 7),  # 400 MiB: by size
        ([200 * MIB] * 3, 2, 3),  # a file is never cut
    ],
)
def test_jobs_are_as_few_as_keep_the_workers_busy(
    sizes: list[int], workers: int, expected: int
) -> None:
    assert len(parts(sizes, workers)) == expected


def test_parts_are_about_equally_heavy() -> None:
    lengths = [len(part) for part in parts([69_632] * 870, 2)]
    assert lengths == [435, 435]
