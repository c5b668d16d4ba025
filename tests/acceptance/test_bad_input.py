"""Bad input: a clear message each, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.small import small_log, syslog_lines
from tests.support.world import World


def test_an_empty_directory_is_said_to_be_empty(world: World) -> None:
    result = world.run()
    assert result["files"]["seen"] == 0
    shown = world.call("run", str(world.evidence))
    assert shown.returncode == 0
    assert "no files" in (shown.stdout + shown.stderr).lower()


def test_missing_evidence_is_a_usage_error_with_the_path(world: World) -> None:
    failed = world.json("run", str(world.directory / "nowhere"), code=2)
    assert failed["error"]["code"] == "evidence.missing"
    assert "nowhere" in failed["error"]["message"]


def test_a_file_that_is_not_what_its_name_says_is_unmatched_with_the_reason(world: World) -> None:
    world.file("Security.evtx", b"\x7fELF" + bytes(range(256)) * 40)
    world.file("really.txt", small_log(events=5))
    result = world.run()
    assert result["files"] == {**result["files"], "seen": 2, "selected": 1, "unmatched": 1}
    files = {f["display_path"]: f for f in world.json("files")["files"]}
    assert "name-mismatch" in files["Security.evtx"]["tags"]
    assert "evtx" in files["really.txt"]["tags"], "content decides, not the name"


def ordinary() -> tuple[str, ...]:
    """A prefix that runs a command without root's right to read everything, when the suite runs as root."""
    if os.getuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("as root, only `setpriv` can make a file unreadable")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def test_an_unreadable_file_is_named_and_the_others_are_read(world: World) -> None:
    world.file("good/syslog", syslog_lines(host="g", count=3))
    world.file("secret/syslog", syslog_lines(host="s", count=3)).chmod(0)
    done = world.call("run", str(world.evidence), "--json", prefix=ordinary())
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["files"] == {**result["files"], "seen": 2, "selected": 1, "unreadable": 1}
    assert [p["path"] for p in result["problems"]] == ["secret/syslog"], "it is named"
    assert "denied" in result["problems"][0]["message"].lower()


def test_a_loop_of_links_is_recorded_and_not_followed(world: World) -> None:
    world.file("a/syslog", syslog_lines(host="a", count=2))
    (world.evidence / "a/loop").symlink_to("..")
    (world.evidence / "self").symlink_to("self")
    result = world.run()
    assert result["files"]["seen"] == 1
    links = [f for f in world.json("files")["files"] if f["status"] == "link"]
    assert {f["display_path"] for f in links} == {"a/loop", "self"}


def test_special_files_are_recorded_and_never_opened(world: World) -> None:
    os.mkfifo(world.evidence / "pipe")
    world.file("syslog", syslog_lines(host="a", count=2))
    assert world.run()["outputs"][0]["rows"] == 2
    files = {f["display_path"]: f["status"] for f in world.json("files")["files"]}
    assert files["pipe"] == "special"


def test_a_name_that_is_not_utf8_is_shown_escaped_and_kept_exactly(world: World) -> None:
    name = b"caf\xe9-\x1b[31m.log"
    path = os.path.join(os.fsencode(world.evidence), name)
    with open(path, "wb") as file:
        file.write(syslog_lines(host="a", count=2))
    assert world.run()["outputs"][0]["rows"] == 2
    assert world.column("SELECT DISTINCT _cf_source_path FROM syslog_events") == [
        "caf\\xe9-\x1b[31m.log"
    ]
    assert bytes.fromhex(world.column("SELECT path FROM sources")[0]) == name
    shown = world.call("files")
    assert "\x1b" not in shown.stdout, "an escape code must never reach a terminal"
    assert "caf\\xe9" in shown.stdout


def test_a_file_that_shrinks_while_it_is_read_fails_alone(world: World) -> None:
    world.file("b/syslog", syslog_lines(host="steady", count=5))
    big = world.file("a/App.evtx", small_log(events=40_000))
    stop = threading.Event()

    def shrink() -> None:
        size = big.stat().st_size
        while not stop.is_set():
            for length in (size // 2, size):
                os.truncate(big, length)

    shrinker = threading.Thread(target=shrink)
    shrinker.start()
    try:
        result = world.run(code=None)
    finally:
        stop.set()
        shrinker.join()
    # Found while hashing (unreadable) or while parsing (failed): either way it is named, and the other file is whole.
    assert result["files"]["unreadable"] + result["files"]["failed"] == 1, result
    assert "a/App.evtx" in str(result["problems"])
    assert world.query("SELECT count(*) FROM syslog_events") == [[5]]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    target = tmp_path / "tiny"
    target.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=68m", "tmpfs", str(target)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_full_disk_fails_the_job_with_its_reason_and_leaves_nothing_behind(
    world: World, tiny_disk: Path
) -> None:
    world.file("App.evtx", small_log(events=5_000))
    (tiny_disk / "ballast").write_bytes(bytes(67 * 1024 * 1024))
    sink = f"parquet:{tiny_disk}/out"
    refused = world.json("run", str(world.evidence), "--sink", sink, code=1)
    assert refused["error"]["code"] == "sink.no_space"
    (tiny_disk / "ballast").unlink()
    assert world.run("--sink", sink)["outputs"][1]["rows"] == 5_000


def test_an_unknown_parser_is_named_with_the_near_ones(world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    failed = world.run("--parser", "linux.sylog", code=2)
    assert failed["error"]["code"] == "parser.unknown"
    assert "linux.syslog" in str(failed["error"])


def test_a_malformed_manifest_is_named_and_the_other_parsers_work(world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    folder = world.home / "parsers" / "mine"
    folder.mkdir(parents=True)
    (folder / "parser.toml").write_text('schema_version = 1\nname = "mine"\nverzion = "1"\n')
    (folder / "contract.toml").write_text("schema_version = 1\n")
    result = world.run()
    assert result["outputs"][0]["rows"] == 2
    assert "mine" in str(result["problems"])
    failed = world.run("--parser", "mine", code=5)
    assert "parser.toml" in failed["error"]["message"]
    assert "verzion" in str(failed["error"])


def test_a_parser_that_did_not_come_with_the_product_is_refused(world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    made = world.json("parser", "new", "my.parser", "--into", str(world.home / "parsers"))
    assert made["schema_version"] == 1
    refused = world.run("--parser", "my.parser", code=None)
    assert "trust.unsigned" in str(refused) or refused["files"]["unmatched"] == 1
    rule = world.json("rule", "add", "syslog", "my.parser")
    assert rule
    listed = world.json("parser", "list")
    assert "my.parser" in str(listed)


FORBIDDEN = {
    "reading another file": "SELECT * FROM read_text('/etc/passwd')",
    "reading another file by name": "SELECT * FROM '/etc/passwd'",
    "writing a file": "COPY (SELECT 1) TO '/tmp/casparian-was-here'",
    "attaching a database": "ATTACH '/tmp/casparian-other.duckdb'",
    "installing an extension": "INSTALL httpfs",
    "unlocking": "SET enable_external_access = true",
    "a change": "CREATE TABLE t AS SELECT 1",
    "two statements": "SELECT 1; SELECT 2",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_query_can_read_committed_rows_and_nothing_else(what: str, world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    world.run()
    refused = world.json("query", FORBIDDEN[what], code=None)
    assert "error" in refused, refused
    assert refused["error"]["exit_code"] in (1, 2, 4)
    assert "root:" not in str(refused)
    assert not Path("/tmp/casparian-was-here").exists()


def test_a_query_that_fails_says_why(world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    world.run()
    failed = world.json("query", "SELECT no_such_column FROM syslog_events", code=1)
    assert failed["error"]["code"] == "query.sql"
    assert "no_such_column" in failed["error"]["message"]


def test_a_query_before_any_run_says_what_to_do(world: World) -> None:
    failed = world.json("query", "SELECT 1", code=None)
    assert "casparian run" in str(failed["error"])


def test_outputs_inside_the_evidence_are_not_taken_for_evidence_and_that_is_said(
    world: World,
) -> None:
    world.file("syslog", syslog_lines(host="a", count=2))
    sink = f"csv:{world.evidence}/tables"
    world.run("--sink", sink)
    again = world.run("--sink", sink)
    assert again["reasons"] == {"done": 1}
    assert again["files"]["seen"] == 1
    assert [p["code"] for p in again["problems"]] == ["evidence.own_output"]


def test_a_header_that_claims_more_records_than_a_number_holds_is_a_claim_and_no_fault(
    world: World,
) -> None:
    """A sealed chunk header may say anything; what it says must fit a column, and never stop the sentinel."""
    log = bytearray(small_log(events=5))
    chunk = slice(4096, 4096 + 512)
    header = bytearray(log[chunk])
    header[8:24] = struct.pack("<QQ", 1, 2**64 - 2)  # first and last record number
    header[124:128] = struct.pack("<I", zlib.crc32(header[:120] + header[128:512]))
    log[chunk] = header
    world.file("claims.evtx", bytes(log))
    result = world.run()
    assert result["jobs"]["completed"] == 1
    sources = world.json("ledger")["sources"]
    assert [(s["declared"], s["present"]) for s in sources] == [(2**63 - 1, 5)]
