"""Reading, proving and operating with the installed command."""

from __future__ import annotations

import os
import shutil

COUNT = "select count(*) from evtx_events"


def test_a_query_answers_while_the_sentinel_runs_and_when_it_does_not(casparian, case):
    assert casparian.json("sentinel", "start")["started"] is True
    casparian("run", case.directory)
    assert casparian.json("sentinel", "status")["running"] is True
    running = casparian.json("query", COUNT)
    assert casparian.json("sentinel", "stop")["stopped"] is True
    casparian("sentinel", "status", code=3)
    stopped = casparian.json("query", COUNT)
    assert running == stopped
    assert stopped["columns"][0].keys() == {"name", "type"}
    assert stopped["rows"][0][0] > 0
    casparian("sentinel", "status", code=3)


def test_query_csv_and_json_give_the_same_rows(casparian, case):
    casparian("run", case.directory)
    sql = "select record_id, computer from evtx_events order by _cf_row_id limit 3"
    lines = casparian("query", sql, "--csv").out.splitlines()
    rows = casparian.rows(sql)
    assert lines[0].replace('"', "") == "record_id,computer"
    assert [line.replace('"', "").split(",") for line in lines[1:]] == [
        [str(a), b] for a, b in rows
    ]


def test_reserved_names_are_there(casparian, case):
    casparian("run", case.directory)
    for name in ("quarantine", "materializations", "sources", "evtx_events", "evtx_events__all"):
        assert casparian.rows(f"select count(*) from {name}")[0][0] > 0, name


def test_ledger_json_has_the_promised_shape(casparian, case):
    casparian("run", case.directory)
    for source in casparian.json("ledger")["sources"]:
        assert source.keys() >= {
            "source_path", "source_hash", "source_id", "sha256", "unit", "declared", "present", "rows",
            "recovered", "quarantined", "lost", "balanced", "findings",
        }  # fmt: skip
        for finding in source["findings"]:
            assert finding.keys() == {"code", "offset", "length", "message"}


def a_row(casparian, table="syslog_events", where="_cf_source_path = 'gw01/var/log/auth.log'"):
    ((row_id,),) = casparian.rows(
        f"select _cf_row_id from {table} where {where} order by _cf_ordinal limit 1 offset 3"
    )
    return row_id


def test_a_row_is_proven(casparian, case):
    casparian("run", case.directory)
    for table, where in (("syslog_events", "true"), ("evtx_events", "len(_cf_flags) = 0")):
        proof = casparian.json("why", a_row(casparian, table, where))
        assert proof["proven"] is True
        assert proof["engine"] == "same"
        assert proof["differences"] == []
        assert [link["link"] for link in proof["chain"]][:3] == ["row", "bytes", "source"]


def test_a_byte_altered_in_the_evidence_is_named(casparian, case):
    casparian("run", case.directory)
    row_id = a_row(casparian)
    ((offset, length),) = casparian.rows(
        f"select _cf_offset, _cf_length from syslog_events where _cf_row_id = '{row_id}'"
    )
    victim = case.directory / "gw01/var/log/auth.log"
    raw = bytearray(victim.read_bytes())
    position = offset + length - 3
    raw[position] = ord("x") if raw[position] != ord("x") else ord("y")
    victim.write_bytes(raw)
    proof = casparian.json("why", row_id, code=7)
    assert proof["proven"] is False
    fields = {difference["field"] for difference in proof["differences"]}
    assert "source_hash" in fields
    assert "message" in fields


def test_evidence_that_is_gone_is_not_proven(casparian, case):
    casparian("run", case.directory)
    row_id = a_row(casparian)
    shutil.rmtree(case.directory)
    assert casparian.json("why", row_id, code=7)["proven"] is False


def test_lineage_of_a_row_a_file_and_a_table(casparian, case):
    casparian("run", case.directory)
    for subject in (a_row(casparian), "gw01/var/log/auth.log", "evtx_events"):
        links = {link["link"] for link in casparian.json("lineage", subject)["chain"]}
        assert {"parser", "contract"} <= links, subject


def test_jobs_outputs_and_quarantine_tell_what_happened(casparian, case):
    result = casparian.json("run", case.directory)
    jobs = casparian.json("jobs")["jobs"]
    assert len(jobs) == result["jobs"]["completed"]
    shown = casparian.json("jobs", jobs[0]["job_id"])
    assert [event["to_state"] for event in shown["events"]] == [
        "queued", "dispatched", "running", "committing", "completed",
    ]  # fmt: skip
    assert {s["status"] for s in shown["sources"]}
    listed = {output["path"] for output in casparian.json("outputs")["outputs"]}
    assert {path for output in result["outputs"] for path in output["files"]} <= listed
    quarantine = casparian.json("quarantine")
    assert quarantine["rows"] == result["quarantine"]["rows"]
    row = casparian.json("quarantine", "show", quarantine["reasons"][0]["example"])["row"]
    assert row["reason"] == quarantine["reasons"][0]["reason"]
    assert bytes.fromhex(row["raw"])


def test_a_rule_tags_files_at_the_next_scan(casparian, tmp_path):
    evidence = tmp_path / "e"
    evidence.mkdir()
    (evidence / "odd.txt").write_text("nothing that content would identify\n" * 30)
    casparian("scan", evidence)
    assert casparian.json("pipeline", "select", "--tag", "syslog")["files"] == []
    casparian("rule", "add", "**/odd.txt", "syslog")
    (rule,) = casparian.json("rule", "list")["rules"]
    casparian("scan", evidence)
    (file,) = casparian.json("files", "--tag", "syslog")["files"]
    assert file["display_path"] == "odd.txt"
    casparian("rule", "remove", rule["rule_id"])
    assert casparian.json("rule", "list")["rules"] == []


def test_a_parser_that_is_not_trusted_is_tested_and_not_run(casparian, tmp_path):
    made = casparian.json("parser", "new", "acme.notes", "--into", tmp_path)
    report = casparian.json("parser", "test", made["directory"])
    assert report["passed"] is True
    assert report["deterministic"] is True
    assert report["trusted"] is False
    assert {table["table"]: table["rows"] for table in report["tables"]} == {"acme_notes": 3}
    (evidence := tmp_path / "e").mkdir()
    (evidence / "a.txt").write_text("key value\n")
    casparian("rule", "add", "**/*.txt", "acme-notes")
    refused = casparian.json("run", evidence, "--parser", made["directory"], code=4)
    assert casparian.json("outputs")["outputs"] == []
    assert "trust.unsigned" in str(refused)


def test_doctor_finds_a_healthy_home(casparian, case):
    casparian("run", case.directory)
    report = casparian.json("doctor", "--verify")
    assert report["healthy"] is True
    assert {check["status"] for check in report["checks"]} <= {"ok", "warn"}


def test_the_demo_ends_with_a_proven_row(casparian, tmp_path):
    demo = casparian.json("demo", "--into", tmp_path / "demo")
    assert demo["proof"]["proven"] is True
    assert demo["run"]["ledger"]["balanced"] is True
    assert demo["query"]["rows"]


def test_a_stopped_sentinel_leaves_no_process(casparian, case):
    casparian("run", case.directory)
    casparian("sentinel", "stop")
    mine = f"--home\0{casparian.home}\0".encode()
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mine in file.read():
                    left.append(pid)
        except OSError:
            continue  # it ended while we looked
    assert left == []
