"""What happens to people: power fails, the stick is pulled, a disk is full. The old version works on."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.appliance.attacks import fingerprint_of
from tests.appliance.log import Log
from tests.appliance.room import SMALL_DISK, STICK, Ran, Room

_PROGRAM = "casparian/bin/casparian"


def power_cuts(room: Room, log: Log, *, cuts: int) -> None:
    """Cut the power during an update, each time from the older version: all along it, and around the switch.

    Args:
        room: a running room whose installation is older than its stick.
        log: gets a line.
        cuts: how many times.
    """
    with log.check("an update from the older version"):
        before = current(room)
        for other in set(os.listdir(room.home / "casparian" / "versions")) - {before}:
            _forget(room, other)
        known = {before}
        started = time.monotonic()
        process = room.start(_PROGRAM, "bundle", "apply", STICK)
        _until_staged(room, process, known)
        staged = time.monotonic()
        process.communicate()
        whole, last = time.monotonic() - started, time.monotonic() - staged
        after = current(room)
        assert after != before, "the update changed nothing"
    outcomes = {before: 0, after: 0}
    with log.check(f"power cut at {cuts} moments of an update: the old or the new version, whole"):
        for cut in range(cuts):
            _back_to(room, before)
            _forget(room, after)
            process = room.start(_PROGRAM, "bundle", "apply", STICK)
            part = (cut + 0.5) / cuts
            if cut % 2:  # from the version in its place to the end: there it is switched
                _until_staged(room, process, known)
                time.sleep(1.1 * last * part)
            else:
                time.sleep(whole * part)
            room.power_cut()
            process.communicate()
            room.power_on()
            found = current(room)
            outcomes[found] += 1
            room.run(_PROGRAM, "--version")
            room.run(_PROGRAM, "bundle", "verify")
        room.run(_PROGRAM, "bundle", "apply", STICK)
        assert current(room) == after, "the update did not go on after the last cut"
        room.run(_PROGRAM, "bundle", "verify")
        left = [name for name in os.listdir(room.home / "casparian") if name.startswith(".stage")]
        assert not left, f"left over: {left}"
    log.note(
        f"after a cut: {outcomes[before]} times the old version, {outcomes[after]} the new one"
    )
    _back_to(room, before)


def pulled_out(room: Room, log: Log, stick: Path) -> None:
    """Pull the stick out while an update reads it."""
    with log.check("a stick pulled out half-way: refused, the old version works"):
        before = current(room)
        for delay in (0.5, 1.5, 3.0):
            process = room.start(_PROGRAM, "bundle", "apply", STICK)
            time.sleep(delay)
            room.unplug()
            output, _ = process.communicate()
            if process.returncode == 0:  # it had read everything
                _back_to(room, before)
            else:
                assert "stick." in output, output
                assert current(room) == before
                room.run(_PROGRAM, "bundle", "verify")
            room.plug(stick)


def full_disk(room: Room, log: Log) -> None:
    """Install onto a disk that is too small."""
    with log.check("a disk that is too small: refused, and nothing is left on it"):
        ran = room.run(
            *("/bin/sh", f"{STICK}/install.sh", f"{SMALL_DISK}/casparian", fingerprint_of(room)),
            expect=None,
        )
        assert ran.code != 0, ran.output
        assert "REFUSED" in ran.output, ran.output
        assert room.sh(f"ls -A {SMALL_DISK}").output == "", "something was left"


def older(room: Room, log: Log, stick: Path) -> None:
    """A stick of a lower release than was installed is refused, rolled back or not."""
    with log.check("an older stick is refused"):
        room.plug(stick)
        ran = _apply(room)
        assert ran.code != 0, ran.output
        assert "stick.older" in ran.output, ran.output


def uninstall(room: Room, log: Log) -> None:
    """Take the program away: home, tables and evidence stay."""
    with log.check("uninstall removes the program and leaves home, tables and tape"):
        home = room.home / ".casparian_flow"
        tables = sorted(home.rglob("*.parquet"))
        assert tables, "no tables to leave"
        room.run(_PROGRAM, "uninstall", "--yes")
        assert not (room.home / "casparian" / "current").exists()
        assert not (room.home / "casparian" / "versions").exists()
        assert sorted(home.rglob("*.parquet")) == tables
        assert (home / "casparian_flow.duckdb").exists(), "the record, and the tape in it, is gone"


def current(room: Room) -> str:
    """Name of the version in use."""
    return os.path.basename(os.readlink(room.home / "casparian" / "current"))


def _until_staged(room: Room, process: subprocess.Popen[str], known: set[str]) -> None:
    """Wait until an update has a new version in its place, whole and not yet in use; or has ended."""
    versions = room.home / "casparian" / "versions"
    while process.poll() is None and set(os.listdir(versions)) <= known:
        time.sleep(0.001)


def _apply(room: Room) -> Ran:
    return room.run(_PROGRAM, "bundle", "apply", STICK, expect=None)


def _back_to(room: Room, name: str) -> None:
    if current(room) != name:
        room.run(_PROGRAM, "bundle", "rollback")
    assert current(room) == name


def _forget(room: Room, name: str) -> None:
    """Remove a version that is not in use, so that the next update does everything again."""
    room.sh(f"rm -rf casparian/versions/{name} casparian/previous")
