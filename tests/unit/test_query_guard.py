"""What `query` runs, and what it refuses before DuckDB sees it."""

from __future__ import annotations

import pytest

from casparian.errors import CasparianError, Refused
from casparian.query.guard import check

RUNS = [
    "SELECT 1",
    "  -- a remark\n SELECT 1;",
    "FROM t",
    "VALUES (1)",
    "TABLE t",
    "SHOW TABLES",
    "DESCRIBE t",
    "SUMMARIZE t",
    "SELECT * FROM t UNION ALL SELECT * FROM u ORDER BY 1 LIMIT 2",
    "WITH RECURSIVE r AS (SELECT 1 a UNION ALL SELECT a + 1 FROM r WHERE a < 3) FROM r",
    "WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a",
    "SELECT unnest([1]), * FROM range(3), unnest([1]), generate_series(1, 2)",
    "FROM (PIVOT t ON a IN (1, 2) USING sum(b))",
    "UNPIVOT t ON a",
    "SELECT 'COPY_QUERY_NODE', 'a.csv' AS \"type\"",
    "EXPLAIN SELECT 1",
    "/* x */ EXPLAIN ANALYZE SELECT * FROM t",
    "SELECT * FROM t WHERE a = ? AND b = $2",
    "SELECT * FROM information_schema.tables",
    "SELECT list_transform(names, lambda n: upper(n)) FROM t",
]
REFUSED = [
    "COPY (SELECT 1) TO 'x'",
    "COPY t FROM 'x'",
    "ATTACH 'x'",
    "DETACH x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET threads = 1",
    "RESET threads",
    "CREATE TABLE x(a INT)",
    "DROP VIEW t",
    "INSERT INTO t VALUES (1)",
    "DELETE FROM t",
    "UPDATE t SET a = 1",
    "EXPORT DATABASE 'x'",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN",
    "USE x",
    "CONNECT 'x'",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO 'x'",
    "PIVOT t ON a USING sum(b)",
    # each of these is a SELECT to DuckDB
    "WITH a AS (COPY (SELECT 1) TO 'x' (use_tmp_file false)) SELECT * FROM a",
    "SELECT * FROM (WITH a AS (COPY (SELECT 1) TO 'x') SELECT * FROM a)",
    "SELECT (WITH a AS (COPY (SELECT 1) TO 'x') SELECT count(*) FROM a)",
    "WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM a",
    "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
    "EXPLAIN COPY (SELECT 1) TO 'x'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
    "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO 'x') SELECT * FROM a",
    "EXPLAIN (FORMAT json) SELECT 1",
    "SELECT * FROM query('COPY t TO ''x''')",
    "FROM query_table('t')",
    "FROM json_execute_serialized_sql('{}')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM read_csv('/etc/passwd')",
    "FROM READ_TEXT('/etc/passwd')",
    "SELECT (SELECT content FROM read_blob('/etc/passwd'))",
    "FROM main.read_parquet('x')",
    "FROM glob('/*')",
    "FROM sniff_csv('x')",
    "FROM parquet_metadata('x')",
    "FROM read_duckdb('x')",
    "FROM duckdb_settings()",
    "FROM '/etc/passwd'",
    "FROM 'data.csv'",
    'FROM "file:x"',
    "FROM _cf_db_catalog.casparian.materializations",
    "FROM _CF_DB_sink_0.t",
]


@pytest.mark.parametrize("sql", RUNS)
def test_reading_statements_run(sql: str) -> None:
    assert check(sql).sql


@pytest.mark.parametrize("sql", REFUSED)
def test_everything_else_is_refused(sql: str) -> None:
    with pytest.raises(Refused) as caught:
        check(sql)
    assert caught.value.code == "query.refused"
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT FROM FROM", "", "  -- nothing\n", "EXPLAIN"])
def test_what_cannot_be_parsed_is_an_sql_error(sql: str) -> None:
    with pytest.raises(CasparianError) as caught:
        check(sql)
    assert caught.value.code == "query.sql"
    assert caught.value.exit_code == 1


def test_tables_are_named_without_regard_to_case_and_depth() -> None:
    statement = check(
        "WITH a AS (SELECT * FROM One) SELECT * FROM a JOIN main.two ON (SELECT max(x) FROM Three)"
    )
    assert statement.tables == {"a", "one", "two", "three"}


def test_describe_names_its_table() -> None:
    assert "events" in check("DESCRIBE Events").tables


def test_an_error_message_cannot_steer_a_terminal() -> None:
    with pytest.raises(CasparianError) as caught:
        check("SELECT 'x' \x1b[31m \u202e FROM")
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
