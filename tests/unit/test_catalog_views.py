"""SQL of the catalog's views, and what the catalog remembers."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import IntegrityError
from casparian.protocol.arrow import arrow_type
from casparian.sinks import catalog as catalog_module
from casparian.sinks.catalog import Catalog, CatalogDataset, CatalogFile, load, publish
from casparian.sinks.catalog_views import (
    identifier,
    literal,
    rows_sql,
    stored_columns,
    view_sql,
)
from casparian.sinks.duckdb_schema import sql_type

OUTPUT = OutputContract(table="t", main=True, columns=(Column(name="a", type="utf8"),))
OTHER = OutputContract(table="t", main=True, columns=(Column(name="b", type="int8"),))
PARQUET = Sink(kind=SinkKind.PARQUET, location="/out")
CSV = Sink(kind=SinkKind.CSV, location="/out", settings={"delimiter": "comma"})


def file(number: int, output: OutputContract | None = None) -> CatalogFile:
    return CatalogFile(
        path=f"/out/t_{number}.parquet", job_id=number, epoch=1, rows=1, output=output
    )


TYPES = [
    "bool",
    "int8",
    "uint64",
    "float32",
    "utf8",
    "binary",
    "date32",
    "timestamp[ns]",
    "time64[us]",
]
TYPES += ["timestamp[ns, UTC]", "timestamp[us, UTC]", "decimal128(38, 9)", "list<utf8>"]
TYPES += ["list<list<uint8>>", "list<decimal128(5,2)>", "list<timestamp[ns, UTC]>"]


@pytest.mark.parametrize("name", TYPES)
def test_each_type_is_what_duckdb_makes_of_the_arrow_type(name: str) -> None:
    table = pa.table({"v": pa.array([None], arrow_type(name))})
    with duckdb.connect() as connection:
        connection.register("incoming", table)
        expected = connection.execute("SELECT typeof(v) FROM incoming").fetchone()
        given = connection.execute(f"SELECT typeof(CAST(NULL AS {sql_type(name)}))").fetchone()
    assert given == expected


def test_names_and_texts_are_quoted() -> None:
    assert identifier('a"b') == '"a""b"'
    assert literal("a'b") == "'a''b'"


def test_files_of_one_shape_are_read_together() -> None:
    files = tuple(file(n, OUTPUT if n % 2 else OTHER) for n in range(6))
    dataset = CatalogDataset(table="t", sink=PARQUET, output=OUTPUT, files=files)
    sql = rows_sql(dataset)
    assert sql.count("read_parquet") == 2
    assert sql.count(" UNION ALL BY NAME ") == 1
    assert sql.index('"a"') < sql.index('"b"')  # the newest contract gives the column order
    assert rows_sql(dataset, jobs=[3]).count(".parquet") == 1


def test_csv_files_of_two_delimiters_are_read_apart() -> None:
    tab = CatalogFile(path="/out/1.csv", job_id=1, epoch=1, rows=1, settings={"delimiter": "tab"})
    comma = CatalogFile(path="/out/2.csv", job_id=2, epoch=1, rows=1)
    sql = rows_sql(CatalogDataset(table="t", sink=CSV, output=OUTPUT, files=(tab, comma)))
    assert sql.count("read_csv") == 2
    assert "delim = '\t'" in sql
    assert "delim = ','" in sql


def test_joins_appear_only_when_something_is_dead() -> None:
    plain = CatalogDataset(table="t", sink=PARQUET, output=OUTPUT, files=(file(1),))
    assert "JOIN" not in view_sql(plain, 0, everything=False, pairs="p.")
    pairs = ((1, "s"),)
    both = CatalogDataset(
        table="t", sink=PARQUET, output=OUTPUT, files=(file(1),), retired=pairs, hidden=pairs
    )
    assert view_sql(both, 0, everything=False, pairs="p.").count("ANTI JOIN") == 2
    everything = view_sql(both, 0, everything=True, pairs="p.")
    assert everything.count("ANTI JOIN") == 1
    assert "p._cf_retired" in everything


def test_a_dataset_without_files_has_its_columns() -> None:
    dataset = CatalogDataset(table="t", sink=PARQUET, output=OUTPUT)
    with duckdb.connect() as connection:
        relation = connection.sql(view_sql(dataset, 0, everything=False, pairs="p."))
        assert relation.columns == [*stored_columns(OUTPUT), "_cf_row_id"]


def everything() -> Catalog:
    dataset = CatalogDataset(
        table="t",
        sink=CSV,
        output=OUTPUT,
        files=(file(1, OTHER), file(2)),
        retired=((1, "x"),),
        hidden=((2, "y"), (2, "z")),
    )
    quarantine = CatalogDataset(table="quarantine", sink=PARQUET, output=OTHER)
    return Catalog(
        home_id="h",
        generation=9,
        default_sink="csv:/out",
        datasets=(dataset,),
        quarantine=quarantine,
    )


def written(path: Path) -> Catalog:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS c (READ_ONLY)")
        return load(connection, "c")


def test_what_was_published_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    publish(path, everything(), {})
    found = written(path)
    assert found.datasets[0].files[0].output == OTHER
    assert found.datasets[0].files[1].output == OUTPUT
    assert found.datasets[0].retired == ((1, "x"),)
    assert found.datasets[0].hidden == ((2, "y"), (2, "z"))
    assert found.quarantine == everything().quarantine
    assert (found.home_id, found.generation, found.default_sink) == ("h", 9, "csv:/out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalog.duckdb"]


def test_an_empty_catalog_is_one(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    publish(path, Catalog(home_id="h", generation=1, default_sink=None, datasets=()), {})
    assert written(path).datasets == ()
    assert written(path).default_sink is None


def test_settings_and_contracts_come_from_the_record(tmp_path: Path) -> None:
    import msgspec

    record = {
        "job_id": [1, 2],
        "table_name": ["t", "t"],
        "contract": [msgspec.json.encode(OTHER).decode(), msgspec.json.encode(OUTPUT).decode()],
        "sink_settings": ['{"delimiter":"pipe"}', '{"delimiter":"comma"}'],
    }
    dataset = CatalogDataset(table="t", sink=CSV, output=OUTPUT, files=(file(1), file(2)))
    catalog = Catalog(home_id="h", generation=1, default_sink=None, datasets=(dataset,))
    publish(tmp_path / "c", catalog, {"materializations": pa.table(record)})
    first, second = written(tmp_path / "c").datasets[0].files
    assert (first.output, first.settings) == (OTHER, {"delimiter": "pipe"})
    assert (second.output, second.settings) == (OUTPUT, {"delimiter": "comma"})


def test_a_leftover_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    (tmp_path / "catalog.duckdb.new").write_bytes(b"half")
    (tmp_path / "catalog.duckdb.new.wal").write_bytes(b"half")
    publish(path, everything(), {})
    assert written(path).generation == 9
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalog.duckdb"]


def test_a_catalog_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "CATALOG_FORMAT", 2)
    publish(tmp_path / "c", everything(), {})
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="format 2"):
        written(tmp_path / "c")
    with duckdb.connect(str(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE x(a INT)")
    with pytest.raises(IntegrityError, match="not one of ours"):
        written(tmp_path / "other")


def test_a_name_means_the_default_sinks_table_or_the_only_one() -> None:
    one = CatalogDataset(table="t", sink=PARQUET, output=OUTPUT)
    two = CatalogDataset(table="t", sink=CSV, output=OUTPUT)
    lone = CatalogDataset(table="u", sink=CSV, output=OUTPUT)

    def resolve(table: str, default: str | None) -> CatalogDataset | None:
        datasets = (one, two, lone)
        return Catalog(home_id="h", generation=1, default_sink=default, datasets=datasets).resolve(
            table
        )

    assert resolve("t", PARQUET.uri) is one
    assert resolve("t", CSV.uri) is two
    assert resolve("t", None) is None
    assert resolve("t", "csv:/elsewhere") is None
    assert resolve("u", PARQUET.uri) is lone
    assert resolve("v", None) is None
