"""A second run does nothing and says why; one change brings back exactly the files it concerns."""

from __future__ import annotations

import os

import pytest

from tests.support.small import syslog_lines
from tests.support.world import World


@pytest.fixture
def filled(world: World) -> World:
    for number in range(6):
        world.file(f"var/log/host{number}/syslog", syslog_lines(host=f"h{number}", count=20))
    result = world.run()
    assert result["files"]["selected"] == 6
    assert result["outputs"][0]["rows"] == 120
    return world


def test_a_second_run_enqueues_nothing_and_says_why(filled: World) -> None:
    again = filled.run()
    assert again["files"]["selected"] == 0
    assert again["files"]["skipped"] == 6
    assert again["reasons"] == {"done": 6}
    assert sum(again["jobs"].values()) == 0
    explained = filled.json("explain", str(filled.evidence / "var/log/host1/syslog"))
    assert "done" in str(explained)


def test_touching_a_file_changes_nothing(filled: World) -> None:
    os.utime(filled.evidence / "var/log/host3/syslog", (1, 1))
    assert filled.run()["reasons"] == {"done": 6}


def test_changing_one_byte_brings_back_one_file_and_retires_the_old_content_from_the_view(
    filled: World,
) -> None:
    path = filled.evidence / "var/log/host3/syslog"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    again = filled.run()
    assert again["files"]["selected"] == 1
    assert again["reasons"] == {"done": 5, "new": 1}
    assert filled.query("SELECT count(*) FROM syslog_events") == [[120]]
    assert filled.query("SELECT count(*) FROM syslog_events__all") == [[140]]


def test_changing_a_parser_setting_brings_back_every_file_of_that_parser(filled: World) -> None:
    again = filled.run("--set", "linux.syslog.timezone=+05:45")
    assert again["reasons"] == {"config_changed": 6}
    assert filled.query("SELECT count(*) FROM syslog_events") == [[120]]
    assert filled.run("--set", "linux.syslog.timezone=+05:45")["reasons"] == {"done": 6}
    assert filled.run()["reasons"] == {"done": 6}, "the first rows are still recorded"


def test_changing_a_sink_setting_brings_back_every_file(filled: World) -> None:
    sink = f"parquet:{filled.home}/outputs?level=7"
    assert filled.run("--sink", sink)["reasons"] == {"sink_setting_changed": 6}


def test_a_stricter_contract_brings_back_every_file_and_quarantines_what_breaks_it(
    filled: World,
) -> None:
    folder = filled.home / "contracts"
    folder.mkdir()
    (folder / "linux.syslog.toml").write_text(
        "schema_version = 1\n[outputs.syslog_events]\n[[outputs.syslog_events.columns]]\n"
        'name = "hostname"\nallowed = ["h0", "h1", "h2", "h3", "h4"]\n'
    )
    again = filled.run()
    assert again["reasons"] == {"contract_changed": 6}
    assert again["quarantine"]["rows"] == 20
    assert again["ledger"]["balanced"]
    assert filled.query("SELECT DISTINCT reason, field FROM quarantine") == [
        ["contract.allowed", "hostname"]
    ]
    assert filled.query("SELECT count(*) FROM syslog_events") == [[100]]


def test_equal_content_is_read_once_and_both_paths_are_kept(world: World) -> None:
    content = syslog_lines(host="twin", count=5)
    world.file("a/syslog", content)
    world.file("b/syslog", content)
    result = world.run()
    assert result["files"] == {**result["files"], "selected": 1, "skipped": 1}
    assert result["reasons"] == {"duplicate_content": 1, "new": 1}
    assert world.column("SELECT DISTINCT _cf_source_path FROM syslog_events") == ["a/syslog"]
    assert world.column("SELECT display_path FROM sources ORDER BY 1") == ["a/syslog", "b/syslog"]


def test_a_failure_is_not_tried_again_without_being_asked(world: World) -> None:
    world.file("syslog", syslog_lines(host="h", count=3))
    (world.home / "contracts").mkdir(parents=True)
    override = world.home / "contracts" / "linux.syslog.toml"
    override.write_text(
        "schema_version = 1\n[outputs.syslog_events]\n[[outputs.syslog_events.columns]]\n"
        'name = "hostname"\nallowed = ["other"]\naction = "fail"\n'
    )
    first = world.run(code=1)
    assert first["files"]["failed"] == 1
    assert world.run(code=None)["reasons"] == {"failed_before": 1}
    assert world.run("--retry-failed", code=1)["reasons"] == {"retry": 1}
    override.unlink()
    assert world.run()["outputs"][0]["rows"] == 3


def test_a_dry_run_plans_and_records_nothing(world: World) -> None:
    world.file("syslog", syslog_lines(host="h", count=3))
    planned = world.run("--dry-run")
    assert planned["dry_run"] is True
    assert planned["files"]["selected"] == 1
    assert planned["outputs"] == []
    assert (
        not list((world.home / "outputs").glob("*")) if (world.home / "outputs").exists() else True
    )
    assert world.run()["reasons"] == {"new": 1}


def test_selection_by_tag_parser_pattern_and_time(world: World) -> None:
    world.file("a/syslog", syslog_lines(host="a", count=3))
    world.file("b/syslog", syslog_lines(host="b", count=4))
    os.utime(world.evidence / "a/syslog", (1_000_000_000, 1_000_000_000))
    assert world.run("--tag", "evtx", "--dry-run")["files"]["selected"] == 0
    assert world.run("--parser", "linux.syslog", "--dry-run")["files"]["selected"] == 2
    assert world.run("--include", "a/**", "--dry-run")["files"]["selected"] == 1
    assert world.run("--exclude", "a/**", "--dry-run")["files"]["selected"] == 1
    assert world.run("--since", "2010-01-01T00:00:00Z", "--dry-run")["files"]["selected"] == 1


def test_rules_and_tags_by_hand_decide_which_parser_takes_a_file(world: World) -> None:
    world.file("odd/notes.dat", b"Nothing here looks like a log\nnot even this\n")
    assert world.run("--dry-run")["files"]["unmatched"] == 1
    rule = world.json("rule", "add", "odd/*.dat", "syslog")
    assert world.run("--dry-run")["files"]["selected"] == 1
    assert "syslog" in str(world.json("rule", "list"))
    number = rule.get("rule_id") or rule.get("count")
    world.json("rule", "remove", str(number))
    assert world.run("--dry-run")["files"]["unmatched"] == 1
    world.json("scan", str(world.evidence))
    world.json("tag", "add", "odd/*.dat", "syslog")
    assert world.run("--dry-run")["files"]["selected"] == 1
