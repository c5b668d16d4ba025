"""How a contract looks inside a DuckDB sink: column types, the table, the view.

    table T__all    the contract's columns, then lineage; `_cf_row_id` is virtual
    view T          T__all without the pairs that `_cf_hidden` lists

Type names are written as DuckDB prints them, so that they compare equal with what a file already
has.
"""

from __future__ import annotations

import re
from typing import Final

from casparian.domain.contracts import OutputContract
from casparian.domain.lineage import LINEAGE_COLUMNS
from casparian.errors import ContractError

ROW_ID: Final = "_cf_row_id"
_SIMPLE: Final = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "utf8": "VARCHAR",
    "binary": "BLOB",
    "date32": "DATE",
    "time64[us]": "TIME",
    "timestamp[s]": "TIMESTAMP_S",
    "timestamp[ms]": "TIMESTAMP_MS",
    "timestamp[us]": "TIMESTAMP",
    "timestamp[ns]": "TIMESTAMP_NS",
    "timestamp[s, UTC]": "TIMESTAMP WITH TIME ZONE",
    "timestamp[ms, UTC]": "TIMESTAMP WITH TIME ZONE",
    "timestamp[us, UTC]": "TIMESTAMP WITH TIME ZONE",
    "timestamp[ns, UTC]": "TIMESTAMPTZ_NS",
}
_DECIMAL: Final = re.compile(r"decimal128\((\d+), ?(\d+)\)\Z")
_LIST: Final = re.compile(r"list<(.+)>\Z")


def sql_type(name: str) -> str:
    """DuckDB's type for a contract's type name.

    Raises:
        ContractError: the name is not in the vocabulary.
    """
    if name in _SIMPLE:
        return _SIMPLE[name]
    if match := _DECIMAL.match(name):
        return f"DECIMAL({match[1]},{match[2]})"
    if match := _LIST.match(name):
        return sql_type(match[1]) + "[]"
    raise ContractError(f"unknown column type `{name}`", code="contract.type", type=name)


def column_types(output: OutputContract) -> dict[str, str]:
    """All stored columns with their DuckDB types, in order."""
    named = {column.name: sql_type(column.type) for column in output.columns}
    return named | {name: sql_type(kind) for name, kind in LINEAGE_COLUMNS.items()}


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted for SQL, where a parameter is not allowed."""
    return "'" + text.replace("'", "''") + "'"


def row_id_sql(table: str) -> str:
    """Expression of `_cf_row_id` over the lineage columns."""
    return (
        f"{literal(table + ':')} || left(_cf_source_id, 16) || ':' || _cf_job_id::VARCHAR "
        "|| ':' || _cf_ordinal::VARCHAR"
    )


def table_ddl(table: str, types: dict[str, str]) -> str:
    """Statement that creates `T__all`."""
    columns = [f"{identifier(name)} {kind}" for name, kind in types.items()]
    columns.append(f"{ROW_ID} VARCHAR GENERATED ALWAYS AS ({row_id_sql(table)}) VIRTUAL")
    return f"CREATE TABLE {identifier(table + '__all')} ({', '.join(columns)})"


def view_sql(table: str) -> str:
    """Statement that creates view `T`, again after every change of the table."""
    return (
        f"CREATE OR REPLACE VIEW {identifier(table)} AS SELECT * FROM {identifier(table + '__all')} AS t "
        "WHERE NOT EXISTS (SELECT 1 FROM _cf_hidden AS h "
        f"WHERE h.table_name = {literal(table)} AND h.job_id = t._cf_job_id AND h.source_id = t._cf_source_id)"
    )
