"""Seeds of hives and transaction logs: small ones of our own, whole, dirty and broken, and small real ones."""

from __future__ import annotations

import csv
import lzma
import struct
from collections.abc import Iterator
from pathlib import Path

from casparian.demo.hive_writer import (
    BASE_BYTES,
    Hive,
    Key,
    ValueType,
    binary,
    dword,
    entry_log,
    interrupted,
    qword,
    sector_log,
    sequence_of,
    text,
    texts,
)

REAL_BYTES_MAX = 300_000
"""Of a real hive or log that is taken as it is; of greater ones the beginning is."""


def hives(corpus: Path | None) -> Iterator[bytes]:
    """Hives without logs."""
    for hive in _own():
        yield hive
        yield from _harmed(hive)
    for path, data in _real(corpus):
        if not path.lower().endswith((".log", ".log1", ".log2")):
            yield data[:REAL_BYTES_MAX]


def transaction_logs(corpus: Path | None) -> Iterator[bytes]:
    """Hives with a log each, as the target takes them: size of the hive, hive, log."""
    before = _hive(6)
    after, later = _hive(5, changed=True), _hive(8, changed=True)
    number = sequence_of(before)
    dirty = interrupted(before)
    for log in (
        entry_log([(before, after)], first=number),
        entry_log([(before, after), (after, later)], first=number),
        entry_log([(after, later)], first=number + 1),
        sector_log(before, after, sequence=number),
    ):
        for primary in (dirty, before, b""):
            yield _joined(primary, log)
            yield _joined(primary, log[: len(log) // 2])
    real = dict(_real(corpus))
    for path, data in real.items():
        for suffix in (".LOG1", ".LOG2", ".log1", ".log2", ".LOG"):
            log = real.get(path + suffix)
            if log:
                yield _joined(data[: REAL_BYTES_MAX // 2], log[: REAL_BYTES_MAX // 2])


def _joined(primary: bytes, log: bytes) -> bytes:
    return struct.pack("<I", len(primary)) + primary + log


def _own() -> Iterator[bytes]:
    yield _hive(3)
    for lists in ("lf", "lh", "li"):
        yield _hive(7, lists=lists, keys_per_list=2)
    yield Hive(root=Key(name="ROOT")).to_bytes()
    big = binary("big", bytes(range(256)) * 80)
    yield Hive(root=Key(name="ROOT", values=(big,)), minor_version=5).to_bytes()


def _hive(keys: int, *, changed: bool = False, **options: object) -> bytes:
    """A hive with a value of each kind, deleted and orphaned keys among the others."""
    values = (
        text("", "default"),
        text("Path", "%SystemRoot%\\x" if changed else "C:\\", ValueType.EXPAND_SZ),
        texts("Several", "one", "zwölf", "\U0001f4d3"),
        dword("Number", 7 + changed),
        qword("Long", 2**40),
        binary("Data", bytes(range(40)), ValueType.RESOURCE_LIST),
    )
    subkeys = [
        Key(
            name=f"Key{number}",
            values=values[: number + 1],
            class_name="Klass" if number == 1 else None,
        )
        for number in range(keys)
    ]
    subkeys.append(Key(name="Gelöscht", values=values[:2], state="deleted"))
    subkeys.append(Key(name="Orphan\U0001f4d3", values=values[:1], state="orphaned"))
    subkeys.append(Key(name="Deep", subkeys=(Key(name="Deeper", subkeys=(Key(name="Deepest"),)),)))
    root = Key(name="ROOT", values=values, subkeys=tuple(subkeys))
    return Hive(root=root, bins_bytes_min=8_192, **options).to_bytes()  # type: ignore[arg-type]


def _harmed(hive: bytes) -> Iterator[bytes]:
    yield hive[: len(hive) - 700]
    yield hive[:BASE_BYTES]
    yield b"\0" * BASE_BYTES + hive[BASE_BYTES:]
    for sector in (8, 9, 11):
        at = sector * 512
        yield hive[:at] + bytes(512) + hive[at + 512 :]
    for at in range(BASE_BYTES + 32, min(len(hive), BASE_BYTES + 2_000), 200):
        yield hive[:at] + b"\xff\xff\xff\x7f" + hive[at + 4 :]


def _real(corpus: Path | None) -> Iterator[tuple[str, bytes]]:
    if corpus is None:
        return
    with open(corpus / "MANIFEST.csv", newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["kind"] == "registry"]
    for row in rows:
        data = (corpus / row["path"]).read_bytes()
        packed = row["stored_as"].startswith("xz")
        yield row["path"].removesuffix(".xz"), lzma.decompress(data) if packed else data
