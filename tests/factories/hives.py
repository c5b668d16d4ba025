"""Hives with everything, and a reading of them: decoder, independent walk, and the balance of both, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from casparian import _native
from casparian.demo.hive_writer import (
    BuiltHive,
    Hive,
    Key,
    Value,
    ValueType,
    binary,
    dword,
    qword,
    text,
    texts,
)
from casparian.domain.ledger import Finding, Ledger
from casparian.domain.lineage import EXTRA_BITS
from casparian.worker.balance import Units, balance

KEYS, VALUES, HIVES, CHANGES = (
    "registry_keys",
    "registry_values",
    "registry_hives",
    "registry_changes",
)
QUARANTINE = "@quarantine"
Logs = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Reading:
    """What came out of one hive."""

    tables: dict[str, pa.Table]
    ledger: Ledger

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of a table; times as nanoseconds."""
        found = self.tables.get(table)
        if found is None:
            return []
        plain = [
            field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
            for field in found.schema
        ]
        rows: list[dict[str, Any]] = found.cast(pa.schema(plain)).to_pylist()
        return rows

    def live_spans(self) -> set[tuple[int, int]]:
        """Spans of the rows of keys and values that the ledger counts."""
        return {
            (row["@offset"], row["@length"])
            for table in (KEYS, VALUES)
            for row in self.rows(table)
            if not row["@flags"] & EXTRA_BITS
        }

    @property
    def codes(self) -> set[str]:
        """Codes of the findings."""
        return {finding.code for finding in self.ledger.findings}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the walk and the balance noticed."""
        return self.ledger.findings


def read(hive: bytes, logs: Logs = ()) -> Reading:
    """Decode, walk, balance."""
    with opened([hive, *(log for _, log in logs)]) as (descriptor, *others):
        companions = [
            (role, other, len(log)) for (role, log), other in zip(logs, others, strict=True)
        ]
        batches: dict[str, list[pa.RecordBatch]] = {}
        units = Units("hive")
        for name, exported in _native.HiveReader(descriptor, len(hive), logs=companions):
            batch = pa.record_batch(exported)
            batches.setdefault(name, []).append(batch)
            if name in (KEYS, VALUES):
                units.add_rows(batch)
            elif name == QUARANTINE:
                units.add_quarantined(batch)
        account = _native.account_hive(descriptor, len(hive), companions)
    return Reading(
        tables={name: pa.Table.from_batches(found) for name, found in batches.items()},
        ledger=balance(units, account, "cell"),
    )


def walk(hive: bytes, logs: Logs = ()) -> _native.Account:
    """The independent walk alone."""
    with opened([hive, *(log for _, log in logs)]) as (descriptor, *others):
        companions = [
            (role, other, len(log)) for (role, log), other in zip(logs, others, strict=True)
        ]
        return _native.account_hive(descriptor, len(hive), companions)


@contextmanager
def opened(contents: Iterable[bytes]) -> Iterator[list[int]]:
    """Descriptors of files without a name that hold these bytes."""
    descriptors: list[int] = []
    try:
        for content in contents:
            descriptors.append(os.memfd_create("hive"))
            with os.fdopen(os.dup(descriptors[-1]), "wb") as file:
                file.write(content)
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def rich_root(*more: Key) -> Key:
    """A tree with every kind of data, and keys that are not live."""
    run = Key(
        name="Run",
        class_name="Shell",
        values=(
            text("", "the default value"),
            text("OneDrive", r"C:\Users\ines\OneDrive.exe /background"),
            text("Path", r"%SystemRoot%\x", kind=ValueType.EXPAND_SZ),
            dword("Number", 0xFFFFFFFF),
            Value(name="Big-endian", type=5, data=b"\0\0\1\0"),
            qword("Long", 2**63 + 1),
            texts("Several", "one", "zwei", "три"),
            binary("Bytes", bytes(range(40))),
            binary("Big", bytes(range(251)) * 200),
            binary("Type of its own", b"0123456789", kind=0x0012_3456),
            Value(name="Nothing", type=0, data=b""),
            Value(name="Short number", type=4, data=b"abc"),
            text("Ключ", "name in UTF-16"),
        ),
    )
    services = Key(
        name="Services",
        owner="S-1-5-18",
        subkeys=tuple(
            Key(name=f"service{number:03}", values=(dword("Start", number % 5),))
            for number in range(60)
        ),
    )
    deleted = Key(
        name="Gone",
        state="deleted",
        values=(text("Secret", "it was deleted, and is still there"),),
        subkeys=(Key(name="Below"),),
    )
    orphan = Key(name="Lost", state="orphaned", values=(dword("Answer", 42),))
    names = tuple(Key(name=name) for name in ("Müller", "日本語", "a" * 200, "CaSe"))
    return Key(name="CMI-CreateHive{0}", subkeys=(run, services, deleted, orphan, *names, *more))


def rich_hive(**changes: Any) -> BuiltHive:
    """That tree as a hive, with lists of lists."""
    return Hive(**{"root": rich_root(), "keys_per_list": 25, **changes}).build()
