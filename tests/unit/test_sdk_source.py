"""The evidence as a parser reads it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.sdk import Source

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "evidence"
    path.write_bytes(CONTENT)
    return Source(os.open(path, os.O_RDONLY), len(CONTENT))


def test_read_seek_and_tell_agree_with_the_bytes(source: Source) -> None:
    assert source.size == 1024
    assert source.read(10) == CONTENT[:10]
    assert source.tell() == 10
    assert source.seek(-4, os.SEEK_END) == 1020
    assert source.read() == CONTENT[1020:]
    assert source.read(1) == b""
    assert source.seek(5000) == 5000
    assert source.read(1) == b""
    with pytest.raises(ValueError, match="cannot seek"):
        source.seek(-1)


def test_pread_does_not_move_the_position(source: Source) -> None:
    source.seek(7)
    assert source.pread(3, 100) == CONTENT[100:103]
    assert source.pread(100, 1000) == CONTENT[1000:]
    assert source.pread(1, 1024) == b""
    assert source.pread(1, 9999) == b""
    assert source.tell() == 7


def test_another_holder_of_the_descriptor_cannot_move_the_reader(source: Source) -> None:
    source.read(5)
    os.lseek(source.fileno(), 500, os.SEEK_SET)
    assert source.read(5) == CONTENT[5:10]


def test_buffered_reader_and_lines_work_over_it(source: Source) -> None:
    assert b"".join(io.BufferedReader(source)) == CONTENT


def test_source_that_shrank_is_an_error_and_not_an_early_end(tmp_path: Path) -> None:
    path = tmp_path / "evidence"
    path.write_bytes(CONTENT)
    source = Source(os.open(path, os.O_RDONLY), len(CONTENT))
    os.truncate(path, 100)
    with pytest.raises(EOFError, match="ends at 100"):
        source.pread(200, 0)
    source.seek(100)
    with pytest.raises(EOFError):
        source.read(1)


def test_source_that_grew_ends_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "evidence"
    path.write_bytes(CONTENT)
    source = Source(os.open(path, os.O_RDONLY), len(CONTENT))
    with path.open("ab") as file:
        file.write(b"more")
    assert source.read() == CONTENT
    assert source.pread(2000, 0) == CONTENT


@given(offset=st.integers(0, 2000), length=st.integers(-5, 2000))
def test_pread_is_a_slice(offset: int, length: int) -> None:
    descriptor = os.memfd_create("evidence")
    try:
        os.write(descriptor, CONTENT)
        source = Source(descriptor, len(CONTENT))
        assert source.pread(length, offset) == CONTENT[offset : offset + max(0, length)]
    finally:
        os.close(descriptor)
