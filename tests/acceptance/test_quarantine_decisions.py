"""Accepting quarantined rows with a key and taking it back, with the installed command and real signatures."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from casparian.paths import Home
from casparian.trust import state as states
from casparian.trust import verdict
from casparian.trust.policy import ExaminerRole
from tests.factories.trust import QUICK, Organisation, key
from tests.support.small import syslog_lines
from tests.support.world import World

BECAUSE = "banners of an old relay, read and understood"


@pytest.fixture
def keys(world: World) -> dict[str, tuple[str, ...]]:
    """Alice decides about quarantine here, Eve about nothing: the options that name the key of each."""
    org = Organisation()
    role = ExaminerRole(
        name="examiner alice",
        keyids=(org.alice.public.keyid,),
        threshold=1,
        paths=("quarantine/*",),
    )
    release = verdict.release_key().public  # of this build: its parsers may run
    listed = [(org.alice.public, org.alice.holder), (release, "release")]
    policy = org.policy(version=2, roles=(role,), keys=listed, release_keyids=[release.keyid])
    states.save(Home.at(world.home).trust, org.under(policy))
    passphrase = world.directory / "passphrase"
    passphrase.write_text("open sesame of the tests\n")
    options = {}
    for name in ("alice", "eve"):
        path: Path = world.directory / f"{name}.key"
        key(name).write(path, "open sesame of the tests", kdf=QUICK)
        options[name] = ("--key", str(path), "--passphrase-file", str(passphrase))
    return options


def counts(world: World) -> tuple[int, int]:
    document = world.json("quarantine")
    assert document["rows"] == document["open"] + document["accepted"]
    return document["open"], document["accepted"]


def test_rows_are_accepted_with_a_key_counted_apart_and_opened_again(
    world: World, keys: dict[str, tuple[str, ...]]
) -> None:
    world.file("a/syslog", syslog_lines(host="a", count=3, bad=4))
    world.file("b/syslog", syslog_lines(host="b", count=3, bad=2))
    world.run()
    assert counts(world) == (6, 0)

    # without a key it is a request that changes nothing; a key without a say decides nothing
    asked = world.json("quarantine", "accept", "--file", "a/*", "--reason", BECAUSE)
    (request,) = asked["requests"]
    assert request["state"] == "pending"
    assert counts(world) == (6, 0)
    refused = world.json(
        "approve", "accept", request["approval_id"], "--reason", BECAUSE, *keys["eve"], code=4
    )
    assert refused["error"]["code"].startswith("trust.")
    assert counts(world) == (6, 0)

    # with a key in scope the same request is decided at once
    accepted = world.json(
        "quarantine", "accept", "--file", "a/*", "--reason", BECAUSE, *keys["alice"]
    )
    assert accepted["requests"][0]["state"] == "accepted"
    assert counts(world) == (2, 4)
    document = world.json("quarantine", "--state", "accepted")
    (decision,) = document["decisions"]
    assert (decision["rows"], decision["rows_now"], decision["reason"]) == (4, 4, BECAUSE)
    shown = world.json("quarantine", "show", document["reasons"][0]["example"])["row"]
    assert (shown["state"], shown["accepted_for"]) == ("accepted", BECAUSE)
    assert f"decision {decision['decision_id']}" in world.call("quarantine").stdout
    again = world.json(
        "quarantine", "accept", shown["_cf_row_id"], "--reason", BECAUSE, *keys["alice"], code=2
    )
    assert again["error"]["code"] == "quarantine.none", "there is no open row of that name"
    stats = world.json("quarantine", "stats")
    assert {line["file"]: (line["open"], line["accepted"]) for line in stats["by_file"]} == {
        "a/syslog": (0, 4),
        "b/syslog": (2, 0),
    }
    check = {c["check"]: c for c in world.json("doctor")["checks"]}["quarantine"]
    assert "2 open" in check["message"]
    assert "4 accepted" in check["message"]

    # it stays so without a sentinel and after another one has started
    world.stop()
    assert counts(world) == (2, 4)
    world.json("jobs")
    assert counts(world) == (2, 4)

    # taken back, by one of its rows
    dry = world.json("quarantine", "reopen", shown["_cf_row_id"], "--reason", "r", "--dry-run")
    assert (dry["decisions"], dry["rows"]) == ([decision["decision_id"]], 4)
    world.json("quarantine", "reopen", shown["_cf_row_id"], "--reason", "a parser reads it now")
    assert counts(world) == (6, 0)
    unknown = world.json("quarantine", "reopen", decision["decision_id"], "--reason", "r", code=2)
    assert unknown["error"]["code"] == "quarantine.no_decision"


def test_rows_that_are_set_aside_again_are_open_whatever_was_decided_before(
    world: World, keys: dict[str, tuple[str, ...]]
) -> None:
    world.file("syslog", syslog_lines(host="a", count=3, bad=4))
    world.run()
    world.json("quarantine", "accept", "--all", "--reason", BECAUSE, *keys["alice"])
    assert counts(world) == (0, 4)
    world.json("quarantine", "retry", "--set", "linux.syslog.timezone=+01:00")
    assert counts(world) == (4, 0), "another job has looked: these rows nobody has decided about"
    (decision,) = world.json("quarantine")["decisions"]
    assert decision["rows_now"] == 0, "the decision stays on record"


def test_an_acceptance_needs_a_reason_and_something_to_be_about(world: World) -> None:
    world.file("syslog", syslog_lines(host="a", count=3, bad=1))
    world.run()
    for words, code in (
        (["--all"], "approval.reason"),
        (["--reason", BECAUSE], "usage.accept"),
        (["--all", "--code", "x", "--reason", BECAUSE], "usage.accept"),
        (["--code", "x", "--reason", BECAUSE], "quarantine.none"),
    ):
        refused = world.json("quarantine", "accept", *words, code=2)
        assert refused["error"]["code"] == code, words
    shown = world.json("quarantine", "accept", "--all", "--reason", BECAUSE, "--dry-run")
    assert shown["requests"][0]["approval_id"] is None
    assert world.json("approve", "list")["approvals"] == []


def test_the_commands_of_the_how_to_page_work_as_written(
    world: World, keys: dict[str, tuple[str, ...]]
) -> None:
    contracts = world.home / "contracts"
    contracts.mkdir(parents=True)
    override = contracts / "linux.syslog.toml"
    override.write_text(
        "schema_version = 1\n[outputs.syslog_events]\n[[outputs.syslog_events.columns]]\n"
        'name = "hostname"\nallowed = ["alpha"]\n'
    )
    world.file("alpha/syslog", syslog_lines(host="alpha", count=3, bad=2))
    world.file("gamma/syslog", syslog_lines(host="gamma", count=3))
    world.run()
    page = Path(__file__).parents[2] / "docs/how-to/quarantine.md"
    lines = [line[2:] for line in page.read_text().splitlines() if line.startswith("$ ")]
    assert len(lines) > 12
    program = " ".join(map(shlex.quote, [*world.program, "--home", str(world.home)]))
    script = ["set -euo pipefail", f'casparian() {{ {program} "$@"; }}']
    for line in lines:
        if "retry" in line and "--dry-run" in line:  # the contract has been put right by now
            script.append(f"rm -f {shlex.quote(str(override))}")
        script += [f"echo + {shlex.quote(line)}", line]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=world.directory,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert counts(world) == (2, 0)
    assert (world.directory / "for-the-vendor" / "manifest.jsonl").exists()
