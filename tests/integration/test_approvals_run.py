"""Approvals with the real command, a real sentinel and real keys; and what a raised limit changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casparian.appliance.why import why
from casparian.paths import Home
from casparian.trust import state as states
from casparian.trust.policy import ExaminerRole
from tests.factories.trust import QUICK, Organisation
from tests.support.allow import anything
from tests.support.trusting import TrustingWorld

MANIFEST = """
    kind = "python"
    entry = "parser.py:parse"
    tags = ["lines"]
    unit = "line"
    account = "lines"

    [limits]
    rows_max = 5
"""
CONTRACT = """
    [outputs.lines]
    main = true
    columns = [ { name = "text", type = "utf8" } ]
"""
CODE = """
    from casparian.sdk import Row

    def parse(ctx):
        offset = 0
        for line in ctx.source.read().splitlines(keepends=True):
            yield "lines", Row(offset, len(line), {"text": line.decode()})
            offset += len(line)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TrustingWorld]:
    made = TrustingWorld(tmp_path)
    yield made
    made.stop()


def trust(world: TrustingWorld) -> Path:
    """Alice alone decides about settings; the path of her key file."""
    org = Organisation()
    settings = ExaminerRole(
        name="settings", keyids=(org.alice.public.keyid,), threshold=1, paths=("settings/*",)
    )
    raw = org.policy(2, roles=(*org.roles(), settings))
    states.save(world.home / "trust", org.under(raw))
    file = world.directory / "alice.key"
    org.alice.write(file, "a passphrase", kdf=QUICK)
    (world.directory / "passphrase").write_text("a passphrase\n")
    return file


def by(world: TrustingWorld, key: Path, reason: str = "a huge log") -> tuple[str, ...]:
    return (
        "--key",
        str(key),
        "--passphrase-file",
        str(world.directory / "passphrase"),
        "--reason",
        reason,
    )


def limits(document: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in document["limits"]}


RAISE = ("parser", "limits", "windows.evtx", "--set", "memory_mb=4096")


def test_a_request_waits_is_shown_and_is_in_force_once_accepted(world: TrustingWorld) -> None:
    key = trust(world)
    asked = world.json(*RAISE)
    approval_id = asked["approval"]["approval_id"]
    assert limits(asked)["memory_mb"]["in_force"] == 1024
    (waiting,) = world.json("approve", "list")["approvals"]
    assert (waiting["approval_id"], waiting["kind"]) == (approval_id, "limits.raise")
    shown = world.json("approve", "show", approval_id[:4])
    assert shown["diff"][1:] == [
        "- memory_mb = 1024",
        "+ memory_mb = 4096    (version 1.1.0 declares 1024)",
    ]
    assert shown["needed"] == "1 more of two people, settings"
    done = world.json("approve", "accept", approval_id[:4], *by(world, key))
    assert done["state"] == "accepted"
    assert world.json("approve", "list")["approvals"] == []
    (ended,) = world.json("approve", "list", "--all")["approvals"]
    assert ended["state"] == "accepted"
    now = limits(world.json("parser", "limits", "windows.evtx"))["memory_mb"]
    assert (now["in_force"], now["declared"], now["approval_id"]) == (4096, 1024, approval_id)
    again = world.json(*RAISE)
    assert "approval" not in again, "up to there it is allowed already"


def test_with_a_key_it_is_proposed_and_decided_in_one_command(world: TrustingWorld) -> None:
    key = trust(world)
    done = world.json(*RAISE, *by(world, key))
    assert done["approval"]["state"] == "accepted"
    assert limits(done)["memory_mb"]["in_force"] == 4096
    back = world.json("parser", "limits", "windows.evtx", "--unset", "memory_mb")
    assert limits(back)["memory_mb"]["in_force"] == 1024
    assert "approval" not in back


def test_a_lower_limit_needs_no_approval_and_never_gives_more(world: TrustingWorld) -> None:
    low = world.json("parser", "limits", "windows.evtx", "--set", "memory_mb=512")
    assert limits(low)["memory_mb"]["in_force"] == 512
    assert world.json("approve", "list", "--all")["approvals"] == []


def test_people_are_told_what_is_missing(world: TrustingWorld) -> None:
    approval_id = world.json(*RAISE)["approval"]["approval_id"]
    shown = world.json("approve", "show", approval_id)
    assert "trust init" in shown["needed"]
    key = world.directory / "alice.key"
    org = Organisation()
    org.alice.write(key, "a passphrase", kdf=QUICK)
    (world.directory / "passphrase").write_text("a passphrase\n")
    error = world.json("approve", "accept", approval_id, *by(world, key), code=4)["error"]
    assert error["code"] == "trust.no_root"
    assert "casparian trust init" in error["hint"]
    silent = world.json("approve", "accept", approval_id, "--key", str(key), code=2)["error"]
    assert silent["code"] == "approval.reason"
    unknown = world.json("approve", "show", "zzzz", code=2)["error"]
    assert unknown["code"] == "approval.unknown"
    trust_key = trust_with_existing_key(world, org)
    wrong = world.json("approve", "accept", approval_id, *by(world, trust_key, "  "), code=2)
    assert wrong["error"]["code"] == "approval.reason"
    taken = world.json("approve", "withdraw", approval_id)
    assert taken["state"] == "withdrawn"
    late = world.json("approve", "accept", approval_id, *by(world, key), code=8)["error"]
    assert late["code"] == "approval.decided"


def trust_with_existing_key(world: TrustingWorld, org: Organisation) -> Path:
    states.save(world.home / "trust", org.state)
    return world.directory / "alice.key"


def test_a_source_that_met_a_limit_is_read_again_once_it_is_raised_and_the_receipt_says_so(
    world: TrustingWorld,
) -> None:
    key = trust(world)
    world.parser("lab.lines", MANIFEST, CONTRACT, CODE)
    world.json("rule", "add", "**/*.txt", "lines")
    world.file("small.txt", b"one\ntwo\n")
    world.file("large.txt", b"".join(b"line %d\n" % n for n in range(50)))
    first = world.run(code=None)
    assert "files" in first, first
    assert first["files"]["failed"] == 1, first
    skipped = world.run(code=None)
    assert skipped["reasons"]["failed_before"] == 1
    raised = world.json("parser", "limits", "lab.lines", "--set", "rows_max=1000", *by(world, key))
    approval_id = raised["approval"]["approval_id"]
    again = world.run()
    assert again["reasons"] == {"done": 1, "retry": 1}, "the small one has the rows it would have"
    assert again["jobs"]["completed"] == 1
    assert world.query("select count(*) from lines") == [[52]]
    (item,) = world.json("explain", "large.txt")["decisions"]
    assert approval_id in str(item)
    proof = why(Home.at(world.home), newest_row(world), verify=anything).to_builtins()
    assert proof["proven"], proof["differences"]
    logs = world.json("jobs", "logs", str(newest_job(world)))["logs"]
    assert logs[0]["isolation"]["limits_raised"] == f"rows_max=1000 (approval {approval_id})"
    assert world.run()["reasons"] == {"done": 2}


def newest_row(world: TrustingWorld) -> str:
    """A row of the large file: it is proven under the limits that its job had."""
    return str(world.column("select _cf_row_id from lines where text like 'line 49%'")[0])


def newest_job(world: TrustingWorld) -> int:
    return int(world.json("jobs")["jobs"][-1]["job_id"])
