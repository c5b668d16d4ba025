"""The factory of hives: its own account of what it wrote agrees with a walk that knows nothing of it."""

from __future__ import annotations

import struct

import pytest

from casparian import _native
from casparian.demo.hive_writer import (
    BASE_BYTES,
    BuiltHive,
    Hive,
    Key,
    entry_log,
    interrupted,
    marvin32,
    sector_log,
    security_descriptor,
    sequence_of,
    sid,
)
from casparian.demo.hive_writer.hive import ListKind
from tests.factories.hives import rich_hive, rich_root, walk


def test_the_published_vectors_of_the_checksum_hold() -> None:
    seed = 0x004FB61A001BDBCC
    assert marvin32(b"", seed) == 0x30ED35C100CD3C7D
    assert marvin32(b"\xaf", seed) == 0x48E73FC77D75DDC1
    assert marvin32(b"\xe7\x0f", seed) == 0xB5F6E1FC485DBFF8
    assert marvin32(b"\x37\xf4\x95", seed) == 0xF0B07C789B8CF7E8
    assert marvin32(b"\x86\x42\xdc\x59", seed) == 0x7008F2E87E9CF556


def units_of(built: BuiltHive) -> _native.Tally:
    """What the factory says is allocated."""
    allocated = [cell for cell in built.cells if cell.state != "deleted"]
    tally = _native.Tally(4096, 65_536)
    tally.add(
        struct.pack(f"<{len(allocated)}Q", *(cell.offset for cell in allocated)),
        struct.pack(f"<{len(allocated)}Q", *(cell.length for cell in allocated)),
    )
    return tally


def test_security_identifiers_are_written_as_published() -> None:
    assert sid("S-1-5-32-544") == bytes.fromhex("01020000000000052000000020020000")
    descriptor = security_descriptor("S-1-5-32-544", "S-1-5-18")
    assert struct.unpack_from("<BBHIIII", descriptor) == (1, 0, 0x8000, 20, 36, 0, 0)


@pytest.mark.parametrize("lists", ["lh", "lf", "li"])
@pytest.mark.parametrize("keys_per_list", [7, 500])
def test_every_allocated_key_and_value_is_where_the_factory_says(
    lists: ListKind, keys_per_list: int
) -> None:
    built = rich_hive(lists=lists, keys_per_list=keys_per_list)
    account = walk(built.data)
    allocated = [cell for cell in built.cells if cell.state != "deleted"]
    assert units_of(built).compare(account) == []
    assert (account.present, account.damaged) == (len(allocated), 0)
    orphan = built.key(r"\Lost")
    assert account.findings == [
        ("key.unlisted", orphan.offset, orphan.length, "an allocated key is in no list of subkeys")
    ]
    assert account.declared == account.present - 1
    for cell in built.cells:
        (size,) = struct.unpack_from("<i", built.data, cell.offset)
        assert size == (cell.length if cell.state == "deleted" else -cell.length)
        assert built.data[cell.offset + 4 : cell.offset + 6] == (b"nk" if cell.key else b"vk")


def test_the_same_tree_gives_the_same_bytes() -> None:
    assert rich_hive().data == rich_hive().data


def test_a_hive_can_be_larger_than_what_is_in_it() -> None:
    hive = Hive(root=Key(name="R"), bins_bytes_min=65_536)
    data = hive.to_bytes()
    assert len(data) == BASE_BYTES + 65_536
    assert walk(data).findings == []


def test_big_data_of_an_old_hive_is_one_cell() -> None:
    old = rich_hive(minor_version=3, lists="lf")
    assert b"db\x04\x00" in rich_hive().data
    assert b"db\x04\x00" not in old.data
    assert [code for code, *_ in walk(old.data).findings] == ["key.unlisted"]


@pytest.mark.parametrize("kind", ["entries", "sectors"])
def test_a_hive_and_its_log_give_what_was_being_written(kind: str) -> None:
    before = rich_hive().data
    built = rich_hive(root=rich_root(Key(name="Added")), sequence=8)
    after = built.data
    dirty = interrupted(before)
    assert sequence_of(dirty) == 8
    logs = {
        "entries": ("LOG1", entry_log([(before, after)], first=8)),
        "sectors": ("LOG", sector_log(before, after, sequence=8)),
    }
    account = walk(dirty, [logs[kind]])
    assert [code for code, *_ in account.findings] == ["hive.recovered", "key.unlisted"]
    assert units_of(built).compare(account) == []
    assert account.declared == walk(after).declared
    assert walk(dirty).present == walk(before).present
