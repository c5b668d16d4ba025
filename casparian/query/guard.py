"""Decide whether one SQL text may run over committed outputs.

Rules, each of them an allow-list:
  * One statement, and it is a SELECT (FROM, VALUES, SHOW, DESCRIBE, SUMMARIZE are forms of it) or
    EXPLAIN of one.
  * Every query node in it only reads. DuckDB lets a CTE hold INSERT, UPDATE, DELETE and COPY … TO,
    calls the whole a SELECT, and `COPY … TO (use_tmp_file false)` writes over any file that may be
    read: even with external access off and in a read-only transaction.
  * Table functions are those that make or describe values. `query()` and
    `json_execute_serialized_sql()` would run SQL that nobody looked at, `arrow_scan()` reads
    memory by address, `read_*()` reads files.
  * Attached databases are not named directly: their tables are reached through our views.

The engine locks file access down as well; this is what the lock-down cannot say. Nothing is
executed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import msgspec

from casparian.display import show
from casparian.errors import CasparianError, Refused

ATTACHED_PREFIX: Final = "_cf_db"
MESSAGE_CHARACTERS_MAX: Final = 2000

_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS: Final = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
_EXPLAIN: Final = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?\b(.*)", re.IGNORECASE | re.DOTALL)
_OPTIONS: Final = re.compile(r"\s*\(\s*(?!SELECT|FROM|VALUES|WITH|TABLE)[A-Z_]+\b", re.IGNORECASE)
_HINT: Final = "`query` reads committed tables: SELECT, FROM, SHOW, DESCRIBE, SUMMARIZE, EXPLAIN"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that may run.

    `tables` are the names it reads, case-folded, CTE names among them.
    """

    sql: str
    tables: frozenset[str]


def check(sql: str) -> Statement:
    """Read one statement and say what it touches.

    Raises:
        CasparianError: `query.sql`: it cannot be parsed.
        Refused: `query.refused`: it is not one that only reads committed tables.
    """
    with duckdb.connect() as parser:
        try:
            statements = parser.extract_statements(sql)
            kinds = [statement.type for statement in statements]
        except duckdb.Error as error:
            raise sql_error(error) from error
        except ValueError as error:  # a kind of statement that the client library has no name for
            raise _refused("this kind of statement") from error
        if not statements:
            raise CasparianError("The query is empty", code="query.sql", hint=_HINT)
        if len(statements) > 1:
            raise _refused("more than one statement")
        kind, text = kinds[0], statements[0].query
        prefix = ""
        if kind == duckdb.StatementType.EXPLAIN:
            match = _EXPLAIN.match(_without_comments(text))
            if match is None or _OPTIONS.match(match[2]):
                raise _refused("this form of EXPLAIN")
            prefix, text = f"EXPLAIN{' ANALYZE' if match[1] else ''} ", match[2].strip()
        elif kind == duckdb.StatementType.MULTI:
            raise _refused(
                "PIVOT without a list of values", "name the values: `PIVOT … ON … IN (…)`"
            )
        elif kind != duckdb.StatementType.SELECT:
            raise _refused(kind.name)
        tree = _tree(parser, text)
    tables: set[str] = set()
    for node in _dictionaries(tree):
        _check_node(node, tables)
    return Statement(sql=prefix + text, tables=frozenset(tables))


_LINES_MAX: Final = 6
_TIMES_HINT: Final = (
    "times keep nanoseconds: compare them with text (`time_created >= '2024-03-05 08:00'`), "
    "and cast them for date functions (`time_created::TIMESTAMPTZ`)"
)


def sql_error(error: BaseException) -> CasparianError:
    """DuckDB's own message, made safe to show: it quotes evidence when a cast fails."""
    text = str(error)[:MESSAGE_CHARACTERS_MAX]
    lines = [show(line.strip()) for line in text.splitlines() if line.strip()]
    if len(lines) > _LINES_MAX:  # every overload of an operator is no help
        lines = [*lines[:_LINES_MAX], "…"]
    return CasparianError(
        "\n".join(lines), code="query.sql", hint=_TIMES_HINT if "TIMESTAMPTZ_NS" in text else None
    )


def _refused(what: str, hint: str = _HINT) -> Refused:
    return Refused(f"`query` does not run {what}", code="query.refused", hint=hint)


def _without_comments(sql: str) -> str:
    """Drop comments before the first word."""
    while True:
        rest = sql.lstrip()
        if rest.startswith("--"):
            rest = rest.partition("\n")[2]
        elif rest.startswith("/*"):
            rest = rest.partition("*/")[2]
        if rest == sql:
            return rest
        sql = rest


def _tree(parser: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Syntax tree of a SELECT, as DuckDB itself reads it."""
    try:
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    except duckdb.Error as error:
        raise sql_error(error) from error
    assert row is not None
    tree: dict[str, Any] = json.loads(row[0])
    if tree["error"]:
        if tree.get("error_type") == "not implemented":
            raise _refused("anything but a plain SELECT")
        raise sql_error(ValueError(str(tree.get("error_message"))))
    if len(tree["statements"]) != 1:
        raise _refused("more than one statement")
    return tree


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_node(node: dict[str, Any], tables: set[str]) -> None:
    """Refuse what does more than read tables, and note which tables are read."""
    if "info_type" in node:
        raise _refused(str(node["info_type"]).removesuffix("_INFO"))
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _NODES:
        raise _refused(kind.removesuffix("_NODE").removesuffix("_QUERY") + " inside a query")
    if kind == "BASE_TABLE":
        _check_table(node, tables)
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).casefold()
        if name not in _TABLE_FUNCTIONS:
            raise _refused(f"the table function `{show(name)}`")


def _check_table(node: dict[str, Any], tables: set[str]) -> None:
    parts = [str(node.get(key, "")) for key in ("catalog_name", "schema_name", "table_name")]
    if any(part.casefold().startswith(ATTACHED_PREFIX) for part in parts):
        raise _refused("a statement that names an attached database")
    if any(mark in parts[-1] for mark in "/\\.:"):
        raise _refused(f"over the file `{show(parts[-1])}`")
    tables.add(parts[-1].casefold())
