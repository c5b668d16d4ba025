"""Every type comes back from every sink as it went in."""

from __future__ import annotations

import math
from pathlib import Path

import blake3
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sinks_world as world
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from casparian.domain.contracts import Column, OutputContract
from casparian.errors import ContractError, IntegrityError, SinkFault
from casparian.protocol.arrow import arrow_type, bridge_schema, table_schema
from casparian.sinks import csv, csv_values, lineage, quarantine
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.duckdb_schema import sql_type
from casparian.sinks.promote import promote

SETTINGS = {
    "parquet": ["", "?compression=none", "?compression=snappy", "?level=9&row_group_rows=1024"],
    "csv": ["", "?delimiter=tab", "?newline=lf&delimiter=semicolon", "?delimiter=pipe"],
}


def _same(found: pa.Table, wanted: pa.Table) -> None:
    assert found.num_rows == wanted.num_rows
    for name in wanted.schema.names:
        left = found[name].combine_chunks().cast(wanted.schema.field(name).type)
        right = wanted[name].combine_chunks()
        if pa.types.is_floating(right.type):
            assert left.cast(pa.utf8()).equals(right.cast(pa.utf8())), name  # tells -0.0 from 0.0
        assert left.equals(right), name


@pytest.fixture
def wanted() -> pa.Table:
    batches = [world.everything(0), world.everything(1)]
    return lineage.plain(pa.Table.from_batches(batches), world.EVERYTHING)


@pytest.mark.parametrize("query", SETTINGS["parquet"])
def test_every_type_comes_back_from_parquet(tmp_path: Path, query: str, wanted: pa.Table) -> None:
    sink = world.sink("parquet", tmp_path, query)
    files = world.staged(sink, world.EVERYTHING, {0: world.everything(0), 1: world.everything(1)})
    (done,) = promote(world.intents(files))
    _same(pq.read_table(done.intent.final), wanted)
    assert not any(pa.types.is_dictionary(kind) for kind in pq.read_schema(done.intent.final).types)
    through_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{done.intent.final}')")
    _same(through_duckdb.to_arrow_table(), wanted)


@pytest.mark.parametrize("query", SETTINGS["csv"])
def test_every_type_comes_back_from_csv(tmp_path: Path, query: str, wanted: pa.Table) -> None:
    sink = world.sink("csv", tmp_path, query)
    files = world.staged(sink, world.EVERYTHING, {0: world.everything(0), 1: world.everything(1)})
    (done,) = promote(world.intents(files))
    found = csv.read_back(done.intent.final, world.EVERYTHING)
    assert found.schema == table_schema(world.EVERYTHING)
    _same(found, wanted)


def test_every_type_comes_back_from_duckdb(tmp_path: Path, wanted: pa.Table) -> None:
    sink = world.sink("duckdb", tmp_path)
    files = world.staged(sink, world.EVERYTHING, {0: world.everything(0), 1: world.everything(1)})
    database = DuckDbSink(sink)
    assert database.commit("h:7:1", [("everything", world.EVERYTHING, [f.path for f in files])])
    database.publish()
    with duckdb.connect(sink.location, read_only=True) as connection:
        relation = connection.sql(
            "SELECT * EXCLUDE (_cf_row_id) FROM everything ORDER BY _cf_source_id, _cf_ordinal"
        )
        _same(relation.to_arrow_table(), wanted)


@pytest.mark.parametrize("name", world.TYPES)
def test_a_type_has_the_name_that_duckdb_prints(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t (a {sql_type(name)})")
        printed = connection.execute(
            "SELECT data_type FROM duckdb_columns() WHERE table_name = 't'"
        ).fetchone()
    assert printed == (sql_type(name),)


def test_csv_tells_null_from_the_empty_string(tmp_path: Path) -> None:
    sink = world.sink("csv", tmp_path, "?newline=lf")
    output = OutputContract(table="t", columns=(Column(name="a", type="utf8"),))
    rows = world.batch(output, 0, [pa.array(["", None, "x"])])
    (file,) = world.staged(sink, output, {0: rows})
    lines = Path(file.path).read_bytes().splitlines()
    assert [line.split(b",")[0] for line in lines] == [b'"a"', b'""', b"", b'"x"']
    assert csv.read_back(file.path, output)["a"].to_pylist() == ["", None, "x"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=30),
            st.none() | st.binary(max_size=30),
            st.none() | st.lists(st.none() | st.text(max_size=10), max_size=4),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.lists(st.none() | st.floats(), max_size=3),
        ),
        min_size=1,
        max_size=20,
    )
)
@example([(None, None, None, None, [math.inf]), (None, None, None, None, [-0.0])])
def test_any_text_survives_csv(rows: list[tuple[object, ...]]) -> None:
    names = ("utf8", "binary", "list<utf8>", "timestamp[ns, UTC]", "list<float64>")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        column = world.array(list(values), arrow_type(name))
        for part in (column, column.slice(len(column) // 2)):
            back = csv_values.from_text(csv_values.to_text(part), column.type)
            back.validate(full=True)
            assert repr(_plain(back)) == repr(_plain(part))  # `repr` knows nan and -0.0


def _plain(column: pa.Array) -> list[object]:
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.none() | st.text(alphabet='a",;\r\n\t|\\\x00é', max_size=12), min_size=1),
    delimiter=st.sampled_from(["comma", "semicolon", "tab", "pipe"]),
    newline=st.sampled_from(["crlf", "lf"]),
)
def test_hostile_text_survives_a_whole_csv_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], delimiter: str, newline: str
) -> None:
    where = tmp_path_factory.mktemp("csv")
    sink = world.sink("csv", where, f"?delimiter={delimiter}&newline={newline}")
    rows = world.batch(world.SMALL, 0, [pa.array(range(len(texts))), pa.array(texts, pa.utf8())])
    (file,) = world.staged(sink, world.SMALL, {0: rows})
    found = csv.read_back(file.path, world.SMALL)
    assert found["text"].to_pylist() == texts
    assert blake3.blake3(Path(file.path).read_bytes()).hexdigest() == file.blake3


def test_a_row_longer_than_a_block_is_read_back_once(tmp_path: Path) -> None:
    sink = world.sink("csv", tmp_path)
    texts = ["x", "y" * 9_000_000, "z", '"\n' * 3_000_000, "end"]
    rows = world.batch(world.SMALL, 0, [pa.array(range(5)), pa.array(texts)])
    (file,) = world.staged(sink, world.SMALL, {0: rows})
    assert csv.read_back(file.path, world.SMALL)["text"].to_pylist() == texts


def test_a_foreign_csv_file_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(IntegrityError):
        csv.read_back(str(tmp_path / "x.csv"), world.SMALL)


@pytest.mark.parametrize("name", ["timestamp[s]", "timestamp[us, UTC]", "date32", "list<date32>"])
def test_a_time_that_no_sink_can_hold_costs_one_source(tmp_path: Path, name: str) -> None:
    output = OutputContract(table="t", columns=(Column(name="when", type=name),))
    storage = pa.int32() if "date32" in name else pa.int64()
    column = pa.array([2**31 - 1 if "date32" in name else 2**62], storage).cast(
        arrow_type(name.removeprefix("list<").removesuffix(">"))
    )
    if name.startswith("list<"):
        column = pa.ListArray.from_arrays(
            pa.array([0, 1], pa.int32()), column, type=arrow_type(name)
        )
    stage = world.stage(world.sink("parquet", tmp_path), output)
    stage.begin_source(0)
    with pytest.raises(SinkFault, match="outside the years"):
        stage.write(world.batch(output, 0, [column]))
    stage.rollback_source()
    assert stage.finish() == ()


@pytest.mark.parametrize("name", ["_cf_x", "_CF_job_id", "_ｃｆ_offset", "@offset"])
def test_a_parser_cannot_shadow_lineage(name: str) -> None:
    output = OutputContract(table="t", columns=(Column(name=name, type="utf8"),))
    with pytest.raises(ContractError, match="reserved name"):
        world.stage(world.sink("parquet", Path("/nonexistent")), output)
    with pytest.raises(ContractError, match="reserved name"):
        world.batch(output, 0, [pa.array(["x"])])


def test_a_batch_of_another_contract_is_refused() -> None:
    other = OutputContract(table="events", columns=(Column(name="n", type="int32"),))
    bridge = pa.RecordBatch.from_pylist([], schema=bridge_schema(other))
    with pytest.raises(ContractError, match="columns of its contract"):
        lineage.add(
            bridge,
            output=world.SMALL,
            source=world.source(0),
            parser_label="p@1",
            artifact_hash="a",
            contract_hash="c",
            job_id=1,
            processed_at_ns=0,
            first_ordinal=0,
        )


def test_flags_become_names_and_rows_without_flags_are_empty_lists() -> None:
    bits = pa.array([0, 3, 512, 3, 1 << 31], pa.uint32())
    names = lineage.flag_lists(bits)
    names.validate(full=True)
    assert names.to_pylist() == [
        [],
        ["recovered", "slack"],
        ["tz_declared"],
        ["recovered", "slack"],
        ["bit_31"],
    ]
    assert lineage.flag_lists(pa.array([0, 0], pa.uint32())).to_pylist() == [[], []]
    assert lineage.flag_lists(pa.array([], pa.uint32())).to_pylist() == []


def test_quarantine_keeps_short_bytes_and_the_hash_of_long_ones() -> None:
    evidence = bytes(range(256)) * 1024
    long = 65_537
    rejected = pa.RecordBatch.from_arrays(
        [
            pa.array([0, 10, 20, 30], pa.uint64()),
            pa.array([3, 5, long, 65_536], pa.uint64()),
            pa.array([0, 1, 0, 0], pa.uint32()),
            pa.array(["a", "b", "c", "d"]),
            pa.array(["f", None, None, None]),
            pa.array(["m"] * 4),
            pa.array([b"\0\1\2", None, None, evidence[:long]], pa.binary()),
        ],
        schema=bridge_schema(None),
    )
    rows = quarantine.rows(
        rejected, table_name="events", read=lambda offset, n: evidence[offset : offset + n]
    )
    rows.validate(full=True)
    assert rows.schema == bridge_schema(quarantine.QUARANTINE_CONTRACT)
    assert rows["raw"].to_pylist() == [
        b"\0\1\2",
        evidence[10:15],
        None,
        evidence[30 : 30 + 65_536],
    ]
    assert rows["raw_blake3"].to_pylist() == [
        None,
        None,
        blake3.blake3(evidence[20 : 20 + long]).hexdigest(),
        None,
    ]
    assert rows["table_name"].to_pylist() == ["events"] * 4
    blind = quarantine.rows(rejected, table_name=None)
    assert blind["raw"].to_pylist() == [b"\0\1\2", None, None, None]
    assert blind["raw_length"].to_pylist() == [3, 5, long, long]
    assert blind["table_name"].null_count == 4


def test_constant_columns_cost_next_to_nothing_on_disk(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path)
    batches = {index: world.small(index, 500) for index in range(200)}
    (file,) = world.staged(sink, world.SMALL, batches)
    metadata = pq.read_metadata(file.path)
    constant = 0
    for group in range(metadata.num_row_groups):
        for position in range(metadata.num_columns):
            column = metadata.row_group(group).column(position)
            if column.path_in_schema in lineage.CONSTANT_COLUMNS:
                constant += column.total_compressed_size
                assert (
                    "PLAIN_DICTIONARY" in column.encodings or "RLE_DICTIONARY" in column.encodings
                )
                assert column.statistics is not None
    assert constant < 200 * 2 * 64 + 20_000  # the distinct texts themselves, and little else
    paths = pq.read_table(file.path, columns=["_cf_source_path"])["_cf_source_path"]
    assert pc.count_distinct(paths).as_py() == 200
