"""A dataset's contract, and what an amendment means, in words."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from casparian.contracts import amend
from casparian.display import show
from casparian.domain.datasets import Dataset, DelimitedLayout, Effect

MEANING: Final = {
    Effect.NONE: "files that are recorded keep their rows",
    Effect.RELAXES: "files that are recorded keep their rows; those with rows set aside are read again",
    Effect.BREAKING: "every file is read again; older rows stay in the view `__all` and can be proven",
}


def description(dataset: Dataset) -> list[str]:
    """A contract for people, one fact a line."""
    layout = dataset.layout
    told = [
        f"table {dataset.table}, read by {dataset.parser}",
        f"files  {', '.join(show(glob, width=80) for glob in dataset.match)}",
    ]
    if isinstance(layout, DelimitedLayout):
        told.append(
            f"cells  delimiter {layout.delimiter!r}, quote {layout.quote!r}, escape {layout.escape}, "
            f"{layout.encoding}, {layout.skip_lines} lines skipped, comments {layout.comment!r}"
        )
        for row in layout.headers:
            what = "header" if layout.header else "no header; cells are"
            told.append(f"{what}  {show(layout.delimiter.join(row), width=400)}")
    else:
        told.append(
            f"lines  JSON, {layout.encoding}, {len(layout.known)} known paths without a column"
        )
    told += [_column_line(column) for column in amend.briefs(dataset)]
    return told


def _column_line(brief: dict[str, Any]) -> str:
    rest = {k: v for k, v in brief.items() if k not in ("name", "type")}
    if rest.get("source") == brief["name"]:
        del rest["source"]
    said = ", ".join(f"{k} {msgspec.json.encode(v).decode()}" for k, v in rest.items())
    return f"column {show(brief['name'])}  {brief['type']}" + (
        f"  {show(said, width=400)}" if said else ""
    )
