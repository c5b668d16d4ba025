"""`casparian run`, end to end in this process, against a peer that speaks the real protocol."""

from __future__ import annotations

import os
import signal
import threading

import msgspec
import pytest
from fake_sentinel import fake_sentinel, rows

from casparian.protocol import control

RESULT = control.RunResult(
    run_id="run-1",
    root="/evidence",
    dry_run=False,
    files=control.FileCounts(seen=7, selected=3, skipped=1, unmatched=2, unreadable=1, failed=0),
    jobs=control.JobCounts(completed=2),
    outputs=(
        control.OutputSummary(
            table="evtx_events", rows=1234, files=("/out/a.parquet",), sink="parquet:/out"
        ),
    ),
    quarantined=5,
    ledger=control.LedgerTotals(present=1239, rows=1230, recovered=4, quarantined=5, findings=2),
    reasons={"new": 3, "done": 1, "no_parser": 2, "read_error": 1},
    rejected={},
    problems=(
        control.FileProblem(path="a\x1b[31mb.evtx", code="source.unreadable", message="denied"),
    ),
    quarantine_limit=False,
    elapsed_ns=1_500_000_000,
)
PLANNED = control.Planned(
    run_id="run-1",
    root="/evidence",
    files=RESULT.files,
    size_bytes=4096,
    jobs=2,
    by_parser={"windows.evtx@1.0.0": 3},
    reasons=RESULT.reasons,
)
PROGRESS = control.Progress(
    run_id="run-1",
    jobs_done=1,
    jobs_total=2,
    files_done=2,
    files_total=3,
    bytes_done=50,
    bytes_total=100,
    rows=10,
    quarantined=1,
)


def changed(**fields):
    return msgspec.structs.replace(RESULT, **fields)


# -- run -----------------------------------------------------------------------------------------


def test_run_sends_what_was_typed(home, casparian, tmp_path):
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with fake_sentinel(home, lambda _: [PLANNED, PROGRESS, RESULT]) as sentinel:
        casparian(
            "run", evidence, "--sink", f"evtx_events=csv:{tmp_path}/csv", "--sink",
            f"duckdb:{tmp_path}/a.duckdb", "--mode", "replace", "--tag", "evtx", "--include", "*.evtx",
            "--exclude", "x", "--parser", "windows.evtx", "--set", "linux.syslog.year=2015",
            "--set", "linux.syslog.timezone=+01:00", "--retry-failed", "--accept-engine",
            "--max-quarantine", "2.5%", "--since", "2024-03-01T00:00:00Z", "--min-isolation", "reduced",
        )  # fmt: skip
    (request,) = sentinel.requests
    assert request.evidence == os.fsencode(evidence)
    assert {t: s.uri for t, s in request.sinks.items()} == {
        "evtx_events": f"csv:{tmp_path}/csv",
        "": f"duckdb:{tmp_path}/a.duckdb",
    }
    assert request.mode == "replace"
    assert request.selection == control.Selection(
        tags=("evtx",),
        parsers=("windows.evtx",),
        include=("*.evtx",),
        exclude=("x",),
        since_ns=1_709_251_200_000_000_000,
    )
    assert request.parser_config == {"linux.syslog": {"year": 2015, "timezone": "+01:00"}}
    assert request.retry_failed
    assert request.accept_engine
    assert request.min_isolation == "reduced"
    assert (request.quarantine_rows_max, request.quarantine_percent_max) == (None, 2.5)


def test_run_json_is_the_machine_contract(home, casparian, tmp_path):
    with fake_sentinel(home, lambda _: [PLANNED, RESULT]):
        answer = casparian("run", tmp_path, "--json")
    document = answer.json
    assert answer.code == 0
    assert document["files"] == {
        "seen": 7, "selected": 3, "skipped": 1, "unmatched": 2, "unreadable": 1, "failed": 0
    }  # fmt: skip
    assert document["jobs"] == {"completed": 2, "failed": 0, "aborted": 0, "rejected": 0}
    (output,) = document["outputs"]
    assert {
        "table": "evtx_events",
        "rows": 1234,
        "files": ["/out/a.parquet"],
    }.items() <= output.items()
    assert document["quarantine"]["rows"] == 5
    assert document["ledger"] == {
        "balanced": True, "present": 1239, "rows": 1230, "recovered": 4, "quarantined": 5, "lost": 0,
        "findings": 2,
    }  # fmt: skip
    assert document["run_id"] == "run-1"
    assert document["elapsed_seconds"] == 1.5


def test_run_says_what_was_done_and_what_to_type_next(home, casparian, tmp_path):
    with fake_sentinel(home, lambda _: [PLANNED, PROGRESS, RESULT]):
        answer = casparian("run", tmp_path)
    assert "plan   7 files · 3 new · 2 without a parser · 1 already done" in answer.err
    assert "run     50%  2/3 files" in answer.err
    assert "evtx_events  1 234 rows" in answer.out
    assert "balanced" in answer.out
    assert f"casparian --home {home.root} quarantine" in answer.err
    assert f"casparian --home {home.root} ledger" in answer.err
    assert "\x1b" not in answer.out + answer.err
    assert "a\\x1b[31mb.evtx" in answer.out


EXITS = {
    "nothing wrong": (changed(), [], 0),
    "quarantine and findings are no failure": (changed(quarantined=99), [], 0),
    "an unbalanced ledger is told, not failed": (
        changed(ledger=control.LedgerTotals(balanced=False, lost=1)), [], 0,
    ),
    "strict fails an unbalanced ledger": (
        changed(ledger=control.LedgerTotals(balanced=False, lost=1)), ["--strict"], 7,
    ),
    "a failed file": (changed(files=control.FileCounts(seen=1, selected=1, failed=1)), [], 1),
    "a failed job": (changed(jobs=control.JobCounts(failed=1)), [], 1),
    "a fault of the run itself": (
        changed(problems=(control.FileProblem(path="", code="catalog", message="no space"),)), [], 1,
    ),
    "past the quarantine limit": (
        changed(quarantine_limit=True, jobs=control.JobCounts(failed=1)), [], 6,
    ),
    "refused by trust": (changed(rejected={"untrusted": 2, "exists": 1}), [], 4),
    "refused by trust, by its error code": (changed(rejected={"trust.unsigned": 2}), [], 4),
    "refused by the isolation policy": (
        changed(
            jobs=control.JobCounts(failed=1),
            problems=(control.FileProblem(path="a", code="isolation.too_low", message="seccomp"),),
        ), [], 4,
    ),
    "refused by the sink mode": (changed(rejected={"exists": 2}), [], 8),
    "a broken contract": (changed(rejected={"contract.invalid": 1}), [], 5),
    "cancelled": (changed(cancelled=True, jobs=control.JobCounts(aborted=1)), [], 130),
}  # fmt: skip


@pytest.mark.parametrize("case", EXITS)
def test_run_exit_codes(home, casparian, tmp_path, case):
    result, flags, code = EXITS[case]
    with fake_sentinel(home, lambda _: [PLANNED, result]):
        assert casparian("run", tmp_path, *flags).code == code
        assert casparian("run", tmp_path, "--json", *flags).code == code


def test_run_with_nothing_to_do_says_why(home, casparian, tmp_path):
    idle = changed(
        files=control.FileCounts(seen=4, skipped=4), reasons={"done": 4}, outputs=(), problems=()
    )
    with fake_sentinel(home, lambda _: [idle]):
        assert "Nothing to do: 4 files (4 already done)" in casparian("run", tmp_path).out


def test_run_on_an_empty_directory_teaches(home, casparian, tmp_path):
    empty = changed(files=control.FileCounts(), reasons={}, outputs=(), problems=())
    with fake_sentinel(home, lambda _: [empty]):
        assert "No files under" in casparian("run", tmp_path).out


def test_run_explain_lists_each_file_with_its_reason(home, casparian, tmp_path):
    plan = rows(
        "root display_path parser decision reason detail source_id job_id",
        ("/evidence", "a.evtx", "windows.evtx@1.0.0", "selected", "new", "", "s1", 5),
    )
    with fake_sentinel(home, lambda r: [plan if isinstance(r, control.Read) else RESULT]):
        assert casparian("run", tmp_path, "--explain", "--json").json["plan"][0]["reason"] == "new"
        assert (
            "a.evtx\twindows.evtx@1.0.0\tselected\tnew"
            in casparian("run", tmp_path, "--explain").out
        )


def test_ctrl_c_cancels_the_run_once_and_says_what_was_kept(home, casparian, tmp_path):
    cancelled = threading.Event()

    def answer(request):
        if isinstance(request, control.CancelJob):
            cancelled.set()
            yield control.Done(message="1 jobs cancelled", count=1)
            return
        yield PLANNED
        os.kill(os.getpid(), signal.SIGINT)
        cancelled.wait()
        yield changed(run_id=request.request_id, cancelled=True, jobs=control.JobCounts(aborted=1))

    before = signal.getsignal(signal.SIGINT)
    with fake_sentinel(home, answer) as sentinel:
        result = casparian("run", tmp_path)
    asked, cancel = sentinel.requests
    assert cancel.run_id == asked.request_id
    assert result.code == 130
    assert "stopping" in result.err
    assert "what was committed is kept" in result.out
    assert signal.getsignal(signal.SIGINT) is before
