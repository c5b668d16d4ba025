"""The decoder of registry hives as an iterator of Arrow batches."""

import os
import pathlib
import struct
from collections.abc import Iterator

import pyarrow as pa
import pytest

from casparian import _native

BOOKKEEPING = [
    pa.field("@offset", pa.uint64(), nullable=False),
    pa.field("@length", pa.uint64(), nullable=False),
    pa.field("@flags", pa.uint32(), nullable=False),
]


def small_hive() -> bytes:
    """A root with one number."""
    value = struct.pack("<i2sHIIIHH", -32, b"vk", 4, 0x80000004, 4711, 4, 1, 0) + b"Four"
    listed = struct.pack("<iI", -8, 32 + 88)
    root = struct.pack(
        "<i2sHQIIIIII", -88, b"nk", 0x2C, 132_354_432_000_000_000, 0, 0, 0, 0, 2**32 - 1, 0
    )
    root += struct.pack("<IIII", 1, 32 + 88 + 32, 2**32 - 1, 2**32 - 1) + bytes(20)
    root += struct.pack("<HH", 4, 0) + b"ROOT"
    cells = root.ljust(88, b"\0") + value.ljust(32, b"\0") + listed
    cells += struct.pack("<i", 4096 - 32 - len(cells))
    bins = struct.pack("<4sII", b"hbin", 0, 4096).ljust(32, b"\0") + cells
    base = struct.pack("<4sIIQIIIIII", b"regf", 1, 1, 0, 1, 5, 0, 1, 32, 4096).ljust(508, b"\0")
    checksum = 0
    for (number,) in struct.iter_unpack("<I", base):
        checksum ^= number
    return (base + struct.pack("<I", checksum)).ljust(4096, b"\0") + bins.ljust(4096, b"\0")


@pytest.fixture
def hive(tmp_path: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Descriptor and size of a hive."""
    path = tmp_path / "SOFTWARE"
    path.write_bytes(small_hive())
    with path.open("rb") as file:
        yield file.fileno(), path.stat().st_size


def test_every_output_begins_with_the_bookkeeping_columns(hive: tuple[int, int]) -> None:
    batches = {name: pa.record_batch(batch) for name, batch in _native.HiveReader(*hive)}
    assert set(batches) == {"registry_keys", "registry_values", "registry_hives"}
    for batch in batches.values():
        batch.validate(full=True)
        assert list(batch.schema)[:3] == BOOKKEEPING
    value = batches["registry_values"].to_pylist()[0]
    assert (value["key_path"], value["value_name"], value["value_int"]) == ("\\", "Four", 4711)
    assert value["@offset"] == 4096 + 32 + 88
    assert batches["registry_keys"]["name"].to_pylist() == ["ROOT"]


def test_the_file_position_is_neither_used_nor_moved(hive: tuple[int, int]) -> None:
    os.lseek(hive[0], 17, os.SEEK_SET)
    assert len(list(_native.HiveReader(*hive))) == 3
    assert os.lseek(hive[0], 0, os.SEEK_CUR) == 17


def test_logs_are_looked_at_in_the_order_of_their_roles(hive: tuple[int, int]) -> None:
    reader = _native.HiveReader(*hive, logs=[("LOG2", hive[0], 0), ("LOG1", *hive)])
    outputs = {name: pa.record_batch(batch) for name, batch in reader}
    row = outputs["registry_hives"].select(["logs", "log_verdicts", "is_recovered"]).to_pylist()[0]
    assert row == {
        "logs": ["LOG1", "LOG2"],
        "log_verdicts": ["log.format", "log.empty"],
        "is_recovered": False,
    }


@pytest.mark.parametrize(
    "wrong",
    [{"batch_rows": 0}, {"batch_bytes": 0}, {"logs": [("LOG3", 0, 0)]}, {"logs": [("LOG", -1, 0)]}],
)
def test_arguments_out_of_range_are_refused(
    hive: tuple[int, int], wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"at least 1|LOG1|descriptor"):
        _native.HiveReader(*hive, **wrong)  # type: ignore[arg-type]


def test_hives_over_the_limit_are_refused_before_they_are_read(hive: tuple[int, int]) -> None:
    with pytest.raises(_native.SourceError) as caught:
        _native.HiveReader(hive[0], 2**31 + 1)
    assert caught.value.code == "engine.limit"


def test_a_reader_that_failed_stays_failed(hive: tuple[int, int]) -> None:
    reader = _native.HiveReader(hive[0], hive[1] + 1)
    with pytest.raises(_native.SourceError) as caught:
        next(reader)
    assert caught.value.code == "source.changed"
    with pytest.raises(RuntimeError, match="failed before"):
        next(reader)
