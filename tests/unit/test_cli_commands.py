"""Every other command, end to end in this process, against a peer that speaks the real protocol."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest
from fake_sentinel import STATUS, fake_sentinel, rows

from casparian.cli.main import run
from casparian.protocol import control

# -- errors --------------------------------------------------------------------------------------

WRONG = {
    "unknown command": (["runn"], 2, "usage"),
    "missing argument": (["run"], 2, "usage"),
    "unknown option": (["files", "--nonsense"], 2, "usage"),
    "no such evidence": (["run", "/nonexistent"], 2, "evidence.missing"),
    "unreadable sink": (["run", "/", "--sink", "parket:/x"], 2, "usage.sink_kind"),
    "a sink given twice": (["run", "/", "--sink", "csv:/x", "--sink", "csv:/y"], 2, "usage.sink"),
    "unreadable limit": (["run", "/", "--max-quarantine", "101%"], 2, "usage.limit"),
    "unreadable age": (["run", "/", "--since", "yesterday"], 2, "usage.since"),
    "unreadable setting": (["run", "/", "--set", "year=1"], 2, "usage.setting"),
    "no sentinel": (["sentinel", "status"], 3, None),
    "unknown job": (["jobs", "show", "5"], 2, "job.unknown"),
    "unknown setting": (["config", "set", "worker", "3"], 2, "config.unknown_key"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_is_one_document_with_code_and_hint(casparian, case):
    arguments, code, slug = WRONG[case]
    answer = casparian(*arguments, "--json")
    assert answer.code == code
    if slug is not None:
        error = answer.json["error"]
        assert error["code"] == slug
        assert error["message"]
        assert error["hint"]
        assert error["exit_code"] == code
    text = casparian(*arguments)
    assert text.code == code
    if slug is not None:
        assert text.err.startswith("error: ")
        assert f"code: {slug}" in text.err
        assert text.out == ""


def test_a_failure_of_the_sentinel_keeps_its_code_and_hint(home, casparian, tmp_path):
    failure = control.Failure(
        code="parser.unknown", message="no \x1b]0;parser", exit_code=2, hint="did you mean"
    )
    with fake_sentinel(home, lambda _: [failure]):
        answer = casparian("run", tmp_path)
    assert answer.code == 2
    assert answer.err.splitlines()[0] == "error: no \\x1b]0;parser"
    assert "\x1b" not in answer.err


def test_a_bug_writes_a_report_without_what_the_evidence_said(home, casparian, monkeypatch):
    from casparian.cli.commands import files

    def broken(*_arguments, **_named):
        raise RuntimeError("secret from evidence")

    monkeypatch.setattr(files, "plain", broken)
    columns = "root path display_path status size_bytes mtime_ns source_hash sha256 source_id tags"
    row = ("/e", b"a", "a", "catalogued", 1, 1, "h", "s", "i", ())
    with fake_sentinel(home, lambda _: [rows(columns, row)]):
        answer = casparian("files", "--json")
    assert answer.code == 70
    report = answer.json["error"]["report"]
    text = Path(report).read_text()
    assert os.path.dirname(report) == str(home.logs)
    assert "RuntimeError" in text
    assert "secret" not in text


def test_global_options_are_the_same_before_and_after_the_command(home, capfd):
    for arguments in (
        ["--home", str(home.root), "--json", "config", "path"],
        ["config", "--home", str(home.root), "path", "--json"],
        ["config", "path", f"--home={home.root}", "--json"],
    ):
        assert run(arguments) == 0
        assert json.loads(capfd.readouterr().out)["path"] == str(home.config_file)


# -- reading -------------------------------------------------------------------------------------

EMPTY = {
    ("files",): "casparian scan DIR",
    ("jobs",): "casparian run DIR",
    ("jobs", "list"): "casparian run DIR",
    ("outputs",): "casparian run DIR",
    ("ledger",): "casparian run DIR",
    ("rule", "list"): "casparian rule add",
    ("pipeline", "select"): "casparian scan DIR",
    ("explain", "x"): "casparian run DIR",
    ("quarantine",): "Nothing is quarantined",
}


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_a_new_home_is_answered_without_a_sentinel_and_teaches(home, casparian, arguments):
    answer = casparian(*arguments)
    assert answer.code == 0
    assert EMPTY[arguments] in answer.out
    assert casparian(*arguments, "--json").code == 0
    assert not home.run.exists()


LEDGER = rows(
    "source_path source_hash source_id sha256 unit declared present rows recovered recovered_live"
    " recovered_extra quarantined quarantined_extra lost balanced parser job_id root",
    (
        "a.evtx",
        "h",
        "s1",
        "sh",
        "record",
        None,
        10,
        7,
        3,
        1,
        2,
        1,
        0,
        1,
        False,
        "windows.evtx@1.0.0",
        9,
        "/e",
    ),
)
FINDINGS = rows(
    "source_id job_id source_path code offset length message",
    ("s1", 9, "a.evtx", "record.lost", 4096, 65536, "one \u202e record"),
    ("s1", 8, "a.evtx", "chunk.magic", 1, 2, "of another job"),
)


def test_ledger_json_is_the_machine_contract(home, casparian):
    with fake_sentinel(home, lambda r: [LEDGER if r.view == "ledger" else FINDINGS]) as sentinel:
        (source,) = casparian("ledger", "a*", "--unbalanced", "--json").json["sources"]
    assert list(source)[:13] == [
        "source_path", "source_hash", "source_id", "sha256", "unit", "declared", "present", "rows",
        "recovered", "quarantined", "lost", "balanced", "findings",
    ]  # fmt: skip
    assert source["findings"] == [
        {"code": "record.lost", "offset": 4096, "length": 65536, "message": "one \u202e record"}
    ]
    assert sentinel.requests[0].filters == {"glob": "a*", "unbalanced": True}


def test_ledger_shows_losses_and_makes_hidden_characters_visible(home, casparian):
    with fake_sentinel(home, lambda r: [LEDGER if r.view == "ledger" else FINDINGS]):
        answer = casparian("ledger")
    assert "a.evtx\trecord\t\t10\t7\t3\t1\t1\tNO" in answer.out
    assert "one \\u202e record" in answer.out
    assert "1 source lost something" in answer.err


FILES = rows(
    "root path display_path status size_bytes mtime_ns source_hash sha256 source_id tags tag_reasons"
    " link_target message",
    (
        "/e",
        b"caf\xe9",
        "caf\\xe9",
        "catalogued",
        3,
        1,
        "ab" * 32,
        "cd",
        "ef",
        ("text",),
        (),
        None,
        None,
    ),
)


def test_files_keeps_a_name_that_is_not_utf8_exactly(home, casparian):
    with fake_sentinel(home, lambda _: [FILES]) as sentinel:
        (file,) = casparian("files", "--tag", "text", "--json").json["files"]
    assert bytes.fromhex(file["path_hex"]) == b"caf\xe9"
    assert file["display_path"] == "caf\\xe9"
    assert sentinel.requests[0] == control.Read(view="files", filters={"tag": "text"})


JOB = rows(
    "job_id run_id state epoch attempts parser sources size_bytes rows quarantined code message"
    " created_at_ns updated_at_ns aborting",
    (
        2**62 + 1,
        "run-1",
        "failed",
        2,
        3,
        "linux.syslog@1.0.0",
        1,
        10,
        0,
        0,
        "guest.crash",
        "signal 6",
        1,
        2,
        False,
    ),
)
JOB_VIEWS = {
    "jobs": JOB,
    "job_events": rows(
        "job_id epoch seq from_state to_state at_ns detail", (5, 1, 1, None, "queued", 1, "")
    ),
    "job_sources": rows(
        "job_id source_index display_path source_id source_hash status code message rows quarantined",
        (5, 0, "a.log", "s", "h", "failed", "guest.crash", "signal 6", 0, 0),
    ),
    "job_log": rows("job_id epoch log isolation", (5, 1, "oops\x07", '{"no_new_privs": "yes"}')),
}


@pytest.mark.parametrize("arguments", [("jobs", "show", "5"), ("jobs", "5")], ids=" ".join)
def test_jobs_shows_one_job_with_steps_sources_and_log(home, casparian, arguments):
    with fake_sentinel(home, lambda r: [JOB_VIEWS[r.view]]):
        document = casparian(*arguments, "--json").json
        text = casparian(*arguments).out
    assert document["job"]["job_id"] == 2**62 + 1
    assert document["logs"][0]["isolation"] == {"no_new_privs": "yes"}
    assert "guest.crash" in text
    assert "a.log" in text


def test_jobs_logs_makes_control_characters_visible(home, casparian):
    with fake_sentinel(home, lambda r: [JOB_VIEWS[r.view]]):
        assert "| oops\\x07" in casparian("jobs", "logs", "5").out


MUTATIONS = {
    ("tag", "add", "*.log", "syslog"): control.TagFiles(
        request_id="", pattern="*.log", tag="syslog"
    ),
    ("tag", "remove", "*.log", "x"): control.TagFiles(
        request_id="", pattern="*.log", tag="x", remove=True
    ),
    ("rule", "add", "**/*.log", "syslog"): control.AddRule(
        request_id="", pattern="**/*.log", tag="syslog"
    ),
    ("rule", "remove", "3"): control.RemoveRule(request_id="", rule_id=3),
    ("jobs", "cancel", "7"): control.CancelJob(request_id="", job_id=7),
    ("jobs", "retry", "7"): control.RetryJob(request_id="", job_id=7),
}


@pytest.mark.parametrize("arguments", MUTATIONS, ids=" ".join)
def test_a_mutation_carries_a_request_id_and_says_what_changed(home, casparian, arguments):
    with fake_sentinel(
        home, lambda _: [control.Done(message="2 things changed", count=2)]
    ) as sentinel:
        assert casparian(*arguments).out == "2 things changed\n"
        assert casparian(*arguments, "--json").json["count"] == 2
    first, second = sentinel.requests
    assert first.request_id
    assert first.request_id != second.request_id
    assert msgspec.structs.replace(first, request_id="") == MUTATIONS[arguments]


def test_scan_counts_by_tag_and_names_what_could_not_be_read(home, casparian, tmp_path):
    result = control.ScanResult(
        root=str(tmp_path), files=3, size_bytes=2048, unreadable=1, links=1, special=0, directories=2,
        duplicates=1, by_tag={"evtx": 2}, untagged=1, problems=(("x\x9b", "permission denied"),),
    )  # fmt: skip
    with fake_sentinel(home, lambda _: [result]) as sentinel:
        text = casparian("scan", tmp_path, "--dry-run").out
        document = casparian("scan", tmp_path, "--json").json
    assert sentinel.requests[0].dry_run
    assert "evtx\t2" in text
    assert "x\\x9b: permission denied" in text
    assert document["by_tag"] == {"evtx": 2}
    assert document["problems"] == [{"path": "x\x9b", "reason": "permission denied"}]


def test_explain_says_in_words_why(home, casparian, tmp_path):
    (tmp_path / "a.log").touch()
    views = {
        "runs": rows(
            "run_id root started_at_ns finished_at_ns state", ("r", str(tmp_path), 1, 2, "finished")
        ),
        "plan": rows(
            "root display_path parser decision reason detail source_id job_id",
            (str(tmp_path), "a.log", "linux.syslog@1.0.0", "skipped", "done", "", "s", None),
            (str(tmp_path), "b.log", "linux.syslog@1.0.0", "selected", "new", "", "t", None),
        ),
    }
    with fake_sentinel(home, lambda r: [views[r.view]]):
        (decision,) = casparian("explain", tmp_path / "a.log", "--json").json["decisions"]
        assert "the same work is recorded" in casparian("explain", tmp_path / "a.log").out
    assert decision["reason"] == "done"


def test_sentinel_status_reports_what_answers(home, casparian):
    with fake_sentinel(home, lambda _: []):
        document = casparian("sentinel", "status", "--json").json
        assert casparian("sentinel", "start", "--json").json["started"] is False
        assert "1 running" in casparian("sentinel", "status").out
    assert document["running"] is True
    assert document["status"]["engine_hash"] == STATUS.engine_hash


# -- settings, parsers, completion ---------------------------------------------------------------


def test_config_set_show_unset(home, casparian, monkeypatch):
    assert casparian("config", "set", "workers", "3", "--dry-run").code == 0
    assert not home.config_file.exists()
    casparian("config", "set", "workers", "3")
    casparian("config", "set", "parsers.linux.syslog.timezone", "Europe/Oslo")
    monkeypatch.setenv("CASPARIAN_HASH_THREADS", "2")
    document = casparian("config", "show", "--origin", "--json").json
    assert document["settings"]["workers"] == 3
    assert document["origins"]["workers"] == {"kind": "file", "where": str(home.config_file)}
    assert document["origins"]["hash_threads"]["where"] == "CASPARIAN_HASH_THREADS"
    assert document["settings"]["parsers.linux.syslog.timezone"] == "Europe/Oslo"
    assert casparian("config", "unset", "workers", "--json").json["removed"] is True
    assert casparian("config", "show", "--json").json["settings"]["workers"] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(casparian, shell):
    assert "_CASPARIAN_COMPLETE" in casparian("completion", shell).out
    assert casparian("completion", shell, "--json").json["shell"] == shell


def test_parser_new_writes_a_skeleton_once(casparian, tmp_path):
    document = casparian("parser", "new", "acme.access_log", "--into", tmp_path, "--json").json
    assert sorted(os.listdir(document["directory"])) == sorted(
        ["parser.toml", "contract.toml", "parser.py", "README.md", "samples", "tests"]
    )
    assert casparian("parser", "new", "acme.access_log", "--into", tmp_path).code == 2
    assert casparian("parser", "new", "../x", "--into", tmp_path).code == 2
    shown = casparian("parser", "show", document["directory"], "--json").json
    assert shown["tables"] == ["acme_access_log"]
    assert shown["trusted"] is False
