"""Each switch of versions is on the tape of every home that the installation serves: who, from, to, release, key, outcome."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import pytest

from casparian.appliance.stick import layout
from casparian.control.stick_home import StickHome
from casparian.db import operations as op
from casparian.db.connection import ControlDatabase
from casparian.db.program_writer import unread
from casparian.db.writer import DatabaseWriter
from casparian.paths import Home
from casparian.sentinel.io.program import record_changes
from casparian.tape.chain import TapeEntry, first_break
from tests.factories.running_installation import NEW, OLD, Appliance
from tests.factories.sticks import make_stick
from tests.support.small import syslog_lines
from tests.support.world import World


class Tape:
    """The database of one home, served by whichever version is current."""

    def __init__(self, place, home: Path) -> None:
        self.store = place.store
        self.home = Home.at(home)
        self.home.root.mkdir(parents=True, exist_ok=True)

    def serve(self) -> list[tuple[str, str | None, str, str]]:
        """What the next sentinel writes: action, from, to, outcome."""
        with ControlDatabase(self.home) as database:
            version = Path(self.store.version_path(self.store.current))
            count = record_changes(DatabaseWriter(database.writer), version, now_ns=1)
        found = self.entries()
        return [
            (e["action"], e["version_from"], e["version_to"], e["outcome"])
            for e in (found[-count:] if count else [])
        ]

    def entries(self) -> list[dict]:
        with duckdb.connect(str(self.home.control_database), read_only=True) as connection:
            rows = connection.execute("SELECT * FROM cf_tape ORDER BY seq").fetchall()
        links = [TapeEntry(seq=r[0], prev_hash=r[1], hash=r[2], entry=r[3]) for r in rows]
        assert first_break(links) is None
        return [json.loads(link.entry) for link in links]


def test_updates_and_rollbacks_are_recorded_once_with_who_and_key(place, tmp_path):
    tape = Tape(place, tmp_path / "lab")
    one, two = (make_stick(tmp_path / f"s{n}", release=n) for n in (1, 2))
    done = place.apply(one)
    assert tape.serve() == [("install", None, "1.0.0-1", "switched")]
    assert tape.serve() == [], "once"
    place.apply(two)
    place.roll_back()
    assert tape.serve() == [
        ("apply", "1.0.0-1", "1.0.0-2", "switched"),
        ("rollback", "1.0.0-2", "1.0.0-1", "switched"),
    ]
    last = tape.entries()[-1]
    assert last["kind"] == "program.changed"
    assert last["release"] == 1
    assert last["key"] == done.key
    assert last["actor"] == place.store.recorded().history[-1].by
    assert last["changed_at"] == place.store.recorded().history[-1].at
    assert last["installation"] == place.store.path


def test_a_home_that_is_new_has_no_past(place, tmp_path):
    for release in (1, 2):
        place.apply(make_stick(tmp_path / f"s{release}", release=release))
    assert Tape(place, tmp_path / "young").serve() == [("apply", "1.0.0-1", "1.0.0-2", "switched")]


def test_an_update_that_is_cut_off_is_told_apart_and_its_repetition_too(place, tmp_path):
    class Cut(Exception):
        pass

    def cut(name):
        if name == "recorded":
            raise Cut

    tape = Tape(place, tmp_path / "lab")
    place.apply(make_stick(tmp_path / "s1", release=1))
    tape.serve()
    two = make_stick(tmp_path / "s2", release=2)
    with pytest.raises(Cut):
        place.apply(two, step=cut)
    assert tape.serve() == [("apply", "1.0.0-1", "1.0.0-2", "not_switched")]
    assert tape.serve() == []
    place.apply(two)
    assert tape.serve() == [("apply", "1.0.0-1", "1.0.0-2", "switched")]
    assert tape.serve() == []


NO_RELEASE = (
    b'{"history":[{"at":"","action":"apply","version":"1.0","before":null,"key":"","by":""}]}'
)


@pytest.mark.parametrize("content", [b"", b"{", b'{"history":[{"at":1}]}', NO_RELEASE, None])
def test_a_record_that_cannot_be_read_keeps_no_sentinel_from_starting(place, tmp_path, content):
    tape = Tape(place, tmp_path / "lab")
    place.apply(make_stick(tmp_path / "s1", release=1))
    record = Path(place.store.path) / layout.INSTALLATION
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    assert tape.serve() == []


def change(number: int, outcome: str = "switched", action: str = "apply") -> op.ProgramChange:
    return op.ProgramChange(
        at=str(number),
        action=action,
        version=f"1-{number}",
        release=number,
        before=None,
        key="",
        by="",
        outcome=outcome,
    )


A, B, C = change(1), change(2), change(3)
READ = {
    "nothing yet": ([A, B, C], None, [C]),
    "nothing yet, and versions were removed since": (
        [A, B, change(3, "removed", "remove")],
        None,
        [B, change(3, "removed", "remove")],
    ),
    "an empty history": ([], None, []),
    "up to the end": ([A, B], B, []),
    "up to the middle": ([A, B, C], A, [B, C]),
    "another outcome": ([A, B], change(2, "not_switched"), [B]),
    "another outcome, and more": ([A, B, C], change(2, "not_switched"), [B, C]),
    "of an installation that is no more": ([B, C], A, [B, C]),
}


@pytest.mark.parametrize("case", READ)
def test_where_reading_goes_on(case):
    changes, read, expected = READ[case]
    assert list(unread(changes, read)) == expected


def test_a_real_program_records_its_update_and_can_still_go_back(tmp_path: Path) -> None:
    """Served by a real sentinel; a copy from before the update counts as up to date."""
    made = Appliance(tmp_path / "opt")
    world = World(tmp_path)
    world.program = [str(Path(made.store.version_path(NEW)) / "bin" / "casparian")]
    world.file("messages", syslog_lines(host="a", count=20))
    side = StickHome(Home.at(world.home))
    made.store.switch(OLD)
    install = made.store.change("install", OLD, None, "SHA256:one")
    apply = made.store.change("apply", NEW, OLD, "SHA256:two")
    try:
        made.store.record(floor=1, change=install)
        assert world.run()["jobs"]["completed"] == 1
        world.stop()
        copied = side.copy()
        assert copied == side.copies()[0]
        assert copied.tape_seq > 1, "the job's entries follow that of the installation"
        made.store.record(floor=2, change=apply)
        made.store.switch(NEW)
        entries = world.json("trust", "log")["entries"]
        assert [(e["action"], e["version_to"], e["outcome"]) for e in entries] == [
            ("install", OLD, "switched"),
            ("apply", NEW, "switched"),
        ]
        assert entries[-1]["key"] == "SHA256:two"
        assert "SHA256:two" in world.call("trust", "log").stdout
        world.stop()
        now = side.state()
        assert now is not None
        assert (now.tape_seq, now.tape_hash) == (copied.tape_seq, copied.tape_hash)
        assert entries[-1]["seq"] == now.tape_seq + 1, "there, and no work to lose"
    finally:
        world.program = [sys.executable, "-m", "casparian"]
        world.stop()
