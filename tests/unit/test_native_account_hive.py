"""The independent walk over hives, from Python: arguments, errors, and each kind of damage in one place."""

from __future__ import annotations

import os
import struct

import pytest

from casparian import _native
from casparian.demo.hive_writer import BASE_BYTES, entry_log, interrupted, seal
from tests.factories.hives import opened, rich_hive, walk

BUILT = rich_hive()
UNITS = sum(cell.state != "deleted" for cell in BUILT.cells)


def changed(*changes: tuple[int, bytes], sealed: bool = False) -> bytes:
    data = bytearray(BUILT.data)
    for at, content in changes:
        data[at : at + len(content)] = content
    if sealed:
        seal(data)
    return bytes(data)


def findings(data: bytes) -> dict[str, tuple[int, int]]:
    """Place of the first finding of each code; the orphan of the factory is in every hive."""
    found: dict[str, tuple[int, int]] = {}
    for code, offset, length, _ in walk(data).findings:
        found.setdefault(code, (offset, length))
    assert found.pop("key.unlisted", None)
    return found


def test_the_account_counts_cells() -> None:
    account = walk(BUILT.data)
    assert (account.unit, account.present, account.damaged) == ("cell", UNITS, 0)
    assert (account.window_origin, account.window_bytes) == (4096, 65_536)
    assert _native.Account.from_bytes(account.to_bytes()) == account


def test_a_file_that_shrank_is_an_error() -> None:
    with (
        opened([BUILT.data]) as (descriptor,),
        pytest.raises(_native.SourceError) as error,
    ):
        _native.account_hive(descriptor, len(BUILT.data) + 1)
    assert error.value.code == "source.changed"


def test_more_than_two_gibibytes_are_refused() -> None:
    descriptor = os.memfd_create("sparse")
    try:
        os.truncate(descriptor, (2 << 30) + 1)
        with pytest.raises(_native.SourceError) as error:
            _native.account_hive(descriptor, (2 << 30) + 1)
    finally:
        os.close(descriptor)
    assert error.value.code == "engine.limit"


def test_an_unknown_role_is_refused() -> None:
    with opened([BUILT.data, b""]) as (hive, log), pytest.raises(ValueError, match="role"):
        _native.account_hive(hive, len(BUILT.data), [("LOG3", log, 0)])


def test_a_zeroed_cell_is_a_damaged_region_with_its_place() -> None:
    run = BUILT.key(r"\Run")
    data = changed((run.offset, bytes(run.length)))
    assert findings(data)["cell.damaged"][0] == run.offset
    account = walk(data)
    assert account.damaged == 1
    assert account.present == UNITS  # the key is gone, the region is there


def test_a_lost_list_leaves_its_keys_unlisted() -> None:
    services = BUILT.key(r"\Services")
    (place,) = struct.unpack_from("<I", BUILT.data, services.offset + 4 + 28)
    data = changed((BASE_BYTES + place + 4, b"xx"))
    assert findings(data)["key.subkeys"] == (services.offset, services.length)
    unlisted = [code for code, *_ in walk(data).findings].count("key.unlisted")
    assert unlisted == 1 + 60


def test_an_overwritten_name_contradicts_the_list() -> None:
    run = BUILT.key(r"\Run")
    data = changed((run.offset + 4 + 76, b"Ruin"[:3]))
    assert findings(data) == {"key.name_hint": (run.offset, run.length)}


def test_data_that_is_shorter_than_claimed_is_a_finding() -> None:
    value = BUILT.value(r"\Run", "Bytes")
    data = changed((value.offset + 4 + 4, struct.pack("<I", 4000)))
    assert findings(data) == {"value.data": (value.offset, value.length)}


def test_a_loop_is_a_finding() -> None:
    services = BUILT.key(r"\Services")
    (lists,) = struct.unpack_from("<I", BUILT.data, services.offset + 4 + 28)
    (leaf,) = struct.unpack_from("<I", BUILT.data, BASE_BYTES + lists + 4 + 4)
    element = BASE_BYTES + leaf + 4 + 4
    found = findings(changed((element, struct.pack("<I", services.offset - BASE_BYTES))))
    assert found["key.listed_twice"] == (services.offset, services.length)


def test_a_size_of_the_bins_that_lies_is_a_finding() -> None:
    page = struct.pack("<I", 4096)
    account = walk(changed((40, page), sealed=True))
    assert account.present < UNITS
    assert "hive.bins_behind" in {code for code, *_ in account.findings}
    assert "source.truncated" in findings(changed((40, b"\0\0\1\1"), sealed=True))


def test_a_wrong_checksum_hides_nothing() -> None:
    data = changed((100, b"\xff"))
    assert set(findings(data)) == {"hive.checksum", "hive.dirty"}
    assert walk(data).present == UNITS


@pytest.mark.parametrize("at", [4, 512 + 4, 512 + 12, 512 + 24, 512 + 32, 512 + 40, 4000])
def test_a_flipped_bit_in_a_log_is_told_and_costs_no_unit(at: int) -> None:
    dirty = interrupted(BUILT.data)
    log = bytearray(entry_log([(BUILT.data, BUILT.data)], first=8))
    assert len(log) == 1024
    log += bytes(4096)
    clean = walk(dirty, [("LOG1", bytes(log))])
    assert clean.findings[0][0] == "hive.recovered"
    log[at] ^= 1
    account = walk(dirty, [("LOG1", bytes(log))])
    assert account.present == UNITS
    if at < 1024:
        assert account.findings[0][0].startswith("log.")
        assert account.findings[1][0] == "hive.dirty"


def test_the_log_of_another_hive_is_not_applied() -> None:
    dirty = interrupted(BUILT.data)
    emptied = BUILT.data[:BASE_BYTES] + bytes(len(BUILT.data) - BASE_BYTES)
    log = entry_log([(BUILT.data, emptied)], first=3)
    account = walk(dirty, [("LOG2", log)])
    assert [code for code, *_ in account.findings][:2] == ["log.stale", "hive.dirty"]
    assert account.present == UNITS
