"""`doctor --repair` on a real home: it moves aside, records it, and a second one has nothing to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from casparian.errors import ExitCode
from casparian.protocol import control
from casparian.sentinel import events as ev
from casparian.sentinel.effects import Maintain, Persist, SendReply
from casparian.sentinel.state import State
from casparian.sentinel.step import step
from tests.support.small import syslog_lines
from tests.support.world import World


@pytest.fixture
def ran(world: World) -> World:
    """Two sources in Parquet, committed, at rest."""
    world.file("a/syslog", syslog_lines(host="a", count=20, bad=1))
    world.file("b/syslog", syslog_lines(host="b", count=30))
    world.run("--sink", f"parquet:{world.directory / 'out'}")
    world.stop()
    return world


def doctor(world: World, *arguments: str, code: int | None = 0) -> dict[str, Any]:
    report: dict[str, Any] = world.json("doctor", *arguments, code=code)
    report["by_name"] = {check["check"]: check for check in report["checks"]}
    return report


def at_rest(world: World) -> None:
    """A sentinel that has written the catalog, as each does when it starts."""
    world.json("sentinel", "start")
    assert doctor(world, code=None)["by_name"]["jobs"]["message"] == "nothing is under way"


def outputs(world: World) -> list[Path]:
    return sorted((world.directory / "out").glob("*.parquet"))


def tree(world: World) -> dict[str, bytes]:
    """Every file of evidence tables, wherever it lies now, by name."""
    found = {}
    for root in (world.directory / "out", world.home / "quarantine"):
        for path in root.rglob("*"):
            if path.is_file() and path.name != "RECORD.json":
                found[path.name] = path.read_bytes()
    return found


def test_everything_that_is_out_of_place_is_named_moved_and_recorded(ran: World) -> None:
    out = ran.directory / "out"
    home_id = (ran.home / "home_id").read_text().strip()
    (first, *_) = outputs(ran)
    orphan = out / first.name.replace("_1_0.", "_2_0.")
    orphan.write_bytes(b"nobody's")
    stranger = out / f"{first.name}.set-aside-0123abcd"
    stranger.write_bytes(b"set aside")
    foreign = out / "syslog_events_12345_1_0.parquet"
    foreign.write_bytes(b"another home's")
    mine = out / "notes.txt"
    mine.write_text("a person's")
    altered = bytearray(first.read_bytes())
    altered[len(altered) // 2] ^= 1
    first.write_bytes(altered)
    with duckdb.connect(str(ran.home / "casparian_flow.duckdb")) as connection:
        connection.execute("INSERT INTO cf_commit_intents VALUES (99, 1, 'left'::BLOB)")
    ran.json("sentinel", "start")
    stage = out / ".casparian-stage" / home_id / "99.1"
    stage.mkdir(parents=True)
    (stage / "part.parquet").write_bytes(b"staged")
    before = tree(ran)

    report = doctor(ran, "--verify", "--repair", "--dry-run", code=ExitCode.FAILED)
    named = {aside["path"]: aside["why"] for aside in report["repair"]["aside"]}
    assert named == {
        str(orphan): "orphan",
        str(stranger): "orphan",
        str(first): "altered",
        str(stage): "stage",
    }
    assert report["repair"]["intents"] is True
    assert report["by_name"]["intents"]["details"] == [{"job_id": 99, "epoch": 1}]
    assert f"casparian run {ran.evidence} --mode replace" in report["by_name"]["outputs"]["hint"]
    assert tree(ran) == before, "a dry run changes nothing"

    report = doctor(ran, "--verify", "--repair", code=ExitCode.FAILED)
    places = {aside["path"]: aside["to"] for aside in report["repair"]["aside"]}
    assert places.keys() == named.keys()
    assert all(str(out / ".casparian-aside") in place for place in places.values())
    assert tree(ran) == before, "nothing is lost, nothing is altered"
    assert foreign.exists()
    assert mine.exists()
    assert not stage.exists()
    record = json.loads((Path(places[str(orphan)]).parent / "RECORD.json").read_text())
    assert {entry["from"]: entry["to"] for entry in record["moved"]} == places
    problems = {c["check"]: c for c in report["checks"] if c["status"] != "ok"}
    problems.pop("engine", None)  # a development tree
    assert set(problems) - {"disk space (home)"} == {"outputs"}
    assert [d["problem"] for d in problems["outputs"]["details"]] == ["missing"]

    again = doctor(ran, "--verify", "--repair", code=ExitCode.FAILED)
    assert again["repair"]["aside"] == []
    assert again["repair"]["message"] is None

    # What was lost comes back by the command that the hint names; then the home is well.
    ran.run("--sink", f"parquet:{out}", "--mode", "replace")
    report = doctor(ran, "--verify", code=None)
    assert {c["check"] for c in report["checks"] if c["status"] == "fail"} <= {"engine"}
    assert ran.column("SELECT count(*) FROM syslog_events") == [50]

    ran.stop()
    with duckdb.connect(str(ran.home / "casparian_flow.duckdb"), read_only=True) as connection:
        entries = [
            json.loads(text)
            for (text,) in connection.execute(
                "SELECT entry FROM cf_tape WHERE entry LIKE '%\"repair.%' ORDER BY seq"
            ).fetchall()
        ]
    moved = {e["path"]: e["to"] for e in entries if e["kind"] == "repair.moved_aside"}
    assert moved == places
    (intent,) = [e for e in entries if e["kind"] == "repair.intent_removed"]
    assert bytes.fromhex(intent["document"]) == b"left"


def test_a_broken_catalog_is_written_again(ran: World) -> None:
    at_rest(ran)
    (ran.home / "catalog.duckdb").write_bytes(os.urandom(9000))
    report = doctor(ran, code=ExitCode.FAILED)
    assert report["by_name"]["catalog"]["status"] == "fail"
    report = doctor(ran, "--repair", code=None)
    assert report["repair"]["catalog"] is True
    assert report["by_name"]["catalog"]["status"] == "ok"
    assert ran.column(
        "SELECT count(*) FROM syslog_events", "--sink", f"parquet:{ran.directory / 'out'}"
    ) == [50]


def test_a_catalog_that_lost_a_file_or_a_view_is_seen(ran: World) -> None:
    at_rest(ran)
    for sql, problem in (
        ("DELETE FROM casparian._cf_files WHERE position = 0", "not listed"),
        ("DROP VIEW syslog_events", "no view"),
    ):
        with duckdb.connect(str(ran.home / "catalog.duckdb")) as connection:
            connection.execute(sql)
        report = doctor(ran, code=ExitCode.FAILED)
        problems = {d["problem"] for d in report["by_name"]["catalog"]["details"]}
        assert problems == {problem}
        report = doctor(ran, "--repair", code=None)
        assert report["by_name"]["catalog"]["status"] == "ok"


def test_a_new_home_is_well_and_nothing_is_made_for_it(world: World) -> None:
    report = doctor(world, code=None)
    assert report["by_name"]["sentinel"]["status"] == "ok"
    assert not world.home.exists()


# -- what the sentinel refuses


def state(**fields: Any) -> State:
    return State(
        home_id="h",
        home="/h",
        engine_hash="e",
        workers_max=1,
        on_demand=True,
        started_ns=0,
        clients={1: "me(0)"},
        **fields,
    )


def ask(now: State, request: control.Request) -> tuple[State, list[Any]]:
    asked = ev.ClientAsked(client_id=1, number=5, request=request)
    return step(now, asked, now_ns=1, monotonic_ns=1)


@pytest.mark.parametrize("busy", [{"planning": 1}, {"publishing": True}])
def test_nothing_is_repaired_while_work_is_under_way(busy: dict[str, Any]) -> None:
    _, effects = ask(state(**busy), control.Repair(request_id="r"))
    (reply,) = [e.reply for e in effects if isinstance(e, SendReply)]
    assert reply.code == "doctor.busy"
    assert reply.exit_code == ExitCode.CONFLICT
    assert not any(isinstance(e, Maintain) for e in effects)


def test_a_repair_counts_as_work_and_acts_once_for_each_request() -> None:
    request = control.Repair(request_id="r")
    now, effects = ask(state(), request)
    assert any(isinstance(e, Maintain) and e.actor == "me(0)" for e in effects)
    assert now.busy
    _, second = ask(now, control.Repair(request_id="other"))
    assert [e.reply.code for e in second if isinstance(e, SendReply)] == ["doctor.busy"]
    done = control.Done(message="1 moved aside", count=1)
    over = ev.Maintained(client_id=1, number=5, request_id="r", reply=done)
    now, effects = step(now, over, now_ns=2, monotonic_ns=2)
    assert not now.busy
    (kept,) = [e for e in effects if isinstance(e, Persist)]
    durable = ev.Persisted(then=kept.then, results=(kept.operations[-1].reply,))
    now, effects = step(now, durable, now_ns=3, monotonic_ns=3)
    assert [e.reply for e in effects if isinstance(e, SendReply)] == [done]
    _, effects = ask(now, request)
    assert [e.reply for e in effects if isinstance(e, SendReply)] == [done]
    assert not any(isinstance(e, Maintain) for e in effects)


def test_a_repair_that_failed_may_be_tried_again() -> None:
    request = control.Repair(request_id="r")
    now, _ = ask(state(), request)
    failure = control.Failure(code="doctor.changed", message="gone", exit_code=8)
    over = ev.Maintained(client_id=1, number=5, request_id="r", reply=failure)
    now, _ = step(now, over, now_ns=2, monotonic_ns=2)
    _, effects = ask(now, request)
    assert any(isinstance(e, Maintain) for e in effects)


def refusal(world: World, path: Path, why: str) -> str:
    """The code with which a running sentinel refuses to move something."""
    from casparian.control.client import Client
    from casparian.errors import CasparianError
    from casparian.paths import Home

    with Client.connect(Home.at(world.home)) as client, pytest.raises(CasparianError) as failure:
        client.ask(
            control.Repair(
                request_id=os.urandom(8).hex(), asides=(control.Aside(path=str(path), why=why),)
            ),
            control.Done,
        )
    return failure.value.code


def test_a_client_cannot_have_anything_else_moved(ran: World) -> None:
    """Whatever a client says: recorded files, evidence, other directories and links to them stay."""
    at_rest(ran)
    out = ran.directory / "out"
    (out / "plain.parquet").touch()
    (first, *_) = outputs(ran)
    other_stage = out / ".casparian-stage" / "another-home" / "1.1"
    other_stage.mkdir(parents=True)
    for path, why in (
        (first, "orphan"),
        (out / "plain.parquet", "altered"),
        (ran.evidence / "a" / "syslog", "orphan"),
        (ran.home / "casparian_flow.duckdb", "orphan"),
        (out / ".casparian-stage", "orphan"),
        (other_stage, "stage"),
        (out, "stage"),
        (out / "plain.parquet", "orphan"),
        (out / ".." / "out" / "plain.parquet", "orphan"),
        (out / "plain.parquet", "whatever"),
    ):
        before = tree(ran)
        assert refusal(ran, path, why) == "doctor.refused", (path, why)
        assert tree(ran) == before
        assert path.exists()
    assert refusal(ran, out / "lines_1_1_0.parquet", "orphan") == "doctor.changed"
