"""`kill -9` of the sentinel in commits with wide tables: what gives way to an empty reading gives way after recovery too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer import values as make
from tests.faults.disks import FaultWorld

_PROMOTE = "casparian._native.promote_noreplace"
_STAGED = r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/"
_TABLE = "evtx_security_4624"
_MOMENTS = {
    "before the first file is promoted": ("parquet", _PROMOTE, _STAGED, "before"),
    "after the first file is promoted": ("parquet", _PROMOTE, _STAGED, "after"),
    "after a stage is removed": ("parquet", "shutil.rmtree", _STAGED.rstrip("/"), "after"),
    "before the database is published": ("duckdb", "os.replace", r"/out\.duckdb$", "before"),
}


def logons(*users: str) -> bytes:
    system = System(
        provider="Microsoft-Windows-Security-Auditing", event_id=4624, time_created=133_546_683_011_234_567,
        event_record_id=1, channel="Security", computer="ws.example.org",
    )  # fmt: skip
    return event_log(
        windows_event(
            replace(system, event_record_id=number),
            event_data(("TargetUserName", make.string(user))),
        )
        for number, user in enumerate(users, start=1)
    ).to_bytes()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_crash_never_brings_back_rows_that_a_reading_does_not_have(
    moment: str, tmp_path: Path
) -> None:
    kind, call, match, when = _MOMENTS[moment]
    world = FaultWorld(tmp_path)
    world.file("a.evtx", logons("ines", "mona"))
    world.file("b.evtx", logons("zoe"))
    sink, died = tmp_path / "sink", tmp_path / "died"
    uri = f"{kind}:{sink / 'out.duckdb' if kind == 'duckdb' else sink}"
    arguments = ("--sink", uri, "--set", "windows.evtx.wide=curated")
    try:
        world.run(*arguments)
        world.stop()
        contract = world.home / "contracts" / "windows.evtx.toml"
        contract.parent.mkdir(parents=True, exist_ok=True)
        contract.write_text(
            f"schema_version = 1\n[outputs.{_TABLE}]\ncolumns = [{{name = 'target_user_name', pattern = 'zoe'}}]\n"
        )
        world.plan(die={"call": call, "match": match, "when": when, "done": str(died)})
        world.attempt(*arguments)
        assert died.exists(), "the moment never came"
        world.stop()
        world.plan()
        world.run(*arguments)
        names = "SELECT target_user_name FROM {} ORDER BY 1"
        assert world.column(names.format(_TABLE), "--sink", uri) == ["zoe"]
        every = world.column(names.format(f"{_TABLE}__all"), "--sink", uri)
        assert every == ["ines", "mona", "zoe", "zoe"]
        assert world.column("SELECT count(*) FROM evtx_events", "--sink", uri) == [3]
        assert world.json("doctor")["healthy"]
    finally:
        world.stop()
