"""The main job with the installed command: evidence to tables, and again, and after each kind of change."""

from __future__ import annotations

import os
import shutil

PARSED = ("evtx", "registry", "syslog")


def test_every_unit_of_the_evidence_is_accounted_for(casparian, case):
    result = casparian.json("run", case.directory)
    files = result["files"]
    assert (
        files["seen"]
        == files["selected"] + files["skipped"] + files["unmatched"] + files["unreadable"]
    )
    assert files["failed"] == 0
    assert files["unreadable"] == 0
    assert result["jobs"]["failed"] == result["jobs"]["aborted"] == result["jobs"]["rejected"] == 0
    assert result["jobs"]["completed"] > 0
    assert {output["table"] for output in result["outputs"]} == {
        "evtx_events",
        "evtx_chunks",
        "registry_keys",
        "registry_values",
        "registry_hives",
        "registry_changes",
        "syslog_events",
    }
    assert all(os.path.exists(path) for output in result["outputs"] for path in output["files"])

    ledgers = {source["source_path"]: source for source in casparian.json("ledger")["sources"]}
    expected = {
        file.path: file
        for file in case.summary.files
        if file.kind in PARSED and file.same_content_as is None
    }
    assert set(ledgers) == set(expected)
    for path, file in expected.items():
        ledger = ledgers[path]
        assert ledger["balanced"], path
        assert ledger["lost"] == 0, path
        assert ledger["present"] == file.records, path
        assert ledger["recovered_extra"] == file.slack_records, path
        found = {finding["code"] for finding in ledger["findings"]}
        assert set(file.findings) <= found, path
        assert file.findings or not found, (path, found)
        assert (
            ledger["rows"] + ledger["recovered_live"] + ledger["quarantined"] + ledger["lost"]
            == ledger["present"]
        ), path

    for total in ("present", "rows", "recovered", "quarantined", "lost"):
        assert result["ledger"][total] == sum(ledger[total] for ledger in ledgers.values()), total
    assert result["ledger"]["findings"] == sum(len(s["findings"]) for s in ledgers.values())
    main_rows = casparian.rows(
        "select (select count(*) from evtx_events) + (select count(*) from syslog_events)"
        " + (select count(*) from registry_keys) + (select count(*) from registry_values)"
    )
    assert main_rows == [[result["ledger"]["rows"] + result["ledger"]["recovered"]]]
    assert casparian.rows("select count(*) from quarantine") == [[result["quarantine"]["rows"]]]


def test_a_rerun_does_what_changed_and_nothing_else(casparian, case):
    first = casparian.json("run", case.directory)
    for file in case.summary.files:
        os.utime(case.directory / file.path, (1, 1), follow_symlinks=False)
    second = casparian.json("run", case.directory)
    assert second["files"]["selected"] == 0
    assert second["jobs"] == {"completed": 0, "failed": 0, "aborted": 0, "rejected": 0}
    assert second["outputs"] == []
    assert second["reasons"]["done"] == first["files"]["selected"]
    assert "Nothing to do" in casparian("run", case.directory).out

    count = "select _cf_source_path, count(*) from syslog_events group by 1 order by 1"
    before = casparian.rows(count)
    victim = case.directory / "gw01/var/log/auth.log"
    raw = bytearray(victim.read_bytes())
    raw[raw.index(b"sshd")] ^= 0x20
    victim.write_bytes(raw)
    assert casparian.json("run", case.directory)["files"]["selected"] == 1
    assert casparian.json("explain", victim)["decisions"][0]["decision"] == "selected"
    assert casparian.rows(count) == before


def test_selection_takes_what_was_asked_for_and_records_the_rest(casparian, case):
    result = casparian.json("run", case.directory, "--tag", "evtx", "--exclude", "**/Security*")
    assert {output["table"] for output in result["outputs"]} == {"evtx_events", "evtx_chunks"}
    assert result["reasons"]["not_selected"] > 0
    paths = {path for (path,) in casparian.rows("select distinct _cf_source_path from evtx_events")}
    assert paths
    assert not any("Security" in path for path in paths)


def test_past_the_quarantine_limit_the_rows_set_aside_survive(casparian, tmp_path):
    evidence = tmp_path / "few"
    evidence.mkdir()
    good = b"<34>1 2024-03-12T00:00:00Z host app 1 ID - message\n"
    (evidence / "a.log").write_bytes(good * 30 + b"not a log line at all\n" * 3)
    result = casparian.json("run", evidence, "--max-quarantine", "1", code=6)
    assert result["quarantine"]["limit_passed"] is True
    assert casparian.json("quarantine")["rows"] == 3


def test_evidence_below_a_long_and_strange_path_is_read(casparian, tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9 [1]\n\x1b[31m/" + b"x" * 200
    os.makedirs(folder)
    with open(folder + b"/\xff.log", "wb") as file:
        file.write(b"<34>1 2024-03-12T00:00:00Z host app 1 ID - message\n" * 5)
    answer = casparian("run", tmp_path / os.fsdecode(b"caf\xe9 [1]\n\x1b[31m"))
    assert casparian.rows("select count(*) from syslog_events") == [[5]]
    assert "\x1b" not in answer.out + answer.err
    assert "\\xff.log" in casparian.rows("select _cf_source_path from syslog_events limit 1")[0][0]


def test_moving_the_evidence_elsewhere_reads_nothing_twice(casparian, case, tmp_path):
    casparian("run", case.directory)
    moved = tmp_path / "moved"
    shutil.copytree(case.directory, moved, symlinks=True)
    assert casparian.json("run", moved)["files"]["selected"] == 0
