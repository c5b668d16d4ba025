"""Wide tables through the whole product: they exist where they have rows, and live and die with their events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer import values as make
from tests.support.small import small_log
from tests.support.world import World

CURATED = ("--set", "windows.evtx.wide=curated")
TABLE = "evtx_security_4624"
SYSTEM = System(
    provider="Microsoft-Windows-Security-Auditing",
    event_id=4624,
    time_created=133_546_683_011_234_567,
    event_record_id=1,
    channel="Security",
    computer="ws.example.org",
)


def security_log(*users: str, event_id: int = 4624) -> bytes:
    """One logon of each user, with a type that no column holds for the user `odd`."""
    return event_log(
        windows_event(
            replace(SYSTEM, event_record_id=number, event_id=event_id),
            event_data(
                ("TargetUserName", make.string(user)),
                ("LogonType", make.string("odd") if user == "odd" else make.uint32(number)),
            ),
        )
        for number, user in enumerate(users, start=1)
    ).to_bytes()


def sink_uri(kind: str, world: World) -> str:
    suffix = "out.duckdb" if kind == "duckdb" else f"out-{kind}"
    return f"{kind}:{world.directory / suffix}"


def outputs(summary: dict[str, Any]) -> dict[str, int]:
    return {output["table"]: output["rows"] for output in summary["outputs"]}


def stricter(world: World, column: str) -> None:
    """A laboratory's contract for the logons."""
    path = world.home / "contracts" / "windows.evtx.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"schema_version = 1\n[outputs.{TABLE}]\ncolumns = [{column}]\n")


def users(world: World, *arguments: str, table: str = TABLE) -> list[Any]:
    return world.column(f"SELECT target_user_name FROM {table} ORDER BY 1", *arguments)


@pytest.mark.parametrize("kind", ["parquet", "duckdb", "csv"])
def test_wide_rows_come_through_every_sink_and_are_proven(kind: str, world: World) -> None:
    world.file("a.evtx", security_log("ines", "odd"))
    world.file("b.evtx", small_log(events=3))
    sink = ("--sink", sink_uri(kind, world))
    summary = world.run(*CURATED, *sink)
    assert outputs(summary) == {"evtx_events": 5, "evtx_chunks": 2, TABLE: 2}
    assert summary["ledger"]["present"] == summary["ledger"]["rows"] == 5
    found = world.query(
        "SELECT target_user_name, logon_type, misfits, other_names, other_values, time_created "
        f"FROM {TABLE} ORDER BY record_id",
        *sink,
    )
    assert [row[:5] for row in found] == [
        ["ines", 1, 0, [], []], ["odd", None, 1, ["LogonType"], ["odd"]]
    ]  # fmt: skip
    assert found[0][5].startswith("2024-03-11T22:05:01.123456700")
    for row in world.column(f"SELECT _cf_row_id FROM {TABLE}", *sink):
        assert world.json("why", row)["proven"] is True
    again = world.run(*CURATED, *sink)
    assert again["files"]["selected"] == 0


def test_tables_without_rows_are_nowhere(world: World) -> None:
    world.file("a.evtx", small_log(events=3))
    summary = world.run(*CURATED)
    assert outputs(summary) == {"evtx_events": 3, "evtx_chunks": 1}
    recorded = world.column("SELECT DISTINCT table_name FROM materializations ORDER BY 1")
    assert recorded == ["evtx_chunks", "evtx_events", "quarantine"]
    assert sorted({path.name.split("_")[1] for path in (world.home / "outputs").glob("*.parquet")}) == [
        "chunks", "events"
    ]  # fmt: skip


def test_another_selection_is_another_key_and_the_same_one_a_skip(world: World) -> None:
    world.file("a.evtx", security_log("ines"))
    assert TABLE not in outputs(world.run())
    assert outputs(world.run(*CURATED))[TABLE] == 1
    by_event = "windows.evtx.wide=Microsoft-Windows-Security-Auditing/4624"
    assert outputs(world.run("--set", by_event))[TABLE] == 1
    assert world.run("--set", by_event)["files"]["selected"] == 0
    assert users(world) == ["ines"]
    assert len(users(world, table=f"{TABLE}__all")) == 2
    refused = world.json("run", str(world.evidence), "--set", "windows.evtx.wide=evtx_no_1", code=2)
    assert refused["error"]["code"] == "parser.setting"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["parquet", "duckdb", "csv"])
@pytest.mark.parametrize("mode", ["append", "replace"])
def test_rows_that_a_later_reading_does_not_have_leave_the_view(
    kind: str, mode: str, world: World
) -> None:
    world.file("a.evtx", security_log("ines", "mona"))
    world.file("b.evtx", security_log("zoe"))
    arguments = (*CURATED, "--sink", sink_uri(kind, world), "--mode", mode)
    world.run(*arguments)
    stricter(world, "{name = 'target_user_name', pattern = 'zoe'}")
    summary = world.run(*arguments, code=None)
    assert summary["files"]["selected"] == 2, "a stricter contract is another key"
    assert world.column("SELECT count(*) FROM quarantine") == [2]
    view = ("--sink", sink_uri(kind, world))
    assert users(world, *view) == ["zoe"]
    kept = users(world, *view, table=f"{TABLE}__all")
    assert kept == (["zoe"] if mode == "replace" else ["ines", "mona", "zoe", "zoe"])
    events = world.column("SELECT count(*) FROM evtx_events", *view)
    assert events == [3]
    row = world.column(f"SELECT _cf_row_id FROM {TABLE}", *view)[0]
    assert world.json("why", row)["proven"] is True


def test_a_source_that_a_wide_table_holds_is_refused_in_error_mode(world: World) -> None:
    world.file("a.evtx", security_log("ines"))
    wide_only = ("--sink", f"{TABLE}=parquet:{world.directory / 'wide'}")
    world.run(*CURATED, *wide_only)
    elsewhere = ("--sink", f"parquet:{world.directory / 'other'}")
    refused = world.run(*CURATED, *elsewhere, *wide_only, "--mode", "error", code=None)
    assert refused["rejected"] == {"sink.exists": 1}


def test_one_wide_table_can_have_a_sink_of_its_own(world: World) -> None:
    world.file("a.evtx", security_log("ines"))
    world.file("b.evtx", security_log("zoe", event_id=4634))
    own = f"csv:{world.directory / 'logons'}"
    summary = world.run(*CURATED, "--sink", f"{TABLE}={own}")
    sinks = {output["table"]: output["sink"] for output in summary["outputs"]}
    assert sinks[TABLE] == own
    assert sinks["evtx_security_4634"] == sinks["evtx_events"] != own
    assert users(world, "--sink", own) == ["ines"]
    # The place is part of the key: without it the logs are read again, with it they are not.
    assert world.run(*CURATED, "--sink", f"{TABLE}={own}")["files"]["selected"] == 0
    assert world.run(*CURATED)["files"]["selected"] == 2
    assert users(world) == ["ines"]
