"""Chains of rows, files and tables, as recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from casparian.errors import UsageError
from casparian.query.engine import Query
from casparian.query.lineage import chain
from casparian.query.rows import find_row, read_row_id
from tests.factories.committed import VALUES, CommittedHome


@pytest.fixture
def world(tmp_path: Path) -> CommittedHome:
    made = CommittedHome(tmp_path)
    made.jobs = [
        {"job_id": 7, "run_id": "r", "state": "completed", "isolation": '{"level": "full"}'}
    ]
    source = made.source("logs-a.log", b"x" * 30)
    made.source("copy of a.log", b"x" * 30)
    made.commit(made.sink("parquet:out"), 7, [(source, VALUES)])
    made.commit(made.sink("csv:texts"), 8, [(source, VALUES)])
    made.commit(made.sink("duckdb:out.duckdb"), 9, [(source, VALUES)])
    made.publish(made.sink("parquet:out").uri)
    return made


def row_of(world: CommittedHome, job: int, ordinal: int = 1) -> str:
    return f"lines:{world.materializations[0]['source_id'][:16]}:{job}:{ordinal}"


@pytest.mark.parametrize("job", [7, 8, 9])
def test_a_row_is_found_in_whatever_sink_it_lies(world: CommittedHome, job: int) -> None:
    with Query(world.home) as query:
        found = find_row(query, read_row_id(row_of(world, job)))
        links = chain(query, row_of(world, job))
    assert found is not None
    assert found.values["ratio"] == -1.5e300
    assert found.values["_cf_flags"] == ["recovered"]
    assert [link.link for link in links] == [
        "row", "bytes", "source", "job", "parser", "contract", "output_file",
    ]  # fmt: skip
    by_name = {link.link: link.fields for link in links}
    assert by_name["bytes"] == {"offset": 10, "length": 10, "flags": ["recovered"]}
    assert [seen["path"] for seen in by_name["source"]["paths"]] == ["copy of a.log", "logs-a.log"]
    recorded = world.materializations[0]
    assert by_name["source"]["sha256"] == recorded["sha256"]
    assert by_name["parser"]["artifact_hash"] == recorded["artifact_hash"]
    assert by_name["contract"]["contract_hash"] == recorded["contract_hash"]
    assert by_name["output_file"]["path"] == found.path
    assert (by_name["job"].get("state") == "completed") is (job == 7)
    assert all("verified" not in link.to_builtins() for link in links)


def test_a_retired_row_is_still_found(world: CommittedHome) -> None:
    sink = world.sink("parquet:out")
    world.retired["lines", sink.uri] = [(7, world.materializations[0]["source_id"])]
    world.publish(sink.uri)
    with Query(world.home) as query:
        assert query.run("SELECT count(*) FROM lines").to_json()["rows"] == [[0]]
        row = chain(query, row_of(world, 7))[0]
    assert row.fields["in_view"] is False


def test_a_row_past_the_end_has_the_rest_of_its_chain(world: CommittedHome) -> None:
    with Query(world.home) as query:
        links = chain(query, row_of(world, 7, ordinal=99))
    assert [link.link for link in links] == ["row", "source", "job", "parser", "contract"]


@pytest.mark.parametrize("how", ["relative", "absolute", "blake3", "sha256"])
def test_a_file_is_named_by_path_or_hash(world: CommittedHome, how: str) -> None:
    recorded = world.materializations[0]
    subject = {
        "relative": "logs-a.log",
        "absolute": str(world.evidence / "logs-a.log"),
        "blake3": recorded["source_hash"][:12],
        "sha256": recorded["sha256"].upper(),
    }[how]
    with Query(world.home) as query:
        links = chain(query, subject)
    assert links[0].link == "source"
    assert links[0].fields["source_id"] == recorded["source_id"]
    tables = [link.fields for link in links if link.link == "table"]
    assert {table["sink"].partition(":")[0] for table in tables} == {"parquet", "csv", "duckdb"}
    assert [table["rows"] for table in tables] == [3, 3, 3]


def test_a_table_names_its_files_and_parsers(world: CommittedHome) -> None:
    with Query(world.home) as query:
        links = chain(query, "lines")
    kinds = [link.link for link in links]
    assert kinds.count("table") == 3
    assert kinds.count("output_file") == 3
    assert {link.fields.get("parser") for link in links if link.link == "parser"} == {"test.lines"}


@pytest.mark.parametrize("subject", ["nothing.log", "deadbeef", "x' OR 1=1 --", "\x1b[31m"])
def test_what_nobody_recorded_is_a_usage_error(world: CommittedHome, subject: str) -> None:
    with Query(world.home) as query, pytest.raises(UsageError) as caught:
        chain(query, subject)
    assert caught.value.code == "lineage.unknown"
    assert "\x1b" not in caught.value.message
