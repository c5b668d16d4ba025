"""Uninstalling: from the very version that runs, with a sentinel at work, killed at each step; the work stays."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from casparian.appliance.service import removal
from casparian.appliance.service.manager import Manager
from casparian.appliance.service.unit import Unit
from casparian.errors import Conflict, UsageError
from casparian.paths import Home
from tests.factories.running_installation import NEW, OLD, PACKAGE, Appliance, fake_installation
from tests.support.small import syslog_lines
from tests.support.world import World, wait_until


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[tuple[Appliance, World]]:
    made = Appliance(tmp_path / "opt")
    world = World(tmp_path)
    world.program = [str(made.program)]
    yield made, world
    world.program = [sys.executable, "-m", "casparian"]
    world.stop()


def test_a_running_installation_removes_itself_once_its_sentinel_is_drained(
    appliance: tuple[Appliance, World],
) -> None:
    made, world = appliance
    world.file("messages", syslog_lines(host="a", count=20))
    other = made.place / "notes.txt"
    other.write_text("somebody's")
    assert world.run()["jobs"]["completed"] == 1
    assert world.json("sentinel", "start")["running"]
    (sentinel,) = world.processes("sentinel")
    assert str(made.place) in os.readlink(f"/proc/{sentinel}/exe")

    refused = world.call("uninstall")
    assert refused.returncode == 2
    assert "uninstall.unconfirmed" in refused.stderr
    dry = world.json("uninstall", "--dry-run")
    assert dry["versions"] == [OLD, NEW]
    assert [found["pid"] for found in dry["sentinels"]] == [sentinel]
    assert world.processes("sentinel") == [sentinel]

    done = world.json("uninstall", "--yes")
    assert done["everything"]
    assert [kept["home"] for kept in done["kept"]] == [str(world.home)]
    assert not world.alive(), "nothing of it runs any more"
    assert [path.name for path in made.place.iterdir()] == ["notes.txt"]

    world.program = [sys.executable, "-m", "casparian"]
    assert world.query("SELECT count(*) FROM syslog_events")[0] == [20]
    assert world.json("doctor", code=None)["checks"]


def test_one_version_goes_and_the_rest_works(appliance: tuple[Appliance, World]) -> None:
    made, world = appliance
    used = world.json("uninstall", "--version", NEW, "--yes", code=8)
    assert used["error"]["code"] == "uninstall.in_use"
    world.json("uninstall", "--version", OLD, "--yes")
    assert made.store.names() == [NEW]
    assert made.store.current == NEW
    assert made.store.previous is None
    assert not (made.place / "previous").is_symlink()
    assert made.store.recorded().floor == 2, "an older stick is refused as before"
    assert made.store.recorded().history[-1].action == "remove"
    assert world.json("sentinel", "status", code=3)["running"] is False


KILLER = """
import os, signal, sys
from casparian.appliance.service import removal
from casparian.appliance.stick.installation_store import InstallationStore
store, left = InstallationStore(sys.argv[1]), int(sys.argv[2])
def step(path):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
planned = removal.plan(store, version=None, managers=())
removal.carry_out(store, planned, running=sys.argv[3], step=step)
"""


def test_killed_at_each_step_it_can_be_repeated(tmp_path: Path) -> None:
    steps = 0
    while True:
        steps += 1
        place = tmp_path / str(steps)
        store = fake_installation(place, "1.0.0-1", "1.0.0-2", "1.0.0-3")
        command = [sys.executable, "-c", KILLER, str(place), str(steps), "1.0.0-3"]
        code = subprocess.run(command, check=False, cwd=PACKAGE.parent).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if (place / "versions" / "1.0.0-3").exists():
            program = place / "versions" / "1.0.0-3" / "bin" / "casparian"
            assert program.exists(), "whoever is to repeat it is whole"
        planned = removal.plan(store, version=None, managers=())
        removal.carry_out(store, planned, running="1.0.0-3")
        assert not place.exists()
    assert not place.exists()
    assert steps > 8, "versions, links, the record, the lock"


def test_units_of_this_installation_go_and_others_stay(tmp_path: Path) -> None:
    store = fake_installation(tmp_path / "opt", OLD)
    manager = Manager("system", folder=str(tmp_path / "units"))
    ours, theirs = (
        Unit(
            scope="system",
            program=("/bin/true",),
            home=str(tmp_path / name),
            account="root",
            installation=str(tmp_path / place),
        )
        for name, place in (("one", "opt"), ("two", "elsewhere"))
    )
    manager.install(ours)
    manager.install(theirs)
    planned = removal.plan(store, version=None, managers=(manager,))
    assert [unit.home for unit in planned.units] == [ours.home]
    removal.remove_units(planned, (manager,))
    assert [unit.home for unit in manager.units()] == [theirs.home]
    assert (tmp_path / "one").is_dir()


@pytest.mark.parametrize("running", [None, NEW])
def test_a_sentinel_that_starts_while_versions_are_removed_keeps_its_program(
    appliance: tuple[Appliance, World], running: str | None
) -> None:
    """Of a home that nobody has told the removal about: it is found once its version cannot start another."""
    made, world = appliance
    world.file("messages", syslog_lines(host="a", count=20))
    planned = removal.plan(made.store, version=None, managers=())

    def step(path: str) -> None:
        if path.endswith(OLD):
            world.json("sentinel", "start")

    if running is None:  # all go together
        world.json("sentinel", "start")
    with pytest.raises(Conflict) as caught:
        removal.carry_out(made.store, planned, running=running, step=step)
    assert caught.value.code == "uninstall.running"
    (sentinel,) = world.processes("sentinel")
    assert str(sentinel) in caught.value.message
    assert str(world.home) in (caught.value.hint or "")
    assert made.store.names() == ([OLD, NEW] if running is None else [NEW])
    assert made.store.current == NEW
    assert world.run()["jobs"]["completed"] == 1, "it works as before"
    assert world.processes("sentinel") == [sentinel]
    again = world.json("uninstall", "--yes")
    assert again["everything"]
    assert not made.place.exists()


def test_no_sentinel_starts_on_a_known_home_while_the_installation_goes(
    appliance: tuple[Appliance, World],
) -> None:
    """The removal is held at its first word, by a pipe that is full; another program starts a sentinel then."""
    made, world = appliance
    world.file("messages", syslog_lines(host="a", count=20))
    assert world.run()["jobs"]["completed"] == 1
    world.stop()
    said, written = os.pipe()
    fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, 4096)
    os.write(written, b"\n" * fcntl.fcntl(written, fcntl.F_GETPIPE_SZ))
    uninstall = subprocess.Popen(
        [*world.program, "--home", str(world.home), "uninstall", "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=written,
    )
    os.close(written)
    wait_until(lambda: list((made.place / "versions").glob(".gone-*")))
    held = os.open(Home.at(world.home).lock_file, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    world.program = [sys.executable, "-m", "casparian"]  # another program, for one home
    starter = world.start("sentinel", "start", "--json")
    log = world.home / "logs" / "sentinel.out"
    before = log.stat().st_size
    wait_until(lambda: b"holds this home" in log.read_bytes()[before:])
    wait_until(lambda: not world.processes("sentinel"))

    with open(said, "rb") as pipe:
        heard = pipe.read().decode()
    assert uninstall.wait() == 0, heard
    assert "removing" in heard
    assert not made.place.exists()
    os.close(held)
    answer, _ = starter.communicate()
    assert json.loads(answer)["running"], "it has waited for the end"
    assert len(world.processes("sentinel")) == 1
    assert world.query("SELECT count(*) FROM syslog_events")[0] == [20]


def test_another_programs_sentinel_works_on_though_its_home_is_ours_too(
    appliance: tuple[Appliance, World],
) -> None:
    made, world = appliance
    ours, world.program = world.program, [sys.executable, "-m", "casparian"]
    world.json("sentinel", "start")
    serving = world.processes("sentinel")
    world.program = ours
    assert world.json("uninstall", "--yes")["everything"]
    assert not made.place.exists()
    assert world.processes("sentinel") == serving


def test_what_is_no_installation_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    for arguments in ((), ("--from", str(tmp_path))):
        found = world.json("uninstall", "--yes", *arguments, code=2)
        assert found["error"]["code"] == "uninstall.nothing"
    store = fake_installation(tmp_path / "opt", OLD)
    with pytest.raises(UsageError) as caught:
        removal.plan(store, version="9.9.9-9", managers=())
    assert caught.value.code == "uninstall.no_version"
