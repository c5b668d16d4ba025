"""Find one row by its `_cf_row_id`, in whatever sink it lies, with what was recorded about it.

A row that was replaced since (its pair is retired) is found as long as a file still holds it: it
stays provable.
"""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec

from casparian.display import show
from casparian.domain.lineage import RowId, parse_row_id
from casparian.domain.outputs import QUARANTINE_TABLE, SinkKind
from casparian.errors import IntegrityError, UsageError
from casparian.query.engine import Query
from casparian.query.guard import sql_error
from casparian.query.values import json_rows
from casparian.sinks.catalog import CatalogDataset
from casparian.sinks.catalog_views import rows_sql


class FoundRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored row.

    `values` are as JSON carries them; `path` is the file that holds the row; `recorded` is the
    line of `materializations` that the row belongs to.
    """

    row_id: RowId
    dataset: CatalogDataset
    path: str
    values: dict[str, Any]
    recorded: dict[str, Any]


def read_row_id(text: str) -> RowId:
    """The row that a `_cf_row_id` names.

    Raises:
        UsageError: `row.malformed`.
    """
    row_id = parse_row_id(text)
    if row_id is None:
        raise UsageError(
            f"`{show(text, width=120)}` is not a row id",
            code="row.malformed",
            hint='row ids look like `T:0123456789abcdef:JOB:ORDINAL`: `casparian query "SELECT _cf_row_id FROM T"`',
        )
    return row_id


def materialization(query: Query, row_id: RowId) -> dict[str, Any]:
    """What was recorded when the row's source was committed to the row's table.

    Raises:
        UsageError: `row.unknown`: nothing was.
    """
    found = query.fetch(
        f"SELECT * FROM {query.control('materializations')} "
        "WHERE job_id = ? AND starts_with(source_id, ?) AND table_name = ?",
        [row_id.job_id, row_id.source_prefix, row_id.table],
    )
    if not found:
        raise UsageError(
            f"no row `{row_id}`: this home has no such table, source and job together",
            code="row.unknown",
            hint="row ids are in column `_cf_row_id` of every table",
        )
    return found[0]


def dataset_of(query: Query, recorded: dict[str, Any]) -> CatalogDataset | None:
    """The dataset of a line of `materializations`; `None` when all its files are gone."""
    if recorded["table_name"] == QUARANTINE_TABLE:
        return query.catalog.quarantine
    for dataset in query.catalog.in_sink(recorded["sink"]):
        if dataset.table == recorded["table_name"]:
            return dataset
    return None


def find_row(query: Query, row_id: RowId) -> FoundRow | None:
    """Look the row up; `None` when its source was committed but no file holds the row.

    Raises:
        UsageError: `row.unknown`.
        IntegrityError: `output_file.unreadable`: a file that may hold it cannot be read.
    """
    recorded = materialization(query, row_id)
    dataset = dataset_of(query, recorded)
    if dataset is None:
        return None
    files = [file for file in dataset.files if file.job_id == row_id.job_id]
    if dataset.sink.kind is SinkKind.DUCKDB:
        files = files[:1] or list(dataset.files[:1])  # one database holds all jobs
    for file in files:
        single = msgspec.structs.replace(dataset, files=(file,))
        values = _select(query, single, row_id)
        if values is not None:
            path = dataset.sink.location if dataset.sink.kind is SinkKind.DUCKDB else file.path
            return FoundRow(
                row_id=row_id, dataset=dataset, path=path, values=values, recorded=recorded
            )
    return None


def _select(query: Query, dataset: CatalogDataset, row_id: RowId) -> dict[str, Any] | None:
    sql = rows_sql(dataset, attached=query.attached(dataset))
    where = (
        f"_cf_job_id = {row_id.job_id} AND _cf_ordinal = {row_id.ordinal} "
        f"AND left(_cf_source_id, 16) = '{row_id.source_prefix}'"
    )
    try:
        table = query.arrow(f"SELECT * FROM ({sql}) r WHERE {where} LIMIT 1")
    except duckdb.Error as error:
        path = dataset.paths[0]
        raise IntegrityError(
            f"`{show(path)}` cannot be read: {sql_error(error).message}",
            code="output_file.unreadable",
            hint="`casparian doctor --verify` checks every output",
            path=path,
        ) from error
    for batch in table.to_batches():
        for row in json_rows(batch):
            return dict(zip(table.column_names, row, strict=True))
    return None
