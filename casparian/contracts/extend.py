"""The next revision of a dataset's contract from files that have drifted: their headers and keys, and columns for what is new.

Nothing that the contract says already is changed: a value of a known column is read as before. A new column may be null, because
older files do not have it; so may a known one that a new header lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from casparian.contracts.columns import folded
from casparian.contracts.dataset import dataset_of
from casparian.domain.datasets import Dataset, DelimitedLayout, cell_names
from casparian.errors import ContractError


def of_new_columns(current: Dataset, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What inference found (`control.infer`), less what the contract has columns for; `None` when nothing is left.

    So only questions about new columns are asked.
    """
    known = {column.source for column in current.columns}

    def is_new(source: str | Sequence[str]) -> bool:
        if isinstance(source, str):
            return source not in known
        return not any(tuple(source[:length]) in known for length in range(1, len(source) + 1))

    columns = [column for column in found["columns"] if is_new(column["source"])]
    if not columns:
        return None
    narrowed = {**found, "columns": columns}
    if "headers" in found:
        rows = [
            [cell for cell in cell_names(tuple(row)) if is_new(cell)] for row in found["headers"]
        ]
        narrowed["headers"] = [list(row) for row in dict.fromkeys(map(tuple, rows)) if row]
    return narrowed


def extended(
    current: Dataset, headers: Iterable[Sequence[str]], proposed: Iterable[Mapping[str, Any]]
) -> Dataset:
    """The contract with more headers and columns.

    Args:
        current: the newest revision.
        headers: of the drifted files; those that are known already add nothing.
        proposed: columns as a document has them, of sources that the contract does not have.

    Raises:
        ContractError: `contract.unchanged`: the files are laid out as the contract knows; or the result is no contract.
    """
    values = current.document()
    taken = {folded(column.name) for column in current.columns}
    for column in proposed:
        name = base = str(column["name"])
        number = 2
        while folded(name) in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(folded(name))
        values["columns"].append({**column, "name": name, "nullable": True})
    if isinstance(current.layout, DelimitedLayout):
        rows: list[list[str]] = values["layout"]["headers"]
        rows += [list(row) for row in headers if list(row) not in rows]
        lacking = {name for row in rows for name in _lacked(current, row)}
        for column in values["columns"]:
            column["nullable"] = column["nullable"] or column["source"] in lacking
    changed = dataset_of(values, file="amendment")
    if changed == current:
        raise ContractError(
            f"the files are laid out as the contract of `{current.table}` knows",
            code="contract.unchanged",
        )
    return changed


def _lacked(current: Dataset, row: Sequence[str]) -> list[Any]:
    """Sources of columns that a header does not have."""
    names = cell_names(tuple(row))
    return [column.source for column in current.columns if column.source not in names]
