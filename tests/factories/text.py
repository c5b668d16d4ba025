"""Datasets under contract, and a reading of texts by them: decoder, independent walk, and the balance of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from casparian import _native
from casparian.contracts.dataset import canonical, dataset_of
from casparian.domain.ledger import Ledger
from casparian.worker.balance import Units, balance

TABLE = "things"
Columns = Mapping[str, str | Mapping[str, Any]]


def delimited(columns: Columns, *, headers: Sequence[Sequence[str]] = (), **layout: Any) -> str:
    """A contract of delimited text: columns by name, each a type or more; `source` is the name unless it is said."""
    built = [_column(name, column) for name, column in columns.items()]
    return _document(
        "text.delimited",
        built,
        {
            "delimiter": ",",
            "quote": '"',
            "escape": "double",
            "header": True,
            "skip_lines": 0,
            "comment": None,
            "encoding": "utf-8",
            "headers": [list(row) for row in headers] or [[column["source"] for column in built]],
            **layout,
        },
    )


def json_lines(columns: Columns, *, known: Sequence[Sequence[str]] = (), **layout: Any) -> str:
    """A contract of JSON Lines, likewise."""
    built = [_column(name, column) for name, column in columns.items()]
    for column in built:
        if isinstance(column["source"], str):
            column["source"] = [column["source"]]
    paths = [column["source"] for column in built] + [list(path) for path in known]
    return _document("text.jsonl", built, {"encoding": "utf-8", "known": paths, **layout})


def _column(name: str, column: str | Mapping[str, Any]) -> dict[str, Any]:
    given = {"type": column} if isinstance(column, str) else dict(column)
    return {"name": name, "source": name, **given}


def _document(parser: str, columns: list[dict[str, Any]], layout: dict[str, Any]) -> str:
    document = {
        "schema_version": 1,
        "table": TABLE,
        "parser": parser,
        "match": ["*"],
        "layout": layout,
        "columns": columns,
    }
    return canonical(dataset_of(json.loads(json.dumps(document))))


@dataclass(frozen=True)
class Reading:
    """What came out of one text."""

    table: pa.Table | None
    quarantine: list[dict[str, Any]]
    ledger: Ledger

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows without their bookkeeping."""
        if self.table is None:
            return []
        names = [name for name in self.table.column_names if not name.startswith("@")]
        rows: list[dict[str, Any]] = self.table.select(names).to_pylist()
        return rows

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Spans of rows and of what was set aside, in order of the file."""
        rows = [] if self.table is None else self.table.select(["@offset", "@length"]).to_pylist()
        return sorted((row["@offset"], row["@length"]) for row in [*rows, *self.quarantine])

    @property
    def reasons(self) -> list[str]:
        """Why units were set aside, in order of the file."""
        ordered = sorted(self.quarantine, key=lambda row: row["@offset"])
        return [row["reason"] for row in ordered]


def read(text: bytes, dataset: str, **options: int) -> Reading:
    """Decode, walk, balance.

    Raises:
        SourceError: `contract.drift` and others of the decoder.
    """
    account_name = "delimited" if json.loads(dataset)["parser"] == "text.delimited" else "lines"
    units = Units(account_name)
    rows: list[pa.RecordBatch] = []
    aside: list[dict[str, Any]] = []
    with opened(text) as descriptor:
        for name, exported in _native.TextReader(descriptor, len(text), dataset, **options):
            batch = pa.record_batch(exported)
            batch.validate(full=True)
            if name == TABLE:
                rows.append(batch)
                units.add_rows(batch)
            else:
                assert name == "@quarantine"
                aside += batch.to_pylist()
                units.add_quarantined(batch)
        account = walk(descriptor, len(text), dataset)
    return Reading(
        table=pa.Table.from_batches(rows) if rows else None,
        quarantine=aside,
        ledger=balance(units, account, account.unit),
    )


def walk(descriptor: int, size: int, dataset: str) -> _native.Account:
    """The independent walk of a text under a contract."""
    if json.loads(dataset)["parser"] == "text.delimited":
        return _native.account_delimited(descriptor, size, dataset)
    return _native.account_lines(descriptor, size)


@contextmanager
def opened(text: bytes) -> Iterator[int]:
    """Descriptor of a file without a name that holds these bytes."""
    descriptor = os.memfd_create("text")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text)
        yield descriptor
    finally:
        os.close(descriptor)
