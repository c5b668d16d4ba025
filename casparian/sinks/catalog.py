"""`catalog.duckdb`: views over committed outputs, for `casparian query` and for any DuckDB client.

Rules:
  * The file is built aside, checkpointed, closed, fsynced, and renamed over the old one: a reader
    sees the old catalog or the new one, and keeps what it opened.
  * It works with the sentinel down. Only the sentinel writes it.
  * Schema `main` has what people query: `T` and `T__all` per table of the default sink,
    `quarantine`, `materializations`, `sources`. Schema `casparian` has the rest: the copied
    control tables and the `_cf_*` relations from which `query` makes the same views for another
    sink.
  * A view that cannot be made (a committed file is gone) is left out and named in the log: it must
    not stop a commit. `query` reports the missing file to whoever asks for it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink
from casparian.errors import IntegrityError
from casparian.sinks.catalog_model import Catalog, CatalogDataset, CatalogFile, Pair
from casparian.sinks.catalog_views import view_sql
from casparian.sinks.duckdb_schema import identifier

__all__ = ["CATALOG_FORMAT", "Catalog", "CatalogDataset", "CatalogFile", "Pair", "load", "publish"]

CATALOG_FORMAT = 1  # a reader refuses a catalog of another format
SCHEMA = "casparian"

_MEMORY_LIMIT = "64MB"
_PUBLIC_TABLES = ("materializations", "sources")
_LOG = logging.getLogger(__name__)

_RELATIONS = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}._cf_catalog(
    format INTEGER, home_id VARCHAR, generation BIGINT, default_sink VARCHAR);
CREATE TABLE {SCHEMA}._cf_contracts(contract INTEGER, output VARCHAR);
CREATE TABLE {SCHEMA}._cf_datasets(
    dataset INTEGER, table_name VARCHAR, sink VARCHAR, sink_value VARCHAR, contract INTEGER,
    is_quarantine BOOLEAN);
CREATE TABLE {SCHEMA}._cf_files(
    dataset INTEGER, position INTEGER, path VARCHAR, job_id BIGINT, epoch BIGINT, rows BIGINT,
    contract INTEGER, settings VARCHAR);
CREATE TABLE {SCHEMA}._cf_retired(dataset INTEGER, job_id BIGINT, source_id VARCHAR);
CREATE TABLE {SCHEMA}._cf_hidden(dataset INTEGER, job_id BIGINT, source_id VARCHAR);
"""


TableSource: TypeAlias = pa.Table | Callable[[], pa.RecordBatchReader]


def publish(path: Path, catalog: Catalog, tables: Mapping[str, TableSource]) -> None:
    """Replace the catalog at `path` by one that says what `catalog` and `tables` say.

    Args:
        path: the catalog's file; its directory must exist.
        catalog: datasets, files and dead pairs.
        tables: control tables, or functions that open them as streams, to copy in under schema
            `casparian`, by name; `materializations` and `sources` also get a view in `main`, and
            `materializations` (columns `job_id`, `table_name`, `contract`) says under which
            contract each file was written.

    Raises:
        OSError, duckdb.Error: the new file could not be written; the old one is untouched.
    """
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + ".wal")):
        leftover.unlink(missing_ok=True)
    connection = duckdb.connect(
        str(fresh),
        config={"memory_limit": _MEMORY_LIMIT, "threads": 1, "python_enable_replacements": False},
    )
    try:
        connection.execute(_RELATIONS)
        for name, table in tables.items():
            _copy(connection, f"{SCHEMA}.{identifier(name)}", table)
        catalog = _complete(catalog, _recorded(connection))
        _write_datasets(connection, catalog)
        for name in _PUBLIC_TABLES:
            if name in tables:
                connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {SCHEMA}.{name}")
        _make_views(connection, catalog)
        connection.execute("CHECKPOINT")
    except BaseException:
        connection.close()
        fresh.unlink(missing_ok=True)
        raise
    connection.close()
    _sync(fresh)
    os.replace(fresh, path)
    _sync(path.parent)


def load(connection: duckdb.DuckDBPyConnection, alias: str) -> Catalog:
    """Read the datasets of a catalog that is attached under `alias`.

    Raises:
        IntegrityError: it is not a catalog, or one of another format.
    """
    prefix = f"{alias}.{SCHEMA}."
    try:
        found = connection.execute(
            f"SELECT format, home_id, generation, default_sink FROM {prefix}_cf_catalog"
        ).fetchone()
    except duckdb.Error as error:
        raise IntegrityError("the catalog is not one of ours", code="catalog.format") from error
    if found is None or found[0] != CATALOG_FORMAT:
        raise IntegrityError(
            f"the catalog has format {found[0] if found else 'none'}, "
            f"this version reads {CATALOG_FORMAT}",
            code="catalog.format",
            hint="start a sentinel of this version: it writes the catalog again",
        )
    rows = connection.execute(f"SELECT contract, output FROM {prefix}_cf_contracts").fetchall()
    contracts = {number: msgspec.json.decode(text, type=OutputContract) for number, text in rows}
    files: dict[int, list[CatalogFile]] = {}
    for dataset, file_path, job_id, epoch, count, contract, settings in connection.execute(
        "SELECT dataset, path, job_id, epoch, rows, contract, settings "
        f"FROM {prefix}_cf_files ORDER BY dataset, position"
    ).fetchall():
        file = CatalogFile(
            path=file_path,
            job_id=job_id,
            epoch=epoch,
            rows=count,
            output=contracts[contract],
            settings=None
            if settings is None
            else msgspec.json.decode(settings, type=dict[str, str | int | bool]),
        )
        files.setdefault(dataset, []).append(file)
    retired = _pairs(connection, prefix + "_cf_retired")
    hidden = _pairs(connection, prefix + "_cf_hidden")
    datasets: list[CatalogDataset] = []
    quarantine: CatalogDataset | None = None
    for number, table, sink, contract, is_quarantine in connection.execute(
        "SELECT dataset, table_name, sink_value, contract, is_quarantine "
        f"FROM {prefix}_cf_datasets ORDER BY dataset"
    ).fetchall():
        value = CatalogDataset(
            table=table,
            sink=msgspec.json.decode(sink, type=Sink),
            output=contracts[contract],
            files=tuple(files.get(number, ())),
            retired=tuple(retired.get(number, ())),
            hidden=tuple(hidden.get(number, ())),
        )
        if is_quarantine:
            quarantine = value
        else:
            datasets.append(value)
    return Catalog(
        home_id=found[1],
        generation=found[2],
        default_sink=found[3],
        datasets=tuple(datasets),
        quarantine=quarantine,
    )


def numbered(catalog: Catalog) -> list[tuple[int, CatalogDataset]]:
    """Datasets with their numbers in the `_cf_*` relations; quarantine comes last."""
    datasets = list(catalog.datasets)
    if catalog.quarantine is not None:
        datasets.append(catalog.quarantine)
    return list(enumerate(datasets))


def _copy(connection: duckdb.DuckDBPyConnection, target: str, source: TableSource) -> None:
    table: Any = source() if callable(source) else source
    connection.register("_cf_incoming", table)
    connection.execute(f"CREATE OR REPLACE TABLE {target} AS SELECT * FROM _cf_incoming")
    connection.unregister("_cf_incoming")


class _Written(NamedTuple):
    """How one job wrote one table."""

    output: OutputContract | None
    settings: dict[str, str | int | bool] | None


def _recorded(connection: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], _Written]:
    columns = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = 'materializations'",
        [SCHEMA],
    ).fetchall()
    if not {"job_id", "table_name", "contract", "sink_settings"} <= {name for (name,) in columns}:
        return {}
    found = connection.execute(
        "SELECT job_id, table_name, any_value(contract), any_value(sink_settings) "
        f"FROM {SCHEMA}.materializations GROUP BY ALL"
    ).fetchall()
    written: dict[tuple[str | None, str | None], _Written] = {}
    for _, _, contract, settings in found:
        if (contract, settings) not in written:
            written[contract, settings] = _Written(
                msgspec.json.decode(contract, type=OutputContract) if contract else None,
                msgspec.json.decode(settings, type=dict[str, str | int | bool])
                if settings
                else None,
            )
    return {(job, table): written[contract, settings] for job, table, contract, settings in found}


def _complete(catalog: Catalog, recorded: dict[tuple[int, str], _Written]) -> Catalog:
    """Give each file the contract and settings it was written under."""

    def file(dataset: CatalogDataset, value: CatalogFile) -> CatalogFile:
        output, settings = recorded.get((value.job_id, dataset.table), _Written(None, None))
        return msgspec.structs.replace(
            value, output=value.output or output, settings=value.settings or settings
        )

    def complete(dataset: CatalogDataset) -> CatalogDataset:
        files = tuple(file(dataset, value) for value in dataset.files)
        return msgspec.structs.replace(dataset, files=files)

    return msgspec.structs.replace(catalog, datasets=tuple(map(complete, catalog.datasets)))


def _write_datasets(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    connection.execute(
        f"INSERT INTO {SCHEMA}._cf_catalog VALUES (?, ?, ?, ?)",
        [CATALOG_FORMAT, catalog.home_id, catalog.generation, catalog.default_sink],
    )
    contracts: dict[bytes, int] = {}
    by_identity: dict[int, int] = {}

    def contract_number(output: OutputContract) -> int:
        if id(output) not in by_identity:
            by_identity[id(output)] = contracts.setdefault(
                msgspec.json.encode(output), len(contracts)
            )
        return by_identity[id(output)]

    datasets: list[tuple[object, ...]] = []
    files: list[tuple[object, ...]] = []
    pairs: dict[str, list[tuple[object, ...]]] = {"_cf_retired": [], "_cf_hidden": []}
    for number, dataset in numbered(catalog):
        sink_value = msgspec.json.encode(dataset.sink).decode()
        is_quarantine = dataset is catalog.quarantine
        contract = contract_number(dataset.output)
        datasets.append(
            (number, dataset.table, dataset.sink.uri, sink_value, contract, is_quarantine)
        )
        for position, file in enumerate(dataset.files):
            contract = contract_number(file.output or dataset.output)
            settings = None
            if file.settings is not None:
                settings = msgspec.json.encode(file.settings).decode()
            place = (number, position, file.path, file.job_id, file.epoch)
            files.append((*place, file.rows, contract, settings))
        pairs["_cf_retired"] += [(number, job_id, source) for job_id, source in dataset.retired]
        pairs["_cf_hidden"] += [(number, job_id, source) for job_id, source in dataset.hidden]
    _insert(connection, "_cf_datasets", datasets)
    _insert(connection, "_cf_files", files)
    _insert(
        connection, "_cf_contracts", [(number, text.decode()) for text, number in contracts.items()]
    )
    for relation, rows in pairs.items():
        _insert(connection, relation, rows)


def _insert(
    connection: duckdb.DuckDBPyConnection, relation: str, rows: list[tuple[object, ...]]
) -> None:
    """Append rows by way of Arrow: a prepared INSERT per row is a hundred times slower."""
    if not rows:
        return
    table = pa.table(
        {f"c{number}": list(values) for number, values in enumerate(zip(*rows, strict=True))}
    )
    connection.register("_cf_incoming", table)
    connection.execute(f"INSERT INTO {SCHEMA}.{relation} SELECT * FROM _cf_incoming")
    connection.unregister("_cf_incoming")


def _make_views(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    for number, dataset in numbered(catalog):
        if dataset is not catalog.quarantine and catalog.resolve(dataset.table) is not dataset:
            continue
        for everything in (True, False):
            name = f"{dataset.table}__all" if everything else dataset.table
            sql = view_sql(dataset, number, everything=everything, pairs=f"{SCHEMA}.")
            try:
                connection.execute(f"CREATE VIEW {identifier(name)} AS {sql}")
            except duckdb.Error as error:
                _LOG.warning(
                    "view left out of the catalog",
                    extra={"fields": {"view": name, "reason": json.dumps(str(error))[:500]}},
                )


def _pairs(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[int, list[Pair]]:
    found: dict[int, list[Pair]] = {}
    rows: Iterable[tuple[int, int, str]] = connection.execute(
        f"SELECT dataset, job_id, source_id FROM {relation} ORDER BY ALL"
    ).fetchall()
    for dataset, job_id, source_id in rows:
        found.setdefault(dataset, []).append((job_id, source_id))
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
