"""Prove rows drawn at random from every table: a figure that can be quoted about all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from casparian.appliance.why import Shared, WhyReport, prove
from casparian.domain.lineage import RowId
from casparian.errors import UsageError
from casparian.paths import Home
from casparian.query.engine import Query
from casparian.query.rows import read_row_id

_EXAMPLES_MAX: Final = 20  # unproven rows of a table that are reported whole
_OF_ALL: Final = "__all"

Progress = Callable[[int, int], None]
"""`progress(rows_done, rows_total)`."""


class TableSample(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the rows of one table."""

    table: str
    rows: int  # that the table has
    drawn: int
    proven: int
    unproven: tuple[WhyReport, ...]  # the first of them


class SampleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all of them."""

    seed: int
    tables: tuple[TableSample, ...]

    @property
    def proven(self) -> bool:
        """Whether every row that was drawn is."""
        return all(table.proven == table.drawn for table in self.tables)

    def to_builtins(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "proven": self.proven,
            "seed": self.seed,
            "tables": [
                {
                    **{name: getattr(table, name) for name in ("table", "rows", "drawn", "proven")},
                    "unproven": [report.to_builtins() for report in table.unproven],
                }
                for table in self.tables
            ],
        }


def prove_sample(
    home: Home,
    *,
    rows: int,
    tables: Sequence[str] = (),
    seed: int | None = None,
    progress: Progress = lambda _done, _total: None,
) -> SampleReport:
    """Draw rows from each table and prove them as `why` does, source by source.

    Args:
        home: where they were committed.
        rows: how many of each table, or all when it has no more.
        tables: only these; all of them otherwise, quarantine included.
        seed: of the drawing, to repeat it; drawn as well when it is not given.
        progress: called after each row.

    Raises:
        UsageError: `query.no_table`: a table that this home does not have.
    """
    seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    with Query(home) as query:
        chosen = _tables(query, tables)
        counts = {table: _count(query, table) for table in chosen}
        drawn = [row for table in chosen for row in _draw(query, table, rows, seed)]
        # Rows of one source and job follow each other, whatever their tables: it is derived again once.
        drawn.sort(key=lambda row: (row.job_id, row.source_prefix, row.table, row.ordinal))
        unproven: dict[str, list[WhyReport]] = {table: [] for table in chosen}
        with Shared() as shared:
            for done, row in enumerate(drawn, start=1):
                report = prove(home, query, row, shared)
                if not report.proven:
                    unproven[row.table].append(report)
                progress(done, len(drawn))
    totals = {table: sum(row.table == table for row in drawn) for table in chosen}
    return SampleReport(
        seed=seed,
        tables=tuple(
            TableSample(
                table=table,
                rows=counts[table],
                drawn=totals[table],
                proven=totals[table] - len(unproven[table]),
                unproven=tuple(unproven[table][:_EXAMPLES_MAX]),
            )
            for table in chosen
        ),
    )


def _tables(query: Query, wanted: Sequence[str]) -> list[str]:
    """Tables of committed rows, not what the catalog says about them."""
    known = [name for name in query.tables if f"{name}{_OF_ALL}" in query.tables]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(
            f"no table `{unknown[0]}` has rows here",
            code="query.no_table",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    return [name for name in known if not wanted or name in wanted]


def _count(query: Query, table: str) -> int:
    return int(query.fetch(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def _draw(query: Query, table: str, rows: int, seed: int) -> list[RowId]:
    found = query.fetch(
        f"SELECT _cf_row_id FROM (SELECT _cf_row_id FROM {table} ORDER BY hash(_cf_row_id, {seed}) LIMIT {rows})"
    )
    return [read_row_id(line["_cf_row_id"]) for line in found]
