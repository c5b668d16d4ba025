"""Run SQL over committed outputs, read-only, in this process, with or without a sentinel.

Rules:
  * What can be read is what the catalog lists, file by file. A listed file that is gone is an
    error that names it, never fewer rows.
  * Each table is read from one sink: the one asked for, else the default one, else the only one
    that holds the table.
  * Before a user's SQL runs, DuckDB may touch the listed files and its own spill directory and
    nothing else, loads no extension, sees no Python variable, and its configuration is locked.
    `guard` says which statements run at all.
  * Nothing here writes; a new catalog that is published meanwhile is seen by the next `Query`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

from casparian.display import show
from casparian.domain.outputs import SinkKind
from casparian.errors import CasparianError, IntegrityError, Refused, UsageError
from casparian.paths import Home
from casparian.query import scratch
from casparian.query.guard import ATTACHED_PREFIX, check, sql_error
from casparian.query.result import Result
from casparian.query.values import json_values
from casparian.sinks.catalog import SCHEMA, Catalog, CatalogDataset, load, numbered
from casparian.sinks.catalog_views import view_sql
from casparian.sinks.duckdb_schema import identifier, literal
from casparian.sinks.uri import parse_sink

MEMORY_LIMIT_MB: Final = 192  # DuckDB's own; larger sorts and groups spill to disk
MEMORY_LIMIT_MB_MAX: Final = 1024  # for a statement that ran out of the former in spite of that
THREADS_MAX: Final = 4
_BATCH_ROWS: Final = 4096

_CATALOG: Final = f"{ATTACHED_PREFIX}_catalog"
_PAIRS: Final = f"{_CATALOG}.{SCHEMA}."
_CONTROL_TABLES: Final = ("materializations", "sources")

Parameters = Sequence[Any] | Mapping[str, Any]


class Query:
    """A short-lived connection over one home's committed outputs; use it as a context manager.

    Args:
        home: whose outputs.
        sink_uri: read tables from this sink only.

    Raises:
        CasparianError: `query.no_outputs`: nothing was committed yet.
        UsageError: `query.sink`: no table is in that sink.
        IntegrityError: `catalog.format`: the catalog is not one this version reads.
    """

    def __init__(
        self, home: Home, sink_uri: str | None = None, *, memory_limit_mb: int = MEMORY_LIMIT_MB
    ) -> None:
        self.home = home
        self._spill = _spill_directory(home)
        self._broken: dict[str, CasparianError] = {}
        self._attached: dict[str, str] = {}
        self._memory_limit_mb = memory_limit_mb
        self._copied: set[str] = set()
        self._connection = duckdb.connect(config=_configuration(self._spill, memory_limit_mb))
        try:
            self._connection.execute("SET TimeZone = 'UTC'")
            self.catalog = self._open_catalog()
            self._datasets = self._choose(sink_uri)
            self._attach_databases()
            self._make_views()
            self._lock_down()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and spill space; may be called twice."""
        self._connection.close()
        if self._spill is not None:
            scratch.remove(self._spill)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names a query may read, sorted, `T__all` among them."""
        names = {dataset.table for _, dataset in self._datasets}
        control = self._copied.intersection(_CONTROL_TABLES)
        return tuple(sorted({*names, *(f"{name}__all" for name in names), *control}))

    def run(self, sql: str, parameters: Parameters | None = None) -> Result:
        """Start one statement. Its result must be read before the next statement starts.

        Raises:
            CasparianError: `query.sql`: DuckDB says what is wrong.
            Refused: `query.refused`: it does more than read committed tables.
            IntegrityError: `output_file.missing`: a committed file it needs is gone.
            UsageError: `query.sink`: a table it names is in several sinks.
        """
        statement = check(sql)
        for name in sorted(statement.tables):
            if name in self._broken:
                raise self._broken[name]
        try:
            self._begin()
            bound = self._connection.sql(statement.sql, params=_plain(parameters))

            def again() -> duckdb.DuckDBPyRelation | None:
                """The statement once more, after the memory limit was raised; it is raised once."""
                if self._memory_limit_mb >= MEMORY_LIMIT_MB_MAX:
                    return None
                self._memory_limit_mb = MEMORY_LIMIT_MB_MAX
                self._begin()
                self._connection.execute(f"SET memory_limit = '{MEMORY_LIMIT_MB_MAX}MB'")
                return self._connection.sql(statement.sql, params=_plain(parameters))

            return Result(bound, self._connection, again)
        except duckdb.PermissionException as error:
            raise Refused(
                "`query` reads committed tables only: " + show(str(error).splitlines()[0]),
                code="query.refused",
                hint='`casparian query "SHOW TABLES"` lists them',
            ) from error
        except duckdb.InterruptException as error:
            raise KeyboardInterrupt from error
        except duckdb.CatalogException as error:
            failure = sql_error(error)
            failure.hint = f"tables: {', '.join(self.tables) or 'none yet'}"
            raise failure from error
        except (duckdb.Error, RuntimeError) as error:
            raise sql_error(error) from error

    def interrupt(self) -> None:
        """Stop what runs, from another thread."""
        self._connection.interrupt()

    def fetch(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """Rows of one of our own statements: values as in JSON, but bytes stay bytes."""
        table = self.arrow(sql, parameters)
        columns = [
            value
            if pa.types.is_binary(value.type)
            else [item for chunk in value.chunks for item in json_values(chunk)]
            for value in table.columns
        ]
        plain = [c.to_pylist() if isinstance(c, pa.ChunkedArray) else c for c in columns]
        return [dict(zip(table.column_names, row, strict=True)) for row in zip(*plain, strict=True)]

    def arrow(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """Rows of one of our own statements, as Arrow; control tables are open to it."""
        self._begin()
        return self._connection.sql(sql, params=_plain(parameters)).to_arrow_table()

    def stream(self, sql: str, parameters: Parameters | None = None) -> Iterator[pa.RecordBatch]:
        """Rows of one of our own statements, batch by batch; to be read before the next statement starts."""
        self._begin()
        yield from self._connection.sql(sql, params=_plain(parameters)).to_arrow_reader(_BATCH_ROWS)

    def attached(self, dataset: CatalogDataset) -> str | None:
        """Alias of a DuckDB sink's file; `None` for other sinks, and when it is not open."""
        return self._attached.get(dataset.sink.location)

    def control(self, table: str) -> str:
        """Qualified name of a control table that the catalog carries (`ledgers`, `jobs`, …)."""
        return f"{_PAIRS}{identifier(table)}"

    def has_control(self, table: str) -> bool:
        """Whether the catalog carries that control table."""
        return table in self._copied

    def _begin(self) -> None:
        """A second fence around each statement: this transaction writes to no database."""
        with contextlib.suppress(duckdb.TransactionException):
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN TRANSACTION READ ONLY")

    def _open_catalog(self) -> Catalog:
        path = self.home.catalog
        if not path.is_file():
            raise CasparianError(
                "No outputs yet", code="query.no_outputs", hint="start with `casparian run DIR`"
            )
        try:
            self._connection.execute(f"ATTACH {literal(str(path))} AS {_CATALOG} (READ_ONLY)")
        except duckdb.Error as error:
            raise IntegrityError(
                f"the catalog `{path}` cannot be opened: {show(str(error).splitlines()[0])}",
                code="catalog.unreadable",
                hint="start a sentinel (`casparian sentinel start`): it writes the catalog again",
                path=str(path),
            ) from error
        catalog = load(self._connection, _CATALOG)
        self._copied = {
            name
            for (name,) in self._connection.execute(
                "SELECT table_name FROM duckdb_tables() "
                "WHERE database_name = ? AND schema_name = ?",
                [_CATALOG, SCHEMA],
            ).fetchall()
        }
        return catalog

    def _choose(self, sink_uri: str | None) -> list[tuple[int, CatalogDataset]]:
        """Which dataset each table name means."""
        every = numbered(self.catalog)
        if sink_uri is not None:
            wanted = parse_sink(sink_uri, base=os.getcwd()).uri
            if wanted not in self.catalog.sinks:
                raise UsageError(
                    f"no table is in sink `{wanted}`", code="query.sink", hint=self._sinks_hint()
                )
            return [
                (number, dataset)
                for number, dataset in every
                if dataset.sink.uri == wanted or dataset is self.catalog.quarantine
            ]
        chosen: list[tuple[int, CatalogDataset]] = []
        for number, dataset in every:
            if dataset is self.catalog.quarantine:
                chosen.append((number, dataset))
                continue
            meant = self.catalog.resolve(dataset.table)
            if meant is dataset:
                chosen.append((number, dataset))
            elif meant is None:
                self._break(
                    dataset.table,
                    UsageError(
                        f"`{dataset.table}` is in several sinks, and none of them is the default",
                        code="query.sink",
                        hint=self._sinks_hint(dataset.table),
                        table=dataset.table,
                    ),
                )
        return chosen

    def _sinks_hint(self, table: str | None = None) -> str:
        uris = sorted(
            {d.sink.uri for d in self.catalog.datasets if table is None or d.table == table}
        )
        return "choose one with --sink: " + ", ".join(show(uri) for uri in uris)

    def _break(self, table: str, error: CasparianError) -> None:
        """Remember why a table cannot be read; it is raised when a statement names the table."""
        for name in (table, f"{table}__all"):
            self._broken[name.casefold()] = error

    def _make_views(self) -> None:
        for name in _CONTROL_TABLES:
            if name in self._copied:
                self._connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {_PAIRS}{name}")
        for number, dataset in self._datasets:
            missing = next((path for path in dataset.paths if not os.path.isfile(path)), None)
            if missing is not None:
                self._break(dataset.table, _missing(dataset.table, missing))
                continue
            try:
                attached = self.attached(dataset)
                for everything in (True, False):
                    sql = view_sql(
                        dataset, number, everything=everything, pairs=_PAIRS, attached=attached
                    )
                    name = f"{dataset.table}__all" if everything else dataset.table
                    self._connection.execute(f"CREATE VIEW {identifier(name)} AS {sql}")
            except duckdb.Error as error:
                self._break(
                    dataset.table,
                    IntegrityError(
                        f"the outputs of `{dataset.table}` cannot be read: "
                        + show(str(error).splitlines()[0]),
                        code="output_file.unreadable",
                        hint="`casparian doctor --verify` names the file",
                        table=dataset.table,
                    ),
                )

    def _attach_databases(self) -> None:
        """Open the published file of every DuckDB sink; its tables report one that fails."""
        for dataset in self.catalog.datasets:
            location = dataset.sink.location
            if dataset.sink.kind is not SinkKind.DUCKDB or location in self._attached:
                continue
            alias = f"{ATTACHED_PREFIX}_sink_{len(self._attached)}"
            with contextlib.suppress(duckdb.Error):
                self._connection.execute(f"ATTACH {literal(location)} AS {alias} (READ_ONLY)")
                self._attached[location] = alias

    def _lock_down(self) -> None:
        """Leave DuckDB the files that the catalog lists, and its spill directory."""
        every = [dataset for _, dataset in numbered(self.catalog)]
        files = [d for d in every if d.sink.kind is not SinkKind.DUCKDB]
        paths = sorted({path for dataset in files for path in dataset.paths})
        self._connection.execute(f"SET allowed_paths = [{', '.join(map(literal, paths))}]")
        self._connection.execute("SET enable_external_access = false")
        # `guard` lets no SET through: only `run` itself can raise the limit
        self._connection.execute("SET allowed_configs = ['memory_limit']")
        self._connection.execute("SET lock_configuration = true")


def _spill_directory(home: Home) -> Path | None:
    """Where a sort may spill; nowhere when the home is missing or cannot be written."""
    if not home.root.is_dir():
        return None
    try:
        return scratch.make(home, "query")
    except OSError:
        return None


def _configuration(spill: Path | None, memory_limit_mb: int) -> dict[str, Any]:
    return {
        "memory_limit": f"{memory_limit_mb}MB",
        "threads": min(THREADS_MAX, os.cpu_count() or 1),
        "temp_directory": "" if spill is None else str(spill),
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        "arrow_lossless_conversion": True,
    }


def _missing(table: str, path: str) -> IntegrityError:
    return IntegrityError(
        f"a committed file of `{table}` is missing: `{show(path)}`",
        code="output_file.missing",
        hint="put it back, or run the evidence again with `--mode replace`",
        table=table,
        path=path,
    )


def _plain(parameters: Parameters | None) -> Any:
    if parameters is None or isinstance(parameters, dict):
        return parameters
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
