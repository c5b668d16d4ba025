"""The same rows come back from each sink, by any client, with the contract's types."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import msgspec
import pytest

from casparian.domain.contracts import Column, OutputContract
from casparian.errors import IntegrityError, UsageError
from casparian.query.engine import Query
from tests.factories.committed import LINES, TIME_NS, VALUES, CommittedHome

SINKS = ["parquet:out", "csv:out", "csv:out?delimiter=tab&newline=lf", "duckdb:out.duckdb"]


@pytest.fixture
def world(tmp_path: Path) -> CommittedHome:
    return CommittedHome(tmp_path)


@pytest.mark.parametrize("uri", SINKS)
def test_values_and_types_are_those_of_the_contract(world: CommittedHome, uri: str) -> None:
    sink = world.sink(uri)
    source = world.source("a.log", b"x" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    world.publish(sink.uri)
    with Query(world.home) as query:
        result = query.run("SELECT * FROM lines ORDER BY _cf_ordinal")
        types = {column.name: column.type for column in result.columns}
        first, second, third = result.to_json()["rows"]
    assert list(types)[:9] == [column.name for column in LINES.columns]
    assert types["number"] == "UBIGINT"
    assert types["time"] == "TIMESTAMPTZ_NS"
    assert types["names"] == "VARCHAR[]"
    assert types["_cf_flags"] == "VARCHAR[]"
    names = list(types)
    one, two, three = (dict(zip(names, row, strict=True)) for row in (first, second, third))
    assert one["number"] == 2**64 - 1
    assert one["time"] == "2019-04-27T15:57:27.087613207Z"
    assert one["text"] == 'quo"te,\r\nline'
    assert one["names"] == ["a", None, 'b"\\', ""]
    assert one["raw"] == "00ff"
    assert one["ratio"] == 0.1
    assert one["price"] == "12345678.90"
    assert one["ok"] is True
    assert one["day"] == "2019-04-14"
    assert one["_cf_row_id"] == f"lines:{source.source_id[:16]}:7:0"
    assert (two["text"], two["names"], two["raw"], two["ratio"]) == ("", [], "", -1.5e300)
    assert two["_cf_flags"] == ["recovered"]
    assert [three[name] for name in names[:9]] == [None] * 9


@pytest.mark.parametrize("uri", SINKS)
def test_any_duckdb_client_reads_the_catalog(world: CommittedHome, uri: str) -> None:
    sink = world.sink(uri)
    source = world.source("a.log", b"x" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    world.publish(None)
    with duckdb.connect(str(world.home.catalog), read_only=True) as connection:
        rows = connection.execute(
            "SELECT number, epoch_ns(time), _cf_row_id FROM lines ORDER BY _cf_ordinal LIMIT 1"
        ).fetchall()
        assert connection.execute("SELECT count(*) FROM lines__all").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM materializations").fetchone() == (1,)
    assert rows == [(2**64 - 1, TIME_NS, f"lines:{source.source_id[:16]}:7:0")]


@pytest.mark.parametrize("uri", ["parquet:out", "csv:out"])
def test_retired_and_hidden_pairs_leave_their_views(world: CommittedHome, uri: str) -> None:
    sink = world.sink(uri)
    one, two, three = (world.source(name, name.encode() * 10) for name in ("1", "2", "3"))
    world.commit(sink, 7, [(one, VALUES), (two, VALUES), (three, VALUES)])
    world.commit(sink, 8, [(one, VALUES)])
    world.retired["lines", sink.uri] = [(7, two.source_id)]
    world.hidden["lines", sink.uri] = [(7, one.source_id)]
    world.publish(sink.uri)
    counts = (
        "SELECT _cf_job_id, _cf_source_path, count(*) FROM {} GROUP BY ALL ORDER BY _cf_job_id, 2"
    )
    with Query(world.home) as query:
        shown = query.run(counts.format("lines")).to_json()["rows"]
        every = query.run(counts.format("lines__all")).to_json()["rows"]
    assert shown == [[7, "3", 3], [8, "1", 3]]
    assert every == [[7, "1", 3], [7, "3", 3], [8, "1", 3]]


def test_a_duckdb_sink_hides_what_its_own_file_hides(world: CommittedHome) -> None:
    from casparian.sinks.duckdb import DuckDbSink

    sink = world.sink("duckdb:out.duckdb")
    source = world.source("a", b"a" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    world.commit(sink, 8, [(source, VALUES)])
    target = DuckDbSink(sink)
    target.commit("hide:1:1", [], [], hide=[("lines", 7, source.source_id)])
    target.publish()
    world.publish(sink.uri)
    with Query(world.home) as query:
        shown = query.run("SELECT DISTINCT _cf_job_id FROM lines").to_json()["rows"]
        every = query.run("SELECT count(*) FROM lines__all").to_json()["rows"]
    assert shown == [[8]]
    assert every == [[6]]


@pytest.mark.parametrize("uri", ["parquet:out", "csv:out", "duckdb:out.duckdb"])
def test_contract_versions_are_united_by_name(world: CommittedHome, uri: str) -> None:
    sink = world.sink(uri)
    source = world.source("a", b"a" * 30)
    newer = OutputContract(
        table="lines",
        main=True,
        columns=(Column(name="extra", type="uint8"), *LINES.columns[1:4]),
    )
    if sink.kind == "duckdb":  # its file holds every column that was ever there
        newer = OutputContract(
            table="lines", main=True, columns=(*LINES.columns, Column(name="extra", type="uint8"))
        )
    world.commit(sink, 7, [(source, VALUES[:1])])
    world.commit(sink, 8, [(source, [{"extra": 5, "text": "new"}])], output=newer)
    world.publish(sink.uri)
    with Query(world.home) as query:
        rows = query.run("SELECT extra, number, text FROM lines ORDER BY _cf_job_id").to_json()[
            "rows"
        ]
    assert rows == [[None, 2**64 - 1, 'quo"te,\r\nline'], [5, None, "new"]]


def test_directory_names_are_taken_literally(world: CommittedHome) -> None:
    sink = world.sink("parquet:odd [a]*'q k=v")
    source = world.source("a", b"a" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    world.publish(sink.uri)
    with Query(world.home) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[3]]
        names = [column.name for column in query.run("SELECT * FROM lines").columns]
    assert "k" not in names


def test_a_table_of_two_sinks_is_read_from_the_default_or_the_named_one(
    world: CommittedHome,
) -> None:
    first, second = world.sink("parquet:one"), world.sink("csv:two")
    source = world.source("a", b"a" * 30)
    world.commit(first, 7, [(source, VALUES)])
    world.commit(second, 8, [(source, VALUES[:1])])
    world.publish(second.uri)
    with Query(world.home) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[1]]
    with Query(world.home, first.uri) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[3]]
    world.publish(None)
    with Query(world.home) as query:
        with pytest.raises(UsageError) as caught:
            query.run("SELECT count(*) FROM Lines__ALL")
        assert first.uri in str(caught.value.hint)
        assert second.uri in str(caught.value.hint)
        assert query.run("SELECT count(*) FROM sources").to_json()["rows"] == [[1]]
    with pytest.raises(UsageError, match="no table"):
        Query(world.home, "parquet:elsewhere")


@pytest.mark.parametrize("uri", ["parquet:out", "csv:out", "duckdb:out.duckdb"])
def test_a_missing_committed_file_is_named_not_skipped(world: CommittedHome, uri: str) -> None:
    sink = world.sink(uri)
    source = world.source("a", b"a" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    staged = world.files["lines", sink.uri][0].path
    world.publish(sink.uri)
    os.unlink(staged)
    with Query(world.home) as query:
        with pytest.raises(IntegrityError) as caught:
            query.run("SELECT count(*) FROM lines")
        assert staged in str(caught.value)
        assert query.run("SELECT count(*) FROM sources").to_json()["rows"] == [[1]]
    world.publish(sink.uri)  # a lost file never stops a commit


def test_quarantine_is_a_table(world: CommittedHome) -> None:
    sink = world.sink("parquet:out")
    source = world.source("a", b"a" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    values = [{"reason": "text.bad", "message": "no", "raw": b"\xff", "raw_length": 1}]
    world.quarantine(7, source, values)
    world.publish(sink.uri)
    with Query(world.home) as query:
        rows = query.run("SELECT reason, raw, _cf_row_id FROM quarantine").to_json()["rows"]
        assert "quarantine" in query.tables
    assert rows == [["text.bad", "ff", f"quarantine:{source.source_id[:16]}:7:0"]]


def test_a_table_without_rows_has_its_columns(world: CommittedHome) -> None:
    sink = world.sink("parquet:out")
    world.contracts["lines", sink.uri] = (sink, LINES)
    world.materializations = [{"job_id": 1}]
    world.sources = {"": {"source_id": ""}}
    world.outputs = [{"path": ""}]
    world.publish(None)
    with Query(world.home) as query:
        result = query.run("SELECT * FROM lines")
        assert result.columns[0].type == "UBIGINT"
        assert result.to_json()["rows"] == []


def test_streamed_json_and_csv_hold_every_value(world: CommittedHome, tmp_path: Path) -> None:
    sink = world.sink("parquet:out")
    source = world.source("a", b"a" * 30)
    world.commit(sink, 7, [(source, VALUES)])
    world.publish(None)
    json_file, csv_file = tmp_path / "r.json", tmp_path / "r.csv"
    sql = "SELECT number, time, text, names, raw, ratio, price FROM lines ORDER BY _cf_ordinal"
    with Query(world.home) as query:
        whole = query.run(sql).to_json()
        with json_file.open("wb") as stream:
            assert query.run(sql).write_json(stream) == 3
        with csv_file.open("wb") as stream:
            assert query.run(sql).write_csv(stream) == 3
    document = msgspec.json.decode(json_file.read_bytes())
    assert document == {"schema_version": 1, **whole}
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT * FROM read_csv(?, all_varchar=true, header=true, allow_quoted_nulls=false, "
            "delim=',', quote='\"', escape='\"')",
            [str(csv_file)],
        ).fetchall()
    assert rows[0] == (
        str(2**64 - 1),
        "2019-04-27T15:57:27.087613207Z",
        'quo"te,\r\nline',
        '["a",null,"b\\"\\\\",""]',
        "00ff",
        "0.1",
        "12345678.90",
    )
    assert rows[1][2:6] == ("", "[]", "", "-1.5e300")
    assert rows[2] == (None,) * 7
