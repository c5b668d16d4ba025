"""Accounts and tallies through the native module."""

import array
import errno
import os
import pathlib
import struct
import zlib

import pyarrow as pa
import pytest

from casparian import _native


def account_lines(path: pathlib.Path, text: bytes, encoding: str | None = None) -> _native.Account:
    path.write_bytes(text)
    with path.open("rb") as file:
        return _native.account_lines(file.fileno(), len(text), encoding=encoding)


def event_log(records: int) -> bytes:
    """One sealed chunk with records of 64 bytes, ids from 1."""
    body = b"".join(
        struct.pack("<4sIQ", b"**\0\0", 64, record) + b"U" * 44 + struct.pack("<I", 64)
        for record in range(1, records + 1)
    )
    head = bytearray(512)
    struct.pack_into("<8sQQ", head, 0, b"ElfChnk\0", 1, records)
    struct.pack_into("<II", head, 48, 512 + len(body), zlib.crc32(body))
    struct.pack_into("<I", head, 124, zlib.crc32(head[:120] + head[128:512]))
    chunk = (bytes(head) + body).ljust(65536, b"\0")
    file = bytearray(4096)
    file[:8] = b"ElfFile\0"
    struct.pack_into("<H", file, 42, 1)
    struct.pack_into("<I", file, 124, zlib.crc32(file[:120]))
    return bytes(file) + chunk


def account_evtx(path: pathlib.Path, log: bytes) -> _native.Account:
    path.write_bytes(log)
    with path.open("rb") as file:
        return _native.account_evtx(file.fileno(), len(log))


def test_lines_are_counted_blank_ones_apart(tmp_path: pathlib.Path) -> None:
    account = account_lines(tmp_path / "log", b"\xef\xbb\xbfone\r\n \t\r\ntwo")
    assert (account.unit, account.present, account.declared) == ("line", 2, None)
    assert (account.blank_units, account.blank_bytes) == (1, 4)
    assert (account.window_origin, account.window_bytes) == (0, 1 << 20)


def test_an_encoding_can_be_told_and_a_wrong_name_is_refused(tmp_path: pathlib.Path) -> None:
    text = "\u4e2d\u6587\n\u0a0a".encode("utf-16-be")
    assert account_lines(tmp_path / "log", text, "utf-16-be").present == 2
    with pytest.raises(ValueError, match="encoding"):
        account_lines(tmp_path / "log", text, "cp1252")


def test_a_tally_of_the_same_units_shows_no_difference(tmp_path: pathlib.Path) -> None:
    account = account_evtx(tmp_path / "log", event_log(10))
    assert (account.present, account.declared, account.findings) == (10, 10, [])
    offsets = [4608 + 64 * index for index in range(10)]
    lengths = [64] * 10

    buffers = {
        "array": (array.array("Q", offsets), array.array("Q", lengths)),
        "bytes": (struct.pack("<10Q", *offsets), struct.pack("<10Q", *lengths)),
        "arrow": tuple(pa.array(v, pa.uint64()).buffers()[1] for v in (offsets, lengths)),
    }
    for offset_buffer, length_buffer in buffers.values():
        tally = _native.Tally(account.window_origin, account.window_bytes)
        tally.add(offset_buffer, length_buffer)
        assert tally.total == 10
        assert tally.compare(account) == []


def test_no_units_can_be_added(tmp_path: pathlib.Path) -> None:
    tally = _native.Tally(4096, 65536)
    for empty in (b"", array.array("Q"), pa.array([], pa.uint64()).buffers()[1] or b""):
        tally.add(empty, empty)
    assert tally.compare(account_evtx(tmp_path / "log", event_log(0))) == []


def test_a_lost_unit_shows_in_its_window(tmp_path: pathlib.Path) -> None:
    account = account_evtx(tmp_path / "log", event_log(10))
    tally = _native.Tally(4096, 65536)
    tally.add(array.array("Q", [4608 + 64 * i for i in range(9)]), array.array("Q", [64] * 9))
    (difference,) = tally.compare(account)
    assert (difference.index, difference.offset) == (0, 4096)
    assert (difference.present, difference.accounted, difference.same_units) == (10, 9, False)


def test_buffers_and_windows_that_do_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    tally = _native.Tally(0, 65536)
    with pytest.raises(ValueError, match="different numbers"):
        tally.add(bytes(16), bytes(8))
    with pytest.raises(ValueError, match="multiple of 8"):
        tally.add(bytes(9), bytes(9))
    with pytest.raises(ValueError, match="neither"):
        tally.add(array.array("d", [1.0]), array.array("d", [1.0]))
    with pytest.raises(ValueError, match="window"):
        tally.compare(account_evtx(tmp_path / "log", event_log(1)))
    with pytest.raises(ValueError, match="window_bytes"):
        _native.Tally(0, 0)


def test_damage_is_a_finding_with_a_place(tmp_path: pathlib.Path) -> None:
    log = bytearray(event_log(10))
    log[4608 + 64 : 4608 + 128] = bytes(64)
    account = account_evtx(tmp_path / "log", bytes(log))
    assert (account.present, account.damaged) == (10, 1)
    codes = {code: (offset, length) for code, offset, length, _ in account.findings}
    assert codes["chunk.damaged"] == (4672, 64)
    assert codes["chunk.data_crc"] == (4096, 65536)


def test_an_account_survives_the_bridge_and_a_forged_one_does_not(tmp_path: pathlib.Path) -> None:
    account = account_evtx(tmp_path / "log", event_log(3))
    stored = account.to_bytes()
    assert _native.Account.from_bytes(stored) == account
    assert account != account_evtx(tmp_path / "log", event_log(4))
    for length in range(len(stored)):
        with pytest.raises(ValueError, match="account"):
            _native.Account.from_bytes(stored[:length])
    with pytest.raises(ValueError, match="account"):
        _native.Account.from_bytes(stored + b"\0")


def test_a_source_that_shrank_is_an_error_with_its_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(event_log(3))
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        os.truncate(path, 5000)
        with pytest.raises(_native.SourceError) as raised:
            _native.account_evtx(file.fileno(), size)
    error = raised.value
    assert (error.code, error.offset, error.errno) == ("source.changed", 5000, None)
    assert str(error) == error.message


def test_a_read_that_fails_is_an_error_with_the_number_of_the_system(
    tmp_path: pathlib.Path,
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(_native.SourceError) as raised:
            _native.account_lines(directory, 10)
        digest = _native.digest_fd(directory)
    finally:
        os.close(directory)
    error = raised.value
    assert (error.code, error.offset, error.errno) == ("source.unreadable", 0, errno.EISDIR)
    assert (digest.error, digest.blake3) == ("source.not_a_file", None)
