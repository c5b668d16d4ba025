"""`why` proves a row from the evidence up, and is no mirror: every tampering turns it false."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from casparian.appliance import why as why_module
from casparian.appliance.why import WhyReport, why
from casparian.demo.world import build_evidence
from casparian.domain.parsers import ParserArtifact
from casparian.errors import UsageError
from casparian.paths import first_party_parsers
from casparian.query.engine import Query
from tests.factories.committed import CommittedHome
from tests.support.allow import anything

LOG = (
    b"<34>1 2024-05-01T10:20:30.123456Z host1 app 1 ID1 - first message\n"
    b"not a syslog line at all\n"
    b"<34>1 2024-05-01T10:20:31.000001Z host1 app 2 ID2 - second message\n"
    b"<34>1 2024-05-01T10:20:32.000002Z host2 app 3 ID3 - third message\n"
)
SINKS = ["parquet:out", "csv:out", "duckdb:out.duckdb"]
PARSER = "linux.syslog"
TABLE = "syslog_events"


def make(tmp_path: Path, uri: str) -> CommittedHome:
    world = CommittedHome(tmp_path)
    shutil.copytree(first_party_parsers() / PARSER, world.home.parsers / PARSER)
    sink = world.sink(uri)
    rows = world.run_parser(PARSER, [world.source("syslog", LOG)], sink, 42)
    assert rows == {TABLE: 3, "quarantine": 1}
    world.publish(sink.uri)
    return world


@pytest.fixture(autouse=True)
def parsers_of_the_home_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Parsers are run from a copy, so that a test can change it."""
    from tests.factories import committed

    empty = tmp_path / "no-parsers"
    real = first_party_parsers()
    monkeypatch.setattr(why_module, "first_party_parsers", lambda: empty)
    monkeypatch.setattr(committed, "first_party_parsers", lambda: empty)
    monkeypatch.setattr("tests.integration.test_why_rows.first_party_parsers", lambda: real)


def ids(world: CommittedHome, table: str = TABLE) -> list[str]:
    with Query(world.home) as query:
        sql = f"SELECT _cf_row_id FROM {table} ORDER BY _cf_ordinal"
        return [row[0] for row in query.run(sql).to_json()["rows"]]


def fields(report: WhyReport) -> set[str]:
    return {difference.field for difference in report.differences}


def output(world: CommittedHome, table: str = TABLE) -> str:
    return next(row["path"] for row in world.outputs if row["table_name"] == table)


@pytest.mark.parametrize("uri", SINKS)
def test_untouched_rows_are_proven(tmp_path: Path, uri: str) -> None:
    world = make(tmp_path, uri)
    for row in (ids(world)[1], ids(world, "quarantine")[0]):
        report = why(world.home, row, verify=anything)
        assert report.differences == ()
        assert report.proven
        assert report.engine == "same"
        assert [link.link for link in report.chain] == [
            "row", "bytes", "source", "job", "parser", "contract", "output_file",
        ]  # fmt: skip
        for link in report.chain:
            if link.link == "output_file" and uri.startswith("duckdb") and "quarantine" not in row:
                assert link.verified is None
            elif link.link != "job":
                assert link.verified is True, link
    assert not list(world.home.run.glob("rederive-*"))


def alter_value(world: CommittedHome, uri: str) -> None:
    path = output(world)
    if uri.startswith("parquet"):
        table = pq.read_table(path)
        hosts = table["hostname"].to_pylist()
        position = table.schema.get_field_index("hostname")
        hosts[1] = "forged"
        column = pa.array(hosts, table.schema.field("hostname").type)
        pq.write_table(table.set_column(position, table.schema.field(position), column), path)
    elif uri.startswith("csv"):
        raw = Path(path).read_bytes()
        line = next(line for line in raw.splitlines() if b"second message" in line)
        Path(path).write_bytes(raw.replace(line, line.replace(b"host1", b"forged")))
    else:
        with duckdb.connect(path) as connection:
            connection.execute(
                f'UPDATE "{TABLE}__all" SET hostname = ? WHERE _cf_ordinal = 1', ["forged"]
            )


@pytest.mark.parametrize("uri", SINKS)
def test_an_altered_value_is_named(tmp_path: Path, uri: str) -> None:
    world = make(tmp_path, uri)
    row = ids(world)[1]
    alter_value(world, uri)
    report = why(world.home, row, verify=anything)
    assert not report.proven
    expected = {"hostname"} if uri.startswith("duckdb") else {"hostname", "output_file.blake3"}
    assert fields(report) == expected
    found = next(d for d in report.differences if d.field == "hostname")
    assert (found.expected, found.found) == ("host1", "forged")


def test_another_row_of_an_altered_file_is_not_proven(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world)[2]
    alter_value(world, "parquet:out")
    assert fields(why(world.home, row, verify=anything)) == {"output_file.blake3"}


@pytest.mark.parametrize("uri", SINKS)
def test_an_altered_byte_of_the_rows_span_is_named_with_its_column(
    tmp_path: Path, uri: str
) -> None:
    world = make(tmp_path, uri)
    row = ids(world)[1]
    (world.evidence / "syslog").write_bytes(LOG.replace(b"second", b"sec0nd"))
    report = why(world.home, row, verify=anything)
    assert not report.proven
    assert fields(report) == {"source_hash", "sha256", "message"}
    message = next(d for d in report.differences if d.field == "message")
    assert "sec0nd" in message.expected
    assert "second" in message.found


def test_an_altered_byte_that_breaks_the_line_says_what_became_of_it(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world)[1]
    damaged = LOG.replace(b"<34>1 2024-05-01T10:20:31", b"<34>1 2024-99-01T10:20:31")
    (world.evidence / "syslog").write_bytes(damaged)
    report = why(world.home, row, verify=anything)
    assert {"source_hash", "row"} <= fields(report)
    became = next(d for d in report.differences if d.field == "row")
    assert became.found.startswith("quarantined: syslog.")


def test_evidence_that_is_gone_is_named(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world)[0]
    os.unlink(world.evidence / "syslog")
    report = why(world.home, row, verify=anything)
    assert fields(report) == {"evidence.path"}
    assert [link.link for link in report.chain][:3] == ["row", "bytes", "source"]


def test_another_path_of_the_same_content_serves(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    world.source("copy", LOG)
    world.publish(None)
    row = ids(world)[0]
    os.unlink(world.evidence / "syslog")
    assert why(world.home, row, verify=anything).proven


def test_an_altered_parser_is_named_and_not_run(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world)[0]
    ran = tmp_path / "ran"
    parser = world.home.parsers / PARSER / "parser.py"
    parser.write_text(parser.read_text() + f"\nopen({str(ran)!r}, 'w')\n")
    report = why(world.home, row, verify=anything)
    assert fields(report) == {"parser.artifact_hash"}
    assert not ran.exists()
    shutil.rmtree(world.home.parsers / PARSER)
    assert fields(why(world.home, row, verify=anything)) == {"parser.artifact_hash"}


def test_a_parser_that_may_not_run_is_not_run(tmp_path: Path) -> None:
    from casparian.errors import Refused

    world = make(tmp_path, "parquet:out")

    def refuse(artifact: ParserArtifact) -> None:
        raise Refused("no", code="trust.malformed")

    assert fields(why(world.home, ids(world)[0], verify=refuse)) == {"parser.trust"}


def tighten_contract(world: CommittedHome) -> None:
    world.home.contracts.mkdir()
    (world.home.contracts / f"{PARSER}.toml").write_text(
        f'schema_version = 1\n[[outputs.{TABLE}.columns]]\nname = "hostname"\nnullable = false\n'
    )


@pytest.mark.parametrize("table", [TABLE, "quarantine"])
def test_a_changed_contract_is_named(tmp_path: Path, table: str) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world, table)[0]
    tighten_contract(world)
    assert fields(why(world.home, row, verify=anything)) == {"contract"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("_cf_source_hash", "0" * 64),
        ("_cf_source_path", "elsewhere"),
        ("_cf_parser", "other@1.0.0"),
        ("_cf_artifact_hash", "0" * 64),
        ("_cf_contract_hash", "0" * 64),
        ("_cf_offset", 0),
        ("_cf_length", 1),
    ],
)
def test_altered_lineage_is_named(tmp_path: Path, column: str, value: object) -> None:
    world = make(tmp_path, "duckdb:out.duckdb")
    row = ids(world)[1]
    with duckdb.connect(output(world)) as connection:
        connection.execute(f'UPDATE "{TABLE}__all" SET {column} = ? WHERE _cf_ordinal = 1', [value])
    report = why(world.home, row, verify=anything)
    assert not report.proven
    assert column in fields(report)


def remove_row(world: CommittedHome) -> None:
    path = output(world)
    pq.write_table(pq.read_table(path).slice(1), path)


def truncate_file(world: CommittedHome) -> None:
    with open(output(world), "r+b") as file:
        file.truncate(100)


def delete_file(world: CommittedHome) -> None:
    os.unlink(output(world))


@pytest.mark.parametrize(
    ("damage", "field"),
    [(remove_row, "row"), (truncate_file, "output_file"), (delete_file, "output_file")],
)
def test_a_row_that_is_gone_is_not_proven(
    tmp_path: Path, damage: Callable[[CommittedHome], None], field: str
) -> None:
    world = make(tmp_path, "parquet:out")
    row = ids(world)[0]
    damage(world)
    assert field in fields(why(world.home, row, verify=anything))


def test_another_engine_is_said_and_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(tmp_path, "parquet:out")
    monkeypatch.setattr(why_module, "current_engine_hash", lambda: "another")
    report = why(world.home, ids(world)[0], verify=anything)
    assert report.engine == "different"
    assert report.proven


@pytest.mark.parametrize("row", ["nonsense", "syslog_events:0123456789abcdef:1:x", ""])
def test_what_is_no_row_id_is_a_usage_error(tmp_path: Path, row: str) -> None:
    world = make(tmp_path, "parquet:out")
    with pytest.raises(UsageError, match="not a row id"):
        why(world.home, row, verify=anything)


def test_an_unknown_row_is_a_usage_error(tmp_path: Path) -> None:
    world = make(tmp_path, "parquet:out")
    with pytest.raises(UsageError, match="no row"):
        why(world.home, f"{TABLE}:{'0' * 16}:42:0", verify=anything)
    table, source, job, _ = ids(world)[0].split(":")
    assert fields(why(world.home, f"{table}:{source}:{job}:99", verify=anything)) == {"row"}


@pytest.fixture(scope="module")
def event_log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("demo")
    build_evidence(directory)
    return next(directory.rglob("System.evtx")).read_bytes()


def test_event_records_are_proven_and_an_altered_byte_names_its_column(
    tmp_path: Path, event_log: bytes
) -> None:
    world = CommittedHome(tmp_path)
    shutil.copytree(first_party_parsers() / "windows.evtx", world.home.parsers / "windows.evtx")
    sink = world.sink("parquet:out")
    made = world.run_parser("windows.evtx", [world.source("System.evtx", event_log)], sink, 43)
    assert made["evtx_events"] > 100
    world.publish(sink.uri)
    middle = ids(world, "evtx_events")[made["evtx_events"] // 2]
    for row in (middle, ids(world, "evtx_chunks")[-1]):
        assert why(world.home, row, verify=anything).proven
    with Query(world.home) as query:
        sql = "SELECT _cf_offset FROM evtx_events WHERE _cf_row_id = ?"
        ((offset,),) = query.run(sql, [middle]).to_json()["rows"]
    altered = bytearray(event_log)
    altered[offset + 8] ^= 1  # the record's number in its own header
    (world.evidence / "System.evtx").write_bytes(altered)
    report = why(world.home, middle, verify=anything)
    assert not report.proven
    assert {"source_hash", "sha256", "header_record_id"} <= fields(report)
