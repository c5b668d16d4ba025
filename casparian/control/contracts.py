"""Contracts of a home as its sentinel has recorded them, for front ends: revisions, differences, documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from casparian.contracts import amend, odcs
from casparian.contracts.dataset import canonical, dataset_hash, read_dataset
from casparian.display import show
from casparian.domain.datasets import Dataset
from casparian.errors import IntegrityError, UsageError


def load(file: str) -> Dataset:
    """A dataset's contract from a file: our JSON, or an Open Data Contract Standard document (`.yaml`, `.yml`).

    Raises:
        UsageError: `contract.unreadable`.
        ContractError: as `read_dataset` or `odcs.read`.
    """
    try:
        with open(file, "rb") as stream:
            raw = stream.read()
    except OSError as error:
        raise UsageError(
            f"`{show(file)}` cannot be read: {error.strerror}", code="contract.unreadable"
        ) from error
    if file.endswith((".yaml", ".yml")):
        return odcs.read(raw, file=file)
    return read_dataset(raw, file=file)


def pick(rows: Sequence[dict[str, Any]], table: str, revision: int | None = None) -> dict[str, Any]:
    """One promoted revision of a table; the newest when none is named.

    Raises:
        UsageError: `contract.unknown`.
    """
    own = [row for row in rows if row["table_name"] == table]
    found = [row for row in own if revision in (None, row["revision"])]
    if found:
        return found[-1]
    if own:
        raise UsageError(
            f"`{table}` has no revision {revision}",
            hint=f"`casparian contract history {table}` lists {len(own)}",
            code="contract.unknown",
        )
    tables = sorted({row["table_name"] for row in rows})
    raise UsageError(
        f"no contract of a table `{show(table, width=60)}` is promoted",
        hint=f"there are {', '.join(tables)}" if tables else "casparian contract promote DOCUMENT",
        code="contract.unknown",
    )


def dataset_of(row: dict[str, Any]) -> Dataset:
    """The contract that a revision's row holds, if it is what its hash says.

    Raises:
        IntegrityError: `contract.altered`.
    """
    name = f"{row['table_name']}, revision {row['revision']}"
    dataset = read_dataset(row["document"], file=name)
    if dataset_hash(dataset) != row["hash"]:
        raise IntegrityError(
            f"the record of {name} is not what its hash says", code="contract.altered"
        )
    return dataset


def difference(before: Dataset, after: Dataset) -> tuple[amend.Amendment, list[str]]:
    """What an amendment changes, as values and in words."""
    amendment = amend.compare(before, after)
    return amendment, amend.lines(amendment)


def document_text(dataset: Dataset) -> str:
    """The document as people edit it: indented, in the order of its keys."""
    return msgspec.json.format(canonical(dataset), indent=2) + "\n"


def odcs_text(dataset: Dataset, revision: int) -> str:
    """The Open Data Contract Standard document."""
    return odcs.export(dataset, revision=revision).decode()
