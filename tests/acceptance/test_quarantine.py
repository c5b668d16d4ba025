"""Quarantine as work: what was set aside is counted, shown, exported, and read again once something changed for it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import blake3
import pyarrow.parquet
import pytest

from tests.support.small import syslog_lines
from tests.support.world import World

OVERRIDE = (
    "schema_version = 1\n[outputs.syslog_events]\n[[outputs.syslog_events.columns]]\n"
    'name = "hostname"\nallowed = [{allowed}]\n'
)


def allow(world: World, *hosts: str) -> None:
    """Put a contract of the laboratory into force that knows these hosts only; none takes it away."""
    path = world.home / "contracts" / "linux.syslog.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OVERRIDE.format(allowed=", ".join(f'"{host}"' for host in hosts)))


def forget(world: World) -> None:
    (world.home / "contracts" / "linux.syslog.toml").unlink()


def reasons(world: World, *arguments: str) -> dict[tuple[str, str | None], tuple[int, int]]:
    document = world.json("quarantine", *arguments)
    return {(r["reason"], r["field"]): (r["open"], r["accepted"]) for r in document["reasons"]}


@pytest.fixture
def filled(world: World) -> World:
    """Three hosts of which the contract knows two; one file also has lines without a header."""
    allow(world, "alpha", "beta")
    world.file("alpha/syslog", syslog_lines(host="alpha", count=4, bad=3))
    world.file("beta/syslog", syslog_lines(host="beta", count=5))
    world.file("gamma/syslog", syslog_lines(host="gamma", count=6))
    result = world.run()
    assert result["quarantine"]["rows"] == 9
    return world


def test_the_summary_counts_by_reason_and_every_filter_narrows_it(filled: World) -> None:
    header, host = ("syslog.no_header", None), ("contract.allowed", "hostname")
    assert reasons(filled) == {header: (3, 0), host: (6, 0)}
    assert reasons(filled, "--reason", "contract") == {host: (6, 0)}
    assert reasons(filled, "--reason", "contr") == {}
    assert reasons(filled, "list", "--file", "alpha/*") == {header: (3, 0)}
    assert reasons(filled, "--parser", "linux.syslog") == {header: (3, 0), host: (6, 0)}
    assert reasons(filled, "--parser", "linux.syslog@1.0.0", "--table", "syslog_events") != {}
    assert reasons(filled, "--parser", "windows.evtx") == {}
    assert reasons(filled, "--state", "accepted") == {}
    document = filled.json("quarantine")
    assert (document["rows"], document["open"], document["accepted"]) == (9, 9, 0)
    for reason in document["reasons"]:
        assert reason["first_seen"] <= reason["last_seen"]
        assert reason["sources"] == 1


def test_a_row_is_shown_with_what_refused_it_and_what_lies_beside_it(filled: World) -> None:
    (row_id,) = filled.column(
        "SELECT _cf_row_id FROM quarantine WHERE reason = 'contract.allowed' AND _cf_ordinal = 2"
    )
    shown = filled.json("quarantine", "show", row_id)
    row = shown["row"]
    raw = bytes.fromhex(row["raw"])
    content = (filled.evidence / "gamma/syslog").read_bytes()
    assert raw == content[row["_cf_offset"] :][: row["_cf_length"]]
    assert row["state"] == "open"
    assert shown["constraint"]["name"] == "hostname"
    assert shown["constraint"]["allowed"] == ["alpha", "beta"]
    before, after = shown["previous"], shown["next"]
    assert before["offset"] + before["length"] == row["_cf_offset"]
    assert row["_cf_offset"] + row["_cf_length"] == after["offset"]
    assert any("quarantine retry" in remedy["command"] for remedy in shown["remedies"])
    text = filled.call("quarantine", "show", row_id).stdout
    assert "contract column hostname" in text
    assert "gamma" in text


def test_the_neighbour_of_the_first_bad_line_is_the_last_good_one(filled: World) -> None:
    first, second = filled.column(
        "SELECT _cf_row_id FROM quarantine WHERE reason = 'syslog.no_header' ORDER BY _cf_ordinal LIMIT 2"
    )
    shown = filled.json("quarantine", "show", first)
    assert shown["constraint"] is None
    assert shown["previous"]["table"] == "syslog_events"
    assert shown["previous"]["values"]["message"] == "message 3 of alpha"
    assert shown["next"]["row_id"] == second


def test_a_row_that_is_not_there_and_a_word_that_is_no_row(filled: World) -> None:
    assert filled.json("quarantine", "show", "nonsense", code=2)["error"]["code"] == "row.malformed"
    unknown = "quarantine:0123456789abcdef:1:1"
    assert filled.json("quarantine", "show", unknown, code=2)["error"]["code"] == "row.unknown"


def test_statistics_add_up_however_they_are_cut(filled: World) -> None:
    stats = filled.json("quarantine", "stats")
    assert (stats["rows"], stats["open"], stats["sources"]) == (9, 9, 2)
    for name in ("parser", "table", "reason", "file"):
        assert sum(line["rows"] for line in stats[f"by_{name}"]) == 9, name
    assert {line["file"]: line["rows"] for line in stats["by_file"]} == {
        "alpha/syslog": 3,
        "gamma/syslog": 6,
    }


def test_an_empty_home_has_nothing_to_show_retry_or_export(world: World) -> None:
    assert world.json("quarantine")["rows"] == 0
    assert world.json("quarantine", "stats")["rows"] == 0
    assert world.json("quarantine", "retry", code=2)["error"]["code"] == "quarantine.none"
    out = str(world.directory / "x")
    assert (
        world.json("quarantine", "export", "-o", out, code=2)["error"]["code"] == "quarantine.none"
    )


# -- retry


def test_a_retry_is_refused_while_nothing_has_changed(filled: World) -> None:
    planned = filled.json("quarantine", "retry", "--dry-run")
    assert (planned["sources"], planned["selected"]) == (2, 0)
    assert planned["reasons"] == {"done": 2}
    before = filled.json("quarantine")
    refused = filled.json("quarantine", "retry", code=4)["error"]
    assert refused["code"] == "quarantine.unchanged"
    assert filled.json("quarantine") == before


SINKS = ("parquet", "duckdb", "csv")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("kind", SINKS)
def test_after_a_contract_changed_exactly_the_files_concerned_run_and_clean_rows_leave_quarantine(
    kind: str, mode: str, world: World
) -> None:
    allow(world, "alpha", "beta")
    world.file("alpha/syslog", syslog_lines(host="alpha", count=4, bad=3))
    world.file("beta/syslog", syslog_lines(host="beta", count=5))
    world.file("gamma/syslog", syslog_lines(host="gamma", count=6))
    sink = f"{kind}:{world.directory / ('out.duckdb' if kind == 'duckdb' else 'out')}"
    world.run("--sink", sink, "--mode", mode)
    allow(world, "alpha", "beta", "gamma")
    planned = world.json("quarantine", "retry", "--reason", "contract", "--dry-run")
    assert (planned["selected"], planned["reasons"]) == (1, {"contract_changed": 1})
    done = world.json("quarantine", "retry", "--reason", "contract")
    assert (done["sources"], done["selected"]) == (1, 1)
    assert (done["rows_before"], done["rows_after"]) == (6, 0)
    (run,) = done["runs"]
    assert run["files"]["seen"] == 1, "no other file was looked at"
    assert [output["sink"] for output in run["outputs"]] == [sink], "into the sink of then"
    assert reasons(world) == {("syslog.no_header", None): (3, 0)}
    counted = dict(
        world.query("SELECT hostname, count(*) FROM syslog_events GROUP BY ALL", "--sink", sink)
    )
    assert counted == {"alpha": 4, "beta": 5, "gamma": 6}
    every = world.query("SELECT count(*) FROM quarantine__all")
    assert every == [[3 if mode == "replace" else 9]], (
        "replaced rows are gone, superseded ones kept"
    )
    explained = world.json("explain", str(world.evidence / "gamma/syslog"))
    assert "contract_changed" in str(explained)
    beta = world.json("explain", str(world.evidence / "beta/syslog"))
    assert "new" in str(beta), "the plan of the other files is kept"
    world.json("doctor")  # all is well


def test_rows_that_are_bad_under_the_new_contract_too_stay_once(filled: World) -> None:
    allow(filled, "alpha")
    done = filled.json("quarantine", "retry")
    assert (done["sources"], done["rows_before"], done["rows_after"]) == (2, 9, 9)
    assert reasons(filled) == {
        ("syslog.no_header", None): (3, 0),
        ("contract.allowed", "hostname"): (6, 0),
    }
    assert filled.query("SELECT count(*) FROM quarantine__all") == [[18]]


def test_another_setting_is_a_change_too(filled: World) -> None:
    done = filled.json("quarantine", "retry", "--set", "linux.syslog.timezone=+02:00")
    assert done["reasons"] == {"config_changed": 2}
    assert done["rows_after"] == 9


def test_force_reads_again_what_has_not_changed_and_writes_nothing_twice(filled: World) -> None:
    before = filled.query("SELECT count(*) FROM syslog_events")
    done = filled.json("quarantine", "retry", "--force", "--file", "alpha/*")
    assert done["reasons"] == {"forced": 1}
    assert (done["rows_before"], done["rows_after"]) == (3, 3)
    assert filled.query("SELECT count(*) FROM syslog_events") == before
    assert filled.query("SELECT count(*) FROM syslog_events__all") == before
    assert filled.query("SELECT count(*) FROM quarantine__all") == [[9]]
    assert filled.run()["reasons"] == {"done": 3}, "what was read again is recorded under its key"
    filled.json("doctor")  # all is well


def test_a_retry_of_one_row_is_about_its_file(filled: World) -> None:
    forget(filled)
    (row_id,) = filled.column(
        "SELECT _cf_row_id FROM quarantine WHERE reason = 'contract.allowed' AND _cf_ordinal = 0"
    )
    done = filled.json("quarantine", "retry", row_id)
    assert (done["sources"], done["runs"][0]["files"]["selected"]) == (1, 1)
    assert reasons(filled) == {("syslog.no_header", None): (3, 0)}


def test_evidence_that_changed_meanwhile_fails_its_file_and_keeps_the_old_rows(
    filled: World,
) -> None:
    forget(filled)
    filled.file("gamma/syslog", syslog_lines(host="other", count=6))
    failed = filled.json("quarantine", "retry", "--reason", "contract", code=1)
    assert failed["runs"][0]["problems"][0]["code"] == "source.changed"
    assert reasons(filled)[("contract.allowed", "hostname")] == (6, 0)


def test_a_job_that_its_limit_failed_is_tried_again_under_another_limit(world: World) -> None:
    world.file("syslog", syslog_lines(host="h", count=3, bad=4))
    world.run("--max-quarantine", "1", code=6)
    assert reasons(world) == {("syslog.no_header", None): (4, 0)}
    assert world.json("quarantine", "retry", code=4)["error"]["code"] == "quarantine.unchanged"
    done = world.json("quarantine", "retry", "--max-quarantine", "10")
    assert done["reasons"] == {"retry": 1}
    assert world.query("SELECT count(*) FROM syslog_events") == [[3]]
    assert reasons(world) == {("syslog.no_header", None): (4, 0)}


# -- export


def exported(world: World, kind: str, *arguments: str) -> tuple[dict[str, Any], Path]:
    path = world.directory / f"out.{kind}"
    document = world.json("quarantine", "export", "-o", str(path), "--format", kind, *arguments)
    return document, path


def test_every_format_holds_the_same_rows_with_bytes_and_lineage(filled: World) -> None:
    written, path = exported(filled, "parquet")
    table = pyarrow.parquet.read_table(path, columns=["_cf_row_id", "raw"]).to_pylist()
    assert written["rows"] == len(table) == 9
    assert written["blake3"] == blake3.blake3(path.read_bytes()).hexdigest()
    expected = {row["_cf_row_id"]: row["raw"] for row in table}
    lines = [json.loads(line) for line in exported(filled, "jsonl")[1].read_text().splitlines()]
    assert {line["_cf_row_id"]: bytes.fromhex(line["raw"]) for line in lines} == expected
    with exported(filled, "csv")[1].open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert {cell["_cf_row_id"]: bytes.fromhex(cell["raw"]) for cell in cells} == expected
    for row in lines:
        assert row["_cf_source_hash"]
        assert row["state"] == "open"


def test_a_directory_of_bytes_has_a_manifest_with_hashes_and_names_from_no_evidence(
    filled: World,
) -> None:
    written, path = exported(filled, "raw-dir", "--reason", "syslog")
    assert (written["rows"], written["missing"]) == (3, 0)
    lines = [json.loads(line) for line in (path / "manifest.jsonl").read_text().splitlines()]
    assert {entry.name for entry in path.iterdir()} == {
        "manifest.jsonl", "000001.bin", "000002.bin", "000003.bin",
    }  # fmt: skip
    for line in lines:
        raw = (path / line["file"]).read_bytes()
        assert blake3.blake3(raw).hexdigest() == line["blake3"]
        assert raw.startswith(b"no header here")
        assert line["_cf_source_path"] == "alpha/syslog"


def test_bytes_too_long_to_be_kept_come_from_unchanged_evidence_or_are_said_to_be_missing(
    world: World,
) -> None:
    long = b"x" * 100_000 + b"\n"
    path = world.file("syslog", syslog_lines(host="h", count=3) + long)
    world.run()
    assert world.query("SELECT raw IS NULL FROM quarantine") == [[True]]
    written, out = exported(world, "raw-dir")
    assert written["missing"] == 0
    assert (out / "000001.bin").read_bytes() == long
    path.write_bytes(path.read_bytes() + b"more\n")
    other = world.directory / "later"
    later = world.json("quarantine", "export", "-o", str(other), "--format", "raw-dir")
    assert (later["rows"], later["missing"]) == (1, 1)
    (line,) = (other / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] is None


def test_nothing_is_written_over_and_a_dry_run_writes_nothing(filled: World) -> None:
    out = filled.directory / "there"
    counted = filled.json("quarantine", "export", "-o", str(out), "--dry-run")
    assert counted["rows"] == 9
    assert not out.exists()
    out.write_text("mine")
    refused = filled.json("quarantine", "export", "-o", str(out), code=2)
    assert refused["error"]["code"] == "quarantine.exists"
    assert out.read_text() == "mine"
    assert [p.name for p in filled.directory.glob("there*")] == ["there"]
